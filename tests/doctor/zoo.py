"""The zoo of mistakes: small models as people write them by mistake, each with its corrected twin.

One mistake is one ``Fault`` in the tuple ``FAULTS`` of a file of ``doctor/ailments``.
"""

from doctor.ailments import (
    batches,
    columns,
    constants,
    depth,
    gradients,
    inplace,
    labels,
    modes,
    outputs,
    precision,
    registration,
    reshapes,
    saturation,
    sigmoids,
    simplex,
    start,
    ties,
)
from doctor.ailments.fault import Fault

__all__ = ["FAULTS", "Fault"]

_FAMILIES = (
    simplex,
    sigmoids,
    outputs,
    columns,
    labels,
    saturation,
    reshapes,
    batches,
    modes,
    registration,
    gradients,
    ties,
    constants,
    precision,
    start,
    depth,
    inplace,
)
FAULTS: tuple[Fault, ...] = tuple(fault for family in _FAMILIES for fault in family.FAULTS)
