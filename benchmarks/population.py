"""The population's side: the step that the plan chose, in the very loop that ``fit`` runs.

It reaches for ``fit``'s own parts, so that what is timed can't drift from what is used; only the scoring
after each epoch is left out, as it is on the loop's side.
"""

import time
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from benchmarks.workloads import Workload
from modelspace import Adam
from modelspace.data import Data
from modelspace.engine import Plan, choose_plan, using_threads
from modelspace.fit import loop
from modelspace.fit.recipe import make_recipe


class Training:
    """Shards of a population in steady state: the plan is made, the program compiled.

    Args:
        workload: Network and batch size.
        data: Its data.
        members: K.
        steps: The updates of the run that the plan is chosen for; a long run repays compiling.

    Attributes:
        plan: The plan.
        dimension: n.
    """

    def __init__(self, workload: Workload, data: Data, members: int, steps: int):
        population = workload.space().sample(seeds=range(members))
        recipe = make_recipe(
            loss="cross_entropy",
            optimizer=Adam(lr=1e-3),
            schedule=None,
            epochs=1,
            batch_size=workload.batch,
            clip_norm=None,
            clip_value=None,
            data_seed=0,
            metrics_=[],
            early_stopping=None,
        )
        self._training = loop.Training(population, data, recipe)
        self._members, self._next = members, 0
        self.dimension = population.space.dimension
        self.plan: Plan
        self.plan, self._step = choose_plan(self._training._build, members, steps)

    def milliseconds(self, steps: int) -> float:
        """The time a step and member over at least so many steps of the next shard, gathering batches too."""
        training = self._training
        chunk = self.plan.chunk
        rows = torch.arange(self._next, self._next + chunk) % self._members
        self._next += chunk
        shard = training._shard(rows)
        epochs = ceil(steps / training.steps)
        training.recipe = replace(training.recipe, epochs=epochs)
        with using_threads(self.plan.threads):
            began = time.perf_counter()
            training._train(shard, rows, self._step, _Unscored(), chunk, lambda amount: None)
            seconds = time.perf_counter() - began
        return seconds * 1e3 / (epochs * training.steps * chunk)


class _Unscored:
    """Stands where ``fit`` scores members after an epoch."""

    names = ()

    def __call__(self, points: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        return torch.empty(len(points), 0)
