"""A training step in steady state: population, loop, limit and peers."""

from collections.abc import Sequence
from statistics import median

from rich.table import Table

from benchmarks.record import Peer, StepTimes
from benchmarks.tables.style import planned, table, times, wanted


def steps_table(steps: Sequence[StepTimes]) -> Table:
    """Against the plain loop and the machine."""
    drawn = table(
        f"Training step in steady state, milliseconds a step and member, K = {steps[0].members:,}; medians",
        ["workload"],
        ["loop", "population", "× loop", "range", "target"],
    )
    for name in ("MFLOP", "limit GFLOP/s", "of limit", "target", "planning s"):
        drawn.add_column(name, justify="right")
    drawn.add_column("plan")
    for s in steps:
        drawn.add_row(
            s.workload,
            f"{s.loop_ms:.3f}",
            f"{s.population_ms:.4f}",
            times(s.ratio),
            f"{min(s.ratios):.1f}–{max(s.ratios):.1f}",
            wanted(s.targets.loop),
            f"{s.flop / 1e6:.2f}",
            f"{median(r.limit_gflops for r in s.repeats):.0f}",
            f"{s.fraction_of_limit:.2f}",
            wanted(s.targets.limit),
            f"{s.plan['seconds']:.1f}",
            planned(s.plan),
        )
    return drawn


def peers_table(steps: Sequence[StepTimes]) -> Table:
    """Against those that train many at once, each at its own K."""
    drawn = table(
        "Peers in the same turns, milliseconds a step and member; × is how many times as fast the population is",
        ["workload"],
        ["population", "torch.func", "K", "×", "JAX", "K", "×", "target", "compiling s", "processes", "×"],
    )
    missing = [f"{s.workload}, {p.name}: {p.absent}" for s in steps for p in s.peers if p.absent]
    drawn.caption, drawn.caption_justify = "\n".join(missing) or None, "left"
    for s in steps:
        jax = s.peer("jax")
        compiling = "" if jax is None or jax.compile_seconds is None else f"{jax.compile_seconds:.1f}"
        drawn.add_row(
            s.workload,
            f"{s.population_ms:.4f}",
            *_cells(s.peer("torch.func")),
            times(s.against("torch.func")),
            *_cells(jax),
            times(s.against("jax"), ".2f"),
            wanted(s.targets.jax),
            compiling,
            _cells(s.peer("processes"))[0],
            times(s.against("processes")),
        )
    return drawn


def processes_table(steps: Sequence[StepTimes]) -> Table:
    """Against one process a member, with and without starting it."""
    drawn = table(
        "One process a member, so many at once, one thread each; whole members a second",
        ["workload"],
        ["steps a member", "at once", "starting s", "starting left out", "starting included", "population"],
    )
    for s in steps:
        peer = s.peer("processes")
        if peer is None or peer.steps is None:
            continue
        rates = (peer.members_a_second, peer.members_a_second_started, 1e3 / (s.population_ms * peer.steps))
        cells = ["–" if rate is None else f"{rate:.2f}" for rate in rates]
        drawn.add_row(s.workload, str(peer.steps), str(peer.members), f"{peer.startup_seconds:.1f}", *cells)
    return drawn


def memory_table(steps: Sequence[StepTimes]) -> Table:
    """Of the points, where members share frozen parameters."""
    drawn = table(
        "Adapters on one frozen base, MiB of parameters",
        ["workload"],
        ["K", "a member's own", "shared", "population", "K full copies", "×"],
    )
    for s in steps:
        if s.shared_bytes:
            drawn.add_row(
                s.workload,
                f"{s.members:,}",
                f"{s.member_bytes / 2**20:.3f}",
                f"{s.shared_bytes / 2**20:.2f}",
                f"{s.population_mib:.1f}",
                f"{s.copies_mib:,.1f}",
                times(s.copies_mib / s.population_mib),
            )
    return drawn


def _cells(peer: Peer | None) -> tuple[str, str]:
    """Milliseconds and K; in place of the first, why there are none."""
    if peer is None:
        return "", ""
    if peer.absent:
        installed = "is not installed" not in peer.absent
        return ("failed" if installed else "not installed"), ""
    return f"{peer.ms:.4f}", f"{peer.members:,}"
