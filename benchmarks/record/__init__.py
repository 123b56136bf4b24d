"""What a run found, as frozen records that know their own summary."""

from benchmarks.record.curve import Curve, PeerPoint
from benchmarks.record.fits import TenThousand, WholeFit
from benchmarks.record.results import Check, Results
from benchmarks.record.scaling import Scaling, Size
from benchmarks.record.steps import Peer, Repeat, StepTimes, Targets

__all__ = [
    "Check",
    "Curve",
    "Peer",
    "PeerPoint",
    "Repeat",
    "Results",
    "Scaling",
    "Size",
    "StepTimes",
    "Targets",
    "TenThousand",
    "WholeFit",
]
