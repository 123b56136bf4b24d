"""What the Ray runner costs a shard, and what a second worker gains: ``python -m benchmarks.cluster``.

Every number is the best of a few repeats. The driver's CPU seconds, unlike wall-clock seconds, say what a shard
costs it also where something else shares the machine.
"""

import argparse
import os
import tempfile
import time
from typing import Any

from torch import nn

import modelspace as ms
from benchmarks.workloads import WORKLOADS
from modelspace.distribute.cluster import connected

_SAMPLES = 1438  # of the training split
_FEW, _MANY = 20, 320  # shards of one member


def cnn() -> nn.Module:
    first = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def timed(population: Any, data: Any, shard: int, workers: int = 1, **settings: Any) -> tuple[float, float]:
    """Wall-clock seconds of a fit, and CPU seconds of this process."""
    wall, driver = time.perf_counter(), time.process_time()
    plan = {"lowering": "vmap", "compile": False, "threads": 1, "shard": shard, "workers": workers}
    ms.fit(population, data, plan=plan, **settings)
    return time.perf_counter() - wall, time.process_time() - driver


def overhead(repeats: int) -> None:
    """Shards of one member and one update: what is left is what a shard costs."""
    data, space = WORKLOADS["mlp-32"].data(), WORKLOADS["mlp-32"].space()
    one = {"shard": 1, "epochs": 1, "batch_size": _SAMPLES}
    print(f"{'':24}{'wall':>8}{'driver':>8}   ms a shard")
    for keep, writes in (("scores", False), ("all", False), ("all", True)):
        for runner in ("local", "ray"):
            rows: dict[int, list[tuple[float, float]]] = {_FEW: [], _MANY: []}
            for count in (_FEW, _MANY) * repeats:
                with tempfile.TemporaryDirectory() as folder:
                    how = {"keep": keep, "runner": runner, "out": folder if writes else None}
                    rows[count].append(timed(space.sample(seeds=count), data, **how, **one))
            few, many = ([min(column) for column in zip(*rows[n], strict=True)] for n in (_FEW, _MANY))
            wall, driver = (1e3 * (b - a) / (_MANY - _FEW) for a, b in zip(few, many, strict=True))
            title = f"{runner}, keep={keep}{', folder' if writes else ''}"
            print(f"{title:24}{wall:8.1f}{driver:8.1f}", flush=True)


def speed(repeats: int, cpus: int) -> None:
    """Shards of about a second."""
    data, space = WORKLOADS["cnn-32"].data(), ms.ModelSpace(cnn, input_shape=(1, 8, 8))
    population, settings = space.sample(seeds=160), {"shard": 16, "epochs": 4, "batch_size": 64}
    # Its workers have loaded everything.
    timed(population[: 16 * cpus], data, runner="ray", shard=16, epochs=1)
    for title, how in (
        ("local, 1 process", {"workers": 1}),
        (f"local, {cpus} processes", {"workers": cpus}),
        (f"ray, {cpus} workers", {"workers": 1, "runner": "ray"}),
    ):
        rows = [timed(population, data, **settings, **how) for _ in range(repeats)]
        wall, driver = (min(column) for column in zip(*rows, strict=True))
        print(f"{title:24}{wall:8.2f}{driver:8.2f}   s for 10 shards of 16", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpus", type=int, nargs="*", default=[1, os.cpu_count() or 1])
    options = parser.parse_args()
    with connected(None, options.cpus[-1]):
        overhead(options.repeats)
    for cpus in options.cpus:
        with connected(None, cpus):
            speed(options.repeats, cpus)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
