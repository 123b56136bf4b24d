"""What the members of a family cost: by law where one holds, else by a trace, and each held against the other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes
from modelspace.family._discovery import law_of, law_within
from modelspace.family._law import Law
from modelspace.family._members import Member, Members
from modelspace.family._table import refuted

# Up to here every listed member is built, and its peak measured, sooner than a law of the peak is found.
MEASURED = 64


class Costs:
    """The laws of a family's quantities, and its members' costs.

    Args:
        axes: The hyper-parameters.
        quantities: The names of what is known of each member.
        members: What builds and traces them.
    """

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
            self._found[quantity] = refuted(law, member, value, traced)


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
