"""The whole journey through one space, and how a choice is judged and confirmed."""

from modelspace.explore.journey import (
    Confirmation,
    Exploration,
    Interrupted,
    Measure,
    check_confirmable,
    confirm,
    explore,
    measure_of,
)

__all__ = [
    "Confirmation",
    "Exploration",
    "Interrupted",
    "Measure",
    "check_confirmable",
    "confirm",
    "explore",
    "measure_of",
]
