"""A part of an exhaustive table for every run of the tests; the rest of it is slow."""

from collections.abc import Sequence
from typing import Any

import pytest


def sampled(values: Sequence[Any], every: int) -> list[Any]:
    """Return every n-th of the values as it is, and the others marked slow."""
    return [
        value
        if i % every == 0
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for i, value in enumerate(values)
    ]
