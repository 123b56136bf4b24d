"""How things are shown: amounts as people read them, shapes, and text that can't steer a terminal."""

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from modelspace.errors import printable

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as a person reads it: a count exactly below a million, then with an SI prefix.

    Args:
        value: An ``int`` is a count. A ``float`` has so many significant digits. None, and NaN, are ``–``.
        digits: Significant ones.

    Example:
        >>> number(2512), number(1_253_683_200), number(12345.0), number(-1.5e-7), number(float("inf"))
        ('2,512', '1.254 G', '12,345', '−1.5·10⁻⁷', '∞')
    """
    if value is None or value != value:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 10**6:
        text = f"{int(value):,}"
    elif isinstance(value, int):
        power = min((len(str(abs(value))) - 1) // 3, len(_PREFIXES) - 1)
        text = f"{value / 1000**power:.4g} {_PREFIXES[power]}"
    else:
        text, _, exponent = f"{value:.{digits}g}".partition("e")
        text += f"·10{superscript(int(exponent))}" if exponent else ""
    return text.replace("-", "−")


def percent_like(metric: str) -> bool:
    """Return whether a score is a share, and is read as a percentage."""
    return metric.removeprefix("validation_").removeprefix("test_") in ("accuracy", "error")


def score(value: float | None, metric: str) -> str:
    """Return a score: a share as a percentage, ``–`` where there is none, ``∞`` where a member diverged.

    Example:
        >>> score(0.98791, "accuracy"), score(0.0532, "loss"), score(float("inf"), "loss")
        ('98.79 %', '0.0532', '∞')
    """
    if value is None or not math.isfinite(value) or not percent_like(metric):
        return number(value)
    return f"{100 * value:.2f} %"


def spread(value: float | None, metric: str) -> str:
    """Return a difference of scores: ``0.34 points`` of a percentage, or a plain number."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} points".replace("-", "−") if percent_like(metric) else number(value)


def byte_unit(size: float) -> tuple[int, str]:
    """Return the binary unit that suits an amount of bytes: its size and its name."""
    power = max((p for p in range(1, len(_BYTES)) if size >= 1024**p), default=0)
    return 1024**power, _BYTES[power]


def bytes_text(size: float) -> str:
    """Return bytes with a binary prefix, with at most one decimal.

    Example:
        >>> bytes_text(512), bytes_text(1500), bytes_text(412 * 2**20)
        ('512 B', '1.5 KiB', '412 MiB')
    """
    factor, unit = byte_unit(size)
    return f"{brief(size / factor)} {unit}"


def brief(value: float) -> str:
    """Return a number with one decimal below 100, and none above: ``1.5``, ``20``, ``1,012``."""
    return f"{value:.1f}".removesuffix(".0") if value < 99.95 else f"{value:,.0f}"


def percent(part: float, whole: float) -> str:
    """Return a share in per cent; nothing is 0 %, and all is 100 %, that is not.

    Example:
        >>> percent(61, 100), percent(1, 1000), percent(0, 7), percent(999, 1000)
        ('61 %', '<1 %', '0 %', '>99 %')
    """
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 1:
        return "<1 %"
    return ">99 %" if 99 < share < 100 else f"{share:.0f} %"


def seconds_text(value: float | None) -> str:
    """Return a time with three digits, or in minutes and hours; ``–`` where there is none.

    Example:
        >>> seconds_text(0.000881), seconds_text(12), seconds_text(185), seconds_text(7620)
        ('881 µs', '12 s', '3 min 05 s', '2 h 07 min')
    """
    if value is None:
        return "–"
    whole = round(value)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def superscript(value: int) -> str:
    """Return a whole number as an exponent: ``²⁵¹²``."""
    return str(value).translate(_SUPERSCRIPTS)


def formula(dimension: int) -> str:
    """Return ``H = { f_p : p ∈ ℝ²⁵¹² }`` for n = 2512."""
    return f"H = {{ f_p : p ∈ ℝ{superscript(dimension)} }}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return ``3×7×7``, or ``scalar``."""
    return "×".join(map(str, shape)) or "scalar"


class Terminal(Console):
    """Rich's console, for names that are a stranger's: no markup in them, and no control characters.

    Args:
        settings: As ``rich.console.Console`` takes them.
    """

    def __init__(self, **settings: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is drawn, its text printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def setting_text(columns: Mapping[str, Any]) -> str:
    """Return a setting's columns and values in words; empty where there are none.

    Example:
        >>> setting_text({"lr": 0.01, "optimizer": "adam"})
        'lr = 0.01, optimizer = adam'
    """
    return ", ".join(f"{n} = {v:g}" if isinstance(v, float) else f"{n} = {v}" for n, v in columns.items())


def say(text: str) -> None:
    """Write a line, or several, to standard output, with control characters written out."""
    sys.stdout.write(f"{printable(text)}\n")
