"""One of several losses, each member its own: the loss as a column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.losses.contracts import Contract
from modelspace.losses.loss import Loss, reduced
from modelspace.losses.resolve import resolve


@dataclass(frozen=True)
class Choice(Loss):
    """The ``loss``-th of some losses: ℓ = ℓ_i.

    All are computed, and one is taken. The others see zeros in place of the outputs, so that what overflows in one
    loss leaves no trace, in value or gradient, in the members of another.

    Attributes:
        among: The losses.
        loss: i; a column makes it a tensor, one member's.
        parameters: Values of the losses' own hyper-parameters that are columns too, each for every loss that has it.
    """

    among: tuple[Loss, ...]
    loss: Any = 0
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The names of all: ``logistic|hinge``."""
        return "|".join(each.name for each in self.among)

    def __str__(self) -> str:
        return "|".join(map(str, self.among))

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ_i of every label."""
        return self._taken(lambda loss, z: loss.each(z, labels), outputs)

    def __call__(
        self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
    ) -> Float[Tensor, "..."]:
        """ℓ_i of a batch, reduced as that loss reduces: see ``Loss.__call__``."""
        if reduction != "mean":
            return reduced(self.each(outputs, labels), reduction)
        return self._taken(lambda loss, z: loss(z, labels), outputs)

    def _taken(self, of: Any, outputs: Tensor) -> Tensor:
        if not isinstance(self.loss, Tensor):
            return of(self._parts()[int(self.loss)], outputs)
        found = None
        for i, part in enumerate(self._parts()):
            mine = self.loss == i
            value = of(part, torch.where(mine, outputs, 0))
            found = value if found is None else torch.where(mine, value, found)
        assert found is not None
        return found

    def _parts(self) -> list[Loss]:
        given = dict(self.parameters)
        return [part.at({n: given[n] for n in part.hyperparameters() if n in given}) for part in self.among]

    @property
    def contract(self) -> Contract:
        """The contracts of all, one after the other."""

        def every(name: str, outputs: Tensor, labels: Tensor) -> None:
            for part in self.among:
                part.contract(part.name, outputs, labels)

        return every

    def places(self, names: Iterable[str]) -> list[int]:
        """Where among the losses those of these names are: the column ``loss``."""
        known = {each.name: i for i, each in enumerate(self.among)}
        return [known[resolve(name).name] for name in names]

    def hyperparameters(self) -> Hyperparameters:
        """``loss`` itself, and every number among the fields of any of the losses."""
        own = {name: value for part in self.among for name, value in part.hyperparameters().items()}
        return {"loss": 0, **own}

    def ranges(self) -> Mapping[str, Range]:
        """Give what each of `hyperparameters` may be."""
        last = len(self.among) - 1
        index = Range("loss", f"a whole number from 0 to {last}", 0.0, last, high_included=True, whole=True)
        return {"loss": index, **{n: r for part in self.among for n, r in part.ranges().items()}}

    def at(self, values: Mapping[str, Any]) -> Self:
        """With other values of ``loss`` and of the losses' own hyper-parameters."""
        own = {**dict(self.parameters), **{n: v for n, v in values.items() if n != "loss"}}
        return type(self)(self.among, values.get("loss", self.loss), tuple(own.items()))
