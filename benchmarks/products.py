"""Products with the Hessian: their time over that of the gradient at the same points and samples, eager and compiled.

Each in a fresh process on one thread, in CPU seconds, which neighbours on the machine take nothing from.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.table import Table

from benchmarks.machine import in_fresh_process
from benchmarks.tables import check, table
from benchmarks.workloads import WORKLOADS, Settings
from modelspace.engine import Derivatives
from modelspace.losses import resolve

NETWORKS = ("dummynet-32", "mlp-32", "cnn-32", "encoder-32", "lstm-32")
_MEMBERS, _SAMPLES, _WANTED = 16, 128, 2.5


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Time every network both ways; of a quick run one network, eager."""
    quick = settings.run_steps == 1
    names, ways = (NETWORKS[:1], (False,)) if quick else (NETWORKS, (False, True))
    how = [{"name": name, "compiled": compiled, **asdict(settings)} for name in names for compiled in ways]
    return [in_fresh_process("products:turns", threads=1, **each) for each in how]


def turns(name: str, compiled: bool, **given: Any) -> dict[str, Any]:
    """In a fresh process: gradient and product by turns; the first turn compiles, or warms up."""
    workload, settings = WORKLOADS[name], Settings(**given)
    train = workload.data().train
    population = workload.space().sample(seeds=range(_MEMBERS)).copy().to(settings.device)
    samples = train.inputs[:_SAMPLES], train.labels[:_SAMPLES]
    derivatives = Derivatives(population, *samples, resolve("cross_entropy"), compile=compiled)
    derivatives.most = _MEMBERS
    points, buffers = population.points, population.buffers
    vectors = torch.randn(points.shape, generator=torch.Generator().manual_seed(0)).to(points)
    sides = (
        lambda: derivatives.gradient(points, buffers),
        lambda: derivatives.product(points, buffers, vectors),
    )
    budget = settings.turn_seconds / 2
    pairs = [[_seconds(side, budget) for side in sides] for _ in range(settings.repeats + 1)][1:]
    gradient, product = (median(side) * 1e3 / _MEMBERS for side in zip(*pairs, strict=True))
    found = {"workload": name, "how": "compiled" if compiled else "eager", "turns": pairs}
    return found | {"gradient": gradient, "product": product, "ratio": median(b / a for a, b in pairs)}


def _seconds(side: Callable[[], object], budget: float) -> float:
    side()
    began, calls = time.process_time(), 0
    while not calls or time.process_time() - began < budget:
        side()
        calls += 1
    return (time.process_time() - began) / calls


def checks(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A compiled product takes at most so many times as long as its gradient."""
    return [
        check(
            f"{one['workload']}: Hessian product over gradient",
            f"≤ {_WANTED}",
            f"{ratio:.2f}",
            ratio <= _WANTED,
        )
        for one in found
        if one["how"] == "compiled" and (ratio := one["ratio"])
    ]


def tables(found: Sequence[dict[str, Any]]) -> list[Table]:
    """One table of all."""
    return table(
        f"Hessian products of {_MEMBERS} members over {_SAMPLES} samples, CPU milliseconds a member, one thread",
        "workload: {workload} | how: {how} | gradient: {gradient:.3f} | product: {product:.3f} | "
        "product over gradient: {ratio:.2f} × | target: ≤ 2.5, compiled",
        found,
    )
