"""The law of one quantity: which hyper-parameters it is a polynomial in, and where it falls into pieces."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes
from modelspace.family._interpolation import Measure, NoLaw, degree_along, piece_along
from modelspace.family._law import Law, Piece
from modelspace.family._progression import Progression, candidates

_FACTORS = (2, 3)
_MOST_PIECES = 64


@dataclass(frozen=True)
class _Group:
    """Listed values of one integer hyper-parameter for which one piece is looked for.

    Attributes:
        values: The values.
        factor: What the steps of its progressions are multiples of.
    """

    values: tuple[int, ...]
    factor: int = 1


@dataclass(frozen=True)
class _Part:
    """A part of the family: some hyper-parameters at one value, the others in groups."""

    fixed: dict[str, Any]
    groups: dict[str, _Group]


def law_of(quantity: str, measure: Measure, axes: Axes) -> Law:
    """The law of a count that is polynomial in some hyper-parameters.

    A hyper-parameter that isn't made of integers gets one piece a value. For the others, the finest
    progressions are tried first. Where no polynomial fits, the part is divided: by residue, where that makes
    it fit (a floor division), else by the listed values of one hyper-parameter, at worst into single members.

    Args:
        quantity: Its name.
        measure: Its value at a member.
        axes: The family's hyper-parameters.

    Returns:
        The law; pieces without a polynomial say why.
    """
    integers = axes.integers
    choices = [name for name in axes.listed if name not in integers]
    combinations = list(product(*(axes.listed[name] for name in choices)))
    groups = {name: _Group(axes.listed[name]) for name in integers}
    if len(combinations) > _MOST_PIECES:
        why = f"{len(combinations)} combinations of {', '.join(choices)}, more than the {_MOST_PIECES} tried"
        return Law(quantity, tuple(axes.listed), (Piece((), (), reason=why),))
    pieces: list[Piece] = []
    for values in combinations:
        part = _Part(dict(zip(choices, values, strict=True)), groups)
        pieces += _divided(measure, part)
    return Law(quantity, tuple(axes.listed), tuple(pieces))


def law_within(quantity: str, measure: Measure, axes: Axes) -> Law:
    """The law of a maximum, which is polynomial only in places: tried between the listed values, all corners checked.

    Args:
        quantity: Its name.
        measure: Its value at a member.
        axes: The family's hyper-parameters.

    Returns:
        The law, which ends at the largest listed values; without a polynomial where any check fails.
    """
    integers = axes.integers
    choices = [name for name in axes.listed if name not in integers]
    pieces = []
    for values in product(*(axes.listed[name] for name in choices)):
        fixed = dict(zip(choices, values, strict=True))
        along = {}
        try:
            if not integers:
                raise NoLaw("no hyper-parameter is an integer")
            for name in integers:
                listed = axes.listed[name]
                last = list(candidates(listed))[-1]
                along[name] = Progression(min(listed), last.step)
            corners = product(*({min(axes.listed[n]), max(axes.listed[n])} for n in integers))
            checks = [dict(zip(integers, corner, strict=True)) for corner in corners]
            piece = piece_along(measure, fixed, along, checks)
            within = tuple((n, replace(p, stop=max(axes.listed[n]))) for n, p in piece.along)
            pieces.append(replace(piece, along=within))
        except NoLaw as failure:
            pieces.append(Piece(tuple(fixed.items()), (), reason=f"a maximum: {failure}"))
    return Law(quantity, tuple(axes.listed), tuple(pieces))


def _divided(measure: Measure, part: _Part) -> list[Piece]:
    """The piece of a part, or those of its divisions."""
    if not part.groups:
        return [_without(part, "no hyper-parameter here is an integer")]
    try:
        return [_piece(measure, part)]
    except NoLaw as failure:
        smaller, whole = _division(measure, part, failure.axis), [_without(part, str(failure))]
    if len(smaller) > _MOST_PIECES or not any(p.groups for p in smaller):
        return whole
    pieces = [piece for p in smaller for piece in _divided(measure, p)]
    return pieces if any(piece.polynomial for piece in pieces) else whole


def _without(part: _Part, reason: str) -> Piece:
    return Piece(tuple(part.fixed.items()), (), reason=" ".join(reason.split()))


def _piece(measure: Measure, part: _Part) -> Piece:
    """One polynomial for a part, from small members where they can be built, else from those listed.

    Raises:
        NoLaw: there is none.
    """
    listed = _smallest_listed(part)
    failure = None
    for anchor in (_shrunk(measure, part, listed), listed):
        try:
            along = {name: _progression(measure, part, anchor, name) for name in part.groups}
            return piece_along(measure, part.fixed, along, _landmarks(part))
        except NoLaw as error:
            failure = error
    assert failure is not None
    raise failure


def _smallest_listed(part: _Part) -> dict[str, Any]:
    return {**part.fixed, **{name: min(group.values) for name, group in part.groups.items()}}


def _shrunk(measure: Measure, part: _Part, listed: dict[str, Any]) -> dict[str, Any]:
    """A member as small as it can be built: what a law is found from should be quick to trace."""
    starts = {n: sorted({p[0] for p in candidates(g.values, g.factor)}) for n, g in part.groups.items()}
    smallest = {**listed, **{name: own[0] for name, own in starts.items()}}
    if _is_buildable(measure, smallest):
        return smallest
    anchor = dict(listed)
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
    for along in candidates(group.values, group.factor):
        try:
            degree_along(measure, anchor, name, along, far)
            return along
        except NoLaw as error:
            failure = error
    assert failure is not None
    raise failure


def _landmarks(part: _Part) -> list[dict[str, int]]:
    """Listed members that a law has to give: the smallest, and each hyper-parameter's largest, the others small."""
    largest = [{name: max(group.values)} for name, group in part.groups.items()]
    return [{name: min(group.values) for name, group in part.groups.items()}, *largest]


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
                _progression(measure, p, _shrunk(measure, p, _smallest_listed(p)), name)
        except NoLaw:
            continue
        return divided
    return [_Part({**part.fixed, name: value}, rest) for value in group.values]
