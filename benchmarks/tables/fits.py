"""Whole runs: fits, their scaling, the curves and the seed study."""

from collections.abc import Sequence

from rich.table import Table

from benchmarks.record import Curve, Scaling, TenThousand, WholeFit
from benchmarks.tables.style import planned, table, times


def fits_table(fits: Sequence[WholeFit], peak: str) -> Table:
    """Against the plain loop, extrapolated from a few networks."""
    drawn = table(
        "One call of fit, planning and compiling included, validated every epoch; fresh process",
        ["workload"],
        [
            "K",
            "epochs",
            "seconds",
            "planning s",
            "loop, extrapolated",
            "× loop",
            "planned before",
            peak,
        ],
        ["plan"],
    )
    for f in fits:
        drawn.add_row(
            f.workload,
            f"{f.members:,}",
            str(f.epochs),
            f"{f.seconds:.1f}",
            f"{f.plan['seconds']:.1f}",
            f"{f.loop_total:.1f}",
            times(f.ratio),
            times(f.ratio_planned),
            f"{f.peak_mib:.0f}",
            planned(f.plan),
        )
    return drawn


def scaling_table(scaling: Scaling, peak: str) -> Table:
    """Throughput and memory by K."""
    drawn = table(
        f"{scaling.workload}: as much work with few members as with many; spread ± {100 * scaling.spread:.0f} %",
        [],
        ["K", "epochs", "member-steps/s", "range", "limit GFLOP/s", "planning s", peak],
        ["plan"],
    )
    for s in scaling.sizes:
        drawn.add_row(
            f"{s.members:,}",
            str(s.epochs),
            f"{s.rate:,.0f}",
            f"{min(s.rates):,.0f}–{max(s.rates):,.0f}",
            f"{max(s.limits_gflops):.0f}",
            f"{s.plan['seconds']:.1f}",
            f"{s.peak_mib:.0f}",
            planned(s.plan),
        )
    return drawn


def curve_table(curve: Curve) -> Table:
    """The speed-up by K."""
    names = [peer.name for peer in curve.points[0].peers] if curve.points else []
    drawn = table(
        f"{curve.workload}: times the plain loop by K; fits of {curve.fits[0].epochs} epochs, peers in steady state",
        [],
        ["K", "planning left out", "planning included", *(f"{name} at this K" for name in names)],
        ["plan"],
    )
    ratios = {p.members: p.ratios for p in curve.points}
    for f in curve.fits:
        peers = [times(ratios.get(f.members, {}).get(name)) for name in names]
        drawn.add_row(f"{f.members:,}", times(f.ratio_planned), times(f.ratio), *peers, planned(f.plan))
    return drawn


def study_table(t: TenThousand, peak: str) -> Table:
    """The seed study, line by line."""
    drawn = table(
        f"{t.members:,} seeds of {t.workload}, {t.epochs} epochs of digits-7x7, tested; fresh process",
        [""],
        [""],
    )
    parts = f"{t.sample_seconds:.1f} + {t.fit_seconds:.1f} + {t.evaluate_seconds:.1f} s"
    for name, value in (
        ("sampling, fitting, testing", parts),
        ("together", f"{t.seconds:.1f} s"),
        ("the plain loop, extrapolated", f"{t.loop_total:.0f} s"),
        ("ratio", times(t.ratio)),
        (peak, f"{t.peak_mib:.0f}"),
        ("test accuracy, mean ± SD", f"{t.accuracy[0]:.4f} ± {t.accuracy[1]:.4f}"),
        ("diverged", str(t.diverged)),
        ("plan", planned(t.plan)),
    ):
        drawn.add_row(name, value)
    return drawn
