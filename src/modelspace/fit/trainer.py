"""``Trainer``: the step of a fit by itself, for a loop of one's own.

Reinforcement learning, data that arrive as they are made, training of populations with exchange: where ``fit``'s loop
over epochs does not fit, what is below it is used as it is. Every call computes all members.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from modelspace import data as datasets
from modelspace.data import Data, Split
from modelspace.engine import Scoring, using_threads
from modelspace.errors import ModelspaceError, the_users_told
from modelspace.fit.options import Options
from modelspace.fit.plan import measured, program
from modelspace.fit.precision import coordinates_in, products_in
from modelspace.fit.settings import made
from modelspace.fit.step import Shard, settled
from modelspace.fit.task import prepare
from modelspace.fit.train import start
from modelspace.nest import Nest, described, on
from modelspace.population import Population
from modelspace.space import samples_as


class Trainer:
    """All members of a population, trained batch by batch as the caller says.

    Args:
        population: K members, on the device where they are to be trained.
        batch: One batch, as ``step`` will be given, for an example.
        **settings: As of ``fit``, where they say what a step is: loss or objective, optimizer, schedule, precision,
            clipping, plan. ``steps`` is how many there will be, which a schedule that looks ahead needs.

    Raises:
        ModelspaceError: batch, loss, columns or architecture do not fit each other; or a schedule needs ``steps``.

    Attributes:
        plan: How members are computed.
        steps: Calls of ``step`` so far.
        values: What the objective named beside its loss at the last step, ``[K]`` each.

    Example:
        >>> import torch
        >>> import modelspace as ms
        >>> x, y = torch.randn(32, 4), torch.randint(3, (32,))
        >>> population = ms.ModelSpace(torch.nn.Linear, in_features=4, out_features=3).sample(seeds=8, lr=[0.1])
        >>> trainer = ms.Trainer(population, (x, y), optimizer="sgd")
        >>> first = trainer.step((x, y))
        >>> bool((trainer.step((x, y)) < first).all())
        True
    """

    @the_users_told()
    def __init__(self, population: Population, batch: Any, **settings: Any):
        options = made(Options, settings, "a trainer")
        if options.record:
            raise ModelspaceError("a trainer records nothing: read trainer.population between its steps")
        if options.transform is not None:
            raise ModelspaceError(
                "a trainer's batches are its caller's: transform them before step, not by transform="
            )
        example = _split(batch)
        data = Data("batch", example, example.take(slice(0)), example.take(slice(0)))
        population = coordinates_in(options.precision, population)
        parts = population.parts()
        if len(parts) > 1:
            raise ModelspaceError(
                "a trainer's members are of one space: train each part of the population by itself"
            )
        recipe = replace(options.resolved(population, data), batch_size=len(example), early_stopping=None)
        task = self._task = prepare(parts[0][1], data, recipe)
        if options.steps is None and not task.can_go_on:
            raise ModelspaceError(
                f"the schedule {recipe.schedule} depends on the number of steps: give steps="
            )
        self.plan, step = measured(task, {"compile": False, "workers": 1, **options.plan})
        self._step = program(task, self.plan, step).step
        self.steps, self.values = 0, {}
        members = len(task.population)
        self._rows = [
            [min(row, members - 1) for row in range(first, first + self.plan.shard)]
            for first in range(0, members, self.plan.shard)
        ]
        self._tasks = [task.of_shard(rows) for rows in self._rows]
        self._shards = [start(own, rows).shard for own, rows in zip(self._tasks, self._rows, strict=True)]

    def __len__(self) -> int:
        return len(self._task.population)

    @property
    def population(self) -> Population:
        """The members as they are now."""
        before, optimizer = self._task.population, self._task.coefficients.optimizer
        points = self._joined(lambda shard: optimizer.evaluated(shard.points, shard.state))
        buffers = {name: self._joined(lambda shard, n=name: shard.buffers[n]) for name in before.buffers}
        return Population(before.space, points, buffers, before.table)

    @property
    def active(self) -> Tensor:
        """Which members are still trained, ``[K]``: one whose loss or point was not finite is frozen where it was."""
        return self._joined(lambda shard: shard.active)

    def step(self, batch: Any) -> Float[Tensor, "member"]:
        """Make one update of every member.

        Args:
            batch: What a data set would give: ``(inputs, labels)``, a tensor, a nest; the same for all members.

        Returns:
            The loss of each member before its update.

        Raises:
            ModelspaceError: the batch has other parts, shapes or types than the example.
        """
        inputs, labels = self._taken(batch)
        number = torch.tensor([self.steps], device=self._task.device)
        stepped = []
        with using_threads(self.plan.threads), products_in(self._task.recipe.precision):
            for i, (own, shard) in enumerate(zip(self._tasks, self._shards, strict=True)):
                total = max(self._task.updates, self.steps + 1)
                c = own.coefficients.of(own.columns, number, total, shard.points.dtype)
                stepped.append(self._step(shard, c[0], number[0], (inputs, labels)))
                self._shards[i] = settled(stepped[-1], shard)
        self.steps += 1
        members = len(self)
        self.values = {n: torch.cat([s.also[n] for s in stepped])[:members] for n in stepped[0].also}
        return torch.cat([each.losses for each in stepped])[:members]

    def score(self, batch: Any) -> dict[str, Float[Tensor, "member"]]:
        """Score every member in evaluation mode: the loss, what an objective names, the metrics.

        Args:
            batch: The samples, as ``step`` takes them; of any number.
        """
        inputs, labels = self._taken(batch)
        task, plan = self._task, self.plan
        scores = task.scores
        scoring = Scoring(
            task.function, scores, inputs, labels, plan, 1, task.population[[0]], task.recipe.batch_size
        )
        now = self.population
        parts = []
        for own, rows in zip(self._tasks, self._rows, strict=True):
            index = torch.tensor(rows, device=task.device)
            held = {name: value[index] for name, value in now.buffers.items()}
            parts.append(scoring(now.points[index], held, own.terms))
        values = torch.cat(parts)[: len(self)]
        return dict(zip(scoring.names, values.unbind(1), strict=True))

    def replace(self, rows: Sequence[int], points: Float[Tensor, "row parameter"], **columns: Any) -> None:
        """Put other points in the place of some members', with their optimizer's state begun anew.

        Args:
            rows: Which members.
            points: Their points, ``[rows, n]``; of other members, ``trainer.population.points[best]``.
            columns: New values of hyper-parameters for them, ``lr=[…]``.

        Raises:
            ModelspaceError: there are not as many points, or a column is none that the population has.
        """
        before = self.population
        index = np.asarray(rows, dtype=int).reshape(-1)
        if tuple(points.shape) != (len(index), before.space.dimension):
            raise ModelspaceError(
                f"{len(index)} members of {before.space.title} are {len(index)}×{before.space.dimension} numbers; "
                f"received {tuple(points.shape)}"
            )
        table = before.table.copy()
        for name, values in columns.items():
            if name not in table:
                raise ModelspaceError(
                    f"column {name}: the population has {', '.join(map(str, table.columns))}"
                )
            table.loc[index, name] = values
        given = {int(row): i for i, row in enumerate(index)}
        whole = Population(before.space, self._joined(lambda shard: shard.points), before.buffers, table)
        self._task = self._task.of(whole, self._task.seeds)
        self._tasks = [self._task.of_shard(own) for own in self._rows]
        for i, own in enumerate(self._rows):
            here = [(k, given[row]) for k, row in enumerate(own) if row in given]
            if here:
                at = torch.tensor([k for k, _ in here], device=points.device)
                self._shards[i] = self._begun(self._shards[i], at, points[[j for _, j in here]])

    def _begun(self, shard: Shard, at: Tensor, points: Tensor) -> Shard:
        """A shard with other points at some places, where the optimizer begins."""
        moved = shard.points.clone()
        moved[at] = points.to(moved)
        fresh = self._task.coefficients.init(moved)
        state = {name: value.clone() for name, value in shard.state.items()}
        for name, value in state.items():
            value[at] = fresh[name][at]
        active = shard.active.clone()
        active[at] = True
        return shard._replace(points=moved, state=state, active=active)

    def _joined(self, part: Callable[[Shard], Tensor]) -> Tensor:
        return torch.cat([part(shard) for shard in self._shards])[: len(self)].clone()

    def _taken(self, batch: Any) -> tuple[Nest, Nest]:
        """Inputs and labels of a batch, on the device."""
        split = _split(batch)
        first = self._task.data.train
        for kind, here, there in (
            ("inputs", split.inputs, first.inputs),
            ("labels", split.labels, first.labels),
        ):
            if described(here) != described(there):
                raise ModelspaceError(
                    f"the batch's {kind} are {described(here)}, the example's {described(there)}"
                )
        device = self._task.device
        return on(device, samples_as(split.inputs, self._task.population.space.dtype)), on(
            device, split.labels
        )


def _split(batch: Any) -> Split:
    return batch if isinstance(batch, Split) else datasets.load(batch, splits=(1.0, 0.0, 0.0)).train
