"""The population's side: the step that the plan chose, called as ``fit`` calls it."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from benchmarks.workloads import Workload
from modelspace import Adam, losses
from modelspace.data import Data, epoch_indices
from modelspace.engine import Function, Lowering, Plan, choose_plan
from modelspace.fit.step import Shard, make_step
from modelspace.optimizers import hyper_columns


class Training:
    """Shards of a population in steady state: the plan is made, the program compiled.

    Args:
        workload: Network and batch size.
        data: Its data.
        members: K.
        steps: The updates of the run that the plan is chosen for; a long run repays compiling.
    """

    def __init__(self, workload: Workload, data: Data, members: int, steps: int):
        self._batch = workload.batch
        self._inputs, self._labels = data.train.inputs, data.train.labels
        space = workload.space()
        self.dimension = space.dimension
        self._population = space.sample(seeds=range(members))
        self._seeds = torch.arange(members)
        self._loss, self._optimizer = losses.resolve("cross_entropy"), Adam(lr=1e-3)
        self._columns = hyper_columns(self._optimizer, {}, members)
        self._function = Function(space)
        self._next_member = 0
        self.plan: Plan
        self.plan, self._step = choose_plan(
            self._build, members, steps, key=(space, self._loss, self._optimizer, True)
        )

    def seconds(self, steps: int) -> float:
        """The time of so many steps of the next shard, batches gathered inside it, after two that warm up."""
        shard = self._shard(self._rows(self.plan.chunk))
        factor = torch.ones(self.plan.chunk, 1, dtype=torch.float64)
        numbers = torch.arange(steps + 2)
        curve = torch.empty(steps + 2, self.plan.chunk, dtype=torch.float64)
        stream = self._batches()
        began = 0.0
        for i in range(steps + 2):
            if i == 2:
                began = time.perf_counter()
            inputs, labels = next(stream)
            curve[i] = self._step(*shard.arguments(factor, numbers[i], inputs, labels))
        return time.perf_counter() - began

    def _build(self, lowering: Lowering, chunk: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        step = make_step(self._function, self._loss, self._optimizer, lowering, own_batches=False)
        shard = self._shard(torch.arange(chunk))
        inputs, labels = next(self._batches())
        factor = torch.ones(chunk, 1, dtype=torch.float64)
        return step, shard.arguments(factor, torch.tensor(0), inputs, labels)

    def _rows(self, chunk: int) -> Tensor:
        rows = torch.arange(self._next_member, self._next_member + chunk) % len(self._population)
        self._next_member += chunk
        return rows

    def _shard(self, rows: Tensor) -> Shard:
        points = self._population.points[rows]
        return Shard(
            points,
            {name: value[rows] for name, value in self._population.buffers.items()},
            self._optimizer.init(points),
            torch.ones(len(rows), dtype=torch.bool),
            torch.zeros(len(rows), dtype=torch.int64),
            {name: value[rows] for name, value in self._columns.items()},
            self._seeds[rows],
        )

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in count():
            for index in epoch_indices(len(self._inputs), self._batch, seed=0, epoch=epoch):
                yield self._inputs[index], self._labels[index]
