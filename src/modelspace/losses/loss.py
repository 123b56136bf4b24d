"""The record of a loss: its name, the function, and the contract on outputs and labels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.contracts import Contract, anything


@dataclass(frozen=True)
class Loss:
    """A function of a batch's outputs and labels to one scalar, usually a mean over the batch.

    Attributes:
        name: What the user typed, or the callable's own name.
        function: Outputs and labels to a scalar; traceable.
        contract: What the values of both must be; runs in ``check`` alone.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    contract: Contract = anything

    def __call__(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
        """The loss of one batch, as a scalar.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything else.
        """
        value = self.function(outputs, labels)
        if not isinstance(value, Tensor):
            raise ModelspaceError(
                f"loss '{self.name}' returned a {type(value).__name__}: it must return a scalar tensor"
            )
        if value.ndim:
            raise ModelspaceError(
                f"loss '{self.name}' returned a tensor of shape {list(value.shape)}: it must return "
                "a scalar, the mean over the batch (reduction='mean', or .mean() at the end)"
            )
        return value

    def check(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the loss's contract; once, before a fit.

        It reads values and evaluates the loss once, so it is not traceable. Labels may be those of a whole
        split with the outputs of the same samples.

        Args:
            outputs: The outputs of one untrained member.
            labels: The labels of the same samples.

        Raises:
            ModelspaceError: If labels are out of range, of the wrong coding or dtype, outputs aren't what the
                loss expects (probabilities, logits), the shapes don't fit, or the loss fails on them.

        Example:
            >>> import torch
            >>> from modelspace.losses import resolve
            >>> resolve("cross_entropy").check(torch.zeros(2, 10), torch.tensor([3, 14]))
            Traceback (most recent call last):
            ...
            modelspace.errors.ModelspaceError: labels out of range: 1 of 2 labels are 10 or more ...
        """
        if not outputs.dtype.is_floating_point:
            raise ModelspaceError(
                f"loss '{self.name}' received outputs of dtype {outputs.dtype}: it needs floating outputs"
            )
        with torch.no_grad():
            self.contract(self.name, outputs, labels)
            try:
                self(outputs, labels)
            except ModelspaceError:
                raise
            except Exception as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ModelspaceError(
                    f"loss '{self.name}' failed on outputs of shape {list(outputs.shape)} ({outputs.dtype}) "
                    f"and labels of shape {list(labels.shape)} ({labels.dtype}): {reason}"
                ) from error
