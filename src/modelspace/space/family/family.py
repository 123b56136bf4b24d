"""``Family``: spaces indexed by the hyper-parameters that change H."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.late import perform
from modelspace.space.family.axes import axes_of
from modelspace.space.family.discovery import law_of, law_within
from modelspace.space.family.law import Law
from modelspace.space.family.members import QUANTITIES, Member, Members, Shape
from modelspace.space.family.search import Wanted, solved
from modelspace.space.family.solution import Solution
from modelspace.space.family.table import refuted, table_of
from modelspace.space.space import ModelSpace

# Up to here every listed member is built, and its peak measured, sooner than a law of the peak is found.
_MEASURED = 64


class Family:
    """The spaces H_w = { f_p : p ∈ ℝⁿ⁽ʷ⁾ } of one architecture, w its hyper-parameters.

    What a member costs is known without building it wherever a *law* holds: parameters and FLOP are exactly
    affine in depth, and polynomial in widths. The laws are found from few small members on the meta device,
    in rational arithmetic, and checked on further ones. Peak memory is a maximum over a pass: it is measured
    member by member, and in a family of more than 64 members taken from a law where all checks allow one.

    Nothing is computed before it is asked for, and nothing is allocated.

    Args:
        architecture: A class or factory.
        input_shape: One sample's shape without the batch, or a function that gives it from the
            hyper-parameters (by keyword). Without it only n is known.
        dtype: Cast the members to this floating-point type; as built where None.
        input_dtype: The type of the samples, ``torch.long`` for embeddings.
        batch: Samples that FLOP and memory are for; the smallest that trains where None.
        memory: Whether peak memory is measured; False makes the table of a large family quick.
        **hyperparameters: The architecture's own arguments. A list, a range or an array varies; anything
            else, tuples too, is fixed.

    Raises:
        ModelspaceError: nothing varies, a list is empty or has a value twice, or the architecture is a module.

    Example:
        >>> shape = lambda in_features, **_: (in_features,)
        >>> family = Family(nn.Linear, in_features=[8, 16], out_features=[1, 2, 3], input_shape=shape)
        >>> family.laws["n"]
        n(in_features, out_features) = in_features·out_features + out_features
        >>> family.laws["forward_flops"](in_features=10**6, out_features=10**6)
        2000000000000
        >>> len(family), family.space(in_features=8, out_features=3).dimension
        (6, 27)
    """

    def __init__(
        self,
        architecture: Callable[..., nn.Module],
        /,
        *,
        input_shape: Shape = None,
        dtype: torch.dtype | None = None,
        input_dtype: torch.dtype = torch.float32,
        batch: int | None = None,
        memory: bool = True,
        **hyperparameters: Any,
    ):
        if isinstance(architecture, nn.Module):
            raise ModelspaceError(
                f"{type(architecture).__name__} is already built, so nothing of it can vary: give its class"
            )
        self.axes = axes_of(hyperparameters)
        self.name: str = getattr(architecture, "__name__", None) or type(architecture).__name__
        self._members = Members(architecture, self.axes.fixed, input_shape, dtype, input_dtype, batch)
        counts = QUANTITIES if memory else QUANTITIES[:3]
        self.quantities: tuple[str, ...] = counts if self._members.has_shape else ("n",)
        self._laws: dict[str, Law] = {}

    @property
    def batch(self) -> int | None:
        """The samples that FLOP and memory are for; None before anything was traced, unless given."""
        return self._members.batch

    @cached_property
    def laws(self) -> Mapping[str, Law]:
        """The law of each quantity, by its name in the table, found when it is first asked for."""
        return _Laws(self.quantities, self.law)

    def law(self, quantity: str) -> Law:
        """The law of one of the family's quantities."""
        if quantity not in self._laws:
            find = law_within if quantity == "peak_bytes" else law_of
            self._laws[quantity] = find(
                quantity, lambda member: self._members.measured(quantity, member), self.axes
            )
        return self._laws[quantity]

    def space(self, **hyperparameters: Any) -> ModelSpace:
        """The space of one member, which need not be one of those listed.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._members.space(self.axes.completed(hyperparameters))

    def member(self, **hyperparameters: Any) -> Member:
        """What one member costs: by law where one holds, else by a trace.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._member(self.axes.completed(hyperparameters))

    def measure(self, **hyperparameters: Any) -> Member:
        """What one member costs, by a real trace on the meta device.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._members.trace(self.axes.completed(hyperparameters))

    def _member(self, member: dict[str, Any]) -> Member:
        values = {
            q: self.law(q).value(member) for q in self.quantities if q != "peak_bytes" or self.memory_by_law
        }
        by_law = {q: v for q, v in values.items() if v is not None}
        if len(by_law) == len(self.quantities):
            return Member(member, **by_law, by_law=tuple(by_law))
        if by_law and set(self.quantities) - set(by_law) == {"n"}:
            return Member(member, self._members.dimension(member), **by_law, by_law=tuple(by_law))
        traced = self._members.trace(member)
        for quantity in by_law:
            self._held(quantity, member, getattr(traced, quantity))
        return traced if "peak_bytes" in self.quantities else replace(traced, peak_bytes=None)

    def _held(self, quantity: str, member: dict[str, Any], traced: int) -> None:
        """Hold a law against a member; a piece that is contradicted is given up."""
        law = self.law(quantity)
        value = law.value(member)
        if value is not None and value != traced:
            self._laws[quantity] = refuted(law, member, value, traced)

    @property
    def memory_by_law(self) -> bool:
        """Whether the table takes peak memory from a law, where one passes its checks."""
        return "peak_bytes" in self.quantities and len(self) > _MEASURED

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a member: hyper-parameters, n, FLOP forward and backward of the batch, peak bytes.

        A member that can't be built has no numbers (``<NA>``); `refused` says why. Up to 64 members are all
        built, and held against the laws, as those are that are traced: a law that one contradicts is given up.
        """
        return table_of(self.axes, self.quantities, self._rows)

    @cached_property
    def _rows(self) -> list[Member | ModelspaceError]:
        rows: list[Member | ModelspaceError] = []
        for member in self.axes.members():
            try:
                if len(self) <= _MEASURED:
                    # A law can't know that one member is refused by its own constructor.
                    self._held("n", member, self._members.dimension(member))
                rows.append(self._member(member))
            except ModelspaceError as error:
                rows.append(error)
        return rows

    @property
    def refused(self) -> dict[int, str]:
        """Why a listed member can't be built or traced, by its row."""
        return {i: str(row) for i, row in enumerate(self._rows) if isinstance(row, ModelspaceError)}

    def solve(
        self,
        *,
        parameters: float | None = None,
        flops: float | None = None,
        memory: float | None = None,
        over: str | list[str] | tuple[str, ...] | None = None,
        ratio: Mapping[str, float] | None = None,
        prefer: str | None = None,
        within: float = 0.05,
        **given: Any,
    ) -> Solution:
        """The integer member nearest to a target, found by law, proven by its neighbours and one real trace.

        With one unknown, every integer is a candidate. With a ``ratio``, the unknown of the largest share runs
        over the integers and the others follow it, rounded to whole numbers of at least 1. With several
        unknowns and no ratio, the first is solved for at every listed value of the others, and the nearest of
        all is taken, or the one with the most of what is preferred.

        Args:
            parameters: Target for n.
            flops: Target for the FLOP of forward and backward over the batch.
            memory: Target for peak bytes.
            over: The unknown, or several; the only integer hyper-parameter that isn't given where None.
            ratio: The unknowns with their shares, ``{"width": 64, "depth": 1}``.
            prefer: One of several unknowns: among solutions ``within`` reach of the target, the one with the
                most of it; with a minus before its name (``"-depth"``), the least.
            within: The relative distance that ``prefer`` may cost.
            **given: A value for each other hyper-parameter; one that has a single value needs none.

        Returns:
            The member with its values, neighbours and law.

        Raises:
            ModelspaceError: not exactly one target, one that is out of reach, an unknown that isn't made of
                integers or that the target doesn't grow with, or a member that can't be built.

        Example:
            >>> family = Family(nn.Linear, in_features=[8, 16], out_features=5)
            >>> family.solve(parameters=1000)
            in_features=199
              parameters  1,000, +0.000% off 1,000
              below       in_features=198: 995, -0.500%
              above       in_features=200: 1,005, +0.500%
              traced      n = 1,000
              found by    n(in_features) = 5·in_features + 5
        """
        targets = {"parameters": parameters, "flops": flops, "memory": memory}
        wanted = Wanted(targets, over, dict(ratio or {}), prefer, within, given)
        return solved(wanted, self.axes, self.quantities, self.law, self._members)

    def plot(self, path: Any = None) -> Any:
        """Scaling plots: n, FLOP and memory against each integer hyper-parameter, on logarithmic axes.

        Args:
            path: Where one HTML page that needs no network goes; not written where None.

        Returns:
            The plotly figure.

        Raises:
            ModelspaceError: no hyper-parameter is an integer, or the place can't be written to.
        """
        return perform("family.plot", self, path)

    @property
    def title(self) -> str:
        """``MLP(width=[16, 32], depth=[1, 2], classes=10)``."""
        arguments = {name: list(values) for name, values in self.axes.listed.items()} | self.axes.fixed
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    def __len__(self) -> int:
        length = 1
        for values in self.axes.listed.values():
            length *= len(values)
        return length

    def __iter__(self) -> Iterator[ModelSpace]:
        return (self._members.space(member) for member in self.axes.members())

    def __getitem__(self, row: int) -> ModelSpace:
        members = list(self.axes.members())
        if not -len(members) <= row < len(members):
            raise IndexError(f"row {row} of a family of {len(members)} members")
        return self._members.space(members[row])

    def __repr__(self) -> str:
        from modelspace.space.family.card import text_card

        return text_card(self)

    def _repr_html_(self) -> str:
        from modelspace.space.family.card import html_card

        return html_card(self)


class _Laws(Mapping[str, Law]):
    """The laws by quantity, each found when it is read."""

    def __init__(self, quantities: tuple[str, ...], law: Callable[[str], Law]):
        self._quantities, self._law = quantities, law

    def __getitem__(self, quantity: str) -> Law:
        if quantity not in self._quantities:
            raise KeyError(f"no quantity '{quantity}' here: {', '.join(self._quantities)}")
        return self._law(quantity)

    def __iter__(self) -> Iterator[str]:
        return iter(self._quantities)

    def __len__(self) -> int:
        return len(self._quantities)

    def __repr__(self) -> str:
        return "\n".join(repr(self[quantity]) for quantity in self)
