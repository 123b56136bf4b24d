"""A run's results as tables for the terminal."""

from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from benchmarks.record import Results, Scaling, StepTimes, TenThousand, WholeFit
from benchmarks.targets import checks

_WIDTH = 140  # of a page that is no terminal


def draw(results: Results, *, stderr: bool = False) -> None:
    """Print the tables, on standard output unless that belongs to the JSON."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_WIDTH)
    for part in parts(results):
        console.print(part)
        console.print()


def parts(results: Results) -> list[RenderableType]:
    """What there is to print, from top to bottom."""
    e = results.environment
    found: list[RenderableType] = [
        f"{e['device']} ({e['instructions']}), {e['threads']} of {e['cores']} cores, "
        f"torch {e['torch']}, float32, Adam; load before the run {e['load_before']}"
    ]
    if results.steps:
        found.append(_steps(results.steps))
    if results.fits:
        found.append(_fits(results.fits))
    if results.scaling:
        found.append(_scaling(results.scaling))
    if results.ten_thousand:
        found.append(_ten_thousand(results.ten_thousand))
    found.append(_checks(results))
    return found


def _steps(steps: tuple[StepTimes, ...]) -> Table:
    table = _table(
        "Training step in steady state, milliseconds a step and member; medians, range of the ratio"
    )
    for name in (
        "workload",
        "K",
        "loop",
        "population",
        "ratio",
        "range",
        "MFLOP",
        "limit GFLOP/s",
        "of limit",
    ):
        table.add_column(name, justify="left" if name == "workload" else "right", no_wrap=True)
    table.add_column("plan")
    for s in steps:
        limits = sorted(r.limit_gflops for r in s.repeats)
        table.add_row(
            s.workload,
            f"{s.members:,}",
            f"{s.loop_ms:.3f}",
            f"{s.population_ms:.4f}",
            f"{s.ratio:.1f} ×",
            f"{min(s.ratios):.1f}–{max(s.ratios):.1f}",
            f"{s.flop / 1e6:.2f}",
            f"{limits[len(limits) // 2]:.0f}",
            f"{s.fraction_of_limit:.2f}",
            f"{s.plan['seconds']:.1f}",
            _plan(s.plan),
        )
    return table


def _fits(fits: tuple[WholeFit, ...]) -> Table:
    table = _table("One call of fit, planning and compiling included, validated every epoch; fresh process")
    for name in (
        "workload",
        "K",
        "epochs",
        "seconds",
        "planning s",
        "loop, extrapolated",
        "ratio",
        "peak MiB",
    ):
        table.add_column(name, justify="left" if name == "workload" else "right", no_wrap=True)
    table.add_column("plan")
    for f in fits:
        table.add_row(
            f.workload,
            f"{f.members:,}",
            str(f.epochs),
            f"{f.seconds:.1f}",
            f"{f.plan['seconds']:.1f}",
            f"{f.loop_total:.1f}",
            f"{f.ratio:.1f} ×",
            f"{f.peak_mib:.0f}",
            _plan(f.plan),
        )
    return table


def _scaling(scaling: Scaling) -> Table:
    spread = f"{100 * scaling.spread:.0f} %"
    table = _table(f"{scaling.workload}: as much work with few members as with many; spread ± {spread}")
    for name in ("K", "epochs", "member-steps/s", "range", "limit GFLOP/s", "planning s", "peak MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("plan")
    for s in scaling.sizes:
        table.add_row(
            f"{s.members:,}",
            str(s.epochs),
            f"{s.rate:,.0f}",
            f"{min(s.rates):,.0f}–{max(s.rates):,.0f}",
            f"{max(s.limits_gflops):.0f}",
            f"{s.plan['seconds']:.1f}",
            f"{s.peak_mib:.0f}",
            _plan(s.plan),
        )
    return table


def _ten_thousand(t: TenThousand) -> Table:
    table = _table(
        f"{t.members:,} seeds of {t.workload}, {t.epochs} epochs of digits-7x7, tested; fresh process"
    )
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in (
        (
            "sampling, fitting, testing",
            f"{t.sample_seconds:.1f} + {t.fit_seconds:.1f} + {t.evaluate_seconds:.1f} s",
        ),
        ("together", f"{t.seconds:.1f} s"),
        ("the plain loop, extrapolated", f"{t.loop_total:.0f} s"),
        ("ratio", f"{t.ratio:.1f} ×"),
        ("peak memory", f"{t.peak_mib:.0f} MiB"),
        ("test accuracy, mean ± SD", f"{t.accuracy[0]:.4f} ± {t.accuracy[1]:.4f}"),
        ("diverged", str(t.diverged)),
        ("plan", _plan(t.plan)),
    ):
        table.add_row(name, value)
    return table


def _checks(results: Results) -> Table:
    table = _table("Targets")
    table.add_column("target")
    for name in ("wanted", "found"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for check in checks(results):
        table.add_row(check.name, check.wanted, check.found, "met" if check.met else "MISSED")
    return table


def _plan(plan: dict[str, Any]) -> str:
    how = f"{'compiled ' if plan['compiled'] else ''}{plan['lowering']}, shards of {plan['chunk']}"
    return f"{how} ({plan['fallback']})" if plan["fallback"] else how


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
