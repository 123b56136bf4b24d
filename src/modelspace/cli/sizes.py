"""Amounts of memory as they are typed."""

import re

from modelspace.errors import ModelspaceError

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{p}B": 1000**i for i, p in enumerate("kMGTP", 1)}
_UNITS |= {f"{p}iB": 1024**i for i, p in enumerate("KMGTP", 1)}


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
