"""Which members' points a run keeps: all, the best few of each group, or none."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.population import Population
from modelspace.runs.settings import Status
from modelspace.runs.shards import Outcome
from modelspace.space import ModelSpace

_COUNTED = (Status.FINISHED.code, Status.STOPPED.code)


@dataclass(frozen=True)
class Keep:
    """How many points are kept.

    Attributes:
        best: Of each group, by the last validation score; None for all, 0 for none.
        monitor: The curve whose last value is the score.
        sign: 1 where less is better, −1 where more is.
    """

    best: int | None
    monitor: str
    sign: float

    def chosen(self, groups: np.ndarray, outcome: Outcome) -> np.ndarray:
        """The positions within a shard of the members that it alone would keep, in order.

        Args:
            groups: Each member's group.
            outcome: The shard's.
        """
        if self.best is None:
            return np.arange(len(groups))
        scores = self.scores(outcome)
        order = np.argsort(scores, kind="stable")
        rank = pd.Series(groups[order]).groupby(groups[order]).cumcount().to_numpy()
        counted = np.isfinite(scores[order])
        return np.sort(order[(rank < self.best) & counted])

    def scores(self, outcome: Outcome) -> np.ndarray:
        """Each member's score, the less the better; infinite where the member does not count."""
        last = last_values(outcome.curves[self.monitor].numpy()) * self.sign
        counted = np.isin(outcome.states.numpy(), _COUNTED) & np.isfinite(last)
        return np.where(counted, last, np.inf)


def resolve(keep: str | int, metrics: list[str], higher_is_better: list[str]) -> Keep:
    """``"all"``, ``"scores"`` or the number to keep of each group.

    Args:
        keep: What was asked for.
        metrics: The names of the validation curves, the loss first; the last is the one that judges.
        higher_is_better: Those of them of which more is better.

    Raises:
        ModelspaceError: anything else.
    """
    monitor = metrics[-1]
    sign = -1.0 if monitor in higher_is_better else 1.0
    if keep in ("all", "scores"):
        return Keep(None if keep == "all" else 0, monitor, sign)
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return Keep(keep, monitor, sign)
    raise ModelspaceError(
        f"keep is 'all', 'scores' or a number of members for each setting; received {keep!r}"
    )


def last_values(values: np.ndarray) -> np.ndarray:
    """Each row's last number that is not NaN."""
    known = ~np.isnan(values)
    position = values.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    return np.where(known.any(axis=1), values[np.arange(len(values)), position], np.nan)


class BestOf:
    """The best few members of each group, in room made beforehand, which may be shared with other processes.

    Args:
        keep: How many.
        groups: Each member's group.
        space: Their space.
        own: Makes a tensor's room, as ``torch.clone`` does.
        writers: Processes that write, each into a part of its own.
    """

    def __init__(
        self,
        keep: Keep,
        groups: np.ndarray,
        space: ModelSpace,
        own: Callable[[Tensor], Tensor],
        writers: int,
    ):
        self._keep, self._groups = keep, groups
        shape = (writers, int(groups.max()) + 1, keep.best or 0)
        self._members = own(torch.full(shape, -1, dtype=torch.int64))
        self._scores = own(torch.full(shape, torch.inf, dtype=torch.float64))
        self._points = own(torch.zeros(*shape, space.dimension, dtype=space.dtype))
        buffers = space.buffers_of(space.template)
        self._buffers = {
            name: own(value.detach().cpu().expand(*shape, *value.shape).clone())
            for name, value in buffers.items()
        }

    def write(self, rows: np.ndarray, positions: np.ndarray, outcome: Outcome, writer: int) -> None:
        """Take in the members of a shard that are better than what is here.

        Args:
            rows: The shard's members.
            positions: Of the candidates among them; the outcome's points and buffers are theirs.
            outcome: The shard's.
            writer: Whose part.
        """
        scores = self._keep.scores(outcome)
        for i, position in enumerate(positions):
            group, candidate = int(self._groups[rows[position]]), (scores[position], rows[position])
            held = zip(
                self._scores[writer, group].tolist(), self._members[writer, group].tolist(), strict=True
            )
            worst, (score, member) = max(enumerate(held), key=lambda each: each[1])
            if candidate < (score, member):
                self._scores[writer, group, worst] = float(scores[position])
                self._members[writer, group, worst] = int(rows[position])
                self._points[writer, group, worst] = outcome.points[i].cpu()
                for name, value in self._buffers.items():
                    value[writer, group, worst] = outcome.buffers[name][i].cpu()

    def kept(self, space: ModelSpace, table: pd.DataFrame) -> tuple[np.ndarray, Population]:
        """The best of all writers: which members they are, and they themselves."""
        members = self._members.flatten().numpy()
        held = pd.DataFrame({"member": members, "score": self._scores.flatten().numpy()})
        # A process that ended between two writes may have left a member that another wrote again.
        held = pd.DataFrame(held[held["member"] >= 0])
        held = held.sort_values(["score", "member"]).drop_duplicates("member")
        best = held.groupby(self._groups[held["member"]], sort=False).head(self._keep.best or 0)
        best = best.iloc[np.argsort(best["member"].to_numpy())]
        place = torch.from_numpy(best.index.to_numpy(copy=True))
        rows = best["member"].to_numpy(copy=True)
        buffers = {name: value.flatten(0, 2)[place] for name, value in self._buffers.items()}
        return rows, Population(space, self._points.flatten(0, 2)[place], buffers, table.iloc[rows])
