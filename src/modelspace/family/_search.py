"""What ``Family.solve`` was asked, and how it is answered: unknowns, paths through the family, the best of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import isfinite
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes, is_integer
from modelspace.family._costs import Costs
from modelspace.family._law import Law
from modelspace.family._path import Path, nearest_on, path_along, path_in_ratio
from modelspace.family._progression import Progression
from modelspace.family._solution import Neighbour, Solution

_QUANTITIES = {
    "parameters": ("n",),
    "flops": ("forward_flops", "backward_flops"),
    "memory": ("peak_bytes",),
}


@dataclass(frozen=True)
class Wanted:
    """The arguments of ``Family.solve``, which documents them."""

    targets: Mapping[str, float | None]
    over: str | list[str] | tuple[str, ...] | None
    ratio: dict[str, float]
    prefer: str | None
    within: float
    given: dict[str, Any]


def solved(wanted: Wanted, axes: Axes, costs: Costs) -> Solution:
    """Answer: see ``Family.solve``.

    Raises:
        ModelspaceError: the question has no answer, or isn't one.
    """
    quantity, target = _target(wanted, costs.quantities)
    unknowns = _unknowns(wanted, axes)
    lead = max(wanted.ratio, key=lambda name: wanted.ratio[name]) if wanted.ratio else unknowns[0]
    others = [] if wanted.ratio else unknowns[1:]
    found: list[Solution] = []
    problems: list[ModelspaceError] = []
    for values in product(*(axes.listed[name] for name in others)):
        given = {**wanted.given, **dict(zip(others, values, strict=True))}
        example = axes.completed(
            {**given, **{name: min(axes.listed[name]) for name in unknowns if name not in given}}
        )
        rest = {name: value for name, value in example.items() if name not in (wanted.ratio or [lead])}
        # The law of n knows what a hyper-parameter must be divisible by, for the other quantities too.
        lattice = _lattice(costs.law("n"), example, lead)
        if wanted.ratio:
            path = path_in_ratio(lead, wanted.ratio, rest, lattice)
        else:
            path = path_along(lead, rest, lattice)
        ordered = Path(lead, lambda t, at=path.at: _in_order(at(t), axes), path.lattice)
        try:
            found.append(_solution(ordered, quantity, target, costs))
        except ModelspaceError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    return _preferred(found, wanted)


def _target(wanted: Wanted, quantities: tuple[str, ...]) -> tuple[str, float]:
    given = {name: value for name, value in wanted.targets.items() if value is not None}
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


def _unknowns(wanted: Wanted, axes: Axes) -> list[str]:
    over = [wanted.over] if isinstance(wanted.over, str) else list(wanted.over or wanted.ratio)
    if not over:
        over = [n for n in axes.integers if n not in wanted.given and len(axes.listed[n]) > 1] or [
            n for n in axes.integers if n not in wanted.given
        ]
        if len(over) != 1:
            raise ModelspaceError(
                f"say what is unknown: over='{(over or list(axes.listed))[0]}' "
                f"(integer hyper-parameters left open: {', '.join(over) or 'none'})"
            )
    if wanted.ratio and set(over) != set(wanted.ratio):
        raise ModelspaceError(f"the ratio is of {', '.join(wanted.ratio)}, but over= names {', '.join(over)}")
    for name in [*over, *wanted.given]:
        axes.require(name)
    for name in over:
        if name in wanted.given:
            raise ModelspaceError(
                f"{name} is both unknown and given ({name}={wanted.given[name]!r}): leave one out"
            )
    for name in over if wanted.ratio else over[:1]:
        if name not in axes.integers:
            odd = next(v for v in axes.listed[name] if not is_integer(v))
            raise ModelspaceError(
                f"{name} takes no integers (it is {odd!r} in this family), so it can't be solved for"
            )
    if any(not share > 0 for share in wanted.ratio.values()):
        raise ModelspaceError(f"a ratio is of positive numbers; received {wanted.ratio}")
    prefer = (wanted.prefer or "").removeprefix("-")
    if prefer and (
        wanted.ratio or len(over) < 2 or prefer not in over[1:] + over[:1] or prefer not in axes.integers
    ):
        raise ModelspaceError(
            f"prefer='{wanted.prefer}' chooses among several unknowns without a ratio, by one that is an "
            f"integer; unknown here: {', '.join(over)}"
        )
    return over


def _lattice(law: Law, example: Mapping[str, Any], lead: str) -> Progression:
    """Where the unknown may be, as far as the law of n tells; every integer where it doesn't."""
    piece = law.piece(example)
    along = dict(piece.along).get(lead) if piece else None
    step = along.step if along else 1
    start = along.start if along else 1
    return Progression(min(start, 1 + (start - 1) % step), step)


def _solution(path: Path, quantity: str, target: float, costs: Costs) -> Solution:
    names = _QUANTITIES[quantity]
    for laws in ({name: costs.law(name) for name in names if name != "peak_bytes"}, {}):

        def value(member: dict[str, Any], laws: Mapping[str, Law] = laws) -> int:
            total = 0
            for name in names:
                by_law = laws[name].value(member) if name in laws else None
                total += costs.members.measured(name, member) if by_law is None else by_law
            return total

        best, below, above = nearest_on(path, value, target, quantity)
        try:
            traced = costs.members.trace(path.at(best))
        except ModelspaceError as error:
            raise ModelspaceError(f"the nearest member can't be built: {error}") from error
        if sum(getattr(traced, name) for name in names) == value(path.at(best)):
            break
        # A trace that contradicts the law wins: the search is done again without laws.
    used = [_text(laws[name], path.at(best)) for name in names if name in laws]
    return Solution(
        member=traced,
        quantity=quantity,
        target=target,
        value=value(path.at(best)),
        law="\n".join(filter(None, used)) or "traced",
        below=None if below is None else Neighbour(path.at(below), value(path.at(below))),
        above=None if above is None else Neighbour(path.at(above), value(path.at(above))),
    )


def _text(law: Law, member: Mapping[str, Any]) -> str:
    piece = law.piece(member)
    return str(Law(law.quantity, law.variables, (piece,))) if piece else ""


def _preferred(found: list[Solution], wanted: Wanted) -> Solution:
    nearest = min(found, key=lambda s: abs(s.distance))
    if wanted.prefer is None:
        return nearest
    name, sign = wanted.prefer.removeprefix("-"), -1 if wanted.prefer.startswith("-") else 1
    close = [s for s in found if abs(s.distance) <= wanted.within * s.target] or [nearest]
    return max(close, key=lambda s: (sign * s.hyperparameters[name], -abs(s.distance)))


def _in_order(member: Mapping[str, Any], axes: Axes) -> dict[str, Any]:
    return {name: member[name] for name in axes.listed}
