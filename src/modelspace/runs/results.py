"""What a fit has found so far: points, curves and states of all members, filled shard by shard."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modelspace.engine import process_index, shared
from modelspace.population import Population
from modelspace.runs.keep import BestOf, Keep
from modelspace.runs.settings import setting_numbers, words
from modelspace.runs.shards import InTraining, Needs, Outcome


class Shapes(NamedTuple):
    """What an outcome that is read from a file is held against.

    Attributes:
        curves: Their names.
        epochs: The most that they have.
        dimension: n; None where points are not kept.
        buffers: By name, one member's shape.
    """

    curves: Sequence[str]
    epochs: int
    dimension: int | None
    buffers: Mapping[str, tuple[int, ...]]


class Results:
    """The outcome of every member, in memory that worker processes may share.

    Args:
        population: The members before training, which stays as it is.
        names: Of the curves.
        epochs: Their length.
        keep: Whose points are kept.
        processes: How many processes write into it; 1 for this one alone.

    Attributes:
        history: By name, ``[K, epochs]``, NaN where a member made no such epoch.
        states: Codes of ``Status``, ``[K]``.
        steps: Updates made, ``[K]``.
        groups: Each member's group: those that differ in nothing but their seeds are one.
        shapes: What is read from a file has these.
    """

    def __init__(
        self, population: Population, names: Iterable[str], epochs: int, keep: Keep, *, processes: int
    ):
        own: Callable[[Tensor], Tensor] = shared if processes > 1 else torch.clone
        members = len(population)
        curve = torch.full((members, epochs), torch.nan, dtype=torch.float64)
        self.history = {name: own(curve) for name in names}
        space = population.space
        kept = (space.dimension, space.buffer_shapes) if keep.best != 0 else (None, {})
        self.shapes = Shapes(tuple(self.history), epochs, *kept)
        self.states = own(torch.zeros(members, dtype=torch.int8))
        self.steps = own(torch.zeros(members, dtype=torch.int64))
        self.groups = setting_numbers(population.table)
        self.keep = keep
        self._before = population
        if keep.best is None:
            self._points = own(population.points)
            self._buffers = {name: own(value) for name, value in population.buffers.items()}
        elif keep.best:
            self._best = BestOf(keep, self.groups, population.space, own, processes)

    def missing(self) -> list[list[int]]:
        """The members that are left to train, those together that belong together."""
        return [list(range(len(self.states)))]

    @property
    def needs(self) -> Needs:
        """What it reads of a finished course."""
        return "scores" if self.keep.best == 0 else "points"

    def adopted(self, rows: Sequence[int]) -> bool:
        """Whether a shard was found finished."""
        return False

    def begun(self, rows: Sequence[int]) -> dict[str, Tensor] | None:
        """Where a shard was put down: nowhere, since nothing is written down here."""
        return None

    def pause(self, rows: Sequence[int], course: InTraining) -> None:
        """A moment at which a shard could be put down."""

    def finished(self, rows: Sequence[int], course: InTraining) -> None:
        """Take in a finished shard."""
        self.write(rows, course.outcome(len(rows)))

    def settle(self, rows: Sequence[int]) -> None:
        """Told, in the process that began, of every finished shard."""

    def write(self, rows: Sequence[int], outcome: Outcome, positions: np.ndarray | None = None) -> None:
        """Take in an outcome.

        Args:
            rows: The members that it is about.
            outcome: Theirs.
            positions: Of the members whose points and buffers it holds; all where None.
        """
        index = np.asarray(rows)
        where = torch.from_numpy(index)
        for name, values in outcome.curves.items():
            self.history[name][where, : values.shape[1]] = values
        self.steps[where] = outcome.steps
        if self.keep.best is None:
            self._points[where.to(self._points.device)] = outcome.points.to(self._points.device)
            for name, value in self._buffers.items():
                value[where.to(value.device)] = outcome.buffers[name].to(value.device)
        elif self.keep.best:
            if positions is None:
                positions = self.keep.chosen(self.groups[index], outcome)
                outcome = outcome._replace(
                    points=outcome.points[positions],
                    buffers={name: value[positions] for name, value in outcome.buffers.items()},
                )
            self._best.write(index, positions, outcome, process_index())
        self.states[where] = outcome.states  # last: from here on the members count as done

    def undone(self, rows: Sequence[int]) -> list[int]:
        """The members among these that are not finished."""
        return [row for row in rows if not self.states[row]]

    def kept(self) -> tuple[np.ndarray, Population]:
        """Which members' points are kept, and they themselves; with all, those not yet trained too."""
        population = self._before
        if self.keep.best is None:
            everyone = Population(population.space, self._points, self._buffers, population.table.copy())
            return np.arange(len(population)), everyone
        if self.keep.best:
            return self._best.kept(population.space, population.table)
        return np.zeros(0, dtype=np.int64), population[[]]

    @property
    def status(self) -> np.ndarray:
        """Each member's state by name."""
        return words(self.states.numpy())
