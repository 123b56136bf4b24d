"""A search against the truth: ``python -m benchmarks.search``.

A grid of settings of an MLP family is trained whole, every setting with many seeds, on three data sets: the truth.
Each sampler is replayed against it. Its *regret* is the best setting's mean test score less that of the one that it
chooses, its *curse* the score by which it chose less that setting's true mean on validation: in points of accuracy.

  ours     batches × seeds as one population, TPE, a race of the best: what ``ms.search`` does
  optuna   Optuna's own TPE, a trial at a time, of one seed; the best score wins
  random   the same with settings at random

Seconds are those of training. Ours are measured, ``ms.search`` runs for real. Optuna's and random's are their number
of networks times the seconds of the plain PyTorch loop for one, in a process that is warm already, which is kind to
them; '× seconds' is what they need until their regret (median over replays) is no larger than ours, over ours.

At last 64 MLPs of one to three blocks with rates and decays of their own in one run, on data made up in the size of
California housing (20,640 × 8): seconds and score. TabPack (arXiv 2607.05380) trains as many on the real data.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from sklearn import datasets
from torch import nn

import modelspace as ms
from benchmarks.machine import RESULTS, environment, file_name
from benchmarks.tables import draw, table
from modelspace.reference import train
from modelspace.search import Trial, parameters_of
from modelspace.search._suggest import Suggester
from modelspace.search.hunt import hunt

EPOCHS, BATCH = 20, 32
RECIPE: dict[str, Any] = {"optimizer": "adamw", "epochs": EPOCHS, "batch_size": BATCH}
FULL = {
    "width": [4, 8, 16, 32, 64],
    "depth": [1, 2],
    "lr": ms.logspace(1e-4, 1e-1, 10),
    "weight_decay": [0.0, *ms.logspace(1e-4, 1e-1, 4)],
}
QUICK = {"width": [4, 16], "depth": [1, 2], "lr": ms.logspace(1e-4, 1e-1, 6), "weight_decay": [0.0, 1e-2]}
SETS = ("digits", "wine", "breast_cancer")
ASKED = {"trials": 128, "batch": 32, "alike": 8, "seeds": 2, "race": 8}
FEW = {**ASKED, "trials": 24, "batch": 12, "alike": 6}


class MLP(nn.Module):
    """Hidden layers of one width, each followed by a ReLU."""

    def __init__(self, inputs: int = 64, width: int = 16, depth: int = 1, classes: int = 10):
        super().__init__()
        sizes = [inputs, *[width] * depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def loaded(name: str) -> tuple[ms.ModelSpace, Any]:
    """A set of scikit-learn's, standardised, in three parts; and the space for its samples."""
    found = getattr(datasets, f"load_{name}")()
    x = (found.data - found.data.mean(0)) / (found.data.std(0) + 1e-9)
    data = ms.data.load((torch.tensor(x, dtype=torch.float32), torch.tensor(found.target)), seed=0)
    inputs, classes = x.shape[1], int(found.target.max()) + 1
    return ms.ModelSpace(MLP, input_shape=(inputs,), inputs=inputs, classes=classes), data


def truth(space: ms.ModelSpace, data: Any, grid: dict[str, list[Any]], seeds: int) -> dict[str, Any]:
    """Train the whole grid: scores ``[setting, seed]`` on both splits, and the seconds of it."""
    settings, scores = [], {"validation": [], "test": []}
    began = time.perf_counter()
    for width, depth in product(grid["width"], grid["depth"]):
        own = space.variant(width=width, depth=depth)
        columns = {"lr": grid["lr"], "weight_decay": grid["weight_decay"]}
        run = ms.fit(own.sample(seeds, **columns), data, **RECIPE)
        tested = ms.evaluate(run.population, data, ["accuracy"])["accuracy"].to_numpy()
        seen = run.table["validation_accuracy"].to_numpy()
        for values, name in ((seen, "validation"), (tested, "test")):
            whole = np.where(run.status == "diverged", np.nan, values)
            scores[name] += whole.reshape(-1, seeds).tolist()
        for lr, decay in product(grid["lr"], grid["weight_decay"]):
            settings.append({"width": width, "depth": depth, "lr": lr, "weight_decay": decay})
    return {"settings": settings, **scores, "seconds": time.perf_counter() - began}


class Truth:
    """What was trained, asked for by setting and seed."""

    def __init__(self, made: dict[str, Any]):
        self.rows = {self.key(setting): i for i, setting in enumerate(made["settings"])}
        self.validation, self.test = (np.nan_to_num(np.array(made[n])) for n in ("validation", "test"))
        self.best = self.test.mean(1).max()

    @staticmethod
    def key(setting: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(setting[name] for name in ("width", "depth", "lr", "weight_decay"))

    def regret(self, setting: dict[str, Any]) -> float:
        return float(100 * (self.best - self.test[self.rows[self.key(setting)]].mean()))

    def curse(self, setting: dict[str, Any], seen: float) -> float:
        return float(100 * (seen - self.validation[self.rows[self.key(setting)]].mean()))


def ours(known: Truth, grid: dict[str, list[Any]], asked: dict[str, int], seed: int) -> dict[str, float]:
    """One replay of the whole search, its seeds drawn from the truth's."""
    order = np.random.default_rng(seed).permutation(known.validation.shape[1])

    def look_up(name: str, pairs: Sequence[tuple[Trial, int]], epochs: int) -> None:
        for trial, own in pairs:
            trial.scores[own] = known.validation[known.rows[known.key(trial.setting)], order[own]]
            trial.epochs = epochs

    study = Suggester(parameters_of(grid), "tpe", seed, [True], asked["batch"])
    found, close = hunt(study, lambda _: {}, look_up, True, own=("width", "depth"), ends=[EPOCHS], **asked)
    best = found[close[0]]
    told = {"regret": known.regret(best.setting), "curse": known.curse(best.setting, best.score)}
    return {**told, "members": sum(len(trial.scores) for trial in found)}


def one_by_one(known: Truth, grid: dict[str, list[Any]], sampler: str, seed: int, most: int) -> list[Any]:
    """Regret and curse of the best so far, after each of so many trials of one seed, by Optuna's defaults."""
    drawn, path, seen, best = np.random.default_rng(seed), [], -1.0, {}
    made = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler](seed=seed)
    study = optuna.create_study(direction="maximize", sampler=made)
    for _ in range(most):
        trial = study.ask()
        setting = {name: values[trial.suggest_int(name, 0, len(values) - 1)] for name, values in grid.items()}
        score = float(drawn.choice(known.validation[known.rows[known.key(setting)]]))
        study.tell(trial, score)
        if score > seen:
            seen, best = score, setting
        path.append((known.regret(best), known.curse(best, seen)))
    return path


def one_network(space: ms.ModelSpace, data: Any, grid: dict[str, list[Any]]) -> float:
    """Seconds of the plain loop for one network: the mean over architectures, of the second of two runs."""
    found = []
    steps = EPOCHS * (len(data.train) // BATCH)
    for width, depth in product(grid["width"], grid["depth"]):
        for _ in range(2):
            module = space.variant(width=width, depth=depth).draw(0)
            began = time.perf_counter()
            train(
                module, data.train.inputs, data.train.labels, nn.functional.cross_entropy,
                lambda p: torch.optim.AdamW(p, lr=1e-3), steps=steps, batch_size=BATCH,
            )  # fmt: skip
            taken = time.perf_counter() - began
        found.append(taken)
    return float(np.mean(found))


def question(
    name: str, grid: dict[str, list[Any]], asked: dict[str, int], seeds: int, replays: int, runs: int
) -> dict[str, Any]:
    """Everything about one data set."""
    space, data = loaded(name)
    made = truth(space, data, grid, seeds)
    known = Truth(made)
    replayed = [ours(known, grid, asked, seed) for seed in range(replays)]
    most = min(512, 2 * len(made["settings"]))
    real, curves = [], {}
    for sampler in ("tpe", "random"):
        curves[sampler] = np.array([one_by_one(known, grid, sampler, seed, most) for seed in range(replays)])
    for seed in range(runs):
        found = ms.search(space, data, over=grid, search_seed=seed, fresh_seeds=2, **asked, **RECIPE)
        real.append({"seconds": found.seconds - found.fresh.seconds, "regret": known.regret(found.best)})
    each, mine = one_network(space, data, grid), float(np.median([r["regret"] for r in replayed]))
    seconds = float(np.median([r["seconds"] for r in real]))
    row: dict[str, Any] = {"data": name, "settings": len(made["settings"]), "seeds": seeds, "real": real}
    row |= {"truth_seconds": made["seconds"], "seconds": seconds, "network_seconds": each}
    row |= {f"ours{n}": quartiles([r[k] for r in replayed]) for n, k in (("", "regret"), ("_curse", "curse"))}
    row["members"] = float(np.mean([r["members"] for r in replayed]))
    for sampler, curve in curves.items():
        middle = np.median(curve[:, :, 0], axis=0)
        there = np.flatnonzero(middle <= mine)
        row[sampler] = {
            "trials": int(there[0]) + 1 if len(there) else None,
            "ratio": float((there[0] + 1 if len(there) else most) * each / seconds),
            "at_64": quartiles(curve[:, min(64, most) - 1, 0]),
            "last": quartiles(curve[:, -1, 0]),
            "curse": quartiles(curve[:, min(64, most) - 1, 1]),
            "curve": np.quantile(curve[:, :, 0], [0.25, 0.5, 0.75], axis=0).round(3).tolist(),
        }
    return row


def quartiles(values: Any) -> list[float]:
    return np.quantile(values, [0.25, 0.5, 0.75]).round(3).tolist()


def housing(epochs: int, samples: int) -> dict[str, Any]:
    """64 MLPs in one run."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(samples, columns, generator=generator) for columns in (8, 1))
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + x[:, 3:4].abs() + 0.3 * noise
    data = ms.data.load((x, (y - y.mean()) / y.std()), seed=0)
    drawn = np.random.default_rng(0)
    rates, decays = 10 ** drawn.uniform(-3.5, -2, 64), 10 ** drawn.uniform(-5, -1, 64)
    members = {"seed": range(64), "depth": np.arange(64) % 3 + 1, "lr": rates, "weight_decay": decays}
    space = ms.ModelSpace(MLP, input_shape=(8,), inputs=8, width=128, classes=1)
    population = ms.Population.from_seeds(space, pd.DataFrame(members))
    run = ms.fit(population, data, loss="mse", optimizer="adamw", epochs=epochs, batch_size=256)
    best = int(run.table["validation_loss"].argmin())
    test = ms.evaluate(run.population, data, ["loss"], loss="mse")["loss"].to_numpy()
    found = {"members": 64, "samples": samples, "epochs": epochs, "seconds": run.seconds}
    scores = {"r2": float(1 - test[best]), "r2_possible": float(1 - 0.3**2 / y.var())}
    return {**found, **scores, "best": run.members.iloc[best].to_dict()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small grid on one set: a minute or two")
    parser.add_argument("--out", type=Path, help="the result file (default: in benchmarks/results, by date)")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    small = options.quick
    names, *how = (SETS[1:2], QUICK, FEW, 8, 8, 1) if small else (SETS, FULL, ASKED, 32, 50, 5)
    rows = [question(name, *how) for name in names]
    house = housing(2 if small else 50, 2000 if small else 20640)
    draw("", shown(rows, house), width=170)
    where = environment()
    path = options.out or RESULTS / file_name(where).replace(".json", "-search.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"environment": where, "asked": how[1], "sets": rows, "housing": house}
    path.write_text(json.dumps(made, indent=1) + "\n")
    sys.stdout.write(f"written to {path}\n")
    return 0


def shown(rows: Sequence[dict[str, Any]], house: dict[str, Any]) -> list[Any]:
    columns = (
        "data: {data} | grid: {settings} × {seeds} | ours: {ours[1]:.2f} | curse: {ours_curse[1]:.2f} | "
        "networks: {members:.0f} | seconds: {seconds:.1f} | optuna, 64: {tpe[at_64][1]:.2f} | its curse: "
        "{tpe[curse][1]:.2f} | trials to ours: {tpe[trials]} | × seconds: {tpe[ratio]:.1f} | "
        "random, 64: {random[at_64][1]:.2f} | × seconds : {random[ratio]:.1f}"
    )
    note = "medians over replays; trials None: not within those replayed, and the ratio is a lower bound"
    told = (
        "members: {members} | samples: {samples} | epochs: {epochs} | seconds: {seconds:.1f} | "
        "R² of the best: {r2:.4f} | possible: {r2_possible:.4f}"
    )
    found = table("Regret against the truth", columns, rows, note)
    return [*found, *table("MLPs in the size of California housing", told, [house])]


if __name__ == "__main__":
    sys.exit(main())
