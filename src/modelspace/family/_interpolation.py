"""One polynomial for one part of a family: degrees, grid, check; or the reason why there is none."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import said
from modelspace.family._law import Piece
from modelspace.family._polynomial import interpolated
from modelspace.family._progression import Progression

HIGHEST_DEGREE = 4
_CHECKS_OF_DEGREE = 2
_FURTHER_CHECKS = 3

Measure = Callable[[Mapping[str, Any]], int]


class NoLaw(Exception):
    """No polynomial fits.

    Args:
        reason: Why, in words.
        axis: The hyper-parameter along which it failed; None where it was in no single one.
    """

    def __init__(self, reason: str, axis: str | None = None):
        super().__init__(reason)
        self.axis = axis


def degree_along(
    measure: Measure, anchor: Mapping[str, Any], name: str, along: Progression, far: Sequence[int] = ()
) -> int:
    """The degree in one hyper-parameter, the others at the anchor.

    The least d for which the polynomial through d + 1 members gives the next two members exactly, and those
    far from them: a width that is rounded up to 8 is a constant for eight members.

    Args:
        measure: The quantity of a member.
        anchor: Values of the others.
        name: The hyper-parameter.
        along: Its values, from the first on.
        far: Further values of it.

    Raises:
        NoLaw: no degree up to `HIGHEST_DEGREE` does, or a member can't be built.
    """
    values: list[int] = []

    def value(index: int) -> int:
        while len(values) <= index:
            values.append(_measured(measure, {**anchor, name: along[len(values)]}, name))
        return values[index]

    for degree in range(HIGHEST_DEGREE + 1):
        nodes = [along[i] for i in range(degree + 1)]
        p = interpolated((name,), [nodes], {(x,): value(i) for i, x in enumerate(nodes)})
        ahead = range(degree + 1, degree + 1 + _CHECKS_OF_DEGREE)
        if all(p({name: along[i]}) == value(i) for i in ahead) and all(
            p({name: x}) == _measured(measure, {**anchor, name: x}, name) for x in far
        ):
            return degree
    raise NoLaw(f"not a polynomial of degree {HIGHEST_DEGREE} or less in {name}", name)


def piece_along(
    measure: Measure,
    fixed: Mapping[str, Any],
    along: Mapping[str, Progression],
    checks: Sequence[Mapping[str, Any]],
) -> Piece:
    """The polynomial in all hyper-parameters at once, over a grid of the degrees in each.

    Args:
        measure: The quantity of a member.
        fixed: The hyper-parameters that have one value here.
        along: Where the others are.
        checks: Members that have to agree, besides `_FURTHER_CHECKS` off the grid.

    Raises:
        NoLaw: a member disagrees, or can't be built.
    """
    names = tuple(along)
    # Not at the smallest members: in a network of one layer, which has no inner one, the degree in width is lower.
    anchor = {**fixed, **{name: progression[1] for name, progression in along.items()}}
    degrees = [degree_along(measure, anchor, name, along[name]) for name in names]
    nodes = [[along[name][i] for i in range(d + 1)] for name, d in zip(names, degrees, strict=True)]
    values = {
        at: _measured(measure, {**anchor, **dict(zip(names, at, strict=True))}) for at in product(*nodes)
    }
    polynomial = interpolated(names, nodes, values)
    ahead = [
        {**anchor, name: along[name][d + 1 + i]}
        for name, d in zip(names, degrees, strict=True)
        for i in range(_CHECKS_OF_DEGREE)
    ]
    held_out = {
        tuple(full[name] for name in names): full
        for full in [*ahead, *_off_the_grid(anchor, along, degrees), *({**anchor, **c} for c in checks)]
    }
    held_out = {at: full for at, full in held_out.items() if at not in values}
    for full in held_out.values():
        found, expected = polynomial(full), _measured(measure, full)
        if found != expected:
            raise NoLaw(f"a law from small members gives {found} at {said(full)}, where it is {expected}")
    return Piece(tuple(fixed.items()), tuple(along.items()), polynomial, len(values), len(held_out))


def _off_the_grid(
    anchor: Mapping[str, Any], along: Mapping[str, Progression], degrees: Sequence[int]
) -> list[dict[str, Any]]:
    """Members a little beyond the grid in one hyper-parameter, or in several at once."""
    random = Random(0)
    found = []
    for _ in range(_FURTHER_CHECKS if along else 0):
        places = [random.randint(1, d + 3) for d in degrees]
        beyond = random.randrange(len(places))
        places[beyond] = degrees[beyond] + 3
        found.append({**anchor, **{name: p[i] for (name, p), i in zip(along.items(), places, strict=True)}})
    return found


def _measured(measure: Measure, member: Mapping[str, Any], axis: str | None = None) -> int:
    try:
        return measure(member)
    except ModelspaceError as error:
        raise NoLaw(str(error), axis) from error
