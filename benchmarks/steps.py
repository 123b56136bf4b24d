"""A training step in steady state: loop, population and peers by turns, the matrix product beside every turn."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import modelspace as ms
from benchmarks import plain
from benchmarks.machine import in_fresh_process, product_gflops
from benchmarks.peers import running
from benchmarks.tables import check, table, times
from benchmarks.workloads import WORKLOADS, Settings, Workload
from modelspace.data import Data
from modelspace.fit import Recipe, measured, prepare
from modelspace.progress import progress


def measure(names: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Time workloads, each in a process of its own: every repeat's raw numbers and their summary."""
    return [in_fresh_process("steps:turns", name=name, **asdict(settings)) for name in names]


def turns(**given: Any) -> dict[str, Any]:
    """In a fresh process: one workload, and the settings."""
    workload, settings = WORKLOADS[given.pop("name")], Settings(**given)
    data, device, seconds = workload.data(), settings.device, settings.turn_seconds
    repeats = []
    with progress(f"timing {workload.name}", settings.repeats + 2, "turns") as advance:
        loop = plain.Steps(workload.network, workload.batches(data, device=device), device)
        members = Members(workload, data, settings)
        advance(1)
        sizes = {"torch.func": {"members": settings.ensemble_members}, "jax": {"sizes": settings.jax_members}}
        sizes |= {"processes": {"steps": settings.member_steps}}
        asked = {peer: sizes[peer] for peer in settings.peers}
        with running(asked, workload.network, workload.batches(data), device) as peers:
            advance(1)
            for seed in range(settings.repeats):
                loop_ms, population_ms = loop.milliseconds(seconds, seed), members.milliseconds(seconds)
                for peer in peers:
                    peer.turn(seconds)
                limit = product_gflops(seconds / 4, device)
                repeats.append({"loop_ms": loop_ms, "population_ms": population_ms, "limit_gflops": limit})
                advance(1)
            results = [peer.result for peer in peers]
    population = members.population
    own = sum(t.nbytes for t in (population.points, *population.buffers.values()))
    shared = sum(t.nbytes for t in population.space.shared.values())
    found = {"workload": workload.name, "dimension": population.space.dimension, "batch": workload.batch}
    found |= {"members": settings.members, "flop": step_flop(workload, data), "peers": results}
    found |= {"targets": workload.targets(device), "plan": asdict(members.plan), "repeats": repeats}
    return summarised(found | {"member_bytes": own // len(population), "shared_bytes": shared})


def summarised(steps: dict[str, Any]) -> dict[str, Any]:
    """The raw numbers and their summary: medians over the repeats.

    A ratio is of one repeat, whose sides met the same neighbours on the machine; the useful rate over the matrix
    product's likewise. What members share is counted once in their MiB, and K times in that of whole copies.
    """
    repeats, members = steps["repeats"], steps["members"]
    own, shared = steps["member_bytes"], steps["shared_bytes"]
    population = [r["population_ms"] for r in repeats]
    useful = [steps["flop"] / (r["population_ms"] * 1e6) / r["limit_gflops"] for r in repeats]
    ratios = [None if p["absent"] else times(p["milliseconds"], population) for p in steps["peers"]]
    return steps | {
        "peers": [p | {"ratio": ratio} for p, ratio in zip(steps["peers"], ratios, strict=True)],
        "loop_ms": median(r["loop_ms"] for r in repeats),
        "population_ms": median(population),
        "ratio": times([r["loop_ms"] for r in repeats], population),
        "fraction_of_limit": median(useful),
        "population_mib": (members * own + shared) / 2**20,
        "copies_mib": members * (own + shared) / 2**20,
    }


class Members:
    """Shards of a population in steady state, timed in the very ``fit`` that a user calls.

    The plan is the one for a run of ``run_steps`` updates, which repays compiling. Only the scores after each epoch
    are left out, as they are on the loop's side: the validation split is empty.
    """

    def __init__(self, workload: Workload, data: Data, settings: Settings):
        # Drawn now: a selection of drawn members is copied on the device, and no timed run draws its own.
        drawn = workload.space().sample(seeds=range(settings.members))
        if data.tasks:
            drawn = drawn.with_columns(task=[k % data.task_count for k in range(settings.members)])
        self.population = drawn.copy().to(settings.device)
        nothing = data.train.take(slice(0))
        tasks = {split: ids[: len(ids) * (split == "train")] for split, ids in data.tasks.items()}
        self._data = Data(data.name, data.train, nothing, nothing, tasks)
        self._settings = {"optimizer": ms.Adam(lr=plain.LR), "batch_size": workload.batch, **workload.fit}
        self._epoch = len(data.train) // (data.task_count * workload.batch)
        # As ``fit`` makes it for a run of so many epochs, which is not run.
        recipe = Recipe(epochs=ceil(settings.run_steps / self._epoch), metrics=(), **self._settings)
        recipe = recipe.resolved(self.population, self._data)
        self.plan = measured(prepare(self.population, self._data, recipe), {})[0]
        self._next, self._epochs = 0, 2
        self._seconds(epochs=1)  # warms up

    def milliseconds(self, seconds: float) -> float:
        """The time a step and member, over at least so many seconds of the next shards, one for each process.

        Two runs are made, a short and a long one, and their difference is what counts: so what a run costs once
        is left out, starting its processes above all, and gathering the batches is in it.
        """
        short = self._seconds(epochs=1)
        while (beyond := self._seconds(self._epochs) - short) < seconds:
            self._epochs *= 2
        steps = (self._epochs - 1) * self._epoch * self.plan.shard * self.plan.workers
        return beyond * 1e3 / steps

    def _seconds(self, epochs: int) -> float:
        rows = [(self._next + i) % len(self.population) for i in range(self.plan.shard * self.plan.workers)]
        self._next = rows[-1] + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is computed member by member stands in the table
            # Not epochs, of which each is as long as the member's own samples.
            how = {"steps": epochs * self._epoch, "plan": self.plan, **self._settings}
            run = ms.fit(self.population[rows], self._data, **how)
        return run.seconds - run.plan.seconds


def step_flop(workload: Workload, data: Data) -> int:
    """Useful floating-point operations of one network's step: the products of forward and backward.

    Counted on the plain step by ``torch.utils.flop_counter`` (a multiplication and an addition are two),
    which leaves out elementwise work, Adam's included. Fused attention and the fused LSTM, which it does not
    know, are taken apart for the count. Of a PINN the derivatives inside the objective are counted as well.
    """
    network = workload.architecture()
    batch, objective = workload.batches(data)[0], plain.OBJECTIVES[workload.network]
    counter, apart = FlopCounterMode(display=False), torch.backends.mkldnn.flags(enabled=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting the flags warns about a device that is not there
        with sdpa_kernel(SDPBackend.MATH), apart, counter:
            objective(network, batch).backward()
    return counter.get_total_flops()


def checks(steps: dict[str, Any]) -> list[dict[str, Any]]:
    """One check for every target that there is a number for."""
    jax = next((p["ratio"] for p in steps["peers"] if p["name"] == "jax"), None)
    figures = (
        ("times the plain loop", "loop", steps["ratio"], ".1f"),
        ("fraction of the limit", "limit", steps["fraction_of_limit"], ".2f"),
        ("times JAX", "jax", jax, ".2f"),
    )
    return [
        check(f"{steps['workload']}: {name}", f"≥ {wanted:g}", format(found, form), found >= wanted)
        for name, target, found, form in figures
        if (wanted := steps["targets"][target]) is not None and found is not None
    ]


def tables(recorded: Sequence[dict[str, Any]]) -> list[Table]:
    """Against loop and limit; against the peers; of processes, whole members; of adapters, memory."""
    rows = [_row(steps) for steps in recorded]
    absent = [(s["workload"], p) for s in recorded for p in s["peers"] if p["absent"]]
    return [
        *table(
            "Training step in steady state, milliseconds a step and member; medians",
            "workload: {workload} | K: {members:,} | loop: {loop_ms:.3f} | population: {population_ms:.4f} | "
            "× loop: {ratio:.1f} × | range: {least:.1f}–{most:.1f} | target: ≥ {targets[loop]:g} | "
            "MFLOP: {mflop:.2f} | limit GFLOP/s: {limit:.0f} | of limit: {fraction_of_limit:.2f} | "
            "target: ≥ {targets[limit]:g} | planning s: {plan[seconds]:.1f} | plan: {how}",
            rows,
        ),
        *table(
            "Peers in the same turns, milliseconds a step and member; × is how many times as fast the population is",
            "workload: {workload} | population: {population_ms:.4f} | torch.func: {torch_func[cell]} | "
            "K: {torch_func[members]:,} | ×: {torch_func[ratio]:.1f} × | JAX: {jax[cell]} | K: {jax[members]:,} | "
            "×: {jax[ratio]:.2f} × | target: ≥ {targets[jax]:g} | compiling s: {jax[compile_seconds]:.1f} | "
            "processes: {processes[cell]} | ×: {processes[ratio]:.1f} ×",
            [row for row in rows if row["peers"]],
            "\n".join(f"{workload}, {p['name']}: {p['absent']}" for workload, p in absent),
        ),
        *table(
            "One process a member, so many at once, one thread each; whole members a second",
            "workload: {workload} | steps a member: {processes[steps]} | at once: {processes[members]} | "
            "starting s: {processes[startup_seconds]:.1f} | starting left out: {processes[members_a_second]:.2f} | "
            "starting included: {processes[members_a_second_started]:.2f} | population: {members_a_second:.2f}",
            [row for row in rows if "members_a_second" in row],
        ),
        *table(
            "Adapters on one frozen base, MiB of parameters",
            "workload: {workload} | K: {members:,} | a member's own: {own:.3f} | shared: {shared:.2f} | "
            "population: {population_mib:.1f} | K full copies: {copies_mib:,.1f}",
            [row for row in rows if row["shared_bytes"]],
        ),
    ]


def _row(steps: dict[str, Any]) -> dict[str, Any]:
    """What the tables show of a workload, beside what was recorded; of an absent peer only that it is."""
    ratios = [r["loop_ms"] / r["population_ms"] for r in steps["repeats"]]
    row = steps | {"least": min(ratios), "most": max(ratios), "mflop": steps["flop"] / 1e6}
    row |= {"limit": median(r["limit_gflops"] for r in steps["repeats"])}
    row |= {"own": steps["member_bytes"] / 2**20, "shared": steps["shared_bytes"] / 2**20}
    for p in steps["peers"]:
        absent = "not installed" if "is not installed" in (p["absent"] or "") else "failed"
        name = p["name"].replace(".", "_")
        row[name] = {"cell": absent} if p["absent"] else p | {"cell": f"{p['ms']:.4f}"}
        if row[name].get("steps"):
            row["members_a_second"] = 1e3 / (steps["population_ms"] * p["steps"])
    return row
