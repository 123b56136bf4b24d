"""A landscape of 51 × 51 points of DummyNet, against loading each into a module and evaluating it.

In a fresh process on one thread, in CPU seconds, which neighbours on the machine take nothing from. The samples of
one loop are a tensor in memory: then both sides do the same arithmetic, 18 MFLOP a point in a millisecond, and there
is nothing to win. The other, on some of the points, has them from a DataLoader, as scripts for landscapes do.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import plain
from benchmarks.machine import in_fresh_process
from benchmarks.tables import check, table
from benchmarks.workloads import WORKLOADS, Settings
from modelspace.geometry import landscape, slices


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Time the landscape and both loops; of a quick run a small one."""
    return [in_fresh_process("landscapes:turns", threads=1, **asdict(settings))]


def turns(**given: Any) -> dict[str, Any]:
    """In a fresh process: the loops and the landscape after one another, each once warmed up."""
    workload, settings = WORKLOADS["dummynet-32"], Settings(**given)
    steps, some = (5, 2) if settings.run_steps == 1 else (51, 50)
    data, point = workload.data(), workload.space().sample(seeds=1).copy().to(settings.device)
    plane, at = slices.random(point), np.linspace(-1, 1, steps)
    states = [plane.grid(at, at)[k : k + 1].state_dict(0) for k in range(some)]
    module, train = point.module(0), data.train
    loader = DataLoader(TensorDataset(train.inputs, train.labels), batch_size=128)

    def looped(batches: Sequence[Any] | DataLoader) -> Callable[[], Any]:
        def run() -> None:
            for state in states:
                module.load_state_dict(state)
                for inputs, labels in batches:
                    plain.scores(module, inputs.to(settings.device), labels.to(settings.device))

        return run

    loop, loaded = (_seconds(looped(b)) / some for b in ([(train.inputs, train.labels)], loader))
    settled = {"reach": 1.0, "splits": ["train"], "metrics": ["accuracy"]}
    ours = _seconds(lambda: landscape(point, data, plane=plane, grid=steps, **settled))
    found = {"workload": workload.name, "points": steps**2, "samples": len(train), "seconds": ours}
    both = {"loop": loop * steps**2, "loader": loaded * steps**2}
    return found | both | {"ratio": loop * steps**2 / ours, "of_loader": loaded * steps**2 / ours}


def _seconds(run: Callable[[], Any]) -> float:
    run()
    start = time.process_time()
    run()
    return time.process_time() - start


def checks(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Twenty times as fast as the loop that has its samples from a DataLoader."""
    name = "landscape of {points:,} points, times the loop over a DataLoader"
    return [check(name.format(**f), "≥ 20", f"{f['of_loader']:.1f}", f["of_loader"] >= 20) for f in found]


def tables(found: Sequence[dict[str, Any]]) -> list[Table]:
    """One row."""
    return table(
        "A landscape, on one thread, against load_state_dict and evaluation, in memory and from a DataLoader",
        "workload: {workload} | points: {points:,} | samples: {samples:,} | loop s: {loop:.2f} | "
        "loader s: {loader:.2f} | seconds: {seconds:.2f} | × loop: {ratio:.2f} × | × loader: {of_loader:.1f} × | "
        "target: ≥ 20",
        found,
    )
