"""What a population is asked once it is trained: all members' scores and outputs, against looping over modules.

In a fresh process on one thread: DummyNet, on the test split of its digits. The modules are made before the clock
starts, as the population is.
"""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from rich.table import Table

import modelspace as ms
from benchmarks import plain
from benchmarks.machine import in_fresh_process, seconds_of
from benchmarks.tables import check, table, times
from benchmarks.workloads import WORKLOADS, Settings


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Time both calls: every repeat's raw numbers and their summary."""
    return in_fresh_process("scores:turns", threads=1, **asdict(settings))


def turns(**given: Any) -> list[dict[str, Any]]:
    """In a fresh process: each call by turns with its loop; the first turn of each warms up."""
    workload, settings = WORKLOADS["dummynet-32"], Settings(**given)
    data, device = workload.data(), settings.device
    population = workload.space().sample(seeds=range(settings.members)).copy().to(device)
    modules = [module.to(device).eval() for module in population.modules()]
    inputs, labels = (part.to(device) for part in (data.test.inputs, data.test.labels))

    def outputs() -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([module(inputs) for module in modules]).cpu()

    sides = {
        "evaluate": (
            lambda: [plain.scores(module, inputs, labels) for module in modules],
            lambda: ms.evaluate(population, data, ["loss", "accuracy"]),
        ),
        "predict": (outputs, lambda: ms.predict(population, data.test)),
    }
    found = []
    for call, both in sides.items():
        turns = [[seconds_of(side, device) for side in both] for _ in range(settings.repeats + 1)][1:]
        size = {"workload": workload.name, "call": call, "members": settings.members}
        found.append(summarised(size | {"samples": len(data.test), "turns": turns}))
    return found


def summarised(call: dict[str, Any]) -> dict[str, Any]:
    """The raw numbers, pairs of the loop's seconds and the population's, and their summary: medians."""
    loop, ours = zip(*call["turns"], strict=True)
    ratios = [a / b for a, b in call["turns"]]
    span = {"least": min(ratios), "most": max(ratios)}
    return call | {"loop": median(loop), "seconds": median(ours), "ratio": times(loop, ours)} | span


def checks(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neither is slower than looping over modules."""
    rows = [(f"{c['call']} of {c['members']:,} members, times the loop", c["ratio"]) for c in calls]
    return [check(name, "≥ 1", f"{ratio:.2f}", ratio >= 1) for name, ratio in rows]


def tables(calls: Sequence[dict[str, Any]]) -> list[Table]:
    """One table of both."""
    return table(
        "Scores and outputs of a whole split, on one thread, against looping over modules that are made already",
        "workload: {workload} | call: {call} | K: {members:,} | samples: {samples:,} | loop s: {loop:.2f} | "
        "seconds: {seconds:.2f} | × loop: {ratio:.2f} × | range: {least:.2f}–{most:.2f} | target: ≥ 1",
        calls,
    )
