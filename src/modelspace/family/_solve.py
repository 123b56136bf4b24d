"""``Family.solve``: unknowns, paths through the family, and the member on them that is nearest to a target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count, product
from math import isfinite
from typing import Any, NamedTuple

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes, is_integer, said
from modelspace.family._costs import Costs, Member
from modelspace.family._law import Law, Progression
from modelspace.show import bytes_text

_QUANTITIES = {
    "parameters": ("n",),
    "flops": ("forward_flops", "backward_flops"),
    "memory": ("peak_bytes",),
}
_DOUBLINGS = 50
_FLAT = 7


@dataclass(frozen=True)
class Neighbour:
    """The member next to the solution, with its value: why nothing nearer lies on that side.

    Attributes:
        hyperparameters: What makes it this member.
        value: What was solved for, there.
    """

    hyperparameters: dict[str, Any]
    value: int


@dataclass(frozen=True)
class Solution:
    """The member nearest to a target, traced, with its neighbours on both sides.

    Attributes:
        member: The member by a real trace.
        quantity: What was solved for: ``"parameters"``, ``"flops"`` (forward and backward) or ``"memory"``.
        target: What it should be.
        value: What it is, by the trace.
        law: The law that found it; ``"traced"`` where members were traced for it.
        below: The next smaller member that can be built; None where there is none.
        above: The next larger one.
    """

    member: Member
    quantity: str
    target: float
    value: int
    law: str
    below: Neighbour | None
    above: Neighbour | None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What makes it this member."""
        return self.member.hyperparameters

    @property
    def distance(self) -> float:
        """Value less target."""
        return self.value - self.target

    def __repr__(self) -> str:
        member = self.member
        lines = [
            said(self.hyperparameters),
            f"  {self.quantity:<12}{self.value:,}, {self.distance / self.target:+.3%} off {self.target:,.0f}",
        ]
        for side, neighbour in (("below", self.below), ("above", self.above)):
            if neighbour is not None:
                lines.append(
                    f"  {side:<12}{said(neighbour.hyperparameters)}: {neighbour.value:,}, "
                    f"{neighbour.value / self.target - 1:+.3%}"
                )
        cost = ""
        if None not in (member.forward_flops, member.backward_flops, member.peak_bytes):
            cost = (
                f", {member.forward_flops:,} FLOP forward, {member.backward_flops:,} backward, "
                f"{bytes_text(member.peak_bytes or 0)} at the peak"
            )
        lines.append(f"  {'traced':<12}n = {member.n:,}{cost}")
        lines.append(f"  {'found by':<12}" + self.law.replace("\n", "\n" + 14 * " "))
        return "\n".join(lines)


class _Path(NamedTuple):
    """The members among which a solution is sought, in the order of one integer.

    Attributes:
        unknown: The hyper-parameter that the integer is.
        at: The member at an integer.
        lattice: Where members are known to be built; between them they are tried one by one.
    """

    unknown: str
    at: Callable[[int], dict[str, Any]]
    lattice: Progression


def solved(
    targets: Mapping[str, float | None],
    over: str | list[str] | tuple[str, ...] | None,
    ratio: Mapping[str, float],
    prefer: str | None,
    within: float,
    given: Mapping[str, Any],
    axes: Axes,
    costs: Costs,
) -> Solution:
    """Answer: see ``Family.solve``.

    Raises:
        ModelspaceError: the question has no answer, or isn't one.
    """
    quantity, target = _target(targets, costs.quantities)
    unknowns = _unknowns(over, ratio, prefer, given, axes)
    lead = max(ratio, key=lambda name: ratio[name]) if ratio else unknowns[0]
    others = [] if ratio else unknowns[1:]
    found: list[Solution] = []
    problems: list[ModelspaceError] = []
    for values in product(*(axes.listed[name] for name in others)):
        fixed = {**given, **dict(zip(others, values, strict=True))}
        example = axes.completed(
            {**fixed, **{name: min(axes.listed[name]) for name in unknowns if name not in fixed}}
        )
        # The law of n knows what a hyper-parameter must be divisible by, for the other quantities too.
        path = _path(lead, ratio or {lead: 1}, example, _lattice(costs.law("n"), example, lead))
        try:
            found.append(_solution(path, quantity, target, costs))
        except ModelspaceError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    nearest = min(found, key=lambda s: abs(s.distance))
    if prefer is None:
        return nearest
    name, sign = prefer.removeprefix("-"), -1 if prefer.startswith("-") else 1
    close = [s for s in found if abs(s.distance) <= within * s.target] or [nearest]
    return max(close, key=lambda s: (sign * s.hyperparameters[name], -abs(s.distance)))


def _target(targets: Mapping[str, float | None], quantities: tuple[str, ...]) -> tuple[str, float]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ModelspaceError(
            f"solve takes one target: parameters=, flops= or memory=; received {', '.join(given) or 'none'}"
        )
    ((quantity, target),) = given.items()
    if not isfinite(target) or target <= 0:
        raise ModelspaceError(f"{quantity} must be a positive number; received {target}")
    if not set(_QUANTITIES[quantity]) <= set(quantities):
        raise ModelspaceError(
            f"{quantity} can't be solved for: the family was made without input_shape=(…)"
            if "forward_flops" not in quantities
            else f"{quantity} can't be solved for: the family was made with memory=False"
        )
    return quantity, target


def _unknowns(
    over: str | list[str] | tuple[str, ...] | None,
    ratio: Mapping[str, float],
    prefer: str | None,
    given: Mapping[str, Any],
    axes: Axes,
) -> list[str]:
    names = [over] if isinstance(over, str) else list(over or ratio)
    if not names:
        names = [n for n in axes.integers if n not in given and len(axes.listed[n]) > 1] or [
            n for n in axes.integers if n not in given
        ]
        if len(names) != 1:
            raise ModelspaceError(
                f"say what is unknown: over='{(names or list(axes.listed))[0]}' "
                f"(integer hyper-parameters left open: {', '.join(names) or 'none'})"
            )
    if ratio and set(names) != set(ratio):
        raise ModelspaceError(f"the ratio is of {', '.join(ratio)}, but over= names {', '.join(names)}")
    for name in [*names, *given]:
        axes.require(name)
    for name in names:
        if name in given:
            raise ModelspaceError(f"{name} is both unknown and given ({name}={given[name]!r}): leave one out")
    for name in names if ratio else names[:1]:
        if name not in axes.integers:
            odd = next(v for v in axes.listed[name] if not is_integer(v))
            raise ModelspaceError(
                f"{name} takes no integers (it is {odd!r} in this family), so it can't be solved for"
            )
    if any(not share > 0 for share in ratio.values()):
        raise ModelspaceError(f"a ratio is of positive numbers; received {dict(ratio)}")
    by = (prefer or "").removeprefix("-")
    if by and (ratio or len(names) < 2 or by not in names or by not in axes.integers):
        raise ModelspaceError(
            f"prefer='{prefer}' chooses among several unknowns without a ratio, by one that is an "
            f"integer; unknown here: {', '.join(names)}"
        )
    return names


def _lattice(law: Law, example: Mapping[str, Any], lead: str) -> Progression:
    """Where the unknown may be, as far as the law of n tells; every integer where it doesn't."""
    piece = law.piece(example)
    along = (dict(piece.along).get(lead) if piece else None) or Progression(1)
    return Progression(min(along.start, 1 + (along.start - 1) % along.step), along.step)


def _path(lead: str, shares: Mapping[str, float], example: Mapping[str, Any], lattice: Progression) -> _Path:
    """The leading unknown runs over the integers, others follow it by their shares, rounded; the rest stays."""

    def at(t: int) -> dict[str, Any]:
        # Half up, not to even: the members must grow with t.
        moved = {name: int(t * share / shares[lead] + 0.5) for name, share in shares.items() if name != lead}
        return {**example, **moved, lead: t}

    if len(shares) > 1:
        lowest = next(
            t for t in map(lattice.__getitem__, count()) if all(at(t)[name] >= 1 for name in shares)
        )
        lattice = Progression(lowest, lattice.step)
    return _Path(lead, at, lattice)


def _solution(path: _Path, quantity: str, target: float, costs: Costs) -> Solution:
    names = _QUANTITIES[quantity]
    for laws in ({name: costs.law(name) for name in names if name != "peak_bytes"}, {}):

        def value(member: dict[str, Any], laws: Mapping[str, Law] = laws) -> int:
            total = 0
            for name in names:
                by_law = laws[name].value(member) if name in laws else None
                total += costs.members.measured(name, member) if by_law is None else by_law
            return total

        best, below, above = _nearest_on(path, value, target, quantity)
        try:
            traced = costs.members.trace(path.at(best))
        except ModelspaceError as error:
            raise ModelspaceError(f"the nearest member can't be built: {error}") from error
        if sum(getattr(traced, name) for name in names) == value(path.at(best)):
            break
        # A trace that contradicts the law wins: the search is done again without laws.
    pieces = {name: law.piece(path.at(best)) for name, law in laws.items()}
    used = [str(Law(n, laws[n].variables, (piece,))) for n, piece in pieces.items() if piece]
    below, above = (None if t is None else Neighbour(path.at(t), value(path.at(t))) for t in (below, above))
    law = "\n".join(used) or "traced"
    return Solution(traced, quantity, target, value(path.at(best)), law, below, above)


def _nearest_on(
    path: _Path, value: Callable[[dict[str, Any]], int], target: float, quantity: str
) -> tuple[int, int | None, int | None]:
    """The integer whose member is nearest to a target, and those of its neighbours that can be built.

    Bisection between members on the lattice, then each member between the two that enclose the target. It
    needs a quantity that grows along the path, and says so where a value that it meets does not.

    Returns:
        The integer, the one before and the one after; of two that are equally near, the smaller member.

    Raises:
        ModelspaceError: the target is out of reach, or the quantity doesn't grow.
    """
    lattice = path.lattice

    def measured(index: int) -> int:
        return value(path.at(lattice[index]))

    first = _first_buildable(path, measured)
    low, at_low = first, measured(first)
    if target < at_low:
        raise ModelspaceError(
            f"{quantity}={target:,.0f} is out of reach: the smallest member, {said(path.at(lattice[first]))}, "
            f"has {at_low:,}"
        )
    high, at_high = low, at_low
    for doubling in range(_DOUBLINGS):
        if at_high > target:
            break
        low, at_low = high, at_high
        high = first + 2**doubling
        at_high = measured(high)
        if at_high < at_low:
            raise _not_growing(path, quantity, lattice[low], at_low, lattice[high], at_high)
        if doubling >= _FLAT and at_high == measured(first):
            raise ModelspaceError(
                f"{quantity} doesn't depend on {path.unknown}: it is {at_high:,} at {lattice[first]} and at "
                f"{lattice[high]}; solve over another hyper-parameter"
            )
    else:
        raise ModelspaceError(
            f"{quantity}={target:,.0f} is out of reach: {at_high:,} at {said(path.at(lattice[high]))}"
        )
    while high - low > 1:
        middle = (low + high) // 2
        found = measured(middle)
        if not at_low <= found <= at_high:
            raise _not_growing(path, quantity, lattice[low], at_low, lattice[middle], found)
        if found > target:
            high, at_high = middle, found
        else:
            low, at_low = middle, found
    between = {lattice[low]: at_low, lattice[high]: at_high}
    for t in range(lattice[low] + 1, lattice[high]):
        found = _value_or_none(value, path.at(t))
        if found is not None:
            between[t] = found
    best = min(sorted(between), key=lambda t: abs(between[t] - target))
    return best, _neighbour(path, value, best, -1), _neighbour(path, value, best, +1)


def _first_buildable(path: _Path, measured: Callable[[int], int]) -> int:
    problem = None
    for index in range(64):
        try:
            measured(index)
        except ModelspaceError as error:
            problem = problem or error
        else:
            return index
    raise ModelspaceError(
        f"no member can be built for small {path.unknown}: at {said(path.at(path.lattice[0]))}: {problem}"
    )


def _neighbour(path: _Path, value: Callable[[dict[str, Any]], int], at: int, side: int) -> int | None:
    for t in range(at + side, at + side * (path.lattice.step + 1), side):
        if t >= min(1, path.lattice[0]) and _value_or_none(value, path.at(t)) is not None:
            return t
    return None


def _value_or_none(value: Callable[[dict[str, Any]], int], member: dict[str, Any]) -> int | None:
    try:
        return value(member)
    except ModelspaceError:
        return None


def _not_growing(path: _Path, quantity: str, a: int, at_a: int, b: int, at_b: int) -> ModelspaceError:
    return ModelspaceError(
        f"{quantity} doesn't grow with {path.unknown}: it is {at_a:,} at {a} and {at_b:,} at {b}, so the nearest "
        "member can't be found by bisection; read it off family.table"
    )
