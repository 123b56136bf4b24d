"""The zoo of mistakes: small models as people write them by mistake, each with its corrected twin.

One mistake is one ``Fault`` in the tuple ``FAULTS`` of a file of ``doctor/ailments``.
"""

from doctor.ailments import (
    backward,
    batches,
    chance,
    columns,
    constants,
    depth,
    dimensions,
    frozen,
    gradients,
    inplace,
    labels,
    modes,
    outputs,
    precision,
    registration,
    reshapes,
    saturation,
    seeds,
    sigmoids,
    simplex,
    start,
    symmetry,
    ties,
    unused,
)
from doctor.ailments.fault import Fault

__all__ = ["FAULTS", "Fault"]

_FAMILIES = (
    simplex,
    sigmoids,
    outputs,
    dimensions,
    columns,
    labels,
    saturation,
    reshapes,
    batches,
    modes,
    chance,
    seeds,
    registration,
    unused,
    gradients,
    frozen,
    ties,
    constants,
    precision,
    start,
    symmetry,
    depth,
    inplace,
    backward,
)
FAULTS: tuple[Fault, ...] = tuple(fault for family in _FAMILIES for fault in family.FAULTS)
