"""A curve drawn with characters."""

from collections.abc import Sequence

_BLANK = 0x2800  # Unicode's braille patterns: two dots across and four down in each character
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_LABELS = 9


def drawn(
    x: Sequence[float], y: Sequence[float], *, width: int = 72, height: int = 8, title: str = ""
) -> list[str]:
    """Lines of text that show y over x: a frame to the left and below, the ends of both axes, dots for the curve.

    Args:
        x: Ascending, at least 2.
        y: As many finite numbers.
        width: Of each line, in characters, at least 24.
        height: Of the curve, in lines.
        title: What y is; the first line.

    Example:
        >>> for line in drawn([0, 1, 2], [0, 1, 2], width=24, height=2):
        ...     print(line)
               2 │⠀⠀⠀⠀⠀⠀⠀⣀⣀⠤⠤⠒⠒⠉
               0 │⣀⠤⠤⠒⠒⠉⠉⠀⠀⠀⠀⠀⠀⠀
                 └──────────────
                  0            2
    """
    across, down = width - _LABELS - 1, height
    low, high = min(y), max(y)
    if low == high:
        low, high = low - 1, high + 1
    cells = [[_BLANK] * across for _ in range(down)]
    before = None
    for column in range(2 * across):
        at = x[0] + (x[-1] - x[0]) * column / (2 * across - 1)
        place = round((high - _between(x, y, at)) / (high - low) * (4 * down - 1))
        # A steep piece is drawn as an upright stroke, so that the curve is one line.
        start = (
            place if before is None or abs(before - place) <= 1 else before + (1 if place > before else -1)
        )
        for row in range(min(start, place), max(start, place) + 1):
            cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
        before = place
    ends = {0: f"{high:.3g}", down - 1: f"{low:.3g}"}
    lines = [f"{ends.get(i, ''):>{_LABELS - 1}} │" + "".join(map(chr, row)) for i, row in enumerate(cells)]
    left, right = f"{x[0]:.3g}", f"{x[-1]:.3g}"
    feet = [" " * _LABELS + "└" + "─" * across, " " * (_LABELS + 1) + left + right.rjust(across - len(left))]
    return [line.replace("-", "−") for line in (*([title] if title else []), *lines, *feet)]


def _between(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """The value at a place by the straight line between its neighbours."""
    i = max(1, next((i for i, known in enumerate(x) if known >= at), len(x) - 1))
    share = (at - x[i - 1]) / (x[i] - x[i - 1])
    return y[i - 1] + min(1.0, max(0.0, share)) * (y[i] - y[i - 1])
