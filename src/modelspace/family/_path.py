"""The search for the nearest member along one integer: bisection on a lattice, then one by one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import said
from modelspace.family._progression import Progression

_DOUBLINGS = 50
_FLAT = 7


@dataclass(frozen=True)
class Path:
    """The members among which a solution is sought, in the order of one integer.

    Attributes:
        unknown: The hyper-parameter that the integer is.
        at: The member at an integer.
        lattice: Where members are known to be built; between them they are tried one by one.
    """

    unknown: str
    at: Callable[[int], dict[str, Any]]
    lattice: Progression


def path_along(unknown: str, rest: Mapping[str, Any], lattice: Progression) -> Path:
    """One unknown, the others given."""
    return Path(unknown, lambda t: {**rest, unknown: t}, lattice)


def path_in_ratio(
    unknown: str, ratio: Mapping[str, float], rest: Mapping[str, Any], lattice: Progression
) -> Path:
    """Several unknowns in a ratio: the leading one runs over the integers, the others follow, rounded."""

    def at(t: int) -> dict[str, Any]:
        # Half up, not to even: the members must grow with t.
        return {**rest, **{name: int(t * share / ratio[unknown] + 0.5) for name, share in ratio.items()}}

    lowest = next(t for t in _upward(lattice) if all(at(t)[name] >= 1 for name in ratio))
    return Path(unknown, at, Progression(lowest, lattice.step))


def nearest_on(
    path: Path, value: Callable[[dict[str, Any]], int], target: float, quantity: str
) -> tuple[int, int | None, int | None]:
    """The integer whose member is nearest to a target, and those of its neighbours that can be built.

    Bisection between members on the lattice, then each member between the two that enclose the target. It
    needs a quantity that grows along the path, and says so where a value that it meets does not.

    Args:
        path: Where to look.
        value: The quantity of a member; raises a ModelspaceError where it can't be built.
        target: What it should be.
        quantity: Its name, for messages.

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


def _first_buildable(path: Path, measured: Callable[[int], int]) -> int:
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


def _neighbour(path: Path, value: Callable[[dict[str, Any]], int], at: int, side: int) -> int | None:
    for t in range(at + side, at + side * (path.lattice.step + 1), side):
        if t >= min(1, path.lattice[0]) and _value_or_none(value, path.at(t)) is not None:
            return t
    return None


def _value_or_none(value: Callable[[dict[str, Any]], int], member: dict[str, Any]) -> int | None:
    try:
        return value(member)
    except ModelspaceError:
        return None


def _upward(lattice: Progression) -> Iterator[int]:
    index = 0
    while True:
        yield lattice[index]
        index += 1


def _not_growing(path: Path, quantity: str, a: int, at_a: int, b: int, at_b: int) -> ModelspaceError:
    return ModelspaceError(
        f"{quantity} doesn't grow with {path.unknown}: it is {at_a:,} at {a} and {at_b:,} at {b}, so the nearest "
        "member can't be found by bisection; read it off family.table"
    )
