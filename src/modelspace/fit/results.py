"""What a fit has found so far: points, curves and states of all members, filled shard by shard."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelspace.engine.workers import shared
from modelspace.fit.step import Shard
from modelspace.population import Population

UNFINISHED, FINISHED, DIVERGED, STOPPED = "unfinished", "finished", "diverged", "stopped early"
STATES = (UNFINISHED, FINISHED, DIVERGED, STOPPED)


@dataclass
class Results:
    """The outcome of every member, in memory that worker processes may share.

    Attributes:
        population: The members, trained where their shard is done.
        history: By name, ``[K, epochs]``, NaN where a member made no such epoch.
        states: Positions in ``STATES``, ``[K]``.
        steps: Updates made, ``[K]``.
    """

    population: Population
    history: dict[str, Tensor]
    states: Tensor
    steps: Tensor

    @classmethod
    def empty(
        cls, population: Population, names: Iterable[str], epochs: int, *, processes: bool
    ) -> "Results":
        """Room for the results of a fit of ``population``, which stays as it is.

        Args:
            population: The members before training.
            names: Of the curves.
            epochs: Their length.
            processes: Whether other processes write into it.
        """
        own = shared if processes else torch.clone
        members = len(population)
        trained = Population(
            population.space,
            own(population.points),
            {name: own(value) for name, value in population.buffers.items()},
            population.table.copy(),
        )
        curve = torch.full((members, epochs), torch.nan, dtype=torch.float64)
        states = torch.zeros(members, dtype=torch.int8)
        steps = torch.zeros(members, dtype=torch.int64)
        return cls(trained, {name: own(curve) for name in names}, own(states), own(steps))

    def write(
        self, start: int, stop: int, shard: Shard, curves: dict[str, np.ndarray], stopped: Tensor
    ) -> None:
        """Take in members ``start … stop − 1`` of a finished shard."""
        rows, real = slice(start, stop), slice(0, stop - start)
        self.population.points[rows] = shard.points[real]
        for name, value in shard.buffers.items():
            self.population.buffers[name][rows] = value[real]
        for name, values in curves.items():
            self.history[name][rows] = torch.from_numpy(values[real])
        self.steps[rows] = shard.steps[real].cpu()
        ended = torch.where(shard.active, STATES.index(FINISHED), STATES.index(DIVERGED))
        self.states[rows] = torch.where(stopped, STATES.index(STOPPED), ended)[real].cpu().to(torch.int8)

    def is_done(self, start: int, stop: int) -> bool:
        """Whether these members' shard is finished."""
        return bool((self.states[start:stop] > 0).all())

    @property
    def status(self) -> np.ndarray:
        """Each member's state by name."""
        return np.array(STATES, dtype=object)[self.states.numpy()]
