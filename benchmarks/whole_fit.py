"""``modelspace.fit`` from call to return, planning and compilation included: what a user waits for."""

import time
from dataclasses import asdict
from typing import Any

import modelspace as ms
from benchmarks.fresh import in_fresh_process
from benchmarks.loop import LR
from benchmarks.memory import peak_mib
from benchmarks.plain import whole_network_seconds
from benchmarks.record import WholeFit
from benchmarks.workloads import Workload, named


def measure(workload: Workload, *, members: int, epochs: int, threads: int) -> WholeFit:
    """Time it in a fresh process, so that nothing is compiled yet."""
    found = in_fresh_process("fit", threads, name=workload.name, members=members, epochs=epochs)
    return WholeFit(**{**found, "loop_seconds": tuple(found["loop_seconds"])})


def child(name: str, members: int, epochs: int) -> dict[str, Any]:
    """The measurement: two networks in the plain loop before the fit, two after it."""
    workload = named(name)
    data = workload.data()
    population = workload.space().sample(seeds=range(members))
    loop = [whole_network_seconds(workload, data, epochs, seed, test=False) for seed in range(2)]
    began = time.perf_counter()
    run = ms.fit(population, data, optimizer=ms.Adam(lr=LR), epochs=epochs, batch_size=workload.batch)
    seconds = time.perf_counter() - began
    peak = peak_mib()
    loop += [whole_network_seconds(workload, data, epochs, seed, test=False) for seed in range(2, 4)]
    return {
        "workload": name,
        "members": members,
        "epochs": epochs,
        "steps": int(run.steps.sum()),
        "seconds": seconds,
        "plan": asdict(run.plan),
        "loop_seconds": loop,
        "peak_mib": peak,
    }
