"""Numbers as a reader wants them, in tables, sentences and axes alike."""

import math


def percent_like(metric: str) -> bool:
    """Whether a score is a share, and is read as a percentage."""
    return metric.removeprefix("validation_") in ("accuracy", "error")


def score(value: float | None, metric: str) -> str:
    """A score: ``98.79 %``, ``0.0532``; ``–`` where there is none, ``∞`` where a member diverged."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    return f"{100 * value:.2f} %" if percent_like(metric) else number(value)


def spread(value: float | None, metric: str) -> str:
    """A difference of scores: ``0.34 points`` of a percentage, or a plain number."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} points" if percent_like(metric) else number(value)


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, thousands separated, its minus a minus."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace("-", "−")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}·10{_raised(int(exponent))}".replace("-", "−")
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """``0.8 s``, ``21 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """Bytes: ``12.3 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def label(metric: str) -> str:
    """A score's name as words: ``validation_loss`` → ``validation loss``."""
    return metric.replace("_", " ")


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
