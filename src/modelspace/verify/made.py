"""Data made up for an architecture: enough to train it for a few steps and compare."""

from collections.abc import Callable

import torch
from torch import Tensor

from modelspace.data import Data, of_splits
from modelspace.engine import probe
from modelspace.errors import ModelspaceError
from modelspace.losses import Loss, resolve
from modelspace.space import ModelSpace


def made_data(space: ModelSpace, samples: int, *, tokens: int | None = None) -> Data:
    """Random samples of the space's shape, with labels that its outputs can be held against.

    Inputs are standard normal numbers, or integers below ``tokens``. Outputs of shape ``[batch, C]``, C ≥ 2, get
    class labels; any other shape gets normal numbers of that shape.

    Args:
        space: Its ``input_shape`` is needed.
        samples: In the training split.
        tokens: What integer inputs are below; 2 where None.

    Raises:
        ModelspaceError: no ``input_shape``, or the forward fails.
    """
    if space.input_shape is None:
        raise ModelspaceError(
            f"one sample's shape of {space.name} is needed: "
            "--input 3x32x32 on the command line, input_shape= in Python"
        )
    generator = torch.Generator().manual_seed(0)
    shape = space.input_shape

    def inputs(count: int) -> Tensor:
        if space.input_dtype.is_floating_point:
            return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(space.dtype)
        return torch.randint(tokens or 2, (count, *shape), generator=generator)

    outputs = probe(space.draw(0), inputs(2))

    def labels(count: int) -> Tensor:
        if is_classifying(outputs):
            return torch.randint(outputs.shape[1], (count,), generator=generator)
        return torch.randn(count, *outputs.shape[1:], generator=generator, dtype=torch.float64).to(
            space.dtype
        )

    parts = {name: (inputs(n), labels(n)) for name, n in (("train", samples), ("validation", 2), ("test", 2))}
    return of_splits(**parts, name="random samples")


def is_classifying(outputs: Tensor) -> bool:
    """Whether outputs look like scores of classes."""
    return outputs.dim() == 2 and outputs.shape[1] >= 2 and outputs.is_floating_point()


def made_loss(data: Data, loss: str | Loss | Callable[[Tensor, Tensor], Tensor] | None) -> Loss:
    """The loss asked for; cross-entropy for class labels and squared error for numbers where None."""
    if loss is not None:
        return resolve(loss)
    return resolve("mse" if data.train.labels.is_floating_point() else "cross_entropy")
