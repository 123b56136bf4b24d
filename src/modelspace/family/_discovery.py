"""The law of one quantity: which hyper-parameters it is a polynomial in, and where it falls into pieces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import gcd, prod
from random import Random
from typing import Any, NamedTuple

from sympy import QQ, Poly, Symbol, divisors
from sympy.polys.rings import ring

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes, said
from modelspace.family._law import Law, Piece, Progression

HIGHEST_DEGREE = 4
_CHECKS_OF_DEGREE = 2
_FURTHER_CHECKS = 3
_FACTORS = (2, 3)
_LARGEST_STEP = 128
_MOST_PIECES = 64

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


class _Group(NamedTuple):
    """Listed values of one integer hyper-parameter for which one piece is looked for.

    Attributes:
        values: The values.
        factor: What the steps of its progressions are multiples of.
    """

    values: tuple[int, ...]
    factor: int = 1


class _Part(NamedTuple):
    """A part of the family: some hyper-parameters at one value, the others in groups."""

    fixed: dict[str, Any]
    groups: dict[str, _Group]


def law_of(quantity: str, measure: Measure, axes: Axes) -> Law:
    """The law of a count that is polynomial in some hyper-parameters.

    A hyper-parameter that isn't made of integers gets one piece a value. For the others, the finest
    progressions are tried first. Where no polynomial fits, the part is divided: by residue, where that makes
    it fit (a floor division), else by the listed values of one hyper-parameter, at worst into single members.

    Returns:
        The law; pieces without a polynomial say why.
    """
    groups = {name: _Group(axes.listed[name]) for name in axes.integers}
    choices = [name for name in axes.listed if name not in groups]
    combinations = list(product(*(axes.listed[name] for name in choices)))
    if len(combinations) > _MOST_PIECES:
        why = f"{len(combinations)} combinations of {', '.join(choices)}, more than the {_MOST_PIECES} tried"
        return Law(quantity, tuple(axes.listed), (Piece((), (), reason=why),))
    pieces: list[Piece] = []
    for values in combinations:
        pieces += _divided(measure, _Part(dict(zip(choices, values, strict=True)), groups))
    return Law(quantity, tuple(axes.listed), tuple(pieces))


def law_within(quantity: str, measure: Measure, axes: Axes) -> Law:
    """The law of a maximum, which is polynomial only in places: tried between the listed values, all corners checked.

    Returns:
        The law, which ends at the largest listed values; without a polynomial where any check fails.
    """
    ends = {name: (min(axes.listed[name]), max(axes.listed[name])) for name in axes.integers}
    choices = [name for name in axes.listed if name not in ends]
    pieces = []
    for values in product(*(axes.listed[name] for name in choices)):
        fixed = dict(zip(choices, values, strict=True))
        try:
            if not ends:
                raise NoLaw("no hyper-parameter is an integer")
            along = {
                name: Progression(low, list(candidates(axes.listed[name]))[-1].step)
                for name, (low, _) in ends.items()
            }
            corners = product(*map(set, ends.values()))
            piece = piece_along(measure, fixed, along, [dict(zip(ends, c, strict=True)) for c in corners])
            within = tuple((name, replace(p, stop=ends[name][1])) for name, p in piece.along)
            pieces.append(replace(piece, along=within))
        except NoLaw as failure:
            pieces.append(_without(fixed, f"a maximum: {failure}"))
    return Law(quantity, tuple(axes.listed), tuple(pieces))


def _without(fixed: Mapping[str, Any], reason: str) -> Piece:
    return Piece(tuple(fixed.items()), (), reason=" ".join(reason.split()))


def _divided(measure: Measure, part: _Part) -> list[Piece]:
    """The piece of a part, or those of its divisions."""
    if not part.groups:
        return [_without(part.fixed, "no hyper-parameter here is an integer")]
    try:
        return [_piece(measure, part)]
    except NoLaw as failure:
        smaller, whole = _division(measure, part, failure.axis), [_without(part.fixed, str(failure))]
    if len(smaller) > _MOST_PIECES or not any(p.groups for p in smaller):
        return whole
    pieces = [piece for p in smaller for piece in _divided(measure, p)]
    return pieces if any(piece.polynomial is not None for piece in pieces) else whole


def _piece(measure: Measure, part: _Part) -> Piece:
    """One polynomial for a part, from small members where they can be built, else from those listed.

    Raises:
        NoLaw: there is none.
    """
    listed = {name: min(group.values) for name, group in part.groups.items()}
    # Listed members that a law has to give: the smallest, and each hyper-parameter's largest, the others small.
    landmarks = [listed, *({name: max(group.values)} for name, group in part.groups.items())]
    failure = None
    for anchor in (_shrunk(measure, part), {**part.fixed, **listed}):
        try:
            along = {name: _progression(measure, part, anchor, name) for name in part.groups}
            return piece_along(measure, part.fixed, along, landmarks)
        except NoLaw as error:
            failure = error
    assert failure is not None
    raise failure


def _shrunk(measure: Measure, part: _Part) -> dict[str, Any]:
    """A member as small as it can be built: what a law is found from should be quick to trace."""
    anchor = {**part.fixed, **{name: min(group.values) for name, group in part.groups.items()}}
    starts = {n: sorted({p.start for p in candidates(*group)}) for n, group in part.groups.items()}
    smallest = {**anchor, **{name: own[0] for name, own in starts.items()}}
    if _is_buildable(measure, smallest):
        return smallest
    for name, own in starts.items():
        anchor[name] = next((v for v in own if _is_buildable(measure, {**anchor, name: v})), anchor[name])
    return anchor


def _is_buildable(measure: Measure, member: Mapping[str, Any]) -> bool:
    try:
        measure(member)
    except ModelspaceError:
        return False
    return True


def _progression(measure: Measure, part: _Part, anchor: Mapping[str, Any], name: str) -> Progression:
    """The finest progression along which the quantity is a polynomial, the others at the anchor.

    Raises:
        NoLaw: it is one along none.
    """
    failure, group = None, part.groups[name]
    far = (min(group.values), max(group.values))
    for along in candidates(*group):
        try:
            degree_along(measure, anchor, name, along, far)
            return along
        except NoLaw as error:
            failure = error
    assert failure is not None
    raise failure


def _division(measure: Measure, part: _Part, axis: str | None) -> list[_Part]:
    """Smaller parts: residues of the hyper-parameter in question where that helps, else one part a value."""
    name = axis or min(part.groups, key=lambda n: len(part.groups[n].values))
    group = part.groups[name]
    rest = {n: g for n, g in part.groups.items() if n != name}
    for factor in _FACTORS if axis and group.factor == 1 and len(group.values) > 1 else ():
        classes: dict[int, list[int]] = {}
        for value in group.values:
            classes.setdefault(value % factor, []).append(value)
        divided = [
            _Part(part.fixed, {**rest, name: _Group(tuple(values), factor)}) for values in classes.values()
        ]
        try:
            for p in divided:
                _progression(measure, p, _shrunk(measure, p), name)
        except NoLaw:
            continue
        return divided
    return [_Part({**part.fixed, name: value}, rest) for value in group.values]


def candidates(values: Sequence[int], factor: int = 1) -> Iterator[Progression]:
    """The progressions along which a law may hold, the finest first, each through all the values.

    What a value must be divisible by (heads, groups, a rounding) is seldom known from outside, but it divides
    the distances between the values that the user lists. So each of their common divisors is tried as a
    step: first from small members, which are quick to trace, then from the smallest one listed, since small
    members may be special.

    Args:
        values: Integers, equal modulo ``factor``.
        factor: What every step is a multiple of.

    Example:
        >>> [(p.start, p.step) for p in candidates([4, 8])]
        [(1, 1), (4, 1), (2, 2), (4, 2), (4, 4)]
    """
    lowest = min(values)
    spread = gcd(*(v - lowest for v in values)) or abs(lowest) or 1
    steps = [factor * d for d in divisors(spread) if d <= _LARGEST_STEP]
    seen = set()
    for step in (step for step in steps if len({v % step for v in values}) == 1):
        for start in (min(1, lowest), lowest):
            found = Progression(start + (lowest - start) % step, step)
            if found not in seen:
                seen.add(found)
                yield found


def degree_along(
    measure: Measure, anchor: Mapping[str, Any], name: str, along: Progression, far: Sequence[int] = ()
) -> int:
    """The degree in one hyper-parameter, the others at the anchor.

    The least d for which the polynomial through d + 1 members gives the next two members exactly, and those
    far from them: a width that is rounded up to 8 is a constant for eight members.

    Raises:
        NoLaw: no degree up to `HIGHEST_DEGREE` does, or a member can't be built.
    """

    def value(x: int) -> int:
        return _measured(measure, {**anchor, name: x}, name)

    for degree in range(HIGHEST_DEGREE + 1):
        nodes = [along[i] for i in range(degree + 1)]
        p = interpolated((name,), [nodes], {(x,): value(x) for x in nodes})
        ahead = (along[degree + 1 + i] for i in range(_CHECKS_OF_DEGREE))
        if all(p(x) == value(x) for x in (*ahead, *far)):
            return degree
    raise NoLaw(f"not a polynomial of degree {HIGHEST_DEGREE} or less in {name}", name)


def piece_along(
    measure: Measure,
    fixed: Mapping[str, Any],
    along: Mapping[str, Progression],
    checks: Sequence[Mapping[str, Any]],
) -> Piece:
    """The polynomial in all hyper-parameters at once, over a grid of the degrees in each.

    Beside ``checks``, `_FURTHER_CHECKS` members off the grid and the next ones along it have to agree.

    Raises:
        NoLaw: a member disagrees, or can't be built.
    """
    # Not at the smallest members: in a network of one layer, which has no inner one, the degree in width is lower.
    anchor = {**fixed, **{name: progression[1] for name, progression in along.items()}}
    degrees = {name: degree_along(measure, anchor, name, p) for name, p in along.items()}
    nodes = [[along[name][i] for i in range(d + 1)] for name, d in degrees.items()]
    values = {
        at: _measured(measure, {**anchor, **dict(zip(along, at, strict=True))}) for at in product(*nodes)
    }
    polynomial = interpolated(tuple(along), nodes, values)
    ahead = [{name: along[name][d + 1 + i]} for name, d in degrees.items() for i in range(_CHECKS_OF_DEGREE)]
    held_out = {}
    for changed in [*ahead, *_off_the_grid(along, degrees), *checks]:
        full = {**anchor, **changed}
        held_out.setdefault(tuple(full[name] for name in along), full)
    held_out = {at: full for at, full in held_out.items() if at not in values}
    for at, full in held_out.items():
        found, expected = polynomial(*at), _measured(measure, full)
        if found != expected:
            raise NoLaw(f"a law from small members gives {found} at {said(full)}, where it is {expected}")
    return Piece(tuple(fixed.items()), tuple(along.items()), polynomial, len(values), len(held_out))


def _off_the_grid(along: Mapping[str, Progression], degrees: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Members a little beyond the grid in one hyper-parameter, or in several at once."""
    random = Random(0)
    for _ in range(_FURTHER_CHECKS):
        places = {name: random.randint(1, d + 3) for name, d in degrees.items()}
        beyond = list(degrees)[random.randrange(len(degrees))]
        places[beyond] = degrees[beyond] + 3
        yield {name: along[name][i] for name, i in places.items()}


def _measured(measure: Measure, member: Mapping[str, Any], axis: str | None = None) -> int:
    try:
        return measure(member)
    except ModelspaceError as error:
        raise NoLaw(str(error), axis) from error


def interpolated(
    variables: Sequence[str], nodes: Sequence[Sequence[int]], values: Mapping[tuple[int, ...], int]
) -> Poly:
    """The only polynomial of these degrees through these values.

    Σ f(node) · Π L_node over the nodes' product, with the Lagrange polynomials L of each variable's nodes, in
    rational arithmetic: no rounding, and so no tolerance in what follows from it.

    Args:
        variables: Their names.
        nodes: d + 1 different integers for each variable, where d is the degree in it.
        values: The value at every point of the nodes' product.

    Example:
        >>> p = interpolated(("x", "y"), [(1, 2), (1, 2)], {(1, 1): 3, (1, 2): 5, (2, 1): 5, (2, 2): 9})
        >>> p.as_expr(), p(10, 7)
        (2*x*y + 1, 141)

    Source:
        Lagrange's interpolation formula, as in Davis, *Interpolation and Approximation*, 1963, ch. 2.
    """
    domain, *symbols = ring([Symbol(name) for name in variables], QQ)
    basis = [
        {j: prod(((x - i) * QQ(1, j - i) for i in own if i != j), start=domain.one) for j in own}
        for x, own in zip(symbols, nodes, strict=True)
    ]
    total: Any = domain.zero
    for at in product(*nodes):
        total += values[at] * prod((own[j] for own, j in zip(basis, at, strict=True)), start=domain.one)
    return Poly.from_dict(dict(total), *domain.symbols, domain=QQ)
