"""The zoo of mistakes: small models as people write them by mistake, each with its corrected twin.

One mistake is one ``Fault`` in the tuple ``FAULTS`` of a file of ``doctor/ailments``.
"""

from doctor.ailments import sigmoids, simplex
from doctor.ailments.fault import Fault

__all__ = ["FAULTS", "Fault"]

FAULTS: tuple[Fault, ...] = (
    *simplex.FAULTS,
    *sigmoids.FAULTS,
)
