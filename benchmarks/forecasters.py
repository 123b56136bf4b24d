"""A forecaster for each of ten thousand series: ``python -m benchmarks.forecasters``.

A series is made of its number alone: 60 to 400 values (log-uniform), a trend, a season of 6 to 30 steps whose shape
is two sines, and noise with a memory (AR(1)); standardised by its first four fifths. A forecaster, a GRU of 16 units
or an MLP, gives the next value from the last 12. Three sides:

- members: one call of ``modelspace.fit`` with a column ``task``, planning and a score after each epoch included;
- a process pool of the plain loop, as many processes as cores with one thread each, the same updates and scores:
  measured on a few dozen series after all processes have begun, and *extrapolated* to all;
- one pooled model of the same architecture, trained on all series together for ``--pooled`` times a member's updates
  of batch 256: its time, and its score beside the members' and that of the last value repeated (mean over series).
"""

import argparse
import os
import time
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import nn

import modelspace as ms
from benchmarks import plain

PAST, BATCH, LR = 12, 16, 1e-2


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(PAST, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))


MODELS = {"gru": plain.Forecaster, "mlp": mlp}


def windows(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one series, as samples: the last values, and the next."""
    random = np.random.default_rng(number)
    t = np.arange(int(np.exp(random.uniform(np.log(60), np.log(400)))))
    phase, period = random.uniform(0, 2 * np.pi, 2), random.uniform(6, 30)
    values = random.normal() * t / len(t) + np.sin(2 * np.pi * t / period + phase[0])
    values += random.uniform() * np.sin(4 * np.pi * t / period + phase[1])
    noise, memory = 0.2 * random.normal(size=len(t)), random.uniform(0, 0.8)
    for i in range(1, len(t)):
        noise[i] += memory * noise[i - 1]
    known = (values := values + noise)[: len(t) * 4 // 5]
    found = torch.tensor((values - known.mean()) / known.std()).float().unfold(0, PAST + 1, 1)
    return found[:, :PAST].contiguous(), found[:, PAST:].contiguous()


def trained(model: nn.Module, x: Any, y: Any, steps: int, batch: int, held: Any = None) -> nn.Module:
    """Train in a plain loop; score what is held back after each epoch."""
    optimizer, made = torch.optim.Adam(model.parameters(), lr=LR), 0
    while made < steps:
        rows = torch.randperm(len(x)).split(batch)[: max(1, len(x) // batch)][: steps - made]
        plain.train(model, optimizer, ((x[index], y[index]) for index in rows), plain.squared)
        made += len(rows)
        with torch.no_grad():
            held is None or plain.squared(model, held).item()
    return model


def one(job: tuple[str, int, int]) -> None:
    """Train one series' forecaster, in a process of the pool."""
    x, y = windows(job[1])
    cut = len(x) - round(0.2 * len(x))
    trained(MODELS[job[0]](), x[:cut], y[:cut], job[2], BATCH, (x[cut:], y[cut:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="gru")
    for name, value in (("members", 10_000), ("steps", 200), ("loops", 32), ("pooled", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    members, cores, load = given.members, len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{members:,} {given.model} forecasters of {given.steps} updates; {cores} cores, load {load:.1f}")
    data = ms.data.of_tasks(map(windows, range(members)), ordered=True, name="series")
    space = ms.ModelSpace(MODELS[given.model], input_shape=(PAST,))
    population, began = space.sample(seeds=[0], task=range(members), lr=[LR]), time.perf_counter()
    run = ms.fit(population, data, loss="mse", steps=given.steps, batch_size=BATCH)
    ours, jobs = time.perf_counter() - began, [(given.model, k, given.steps) for k in range(given.loops)]
    with get_context("spawn").Pool(cores, torch.set_num_threads, (1,)) as pool:
        pool.map(one, [(given.model, 0, 2)] * cores * 4, chunksize=1)  # all have begun
        began = time.perf_counter()
        pool.map(one, jobs, chunksize=1)
        theirs = (time.perf_counter() - began) / len(jobs) * members
    began = time.perf_counter()
    pooled = trained(space.draw(0), data.train.inputs, data.train.labels, given.pooled * given.steps, 256)
    alone = time.perf_counter() - began
    x, y, task = data.validation.inputs, data.validation.labels, torch.from_numpy(data.tasks["validation"])
    counts = torch.bincount(task, minlength=members)
    with torch.no_grad():
        errors = {"one pooled model": (pooled(x) - y)[:, 0], "last value": (x[:, -1:] - y)[:, 0]}
    scores = {n: (torch.bincount(task, e**2, members) / counts).mean().item() for n, e in errors.items()}
    scores["one model a series"] = float(run.table["validation_loss"].mean())
    for name, seconds in {"modelspace": ours, f"{cores} processes (extrapolated)": theirs}.items():
        print(f"  {name:28}{seconds:9.1f} s{3600 * members / seconds:12,.0f} members an hour")
    print(f"  {'one pooled model':28}{alone:9.1f} s")
    print("  mean squared error:", ", ".join(f"{n} {score:.3f}" for n, score in scores.items()))
    print(f"  {run.plan}")


if __name__ == "__main__":
    main()
