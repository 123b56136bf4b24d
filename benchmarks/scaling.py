"""Throughput and memory from few members to many: a shard is all that is ever worked on at once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

import modelspace as ms
from benchmarks.device import is_gpu
from benchmarks.fresh import in_fresh_process
from benchmarks.limit import product_gflops
from benchmarks.loop import LR
from benchmarks.memory import peak_mib
from benchmarks.record import Scaling, Size
from benchmarks.workloads import Workload, named

TOLERANCE = 0.2


def measure(
    workload: Workload,
    sizes: Sequence[int],
    *,
    repeats: int,
    compile: bool,
    threads: int,
    device: str,
    advance: Callable[[int], None],
) -> Scaling:
    """Every K in a process of its own, all with the same number of member-steps.

    Args:
        workload: Which.
        sizes: Values of K.
        repeats: Timed fits for each.
        compile: Whether the step is compiled; the same for every K, because a run is compared here and not
            whether it is long enough to repay compiling.
        threads: Of each process.
        device: Where. A GPU is not filled by few members, so nothing is asked of the throughput there.
        advance: Told of each finished K.
    """
    found = []
    for members in sizes:
        epochs = ceil(2 * max(sizes) / members)
        arguments = {"members": members, "epochs": epochs, "repeats": repeats, "compile": compile}
        size = in_fresh_process("scaling", threads, name=workload.name, device=device, **arguments)
        found.append(
            Size(**{**size, "rates": tuple(size["rates"]), "limits_gflops": tuple(size["limits_gflops"])})
        )
        advance(1)
    return Scaling(workload.name, None if is_gpu(device) else TOLERANCE, tuple(found))


def child(name: str, members: int, epochs: int, repeats: int, compile: bool, device: str) -> dict[str, Any]:
    """The measurement for one K: a first fit plans and compiles (if it can), the others repeat its plan."""
    workload = named(name)
    data = workload.data()
    population = workload.space().sample(seeds=range(members)).to(device)
    settings = {"optimizer": ms.Adam(lr=LR), "epochs": epochs, "batch_size": workload.batch}
    try:
        plan = ms.fit(population, data, plan={"compile": compile}, **settings).plan
    except ms.ModelspaceError:
        plan = ms.fit(population, data, plan={"compile": False}, **settings).plan
    rates, limits, peaks = [], [], []
    for _ in range(repeats):
        run = ms.fit(population, data, plan=plan, **settings)
        rates.append(int(run.steps.sum()) / (run.seconds - run.plan.seconds))
        peaks.append(peak_mib(device))
        limits.append(product_gflops(0.2, device))
    return {
        "members": members,
        "epochs": epochs,
        "rates": rates,
        "limits_gflops": limits,
        "plan": asdict(plan),
        "peak_mib": peaks[0],  # before the product, whose matrices are the larger ones on a GPU
    }
