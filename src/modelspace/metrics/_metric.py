"""What a metric is: a function of all outputs and all labels of a split, its direction, how it may be computed."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses import LEFT_OUT, Contract, Loss, anything, leaves_some_out, prediction
from modelspace.nest import described, unweighted
from modelspace.widest import widest


@dataclass(frozen=True)
class Metric:
    """A function of all outputs and all labels of a split: a mean, an F1 score, an area under a curve, a correlation.

    It is called once for each member, with plain tensors that need no gradient, copies of its own: NumPy,
    scikit-learn and writing into them are all right. One that is ``traceable`` is called once for many members.

    Attributes:
        name: What the user typed, or the callable's own name.
        function: Outputs and labels to a number: a tensor of no dimensions, a Python or a NumPy number.
        higher_is_better: The direction in which a member wins.
        contract: What the values of both must be; runs in ``check`` alone.
        sample_mean: That it is a mean over samples, and traceable (``vmap``): then the outputs of the split are never
            in memory together, and all members' values are computed at once, a piece of the samples at a time.
        traceable: That it is made of PyTorch's operations alone, which read no values and write into no argument:
            then all members' values are computed at once, under ``vmap``.
        left_out: The class label that a metric of this library leaves out: the ``ignore_index`` of the loss.
    """

    name: str
    function: Callable[[Tensor, Tensor], Any]
    higher_is_better: bool
    contract: Contract = anything
    sample_mean: bool = False
    traceable: bool = False
    left_out: int = LEFT_OUT

    def __call__(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Shaped[Tensor, ""]:
        """The metric of these outputs, as a scalar.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything but a number.
        """
        value = self.function(self._taken(outputs), self._named(labels))
        if isinstance(value, Real | np.bool_) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = torch.tensor(float(value), dtype=widest(outputs.device), device=outputs.device)
        if not isinstance(value, Tensor) or value.ndim or value.is_complex():
            shape = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            kind = f" of {value.dtype}" if isinstance(value, Tensor) and value.is_complex() else ""
            raise ModelspaceError(
                f"metric '{self.name}' returned {shape}{kind}: it must return one real number, "
                "a scalar tensor or a Python one"
            )
        return value

    def _taken(self, outputs: Any) -> Any:
        """What it is taken of: one tensor; a function of the user's gets the outputs as they are."""
        return prediction(outputs) if isinstance(self.function, Loss) or self._ours else outputs

    def _named(self, labels: Any) -> Any:
        """Return labels without weights; in those of a metric of this library −100 for what is left out."""
        labels = unweighted(labels)
        plain = self.left_out == LEFT_OUT or not self._ours or not isinstance(labels, Tensor)
        if plain or labels.is_floating_point() or labels.is_complex():
            return labels
        return labels.long().masked_fill(labels == self.left_out, LEFT_OUT)

    @property
    def _ours(self) -> bool:
        function = getattr(self.function, "func", self.function)
        return getattr(function, "__module__", "").startswith("modelspace.metrics")

    def is_sample_mean(self, labels: Shaped[Tensor, "..."]) -> bool:
        """Whether its value is known to be the mean over these samples of what each has by itself."""
        loss = self.function
        if not self.sample_mean:
            return isinstance(loss, Loss) and loss.is_sample_mean(labels)
        # Where labels are quantities that may be −100 it is right, too, to take all of them together.
        labels = unweighted(labels)
        return not (self._ours and isinstance(labels, Tensor) and leaves_some_out(labels, self.left_out))

    def check_values(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the contract: its own, or that of the loss that it is."""
        outputs, labels = self._taken(outputs), self._named(labels)
        if self._ours and not isinstance(labels, Tensor):
            raise ModelspaceError(
                f"metric '{self.name}' is of one tensor of labels, and these are a {type(labels).__name__} "
                f"({described(labels)}): give a function of (outputs, labels), which takes what it needs"
            )
        if isinstance(self.function, Loss):
            self.function.check_values(outputs, labels)
        else:
            self.contract(self.name, outputs, labels)

    def check(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the metric's contract; once, before it is used.

        Args:
            outputs: The outputs of one member.
            labels: The labels of the same samples; of a mean over samples, some of them are enough.
        """
        self.check_values(outputs, labels)
        if self.is_sample_mean(labels):
            self(outputs, labels)
