"""``modelspace.fit`` from call to return, planning and compilation included: what a user waits for."""

import time
from dataclasses import asdict
from typing import Any

import modelspace as ms
from benchmarks.device import synchronise
from benchmarks.fresh import in_fresh_process
from benchmarks.loop import LR
from benchmarks.memory import peak_mib
from benchmarks.plain import whole_network_seconds
from benchmarks.record import WholeFit
from benchmarks.workloads import Workload, named


def measure(workload: Workload, *, members: int, epochs: int, threads: int, device: str) -> WholeFit:
    """Time it in a fresh process, so that nothing is compiled yet."""
    arguments = {"members": members, "epochs": epochs, "device": device}
    found = in_fresh_process("fit", threads, name=workload.name, **arguments)
    return WholeFit(**{**found, "loop_seconds": tuple(found["loop_seconds"])})


def child(name: str, members: int, epochs: int, device: str) -> dict[str, Any]:
    """The measurement: two networks in the plain loop before the fit, two after it."""
    workload = named(name)
    data = workload.data()
    population = workload.space().sample(seeds=range(members)).to(device)

    def alone(seed: int) -> float:
        return whole_network_seconds(workload, data, epochs, seed, test=False, device=device)

    loop = [alone(seed) for seed in range(2)]
    began = time.perf_counter()
    run = ms.fit(population, data, optimizer=ms.Adam(lr=LR), epochs=epochs, batch_size=workload.batch)
    synchronise(device)
    seconds = time.perf_counter() - began
    peak = peak_mib(device)
    loop += [alone(seed) for seed in range(2, 4)]
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
