"""Throughput and memory from few members to many."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Size:
    """One K of the scaling, in a process of its own.

    Attributes:
        members: K.
        epochs: So many that every K makes the same number of member-steps.
        rates: Member-steps a second of each repeat, planning left out, evaluation included.
        limits_gflops: The matrix product beside each repeat.
        plan: As in ``StepTimes``.
        peak_mib: The process's largest resident memory; on CUDA the most it had allocated there.
    """

    members: int
    epochs: int
    rates: tuple[float, ...]
    limits_gflops: tuple[float, ...]
    plan: dict[str, Any]
    peak_mib: float

    @property
    def rate(self) -> float:
        """The median."""
        return median(self.rates)


@dataclass(frozen=True)
class Scaling:
    """The throughput from few members to many.

    Attributes:
        workload: Its name.
        tolerance: How far it may deviate; None asks for nothing.
        sizes: One for each K.
    """

    workload: str
    tolerance: float | None
    sizes: tuple[Size, ...]

    @property
    def spread(self) -> float:
        """The largest deviation from the middle of the highest and the lowest rate, as a fraction of it."""
        rates = [s.rate for s in self.sizes]
        return (max(rates) - min(rates)) / (max(rates) + min(rates))

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summary too."""
        return asdict(self) | {"spread": self.spread}
