"""Records as plain values and back, by cattrs: what JSON has no word for, and what files say against a schema."""

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

from cattrs import Converter, transform_error
from cattrs.cols import (
    is_namedtuple,
    list_structure_factory,
    mapping_structure_factory,
    namedtuple_dict_structure_factory,
)
from cattrs.gen import make_dict_structure_fn
from cattrs.gen.typeddicts import make_dict_structure_fn as make_typed_dict_structure_fn
from cattrs.v import format_exception

T = TypeVar("T")
_Read = Callable[[Any, Any], Any]
_SCALARS = (bool, int, float, str, types.NoneType)
_LARGEST = 2**63  # what the arrays and the catalogue hold
_INFINITE = {math.inf: "inf", -math.inf: "-inf"}


def plain(value: Any, *properties: str) -> Any:
    """Return a record, or whatever it holds, as dictionaries, lists, strings and numbers that strict JSON can hold.

    A number that does not exist (NaN) is None, infinity is ``"inf"``, a number of NumPy's one of Python's, a table
    of pandas its columns by name; what has no form of its own is its text.

    Args:
        value: A dataclass, a named tuple, a mapping, a sequence, an array, a scalar.
        properties: Of a dataclass: what is said beside its fields.

    Example:
        >>> plain((1.5, float("inf"), float("nan"), {"shape": (3, 7)}))
        [1.5, 'inf', None, {'shape': [3, 7]}]
    """
    known = _CONVERTER.unstructure(value)
    return {**known, **{name: plain(getattr(value, name)) for name in properties}} if properties else known


def structured(values: Any, kind: Any, what: str) -> Any:
    """Return the record that ``plain`` gave, a float's None as NaN; other keys beside its own are passed over.

    Args:
        values: Plain values.
        kind: What they should be.
        what: Their name, for the message.

    Raises:
        ValueError: something is missing or of another kind; in one line that says where.
    """
    try:
        return _CONVERTER.structure(values, kind)
    except Exception as error:  # cattrs raises groups, of any kind of error
        said, _, where = transform_error(error, path=what, format_exception=_said)[0].rpartition(" @ ")
        if said == "required field missing":
            whole, _, name = where.rpartition(".")
            raise ValueError(f"{whole} has no {name}") from error
        raise ValueError(f"{where} is {said}") from error


def fits(value: Any, kind: Any) -> bool:
    """Return whether a plain value is of a kind.

    Args:
        value: What a file says.
        kind: What it should be: ``int``, ``str | None``, ``dict[str, list[float]]``, a ``Literal``, a ``TypedDict``
            or a dataclass, of which further keys are let through.
    """
    try:
        _CHECKER.structure(value, kind)
    except Exception:  # as above
        return False
    return True


def parsed(text: Any, kind: Any, what: str) -> Any:
    """Return what a JSON text of a file says.

    Args:
        text: The text; whatever stands in its place.
        kind: As ``fits`` takes it.
        what: Its name, for the message.

    Raises:
        ValueError: there is no text, it is no JSON, or says something of another kind; in one line.
    """
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no JSON ({type(error).__name__})") from error
    if not fits(value, kind):
        raise ValueError(f"{what} is {shortened(value)}")
    return value


def shortened(value: Any) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"


def _scalar(value: Any, kind: Any) -> Any:
    """A number, a string or a truth value of this very kind: JSON's true is an int to Python, and none to us."""
    if kind is float:
        if value in ("inf", "-inf") or (type(value) is int and abs(value) <= _LARGEST):
            return float(value)
    elif kind is int and not (type(value) is int and -_LARGEST <= value < _LARGEST):
        raise _Unfit(value, kind)
    if type(value) is not kind:
        raise _Unfit(value, kind)
    return value


def _scalar_or_nan(value: Any, kind: Any) -> Any:
    """A scalar of a record: where ``plain`` writes None for a number that does not exist."""
    return math.nan if kind is float and value is None else _scalar(value, kind)


def _literal(value: Any, kind: Any) -> Any:
    if not any(type(value) is type(each) and value == each for each in get_args(kind)):
        raise _Unfit(value, ", ".join(map(repr, get_args(kind))))
    return value


def _one_of(kind: Any, converter: Converter) -> _Read:
    """How a value of a union is read: as the first of its kinds that takes it."""
    kinds = get_args(kind)
    scalars: dict[type, type] = {each: each for each in kinds if each in _SCALARS}
    if float in scalars:
        scalars.setdefault(int, float)
    others = [each for each in kinds if each not in _SCALARS]

    def structure(value: Any, _: Any) -> Any:
        known = scalars.get(type(value))
        if known is not None:
            return _scalar(value, known)
        several = [each for each in kinds if each is not types.NoneType]
        if len(several) == 1:
            return converter.structure(value, several[0])
        for each in (*others, *scalars):
            if fits(value, each):
                return converter.structure(value, each)
        raise _Unfit(value, kind)

    return structure


def _row(kind: Any, converter: Converter) -> _Read:
    """How a list, or the tuple that it stands for, is read: cattrs takes any iterable, a string too."""
    inner = get_args(kind) or (Any,)
    several = list_structure_factory(list[inner[0]], converter)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _Unfit(value, list)
        if get_origin(kind) is not tuple:
            return several(value, kind)
        if inner[-1] is Ellipsis:
            return tuple(several(value, kind))
        if len(inner) != len(value):
            raise _Unfit(value, kind)
        return tuple(
            converter.get_structure_hook(of)(each, of) for each, of in zip(value, inner, strict=True)
        )

    return structure


def _mapping(kind: Any, converter: Converter) -> _Read:
    """How a record, a ``TypedDict`` or a dictionary is read, each from a dictionary alone."""
    if is_dataclass(kind):
        inner: _Read = make_dict_structure_fn(kind, converter)  # type: ignore[arg-type]
    elif is_typeddict(kind):
        inner = make_typed_dict_structure_fn(kind, converter)
    elif is_namedtuple(kind):
        inner = namedtuple_dict_structure_factory(kind, converter)
    else:
        inner = mapping_structure_factory(kind, converter)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit(value, kind)
        return inner(value, kind)

    return structure


class _Unfit(ValueError):
    def __init__(self, value: Any, kind: Any):
        super().__init__(f"{shortened(value)}; expected {getattr(kind, '__name__', kind)}")


def _said(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, _Unfit) else format_exception(error, kind)


def _number(value: float) -> float | str | None:
    return float(value) if math.isfinite(value) else None if math.isnan(value) else _INFINITE[float(value)]


def _made(*, detailed: bool) -> Converter:
    made = Converter(detailed_validation=detailed)
    for kind in _SCALARS:
        made.register_structure_hook(kind, _scalar_or_nan if detailed else _scalar)
    made.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, _literal)
    made.register_structure_hook_factory(lambda kind: get_origin(kind) in (Union, types.UnionType), _one_of)
    made.register_structure_hook_factory(lambda kind: kind is list or get_origin(kind) in (list, tuple), _row)
    made.register_structure_hook_factory(lambda kind: any(is_a(kind) for is_a in _MAPPINGS), _mapping)
    # What is written is of the kind that it is of, whatever its place is declared to hold.
    each = made.unstructure
    made.register_unstructure_hook_func(lambda kind: True, str)
    made.register_unstructure_hook(types.NoneType, lambda value: value)
    for kind, as_is in ((bool, bool), (int, int), (str, str), (float, _number)):
        made.register_unstructure_hook(kind, as_is)
    made.register_unstructure_hook_func(
        lambda kind: issubclass(kind, list | tuple | set | frozenset),
        lambda value: [each(one) for one in value],
    )
    made.register_unstructure_hook(
        Mapping, lambda value: {str(name): each(one) for name, one in value.items()}
    )
    made.register_unstructure_hook_func(
        lambda kind: hasattr(kind, "tolist"), lambda value: each(value.tolist())
    )
    made.register_unstructure_hook_func(  # a table of pandas
        lambda kind: hasattr(kind, "iterrows"), lambda value: each(value.to_dict("list"))
    )
    made.register_unstructure_hook_func(
        is_namedtuple, lambda value: {name: each(one) for name, one in value._asdict().items()}
    )
    made.register_unstructure_hook_func(
        is_dataclass, lambda value: {field.name: each(getattr(value, field.name)) for field in fields(value)}
    )
    return made


_MAPPINGS = (is_dataclass, is_typeddict, is_namedtuple, lambda kind: kind is dict or get_origin(kind) is dict)
_CONVERTER = _made(detailed=True)
_CHECKER = _made(detailed=False)  # twice as fast, and has no places in its complaints
