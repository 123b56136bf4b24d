"""A loss of samples of unequal weight: Σ wᵢ ℓᵢ / Σ wᵢ over a batch; of classes with weights of their own, too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.losses._base import LabelKind, Labels, Loss, OutputKind, Reals, prediction
from modelspace.nest import Nest, mapped


@dataclass(frozen=True)
class Weighted(Loss):
    """Another loss's mean over a batch by the samples' weights; its labels are ``WeightedLabels``.

    Attributes:
        of: The loss, of whose labels each sample has its own.
    """

    of: Loss

    @property
    def name(self) -> str:
        """What the loss is called without weights: the data say that there are some."""
        return self.of.name

    def __str__(self) -> str:
        return str(self.of)

    @property
    def outputs(self) -> OutputKind | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the outputs are taken for."""
        return self.of.outputs

    @property
    def labels(self) -> LabelKind | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the labels are."""
        return self.of.labels

    @property
    def takes_one(self) -> bool:
        """Whether the loss is taken of one tensor."""
        return self.of.takes_one

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """The loss's."""
        return self.of.code

    def __call__(self, outputs: Nest, labels: Nest, *, reduction: str = "mean") -> Reals:
        """Compute Σ wᵢ ℓᵢ / Σ wᵢ cᵢ, of what the i-th sample alone adds to the loss's two sums: see ``sums``."""
        outputs = prediction(outputs) if self.takes_one else outputs
        values, counts = torch.vmap(self._one)(outputs, labels.labels)
        weights = labels.weights.to(values.dtype)
        total = (weights * counts).sum()
        return (weights * values).sum() / torch.where(total > 0, total, 1)

    def _one(self, outputs: Nest, labels: Nest) -> tuple[Tensor, Tensor]:
        return self.of.sums(*(mapped(lambda part: part[None], nest) for nest in (outputs, labels)))

    @property
    def left_out(self) -> int | None:
        """The label that counts nothing."""
        return self.of.left_out

    def on(self, labels: Nest) -> "Loss":
        """Return it of the loss for these labels."""
        return Weighted(self.of.on(labels))

    def check_values(self, outputs: Labels, labels: Any) -> None:
        """Refuse what the loss refuses."""
        self.of.check_values(outputs, labels.labels)

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell that it is none: a piece's weights count."""
        return False

    def hyperparameters(self) -> Hyperparameters:
        """Give those of the loss."""
        return self.of.hyperparameters()

    def ranges(self) -> Mapping[str, Range]:
        """Give those of the loss."""
        return self.of.ranges()

    def at(self, values: Mapping[str, Any]) -> "Loss":
        """Return it with other values of the loss's parameters."""
        return Weighted(self.of.at(values)) if values else self
