"""A loss that is somebody else's function: the user's own, or one of PyTorch's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses.contracts import Contract, anything
from modelspace.losses.loss import Labels, Loss, Outputs


@dataclass(frozen=True)
class Given(Loss):
    """A function of a batch's outputs and labels to one scalar, usually a mean over the batch.

    Attributes:
        title: What it is called.
        function: Outputs and labels to a scalar; traceable.
        holds: What the values of both must be; runs in ``check`` alone.
        outputs: What the outputs are taken for, if it is known.
        labels: What the labels are, if it is known.
    """

    title: str
    function: Callable[[Tensor, Tensor], Tensor]
    holds: Contract = anything
    outputs: Outputs | None = None
    labels: Labels | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.title

    @property
    def contract(self) -> Contract:
        """What the values of outputs and labels must be."""
        return self.holds

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """The function."""
        return (self.function,)

    def __str__(self) -> str:
        return self.title

    def __call__(
        self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
    ) -> Float[Tensor, "..."]:
        """The loss of a batch, as the function gives it.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.
            reduction: ``"mean"``: the function has made it already.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything else, or another reduction is asked for.
        """
        if reduction != "mean":
            raise unknown_name("reduction of a function that returns its mean", reduction, ("mean",))
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
