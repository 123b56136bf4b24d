"""Whole runs, from the call to the return."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class WholeFit:
    """One call of ``modelspace.fit`` in a fresh process, planning and compilation included.

    Attributes:
        workload: Its name.
        members: K.
        epochs: Of the fit.
        steps: Updates that all members made together.
        seconds: Of the call.
        plan: As in ``StepTimes``.
        loop_seconds: Of one network from seed to last validation, in the plain loop; several.
        peak_mib: The process's largest resident memory; on CUDA the most it had allocated there.
    """

    workload: str
    members: int
    epochs: int
    steps: int
    seconds: float
    plan: dict[str, Any]
    loop_seconds: tuple[float, ...]
    peak_mib: float

    @property
    def loop_total(self) -> float:
        """Seconds of the plain loop for all members, extrapolated."""
        return median(self.loop_seconds) * self.members

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop."""
        return self.loop_total / self.seconds

    @property
    def ratio_planned(self) -> float:
        """The same where the plan was known before: planning and compilation left out."""
        return self.loop_total / (self.seconds - self.plan["seconds"])

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summaries too."""
        summary = {
            "loop_total": self.loop_total,
            "ratio": self.ratio,
            "ratio_planned": self.ratio_planned,
        }
        return asdict(self) | summary


@dataclass(frozen=True)
class TenThousand:
    """The seed study: seeds sampled, trained and tested, in a fresh process.

    Attributes:
        workload: Its name.
        members: K.
        epochs: Of the fit.
        sample_seconds: Making the points.
        fit_seconds: Training, planning and compilation included.
        evaluate_seconds: Loss and accuracy on the test split.
        plan: As in ``StepTimes``.
        loop_seconds: Of one network made, trained, validated and tested in the plain loop; several.
        accuracy: Mean and standard deviation of the test accuracy.
        diverged: Members that diverged.
        peak_mib: The process's largest resident memory; on CUDA the most it had allocated there.
    """

    workload: str
    members: int
    epochs: int
    sample_seconds: float
    fit_seconds: float
    evaluate_seconds: float
    plan: dict[str, Any]
    loop_seconds: tuple[float, ...]
    accuracy: tuple[float, float]
    diverged: int
    peak_mib: float

    @property
    def seconds(self) -> float:
        """All three together."""
        return self.sample_seconds + self.fit_seconds + self.evaluate_seconds

    @property
    def loop_total(self) -> float:
        """Seconds of the plain loop for all members, extrapolated."""
        return median(self.loop_seconds) * self.members

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop."""
        return self.loop_total / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summaries too."""
        return asdict(self) | {
            "seconds": self.seconds,
            "loop_total": self.loop_total,
            "ratio": self.ratio,
        }
