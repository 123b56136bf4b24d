"""Plain values: what JSON has no word for, and what a file says, held against the kind that it should be of."""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

_LARGEST = 2**63  # what the arrays and the catalogue hold


def plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's; anything else as its text: the ``default`` of ``json.dumps``."""
    return value.item() if hasattr(value, "item") else str(value)


def parsed(text: Any, kind: Any, what: str) -> Any:
    """Return what a JSON text of a file says.

    Args:
        text: The text; whatever stands in its place.
        kind: What it should be: ``int``, ``str | None``, ``dict[str, list[float]]``, a ``Literal``, a ``TypedDict``
            or a dataclass, of which further keys are let through.
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
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a kind: see ``parsed``."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Required, NotRequired):
        return fits(value, inner[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin in (list, tuple):
        return isinstance(value, list) and all(fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, inner[1]) for each in value.values())
    if is_typeddict(kind):
        return isinstance(value, Mapping) and all(
            fits(value[name], each) if name in value else name not in kind.__required_keys__
            for name, each in get_type_hints(kind, include_extras=True).items()
        )
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return isinstance(value, Mapping) and all(
            fits(value[field.name], hints[field.name])
            if field.name in value
            else field.default is not MISSING
            for field in fields(kind)
        )
    if kind is float:
        return isinstance(value, float) or fits(value, int)
    if kind is int:
        return type(value) is int and -_LARGEST <= value < _LARGEST
    return isinstance(value, types.NoneType if kind is None else kind)
