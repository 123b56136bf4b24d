"""What a fit has so far: states, curves and points of all members, in memory that worker processes may share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.population import Population, Stack
from modelspace.processes import process_index, shared
from modelspace.runs.records import Records
from modelspace.runs.settings import Status, setting_numbers
from modelspace.runs.shards import Needs, Result, Shapes
from modelspace.space import ModelSpace
from modelspace.tensorfile import DamagedError


@dataclass(frozen=True)
class Keep:
    """Whose points a run keeps.

    Attributes:
        best: So many of each setting, by the last validation score; None for all, 0 for none.
        monitor: The curve whose last value is the score.
        sign: 1 where less is better, −1 where more is.
        records: Whether what is recorded is kept in memory, where there is no folder.
    """

    best: int | None
    monitor: str
    sign: float
    records: bool = False

    @classmethod
    def of(cls, keep: str | int, curves: list[str], higher_is_better: Iterable[str]) -> "Keep":
        """Return what was asked for: ``"all"``, ``"scores"`` or the number to keep of each setting.

        Args:
            keep: What was asked for.
            curves: Their names; the last is the one that judges.
            higher_is_better: Those of them of which more is better.

        Raises:
            ModelspaceError: anything else.
        """
        monitor = curves[-1]
        sign = -1.0 if monitor in higher_is_better else 1.0
        if keep in ("all", "scores"):
            return cls(None if keep == "all" else 0, monitor, sign)
        if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
            return cls(keep, monitor, sign)
        raise ModelspaceError(
            f"keep is 'all', 'scores' or a number of members for each setting; received {keep!r}"
        )

    @property
    def needs(self) -> Needs:
        """What is read of a finished shard that is not written down."""
        return "scores" if self.best == 0 else "points"

    def scores(self, result: Result) -> np.ndarray:
        """Each member's score, the less the better; infinite where the member does not count."""
        last = last_values(result.curves[self.monitor].numpy()) * self.sign
        well = np.isin(result.states.numpy(), (Status.FINISHED.code, Status.STOPPED.code))
        return np.where(well & np.isfinite(last), last, np.inf)

    def chosen(self, settings: np.ndarray, result: Result) -> Result:
        """Return a shard's result with the points of those members alone that it by itself would keep.

        Args:
            settings: Each member's setting.
            result: The shard's, with all points.
        """
        if self.best is None:
            return result
        scores = self.scores(result)
        order = np.argsort(scores, kind="stable")
        rank = pd.Series(settings[order]).groupby(settings[order]).cumcount().to_numpy()
        kept = torch.from_numpy(np.sort(order[(rank < self.best) & np.isfinite(scores[order])]))
        buffers = {name: value[kept] for name, value in result.buffers.items()}
        return result._replace(kept=kept, points=result.points[kept], buffers=buffers)


def last_values(values: np.ndarray) -> np.ndarray:
    """Return each row's last number that is not NaN."""
    known = ~np.isnan(values)
    position = values.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    return np.where(known.any(axis=1), values[np.arange(len(values)), position], np.nan)


class Results:
    """The result of every member.

    Args:
        population: The members before training, which stays as it is.
        curves: Their names.
        epochs: Their length.
        keep: Whose points are kept.
        processes: How many processes write into it; 1 for this one alone.

    Attributes:
        space: The members'.
        history: By name, ``[K, epochs]``, NaN where a member made no such epoch.
        states: Codes of ``Status``, ``[K]``.
        steps: Updates made, ``[K]``.
        settings: Each member's setting, by number.
        records: What was recorded.
    """

    def __init__(
        self, population: Population, curves: Iterable[str], epochs: int, keep: Keep, *, processes: int = 1
    ):
        own: Callable[[Tensor], Tensor] = shared if processes > 1 else torch.clone
        self.space = population.space
        members = len(population)
        nothing = torch.full((members, epochs), torch.nan, dtype=torch.float64)
        self._curves = {name: own(nothing) for name in curves}
        self.states = own(torch.zeros(members, dtype=torch.int8))
        self.steps = own(torch.zeros(members, dtype=torch.int64))
        self.settings = setting_numbers(population.table)
        self.keep, self._before, self._epochs = keep, population, epochs
        self.records = Records(members)
        self._stores: list[_All | _Best] = []
        if keep.best is None:
            self._stores = [_All(stack.mapped(own)) for stack in population.stacks]
        elif keep.best:
            self._stores = [
                _Best(rows, space, self.settings[rows], keep.best, processes, own)
                for rows, space in population.spaces
            ]

    def shapes(self, rows: np.ndarray) -> Shapes:
        """Return what is read of these members from a file of theirs.

        Raises:
            DamagedError: they are points of several spaces, of which no shard is.
        """
        parts = self._before.spaces if self.keep.best != 0 else []
        for there, space in parts:
            if len(parts) == 1 or np.isin(rows, there).all():
                return Shapes(list(self._curves), self._epochs, space.dimension, space.buffer_shapes)
        if parts:
            raise DamagedError("its members are points of several spaces")
        return Shapes(list(self._curves), self._epochs)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """By name, ``[K, epochs]``, NaN where a member made no such epoch."""
        return {name: values.numpy() for name, values in self._curves.items()}

    def unfinished(self, rows: Iterable[int]) -> list[int]:
        """The members among these that are not finished."""
        return [row for row in rows if not self.states[row]]

    def write(self, rows: np.ndarray, result: Result) -> None:
        """Take in what became of some members, whose points are those that are kept of them."""
        where = torch.from_numpy(rows)
        for name, values in result.curves.items():
            self._curves[name][where, : values.shape[1]] = values
        self.steps[where] = result.steps
        for store in self._stores:
            if len(self._stores) == 1 or rows[0] in store.rows:
                store.write(rows, result, self.keep.scores)
        self.states[where] = result.states  # last: from here on the members count as done

    def kept(self) -> tuple[np.ndarray, Population]:
        """Which members' points are kept, and they themselves; with all, those not yet trained too."""
        before = self._before
        held = [stack for store in self._stores if len((stack := store.kept()).rows)]
        rows = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(stack.rows for stack in held)]))
        if not len(rows):
            return rows, before[[]]
        stacks = [replace(stack, rows=np.searchsorted(rows, stack.rows)) for stack in held]
        return rows, Population.from_stacks(before.space, stacks, before.table.iloc[rows])


class _All:
    """The points of all members of one space."""

    def __init__(self, stack: Stack):
        self.rows, self._stack = stack.rows, stack

    def write(self, rows: np.ndarray, result: Result, scores: object) -> None:
        """Take in the points of some members."""
        points, buffers = self._stack.points, self._stack.buffers
        where = torch.from_numpy(self._stack.at(rows))
        points[where.to(points.device)] = result.points.to(points)
        for name, value in buffers.items():
            value[where.to(value.device)] = result.buffers[name].to(value)

    def kept(self) -> Stack:
        """Return them, not yet trained ones too."""
        return self._stack


class _Best:
    """The points of the best few members of each setting of one space, for each process a part of its own."""

    def __init__(
        self,
        rows: np.ndarray,
        space: ModelSpace,
        settings: np.ndarray,
        best: int,
        processes: int,
        own: Callable[[Tensor], Tensor],
    ):
        self.rows, self._number = rows, best
        _, self._settings = np.unique(settings, return_inverse=True)
        shape = (processes, int(self._settings.max(initial=0)) + 1, best)
        self._best = own(torch.full(shape, -1, dtype=torch.int64))
        self._scores = own(torch.full(shape, torch.inf, dtype=torch.float64))
        self._points = own(torch.zeros(*shape, space.dimension, dtype=space.dtype))
        self._buffers = {
            name: own(value.detach().cpu().expand(*shape, *value.shape).clone())
            for name, value in space.buffers_of(space.template).items()
        }

    def write(self, rows: np.ndarray, result: Result, scores: Callable[[Result], np.ndarray]) -> None:
        """Put the members of a shard that are better than what is here into their place."""
        own, writer = scores(result), process_index()
        settings = self._settings[np.searchsorted(self.rows, rows)]
        for i, position in enumerate(result.kept.tolist()):
            setting, candidate = int(settings[position]), (own[position], rows[position])
            held = zip(
                self._scores[writer, setting].tolist(), self._best[writer, setting].tolist(), strict=True
            )
            worst, known = max(enumerate(held), key=lambda each: each[1])
            if candidate < known:
                place = writer, setting, worst
                self._scores[place], self._best[place] = float(own[position]), int(rows[position])
                self._points[place] = result.points[i].cpu()
                for name, value in self._buffers.items():
                    value[place] = result.buffers[name][i].cpu()

    def kept(self) -> Stack:
        """Return the best of all processes."""
        held = pd.DataFrame({"member": self._best.flatten().numpy(), "score": self._scores.flatten().numpy()})
        # A process that ended between two writes may have left a member that another wrote again.
        held = (
            pd.DataFrame(held[held["member"] >= 0]).sort_values(["score", "member"]).drop_duplicates("member")
        )
        settings = self._settings[np.searchsorted(self.rows, held["member"])]
        best = held.groupby(settings, sort=False).head(self._number).sort_values("member")
        place, rows = torch.from_numpy(best.index.to_numpy(copy=True)), best["member"].to_numpy(copy=True)
        points, *buffers = (value.flatten(0, 2)[place] for value in (self._points, *self._buffers.values()))
        return Stack(rows, points, dict(zip(self._buffers, buffers, strict=True)))
