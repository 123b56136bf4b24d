"""A whole run: which measurements, in which order."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from benchmarks import curve, scaling, steps, ten_thousand, whole_fit
from benchmarks.environment import environment
from benchmarks.fresh import nothing_remembered
from benchmarks.record import Curve, Results, Scaling, StepTimes, TenThousand, WholeFit
from benchmarks.settings import Settings
from benchmarks.workloads import WORKLOADS, Workload, chosen, named, with_curves
from modelspace.progress import progress


def run(only: Sequence[str], settings: Settings, extras: Sequence[str] = ()) -> Results:
    """Measure.

    Args:
        only: Names as ``workloads.chosen`` takes them; none for everything but the extras.
        settings: How large.
        extras: Parts to add.

    Raises:
        ModelspaceError: a name is not known.
    """
    workloads, parts = chosen(only, extras)
    where = environment(settings.device)
    return Results(
        where,
        asdict(settings),
        tuple(_steps(w, settings) for w in workloads),
        _fits([w for w in WORKLOADS if w.batch == 32], settings) if "fit" in parts else (),
        _scaling(settings) if "scaling" in parts else None,
        _curves(with_curves(workloads), settings) if "curve" in parts else (),
        _study(settings) if "ten-thousand" in parts else None,
    )


def _steps(workload: Workload, settings: Settings) -> StepTimes:
    with (
        progress(f"timing {workload.name}", settings.repeats + 2, "turns") as advance,
        nothing_remembered(),
    ):
        return steps.measure(workload, settings, advance)


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
                    device=settings.device,
                )
            )
            advance(1)
    return tuple(found)


def _scaling(settings: Settings) -> Scaling:
    sizes = settings.scaling_members
    with progress(f"scaling from K = {sizes[0]} to {sizes[-1]}", len(sizes), "sizes") as advance:
        return scaling.measure(
            named("dummynet-32"),
            sizes,
            repeats=min(settings.repeats, settings.scaling_repeats),
            compile=settings.scaling_compiled,
            threads=torch.get_num_threads(),
            device=settings.device,
            advance=advance,
        )


def _curves(workloads: Sequence[Workload], settings: Settings) -> tuple[Curve, ...]:
    sizes = settings.curve_members
    title = f"curves of {len(workloads)} workloads from K = {sizes[0]} to {sizes[-1]}"
    with progress(title, len(workloads) * len(sizes), "sizes") as advance:
        return curve.measure(workloads, settings, advance)


def _study(settings: Settings) -> TenThousand:
    return ten_thousand.measure(
        named("dummynet-32"),
        members=settings.study_members,
        epochs=settings.study_epochs,
        threads=torch.get_num_threads(),
        device=settings.device,
    )
