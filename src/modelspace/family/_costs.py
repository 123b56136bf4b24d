"""What the members of a family cost: by law where one holds, else by a trace, and each held against the other."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes, said
from modelspace.family._discovery import law_of, law_within
from modelspace.family._law import Law
from modelspace.space import ModelSpace

# Up to here every listed member is built, and its peak measured, sooner than a law of the peak is found.
MEASURED = 64
_KEPT = 32  # spaces
QUANTITIES = ("n", "forward_flops", "backward_flops", "peak_bytes")
_Found = TypeVar("_Found")
Shape = Iterable[int] | Callable[..., Iterable[int]] | None


@dataclass(frozen=True)
class Member:
    """One space of a family, and what it costs.

    Attributes:
        hyperparameters: What makes it this member.
        n: Coordinates.
        forward_flops: FLOP of the batch's forward; None where the family has no input shape.
        backward_flops: FLOP of its backward.
        peak_bytes: Most bytes alive in forward and backward; None too where memory was left out.
        by_law: The quantities that a law gave; the others were traced.
    """

    hyperparameters: dict[str, Any]
    n: int
    forward_flops: int | None = None
    backward_flops: int | None = None
    peak_bytes: int | None = None
    by_law: tuple[str, ...] = ()


class Members:
    """Builds and traces members on the meta device, each at most once.

    Args:
        architecture: A class or factory.
        fixed: Arguments that all members share.
        input_shape: One sample's shape, or a function of the hyper-parameters (by keyword) that gives it.
        dtype: The coordinates' type; as built where None.
        input_dtype: The samples' type.
        batch_size: Samples; where None, the smallest batch with which the first member traced can be trained, for
            all.
    """

    def __init__(
        self,
        architecture: Callable[..., nn.Module],
        fixed: Mapping[str, Any],
        input_shape: Shape,
        dtype: torch.dtype | None,
        input_dtype: torch.dtype,
        batch_size: int | None,
    ):
        self._architecture = architecture
        self._fixed = dict(fixed)
        self._shape = input_shape if input_shape is None or callable(input_shape) else tuple(input_shape)
        self._dtype, self._input_dtype = dtype, input_dtype
        self.batch_size = batch_size
        self._dimensions: dict[str, int | ModelspaceError] = {}
        self._traces: dict[str, Member | ModelspaceError] = {}
        self._spaces: OrderedDict[str, ModelSpace] = OrderedDict()

    @property
    def has_shape(self) -> bool:
        """Whether the cost can be known, for which a sample's shape is needed."""
        return self._shape is not None

    @property
    def traced(self) -> int:
        """How many members have been traced."""
        return len(self._traces)

    def space(self, member: Mapping[str, Any]) -> ModelSpace:
        """The space of one member.

        Raises:
            ModelspaceError: it can't be built; the message says which and why.
        """
        arguments = {**self._fixed, **member}
        try:
            shape = self._shape(**arguments) if callable(self._shape) else self._shape
        except Exception as error:
            raise ModelspaceError(
                f"input_shape({said(arguments)}) failed: {type(error).__name__}: {error}"
            ) from error
        return ModelSpace(
            self._architecture,
            input_shape=shape,
            dtype=self._dtype,
            input_dtype=self._input_dtype,
            **arguments,
        )

    def _kept(self, member: Mapping[str, Any]) -> ModelSpace:
        """The space of one member, built once for all that is asked of it within a law."""
        key = said(member)
        if key not in self._spaces:
            self._spaces[key] = self.space(member)
            if len(self._spaces) > _KEPT:
                self._spaces.popitem(last=False)
        return self._spaces[key]

    def dimension(self, member: Mapping[str, Any]) -> int:
        """N of one member, which is built for it and not run.

        Raises:
            ModelspaceError: it can't be built.
        """
        return _remembered(self._dimensions, member, lambda: self._kept(member).dimension)

    def trace(self, member: Mapping[str, Any]) -> Member:
        """Everything about one member, by a real trace.

        Raises:
            ModelspaceError: it can't be built, or doesn't run on the samples.
        """
        return _remembered(self._traces, member, lambda: self._trace(member))

    def measured(self, quantity: str, member: Mapping[str, Any]) -> int:
        """One quantity of one member.

        Raises:
            ModelspaceError: it can't be built, or doesn't run on the samples.
        """
        if quantity == "n":
            return self.dimension(member)
        return getattr(self.trace(member), quantity)

    def _trace(self, member: Mapping[str, Any]) -> Member:
        space = self._kept(member)
        if not self.has_shape:
            return Member(dict(member), space.dimension)
        try:
            cost = space.anatomy(self.batch_size)
        except ModelspaceError as error:
            raise ModelspaceError(f"{space.title} can't be traced: {error}") from error
        # One batch for all: a member that needs a larger one must say so, not be compared at another size.
        self.batch_size = cost.batch_size
        return Member(dict(member), space.dimension, cost.forward_flops, cost.backward_flops, cost.peak_bytes)


def _remembered(
    known: dict[str, _Found | ModelspaceError], member: Mapping[str, Any], make: Callable[[], _Found]
) -> _Found:
    key = said(member)
    if key not in known:
        try:
            with warnings.catch_warnings():
                # Most members are built to find a law, and nobody asked for them.
                warnings.simplefilter("ignore")
                known[key] = make()
        except ModelspaceError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, ModelspaceError):
        raise found
    return found


class Costs:
    """The laws of a family's quantities, and its members' costs."""

    def __init__(self, axes: Axes, quantities: tuple[str, ...], members: Members):
        self.axes, self.quantities, self.members = axes, quantities, members
        self.laws: Mapping[str, Law] = _Laws(self)
        self._found: dict[str, Law] = {}

    @property
    def memory_by_law(self) -> bool:
        """Whether peak memory is taken from a law, where one passes its checks."""
        return "peak_bytes" in self.quantities and self.axes.count > MEASURED

    def law(self, quantity: str) -> Law:
        """The law of one quantity, found when it is first asked for."""
        if quantity not in self._found:
            find = law_within if quantity == "peak_bytes" else law_of
            self._found[quantity] = find(
                quantity, lambda member: self.members.measured(quantity, member), self.axes
            )
        return self._found[quantity]

    def member(self, member: dict[str, Any]) -> Member:
        """One member's cost.

        Raises:
            ModelspaceError: no law covers it, and it can't be built.
        """
        lawful = [q for q in self.quantities if q != "peak_bytes" or self.memory_by_law]
        values = {q: self.law(q).value(member) for q in lawful}
        by_law = {q: value for q, value in values.items() if value is not None}
        missing = set(self.quantities) - set(by_law)
        if not missing:
            return Member(member, **by_law, by_law=tuple(by_law))
        if by_law and missing == {"n"}:
            return Member(member, self.members.dimension(member), **by_law, by_law=tuple(by_law))
        traced = self.members.trace(member)
        for quantity in by_law:
            self._hold(quantity, member, getattr(traced, quantity))
        return traced if "peak_bytes" in self.quantities else replace(traced, peak_bytes=None)

    @cached_property
    def rows(self) -> list[Member | ModelspaceError]:
        """The cost of each listed member, or why it has none."""
        found: list[Member | ModelspaceError] = []
        for member in self.axes.members():
            try:
                if self.axes.count <= MEASURED:
                    # A law can't know that one member is refused by its own constructor.
                    self._hold("n", member, self.members.dimension(member))
                found.append(self.member(member))
            except ModelspaceError as error:
                found.append(error)
        return found

    def _hold(self, quantity: str, member: dict[str, Any], traced: int) -> None:
        """Hold a law against a member; a piece that is contradicted is given up."""
        law = self.law(quantity)
        value = law.value(member)
        if value is not None and value != traced:
            self._found[quantity] = law.refuted(member, traced)


class _Laws(Mapping[str, Law]):
    """The laws by quantity, each found when it is read."""

    def __init__(self, costs: Costs):
        self._costs = costs

    def __getitem__(self, quantity: str) -> Law:
        if quantity not in self._costs.quantities:
            raise KeyError(f"no quantity '{quantity}' here: {', '.join(self._costs.quantities)}")
        return self._costs.law(quantity)

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs.quantities)

    def __len__(self) -> int:
        return len(self._costs.quantities)

    def __repr__(self) -> str:
        return "\n".join(repr(self[quantity]) for quantity in self)


def table_of(axes: Axes, quantities: Sequence[str], rows: Sequence[Member | ModelspaceError]) -> pd.DataFrame:
    """One row a member: hyper-parameters, then quantities; ``<NA>`` where it can't be built."""
    members = list(axes.members())
    columns: dict[str, Any] = {name: _column([member[name] for member in members]) for name in axes.listed}
    for quantity in quantities:
        values = [None if isinstance(row, ModelspaceError) else getattr(row, quantity) for row in rows]
        columns[quantity] = _counts(values)
    return pd.DataFrame(columns)


def _column(values: list[Any]) -> pd.Series:
    simple = all(isinstance(v, int | float | str | bool) for v in values)
    return pd.Series(values, dtype=None if simple else "object")


def _counts(values: list[int | None]) -> pd.Series:
    known = [v for v in values if v is not None]
    if known and max(known) >= 2**63:
        # Python's integers, since no machine word holds them.
        return pd.Series([pd.NA if v is None else v for v in values], dtype="object")
    return pd.Series(values, dtype="int64" if len(known) == len(values) else "Int64")
