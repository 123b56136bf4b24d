"""What JSON has no word for, as plain values."""

from typing import Any


def plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's; anything else as its text: the ``default`` of ``json.dumps``."""
    return value.item() if hasattr(value, "item") else str(value)
