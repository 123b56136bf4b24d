"""All of a run."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.record.curve import Curve
from benchmarks.record.fits import TenThousand, WholeFit
from benchmarks.record.scaling import Scaling
from benchmarks.record.steps import StepTimes


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
    curves: tuple[Curve, ...] = ()
    ten_thousand: TenThousand | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """One check for every target that the run has a number for."""
        return (*(c for s in self.steps for c in _step_checks(s)), *_scaling_checks(self.scaling))

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, the summaries beside the raw numbers."""
        return {
            "environment": self.environment,
            "settings": self.settings,
            "steps": [s.as_dict() for s in self.steps],
            "fits": [f.as_dict() for f in self.fits],
            "scaling": self.scaling and self.scaling.as_dict(),
            "curves": [c.as_dict() for c in self.curves],
            "ten_thousand": self.ten_thousand and self.ten_thousand.as_dict(),
            "checks": [asdict(c) for c in self.checks],
        }


def _step_checks(steps: StepTimes) -> list[Check]:
    targets = steps.targets
    figures = (
        ("times the plain loop", targets.loop, steps.ratio, ".1f"),
        ("fraction of the limit", targets.limit, steps.fraction_of_limit, ".2f"),
        ("times JAX", targets.jax, steps.against("jax"), ".2f"),
    )
    return [
        Check(f"{steps.workload}: {name}", f"≥ {wanted:g}", format(found, form), found >= wanted)
        for name, wanted, found, form in figures
        if wanted is not None and found is not None
    ]


def _scaling_checks(scaling: Scaling | None) -> list[Check]:
    if scaling is None or scaling.tolerance is None:
        return []
    first, last = scaling.sizes[0].members, scaling.sizes[-1].members
    return [
        Check(
            f"{scaling.workload}: throughput a member, K = {first} … {last}",
            f"± {100 * scaling.tolerance:.0f} %",
            f"± {100 * scaling.spread:.0f} %",
            scaling.spread <= scaling.tolerance,
        )
    ]
