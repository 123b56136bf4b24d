"""How things are shown: amounts as people read them, shapes, and text that can't steer a terminal."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from modelspace.errors import printable

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def number(value: int) -> str:
    """Exact below a million, four digits with an SI prefix above.

    Example:
        >>> number(2512), number(1_253_683_200)
        ('2,512', '1.254 G')
    """
    if value < 10**6:
        return f"{value:,}"
    power = min((len(str(value)) - 1) // 3, len(_PREFIXES) - 1)
    return f"{value / 1000**power:.4g} {_PREFIXES[power]}"


def bytes_text(value: int) -> str:
    """Bytes with a binary prefix.

    Example:
        >>> bytes_text(512), bytes_text(412 * 2**20)
        ('512 B', '412.0 MiB')
    """
    power = 0
    while power < len(_BYTES) - 1 and value >= 1024 ** (power + 1):
        power += 1
    return f"{value / 1024**power:,.1f} {_BYTES[power]}" if power else f"{value:,} B"


def percent(part: float, whole: float) -> str:
    """A share in per cent; nothing is 0 %, and all is 100 %, that is not.

    Example:
        >>> percent(61, 100), percent(1, 1000), percent(0, 7), percent(999, 1000)
        ('61 %', '<1 %', '0 %', '>99 %')
    """
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 1:
        return "<1 %"
    return ">99 %" if 99 < share < 100 else f"{share:.0f} %"


def seconds_text(value: float) -> str:
    """A time with three digits.

    Example:
        >>> seconds_text(0.000881), seconds_text(12)
        ('881 µs', '12 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def superscript(value: int) -> str:
    """A number as an exponent: ``²⁵¹²``."""
    return str(value).translate(_SUPERSCRIPTS)


def formula(dimension: int) -> str:
    """``H = { f_p : p ∈ ℝ²⁵¹² }`` for n = 2512."""
    return f"H = {{ f_p : p ∈ ℝ{superscript(dimension)} }}"


def shape_text(shape: tuple[int, ...]) -> str:
    """``3×7×7``, or ``scalar``."""
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


def say(text: str) -> None:
    """Write a line, or several, to standard output, with control characters written out."""
    sys.stdout.write(f"{printable(text)}\n")
