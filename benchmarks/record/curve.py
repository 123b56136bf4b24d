"""The speed-up as a function of K."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.record.fits import WholeFit
from benchmarks.record.steps import Peer


@dataclass(frozen=True)
class PeerPoint:
    """The peers at one K, in steady state: they have no planning, and their compiling is left out.

    Attributes:
        members: K.
        loop_ms: Milliseconds a step of the plain loop, in the same turns.
        peers: Theirs.
    """

    members: int
    loop_ms: tuple[float, ...]
    peers: tuple[Peer, ...]

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as fast as the loop each of them is, where it has a number."""
        return {
            p.name: median(a / b for a, b in zip(self.loop_ms, p.milliseconds, strict=True))
            for p in self.peers
            if not p.absent
        }


@dataclass(frozen=True)
class Curve:
    """One workload from one member to many.

    Attributes:
        workload: Its name.
        fits: A whole fit for each K, each in a fresh process.
        points: The peers at the same K, where they were measured.
    """

    workload: str
    fits: tuple[WholeFit, ...]
    points: tuple[PeerPoint, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summaries too."""
        return {
            "workload": self.workload,
            "fits": [f.as_dict() for f in self.fits],
            "points": [asdict(p) | {"ratios": p.ratios} for p in self.points],
        }
