"""Values as they are typed: columns, seeds, shapes, amounts of memory, architecture arguments."""

import ast
import re
from math import prod
from typing import Any

from modelspace.errors import ModelspaceError

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{p}B": 1000**i for i, p in enumerate("kMGTP", 1)}
_UNITS |= {f"{p}iB": 1024**i for i, p in enumerate("KMGTP", 1)}


def column(text: str) -> list[Any]:
    """``1e-3``, ``1e-3,1e-2``, or ``1e-4:1e-1:12`` (logarithmic, both ends included); pairs as ``0.9/0.99``."""
    if "/" in text:
        return pairs(text)
    if ":" in text:
        parts = text.split(":")
        if len(parts) != 3:
            raise ModelspaceError(f"'{text}': a range is low:high:count, like 1e-4:1e-1:12")
        from modelspace.population import logspace  # with PyTorch, which a mistyped verb needs nothing of

        return logspace(_number(parts[0]), _number(parts[1]), _whole(parts[2], text))
    return [_number(part) for part in text.split(",")]


def named(text: str) -> tuple[str, str]:
    """``beta=0.1,1``: a column's name and its values, as they stand."""
    match = re.fullmatch(r"([^\W\d][\w.-]*)=(.+)", text)
    if match is None:
        raise ModelspaceError(f"'{text}': a column is NAME=V, like beta=0.1,1")
    name = match[1] if "." in match[1] else match[1].replace("-", "_")
    return name, match[2]


def pairs(text: str) -> list[tuple[float, float]]:
    """``0.9/0.999``, or several: ``0.9/0.999,0.8/0.99``."""
    found = []
    for part in text.split(","):
        numbers = part.split("/")
        if len(numbers) != 2:
            raise ModelspaceError(f"'{text}': a pair is two numbers with a slash, like 0.9/0.999")
        found.append((_number(numbers[0]), _number(numbers[1])))
    return found


def seeds(text: str) -> list[int] | range:
    """``16`` (their number: 0 … 15), ``3,5,8`` (these), or ``100-131`` (a range, both ends included).

    A range is one, however long: whoever makes members of it holds their number against what there can be.
    """
    if "," in text:
        return [_whole(part, text) for part in text.split(",") if part]
    low, dash, high = text.partition("-")
    if dash and low:
        return range(_whole(low, text), _whole(high, text) + 1)
    count = _whole(text, text)
    if count < 1:
        raise ModelspaceError(f"'{text}': at least one seed is needed")
    return range(count)


def numbers(text: str) -> list[int]:
    """``32``, or several whole numbers: ``16,64``."""
    return [_whole(part, text) for part in text.split(",")]


def integer(text: str) -> int:
    """A whole number that 64 bits hold, as PyTorch and NumPy count."""
    return _whole(text, text)


def seconds(text: str) -> float:
    """A time that passes: positive, ``inf`` for never."""
    value = _number(text)
    if not value > 0:
        raise ModelspaceError(f"'{text}': seconds are a positive number")
    return value


def shape(text: str) -> tuple[int, ...]:
    """``3x7x7``: one sample's shape, without the batch."""
    sizes = tuple(_whole(part, text) for part in text.replace("X", "x").replace("×", "x").split("x"))
    if any(size < 1 for size in sizes):
        raise ModelspaceError(f"'{text}': a shape is positive sizes, like 3x7x7")
    if prod(sizes) >= 2**48:
        raise ModelspaceError(f"'{text}': a sample of {prod(sizes):.1e} numbers fits into no machine")
    return sizes


def argument(text: str) -> Any:
    """An architecture's argument: a Python literal (``64``, ``0.5``, ``[1,2]``, ``True``), otherwise a string."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ModelspaceError(f"'{text}' is not a number") from None


def _whole(text: str, whole: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ModelspaceError(f"'{whole}': '{text}' is not a whole number") from None
    if not -(2**63) <= value < 2**63:
        raise ModelspaceError(f"'{whole}': a whole number here is at most 2⁶³−1 in size")
    return value


def keep(text: str) -> str | int:
    """``all``, ``scores``, or the number to keep of each setting.

    Raises:
        ModelspaceError: anything else.
    """
    if text in ("all", "scores"):
        return text
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ModelspaceError(f"'{text}' is none of: all, scores, a number of members for each setting")


def memory_size(text: str) -> int:
    """``24GiB`` (2³⁰ bytes each), ``24GB`` (10⁹) or plain bytes.

    Raises:
        ModelspaceError: it is no positive amount in one of these units.

    Example:
        >>> memory_size("24GiB"), memory_size("1.5 MB")
        (25769803776, 1500000)
    """
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    units = {name.lower(): factor for name, factor in _UNITS.items()}
    try:
        size = int(float(match[1]) * units[match[2].lower()]) if match else 0
    except (KeyError, ValueError):
        size = 0
    if size < 1:
        raise ModelspaceError(f"'{text}' is no amount of memory: write 24GiB, 500MB or a number of bytes")
    return size
