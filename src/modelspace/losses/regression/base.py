"""A loss of one output and one label, element by element."""

from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.loss import Loss
from modelspace.losses.shapes import require_same_shape


class RegressionLoss(Loss):
    """ℓ(z, y) of a real output z and a real label y of the same shape; labels take the outputs' dtype."""

    outputs = "real"
    labels = "real"

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every element, of the outputs' shape."""
        require_same_shape(self.name, outputs, labels)
        return self.value(outputs, labels.to(outputs.dtype))

    def minimiser(self, samples: Float[Tensor, "sample"], *parameters: Any) -> float:
        """The output that minimises the mean loss over samples of the label.

        Args:
            samples: Equally likely labels.
            *parameters: None; for subclasses with a closed form of their own.
        """
        raise NotImplementedError
