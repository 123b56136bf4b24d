"""All tables of a run, from top to bottom."""

from rich.console import Console, RenderableType

from benchmarks.environment import on_gpu
from benchmarks.record import Results
from benchmarks.tables.fits import curve_table, fits_table, scaling_table, study_table
from benchmarks.tables.steps import memory_table, peers_table, processes_table, steps_table
from benchmarks.tables.style import table

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
    """What there is to print."""
    found: list[RenderableType] = [_head(results)]
    peak = "peak GPU MiB" if on_gpu(results.environment) else "peak MiB"
    if results.steps:
        found.append(steps_table(results.steps))
    if any(s.peers for s in results.steps):
        found.append(peers_table(results.steps))
    if any(s.peer("processes") for s in results.steps):
        found.append(processes_table(results.steps))
    if any(s.shared_bytes for s in results.steps):
        found.append(memory_table(results.steps))
    if results.fits:
        found.append(fits_table(results.fits, peak))
    if results.scaling:
        found.append(scaling_table(results.scaling, peak))
    found += [curve_table(curve) for curve in results.curves]
    if results.ten_thousand:
        found.append(study_table(results.ten_thousand, peak))
    if results.checks:
        found.append(_checks(results))
    return found


def _head(results: Results) -> str:
    e = results.environment
    jax = f", jax {e['jax']}" if e["jax"] else ""
    gpu = f"{e['device']} on " if on_gpu(e) else ""
    # What PyTorch (cuDNN's convolutions) and JAX (all products) do on a GPU when nothing is set.
    rounded = " (TF32 where a library takes it by default)" if gpu else ""
    return (
        f"{gpu}{e.get('processor', e['device'])} ({e['instructions']}), {e['threads']} of {e['cores']} cores, "
        f"torch {e['torch']}{jax}, float32{rounded}, Adam; load before the run {e['load_before']}"
    )


def _checks(results: Results) -> RenderableType:
    drawn = table("Targets", ["target"], ["wanted", "found"], ["result"])
    for check in results.checks:
        drawn.add_row(check.name, check.wanted, check.found, "met" if check.met else "MISSED")
    return drawn
