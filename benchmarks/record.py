"""What a run found, as frozen records that know their own summary."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Repeat:
    """One turn of loop, population and matrix product, one after the other.

    Attributes:
        loop_ms: Milliseconds a step of the plain loop.
        population_ms: Milliseconds a step and member of the population.
        limit_gflops: What a large matrix product reached beside them.
    """

    loop_ms: float
    population_ms: float
    limit_gflops: float


@dataclass(frozen=True)
class StepTimes:
    """A workload in steady state.

    Attributes:
        workload: Its name.
        dimension: n.
        members: K.
        batch: Samples a step.
        flop: Useful floating-point operations a step and member.
        plan: ``lowering``, ``chunk``, ``compiled``, ``reason``, ``fallback``, ``seconds`` (with compiling).
        target: The ratio it has to reach.
        repeats: The raw numbers.
    """

    workload: str
    dimension: int
    members: int
    batch: int
    flop: int
    plan: dict[str, Any]
    target: float
    repeats: tuple[Repeat, ...]

    @property
    def loop_ms(self) -> float:
        """Of the plain loop: the median."""
        return median(r.loop_ms for r in self.repeats)

    @property
    def population_ms(self) -> float:
        """Of the population: the median."""
        return median(r.population_ms for r in self.repeats)

    @property
    def ratios(self) -> list[float]:
        """Of each repeat: both sides met the same neighbours on the machine."""
        return [r.loop_ms / r.population_ms for r in self.repeats]

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop: the median."""
        return median(self.ratios)

    @property
    def fraction_of_limit(self) -> float:
        """Useful rate over the matrix product's, each repeat against its own."""
        return median(self.flop / (r.population_ms * 1e6) / r.limit_gflops for r in self.repeats)


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
        peak_mib: The process's largest resident memory.
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


@dataclass(frozen=True)
class Size:
    """One K of the scaling, in a process of its own.

    Attributes:
        members: K.
        epochs: So many that every K makes the same number of member-steps.
        rates: Member-steps a second of each repeat, planning left out, evaluation included.
        limits_gflops: The matrix product beside each repeat.
        plan: As in ``StepTimes``.
        peak_mib: The process's largest resident memory.
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
    """The throughput from few members to many."""

    workload: str
    tolerance: float
    sizes: tuple[Size, ...]

    @property
    def spread(self) -> float:
        """The largest deviation from the middle of the highest and the lowest rate, as a fraction of it."""
        rates = [s.rate for s in self.sizes]
        return (max(rates) - min(rates)) / (max(rates) + min(rates))


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
        peak_mib: The process's largest resident memory.
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


@dataclass(frozen=True)
class Check:
    """A target and what was found."""

    name: str
    wanted: str
    found: str
    met: bool


@dataclass(frozen=True)
class Results:
    """All of a run."""

    environment: dict[str, Any]
    settings: dict[str, Any]
    steps: tuple[StepTimes, ...] = ()
    fits: tuple[WholeFit, ...] = ()
    scaling: Scaling | None = None
    ten_thousand: TenThousand | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, the summaries beside the raw numbers."""
        from benchmarks.targets import checks

        return {
            "environment": self.environment,
            "settings": self.settings,
            "steps": [
                asdict(s)
                | {
                    "loop_ms": s.loop_ms,
                    "population_ms": s.population_ms,
                    "ratio": s.ratio,
                    "fraction_of_limit": s.fraction_of_limit,
                }
                for s in self.steps
            ],
            "fits": [asdict(f) | {"loop_total": f.loop_total, "ratio": f.ratio} for f in self.fits],
            "scaling": self.scaling and asdict(self.scaling) | {"spread": self.scaling.spread},
            "ten_thousand": self.ten_thousand
            and asdict(self.ten_thousand)
            | {
                "seconds": self.ten_thousand.seconds,
                "loop_total": self.ten_thousand.loop_total,
                "ratio": self.ten_thousand.ratio,
            },
            "checks": [asdict(c) for c in checks(self)],
        }
