"""``barriers``: how far the loss rises on the straight lines between every two of K points, all lines at once."""

import os
import time
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib import import_module
from math import sqrt
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace import data as datasets
from modelspace.data import Data
from modelspace.engine import goal_of, members_scores, own_rows, terms_of
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.geometry._statistics import has_statistics, recomputed
from modelspace.losses import Loss, Objectives
from modelspace.nest import on
from modelspace.population import Population
from modelspace.runs import Run, Status
from modelspace.show import number
from modelspace.space import samples_as

# Columns of a line's points; no architecture can have arguments of these names.
_FROM, _TO, _AT = "line from", "line to", "line at"
_KINDS = ("chord", "worse", "recomputed_chord", "recomputed_worse")


class Share(NamedTuple):
    """How many pairs have a barrier above a threshold.

    Attributes:
        value: Their share of the pairs.
        low: Of the exact binomial 95 % interval, as if pairs were independent. They share members: it is too narrow.
        high: Its other end.
        n: Pairs.
        error: Standard error by the jackknife over members, which are independent; NaN of fewer than 3.
    """

    value: float
    low: float
    high: float
    n: int
    error: float


@dataclass(frozen=True, repr=False)
class Barriers:
    """How far the loss rises between every two of K members.

    ``chord`` is the largest rise above the linear interpolation of the losses of the ends (Frankle et al. 2020);
    ``worse``, above the worse end. Both are at least 0, and of the points looked at: lower bounds of the line's own.

    Attributes:
        title: Of what.
        data: The data's name.
        split: Whose loss it is.
        loss: The loss's name.
        members: K rows; of a run, ``member`` is the row there.
        pairs: A row a pair: ``a`` and ``b``, rows of ``members``; ``chord``, ``worse``; ``recomputed_chord``,
            ``recomputed_worse`` with normalisation statistics of each point's own. NaN where a loss on the way is.
        path: t, from 0 (a) to 1 (b).
        losses: ``[pair, step]``, with interpolated statistics; None where only recomputed ones were asked for.
        recomputed: The same with statistics recomputed at each point; None where there are none, or not asked for.
        seconds: That it took.
        notes: What was left out, and why.

    Source:
        Frankle et al., "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020.
    """

    title: str
    data: str
    split: str
    loss: str
    members: pd.DataFrame
    pairs: pd.DataFrame
    path: tuple[float, ...]
    losses: np.ndarray | None
    recomputed: np.ndarray | None
    seconds: float
    notes: tuple[str, ...]

    @property
    def kinds(self) -> list[str]:
        """The barriers that were measured; the first is meant where none is named."""
        return [name for name in _KINDS if name in self.pairs]

    @property
    def mean(self) -> float:
        """Over the pairs, of the first kind."""
        return self._mean(self._of(None))

    @property
    def sd(self) -> float:
        """Over the pairs, of the first kind: how much pairs differ, no error of the mean."""
        return float(self.table["sd"].iloc[0])

    @property
    def error(self) -> float:
        """The standard error of ``mean`` for other members of this kind."""
        return float(self.table["error"].iloc[0])

    @property
    def n(self) -> int:
        """Pairs with a barrier, of the first kind."""
        return int(self.table["n"].iloc[0])

    @property
    def table(self) -> pd.DataFrame:
        """A row a kind of barrier: mean over pairs, its error over members, SD over pairs, extremes, n.

        The error is the jackknife's over members, each left out with all its pairs; pairs are not independent.
        """
        rows = []
        for kind in self.kinds:
            values = self._of(kind)
            known = values[~np.isnan(values)]
            sd = float(known.std(ddof=1)) if len(known) > 1 else np.nan
            ends = (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
            rows.append((self._mean(values), self._jackknife(values), sd, *ends, len(known)))
        columns = ["mean", "error", "sd", "least", "largest", "n"]
        return pd.DataFrame(rows, index=pd.Index(self.kinds, name="barrier"), columns=columns)

    def probability(self, threshold: float, kind: str | None = None) -> Share:
        """Return the share of pairs whose barrier is above a threshold, P(barrier > ε).

        Args:
            threshold: ε, in the loss's unit.
            kind: Which barrier.
        """
        from scipy.stats import binomtest

        values = self._of(kind)
        above = np.where(np.isnan(values), np.nan, values > threshold)
        count = int((~np.isnan(above)).sum())
        if not count:
            return Share(np.nan, 0.0, 1.0, 0, np.nan)
        interval = binomtest(int(np.nansum(above)), count).proportion_ci(0.95)
        ends = float(interval.low), float(interval.high)
        return Share(self._mean(above), *ends, count, self._jackknife(above))

    def matrix(self, kind: str | None = None) -> Float64[np.ndarray, "member member"]:
        """Return the barrier between every two members, 0 on the diagonal.

        Args:
            kind: Which barrier.
        """
        found = np.zeros((len(self.members), len(self.members)))
        a, b = self.pairs["a"].to_numpy(), self.pairs["b"].to_numpy()
        found[a, b] = found[b, a] = self._of(kind)
        return found

    def clusters(self, threshold: float, kind: str | None = None) -> Int64[np.ndarray, "member"]:
        """Return each member's cluster, 0, 1, …: those joined by pairs whose barrier is at most a threshold.

        Two members of one cluster may have a higher barrier between them, with lower ones by way of others.

        Args:
            threshold: In the loss's unit.
            kind: Which barrier.
        """
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        _, labels = connected_components(csr_matrix(self.matrix(kind) <= threshold), directed=False)
        return labels.astype(np.int64)

    def report(
        self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None
    ) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        shown = self.table.to_string(float_format=number)
        return "\n".join([self.title, shown, *self._said()])

    def _repr_html_(self) -> str:
        shown = self.table.to_html(float_format=number)
        said = "".join(f"<p>{escape(line)}</p>" for line in self._said())
        return f"<div><p>{escape(self.title)}</p>{shown}{said}</div>"

    def _said(self) -> list[str]:
        pairs, members = len(self.pairs), len(self.members)
        about = f"{pairs:,} pairs of {members:,} members share them: sd is that of pairs, error that over members."
        return [about, *self.notes]

    def _of(self, kind: str | None) -> np.ndarray:
        kind = self.kinds[0] if kind is None else kind
        if kind not in self.kinds:
            raise unknown_name("barrier", kind, self.kinds)
        return self.pairs[kind].to_numpy(np.float64)

    def _mean(self, values: np.ndarray) -> float:
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else np.nan

    def _jackknife(self, values: np.ndarray) -> float:
        """The standard error of a mean over pairs, a member with all its pairs left out at a time."""
        a, b, count = self.pairs["a"].to_numpy(), self.pairs["b"].to_numpy(), len(self.members)
        if count < 3:
            return np.nan
        left = np.array([self._mean(values[(a != k) & (b != k)]) for k in range(count)])
        return sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))


def barriers(
    points: Population | Run,
    data: Any,
    *,
    loss: Any = None,
    objective: Any = None,
    split: str = "train",
    steps: int = 21,
    statistics: Literal["both", "kept", "recomputed"] = "both",
) -> Barriers:
    """Measure the loss on the straight lines between every two of K members, all K(K − 1)/2 as one population.

    Its rows are made when they are computed: memory is that of K members and of one shard, however many pairs.

    Args:
        points: K ≥ 2 members of one space; of a run, those whose points were kept and that did not diverge.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        loss: As of ``evaluate``: cross-entropy where nothing is given, or the members' column ``loss``.
        objective: In place of a loss.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        steps: Points of each line, both ends included.
        statistics: Of normalisation layers, between two points: ``"kept"``, interpolated as parameters are;
            ``"recomputed"`` from the training inputs at each point; ``"both"``. The same where there are no such
            layers.

    Returns:
        The barriers, with their error over members.

    Raises:
        ModelspaceError: fewer than 2 members or 3 steps, members of several spaces or losses, or a point that is
            not finite.

    Example:
        >>> import modelspace as ms
        >>> space = ms.ModelSpace(torch.nn.Linear, in_features=4, out_features=3)
        >>> data = ms.data.load((torch.randn(80, 4), torch.arange(80) % 3))
        >>> found = barriers(space.sample(seeds=4), data)
        >>> found.n, bool(found.pairs["worse"].max() < 1e-6)  # the loss is convex
        (6, True)
    """
    began = time.perf_counter()
    if statistics not in ("both", "kept", "recomputed"):
        raise unknown_name("statistics", statistics, ("both", "kept", "recomputed"))
    if steps < 3:
        raise ModelspaceError(f"a line has its 2 ends and a point between at least; received steps={steps}")
    data = datasets.load(data)
    population, members, notes = _ended(points)
    ends = _ends(population)
    goal = goal_of(ends, data, loss, objective)
    shared = _shared_columns(ends, goal, data)
    path = np.linspace(0, 1, steps)
    a, b = np.triu_indices(len(ends), 1)
    own = np.arange(len(ends))
    table = pd.DataFrame(
        {
            _FROM: np.concatenate([own, a.repeat(steps - 2)]),
            _TO: np.concatenate([own, b.repeat(steps - 2)]),
            _AT: np.concatenate([np.zeros(len(ends)), np.tile(path[1:-1], len(a))]),
        }
    ).assign(**shared)
    rows = Population.from_rows(ends.space, table, partial(_between, ends), ends.device)
    pairs, measured = {"a": a, "b": b}, {}
    again = has_statistics(ends.space)
    for name in ("kept", "recomputed"):
        wanted = statistics in ("both", name) if again else name == "kept"
        if wanted:
            values = losses_of(rows if name == "kept" else recomputed(rows, data), data, split, goal)
            first, last, inside = values[a], values[b], values[len(ends) :].reshape(len(a), steps - 2)
            found = measured[name] = np.column_stack([first, inside, last])
            chord = first[:, None] + path * (last - first)[:, None]
            prefix = "" if name == "kept" else "recomputed_"
            pairs[f"{prefix}chord"] = np.maximum((found - chord)[:, 1:-1].max(1), 0)
            pairs[f"{prefix}worse"] = np.maximum(inside.max(1) - np.maximum(first, last), 0)
    title = (
        f"Barriers between {len(ends):,} points of {ends.title} on {data.name} "
        f"({split} {goal.name}, {steps} points a line)"
    )
    frame = pd.DataFrame(pairs)
    if holes := int(frame.isna().any(axis=1).sum()):
        notes = (*notes, f"{holes:,} pairs have a loss on the way that is no number: they have no barrier.")
    return Barriers(
        title,
        data.name,
        split,
        goal.name,
        members,
        frame,
        tuple(path.tolist()),
        measured.get("kept"),
        measured.get("recomputed"),
        time.perf_counter() - began,
        notes,
    )


def losses_of(rows: Population, data: Data, split: str, goal: Loss) -> Float64[np.ndarray, "row"]:
    """Return the loss of every row on a split, shard by shard.

    Args:
        rows: Points, made when they are asked for perhaps.
        data: The data.
        split: Which part of it.
        goal: The loss; its hyper-parameters may be columns of the rows.
    """
    part = data.part(split)
    inputs = on(rows.device, samples_as(part.inputs, rows.space.dtype))
    labels, own = on(rows.device, part.labels), own_rows(rows, data, split)
    found = members_scores(rows, inputs, labels, {"loss": goal}, terms_of(rows, goal), samples=own)
    return found[:, 0].double().cpu().numpy()


def _ended(points: Population | Run) -> tuple[Population, pd.DataFrame, tuple[str, ...]]:
    """Members, their table, and what to say of those of a run that were not kept or did not end well."""
    if isinstance(points, Population):
        return points, points.table, ()
    well = np.isin(points.status[points.kept], (Status.FINISHED, Status.STOPPED))
    population, rows = points.population[well], points.kept[well]
    members, out = population.table.copy(), len(points.members) - len(rows)
    members.insert(0, "member", rows)
    said = f"{out:,} of the run's {len(points.members):,} members are left out: diverged, unfinished or not kept."
    return population, members, (said,) if out else ()


def _ends(population: Population) -> Population:
    """The members as points of their one space, all finite."""
    if len(population) < 2:
        raise ModelspaceError(f"a barrier is between 2 members at least; received {len(population)}")
    parts = population.parts()
    if len(parts) > 1:
        raise ModelspaceError(
            f"the members are points of {len(parts)} spaces, between which there is no line: take those of one, "
            "population.query(…)"
        )
    ends = parts[0][1]
    astray = torch.nonzero(~ends.points.isfinite().all(1))[:, 0].tolist()
    if astray:
        which = ", ".join(map(str, astray[:5]))
        raise ModelspaceError(
            f"the points of members {which} are not finite: leave them out, population[rows]"
        )
    return ends


def _shared_columns(ends: Population, goal: Loss, data: Data) -> dict[str, Any]:
    """The columns on which a row's loss depends, which are the same for all members."""
    if isinstance(goal, Objectives):
        raise ModelspaceError("members have several objectives: take those of one, population.query(…)")
    names = {*goal.hyperparameters(), "loss", *(("task",) if data.tasks else ())} & set(ends.table)
    for name in sorted(names):
        if ends.table[name].nunique(dropna=False) > 1:
            raise ModelspaceError(
                f"members have a {name} of their own, and a line between two has none: take those of one, "
                f"population.query('{name} == …'), or drop it, population.without_columns('{name}')"
            )
    return {name: ends.table[name].iloc[0] for name in names}


def _between(ends: Population, table: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
    """Return points of lines, and buffers: floating-point ones are interpolated too."""
    at = [torch.from_numpy(table[name].to_numpy(copy=True)).to(ends.device) for name in (_FROM, _TO, _AT)]

    def between(of_ends: Tensor) -> Tensor:
        if not (of_ends.is_floating_point() or of_ends.is_complex()):
            return of_ends[at[0]]
        weight = at[2].to(of_ends.dtype).view(-1, *[1] * (of_ends.dim() - 1))
        return torch.lerp(of_ends[at[0]], of_ends[at[1]], weight)

    return between(ends.points), {name: between(value) for name, value in ends.buffers.items()}
