"""A whole run: which measurements, how large, in which order."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from benchmarks import scaling, steps, ten_thousand, whole_fit
from benchmarks.environment import environment
from benchmarks.fresh import no_compiled_programs
from benchmarks.record import Results, StepTimes, WholeFit
from benchmarks.workloads import WORKLOADS, Workload, chosen, named
from modelspace.progress import progress


@dataclass(frozen=True)
class Settings:
    """How large the measurements are.

    Attributes:
        repeats: Turns of each side.
        members: K of the step benchmarks.
        run_steps: Updates a member of the run that their plan is chosen for: so many that compiling, and
            trying the neighbouring shard sizes, is repaid.
        turn_seconds: About how long a side's turn goes on.
        fit_members: K of the whole fits.
        fit_epochs: Their epochs.
        scaling_members: Every K of the scaling.
        scaling_repeats: Timed fits for each, at most ``repeats``.
        scaling_compiled: Whether those are compiled.
        study_members: Seeds of the seed study.
        study_epochs: Its epochs.
    """

    repeats: int = 7
    members: int = 1024
    run_steps: int = 10_000
    turn_seconds: float = 0.6
    fit_members: int = 64
    fit_epochs: int = 20
    scaling_members: tuple[int, ...] = (64, 256, 1024, 4096)
    scaling_repeats: int = 3
    scaling_compiled: bool = True
    study_members: int = 10_000
    study_epochs: int = 20


QUICK = Settings(
    repeats=2,
    members=8,
    run_steps=1,
    turn_seconds=0.02,
    fit_members=4,
    fit_epochs=1,
    scaling_members=(4, 8),
    scaling_repeats=1,
    scaling_compiled=False,
    study_members=16,
    study_epochs=1,
)


def run(only: Sequence[str], settings: Settings, *, optional: bool, study: bool) -> Results:
    """Measure.

    Args:
        only: Names as ``workloads.chosen`` takes them; none for everything.
        settings: How large.
        optional: Whether the optional workloads belong to everything.
        study: Whether the seed study is made.

    Raises:
        ModelspaceError: a name is not known.
    """
    workloads, parts = chosen(only, optional)
    where = environment()
    fitted = [w for w in WORKLOADS if w.batch == 32 and (optional or not w.optional)]
    return Results(
        where,
        asdict(settings),
        tuple(_steps(w, settings) for w in workloads),
        _fits(fitted, settings) if "fit" in parts else (),
        _scaling(settings) if "scaling" in parts else None,
        _study(settings) if study else None,
    )


def _steps(workload: Workload, settings: Settings) -> StepTimes:
    with (
        progress(f"timing {workload.name}", settings.repeats + 1, "turns") as advance,
        no_compiled_programs(),
    ):
        return steps.measure(
            workload,
            members=settings.members,
            run_steps=settings.run_steps,
            repeats=settings.repeats,
            seconds=settings.turn_seconds,
            advance=advance,
        )


def _fits(workloads: Sequence[Workload], settings: Settings) -> tuple[WholeFit, ...]:
    found = []
    with progress(f"fitting {len(workloads)} workloads whole", len(workloads), "fits") as advance:
        for workload in workloads:
            found.append(
                whole_fit.measure(
                    workload,
                    members=settings.fit_members,
                    epochs=settings.fit_epochs,
                    threads=torch.get_num_threads(),
                )
            )
            advance(1)
    return tuple(found)


def _scaling(settings: Settings) -> scaling.Scaling:
    sizes = settings.scaling_members
    with progress(f"scaling from K = {sizes[0]} to {sizes[-1]}", len(sizes), "sizes") as advance:
        return scaling.measure(
            named("dummynet-32"),
            sizes,
            repeats=min(settings.repeats, settings.scaling_repeats),
            compile=settings.scaling_compiled,
            threads=torch.get_num_threads(),
            advance=advance,
        )


def _study(settings: Settings) -> ten_thousand.TenThousand:
    return ten_thousand.measure(
        named("dummynet-32"),
        members=settings.study_members,
        epochs=settings.study_epochs,
        threads=torch.get_num_threads(),
    )
