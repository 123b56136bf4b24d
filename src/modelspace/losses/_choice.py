"""One of several losses, each member its own: the loss as a column."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.losses._base import Labels, Loss, Reals, prediction, reduced
from modelspace.losses._given import resolve
from modelspace.nest import Nest


@dataclass(frozen=True)
class Choice(Loss):
    """The ``loss``-th of some losses: ℓ = ℓ_i.

    All are computed, and one is taken. The others see zeros in place of the outputs, so that what overflows in one
    loss leaves no trace, in value or gradient, in the members of another.

    Attributes:
        among: The losses.
        loss: i; a column makes it a tensor, one member's.
        given: Values of the losses' own parameters that are columns too, each for every loss that has it.
    """

    among: tuple[Loss, ...]
    loss: Any = 0
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The names of all: ``logistic|hinge``."""
        return "|".join(loss.name for loss in self.among)

    def __str__(self) -> str:
        return "|".join(map(str, self.among))

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        """Compute ℓ_i of every label."""
        return self._chosen(lambda loss, z: loss.per_label(z, labels), outputs)

    def __call__(self, outputs: Reals, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Compute ℓ_i of a batch, reduced as that loss reduces: see ``Loss.__call__``."""
        if reduction != "mean":
            return reduced(self.per_label(prediction(outputs), labels), reduction)
        return self._chosen(lambda loss, z: loss(z, labels), prediction(outputs))

    def _chosen(self, value_of: Callable[[Loss, Tensor], Tensor], outputs: Tensor) -> Tensor:
        given = dict(self.given)
        parts = [part.at({n: given[n] for n in part.hyperparameters() if n in given}) for part in self.among]
        if not isinstance(self.loss, Tensor):
            return value_of(parts[int(self.loss)], outputs)
        chosen = value_of(parts[0], torch.where(self.loss == 0, outputs, 0))
        for i, part in enumerate(parts[1:], 1):
            value = value_of(part, torch.where(self.loss == i, outputs, 0))
            chosen = torch.where(self.loss == i, value, chosen)
        return chosen

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse what any of the losses refuses."""
        for part in self.among:
            part.check_values(outputs, labels)

    @property
    def left_out(self) -> int | None:
        """The label that counts nothing in any of them."""
        known = {part.left_out for part in self.among}
        return known.pop() if len(known) == 1 else None

    def on(self, labels: Nest) -> "Loss":
        """Return it of the losses for these labels."""
        return type(self)(tuple(part.on(labels) for part in self.among), self.loss, self.given)

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell whether all of the losses are."""
        return all(part.is_sample_mean(labels) for part in self.among)

    def places(self, names: Iterable[str]) -> list[int]:
        """Find where among the losses those of these names are: the column ``loss``."""
        known = {str(loss): i for i, loss in enumerate(self.among)}
        return [known[str(resolve(name))] for name in names]

    def hyperparameters(self) -> Hyperparameters:
        """Give ``loss`` itself, and every parameter of any of the losses."""
        own = {name: value for part in self.among for name, value in part.hyperparameters().items()}
        return {"loss": 0, **own}

    def ranges(self) -> Mapping[str, Range]:
        """Give what each of `hyperparameters` may be."""
        last = len(self.among) - 1
        index = Range("loss", f"a whole number from 0 to {last}", 0.0, last, high_included=True, whole=True)
        return {"loss": index, **{n: r for part in self.among for n, r in part.ranges().items()}}

    def at(self, values: Mapping[str, Any]) -> "Loss":
        """Return the choice with other values of ``loss`` and of the losses' own parameters."""
        own = {**dict(self.given), **{n: v for n, v in values.items() if n != "loss"}}
        return type(self)(self.among, values.get("loss", self.loss), tuple(own.items()))
