"""The seed study: ten thousand seeds of DummyNet on ``digits-7x7``, sampled, trained, tested."""

import time
from dataclasses import asdict
from typing import Any

import modelspace as ms
from benchmarks.device import synchronise
from benchmarks.fresh import in_fresh_process
from benchmarks.loop import LR
from benchmarks.memory import peak_mib
from benchmarks.plain import whole_network_seconds
from benchmarks.record import TenThousand
from benchmarks.workloads import Workload, named


def measure(workload: Workload, *, members: int, epochs: int, threads: int, device: str) -> TenThousand:
    """Time it in a fresh process."""
    arguments = {"members": members, "epochs": epochs, "device": device}
    found = in_fresh_process("ten-thousand", threads, name=workload.name, **arguments)
    lists = {name: tuple(found[name]) for name in ("loop_seconds", "accuracy")}
    return TenThousand(**{**found, **lists})


def child(name: str, members: int, epochs: int, device: str) -> dict[str, Any]:
    """The measurement: three networks in the plain loop before it, three after it."""
    workload = named(name)
    data = workload.data()
    space = workload.space()

    def alone(seed: int) -> float:
        return whole_network_seconds(workload, data, epochs, seed, test=True, device=device)

    loop = [alone(seed) for seed in range(3)]
    marks = [time.perf_counter()]
    population = space.sample(seeds=range(members)).to(device)
    marks.append(time.perf_counter())
    run = ms.fit(population, data, optimizer=ms.Adam(lr=LR), epochs=epochs, batch_size=workload.batch)
    synchronise(device)
    marks.append(time.perf_counter())
    scores = ms.evaluate(run.population.to(device), data, ["loss", "accuracy"])
    marks.append(time.perf_counter())
    peak = peak_mib(device)
    loop += [alone(seed) for seed in range(3, 6)]
    accuracy = scores["accuracy"].to_numpy()
    return {
        "workload": name,
        "members": members,
        "epochs": epochs,
        "sample_seconds": marks[1] - marks[0],
        "fit_seconds": marks[2] - marks[1],
        "evaluate_seconds": marks[3] - marks[2],
        "plan": asdict(run.plan),
        "loop_seconds": loop,
        "accuracy": (float(accuracy.mean()), float(accuracy.std(ddof=1))),
        "diverged": len(run.diverged),
        "peak_mib": peak,
    }
