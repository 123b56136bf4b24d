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
from modelspace.engine import evaluate, goal_of
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.geometry._computed import goal_of_run, kept_of
from modelspace.geometry._statistics import normalised, recomputed
from modelspace.geometry.slices import finite
from modelspace.losses import Loss
from modelspace.population import Population
from modelspace.runs import Run
from modelspace.show import number

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
        return float(np.nanmean(self._of(None)))

    @property
    def error(self) -> float:
        """The standard error of ``mean``, with members as the unit: see ``table``."""
        return self._jackknife(self._of(None))

    @property
    def sd(self) -> float:
        """Over the pairs, of the first kind: how much pairs differ, no error of the mean."""
        return float(self.table["sd"].iloc[0])

    @property
    def n(self) -> int:
        """Pairs with a barrier, of the first kind."""
        return int(self.table["n"].iloc[0])

    @property
    def table(self) -> pd.DataFrame:
        """A row a kind of barrier: mean over pairs, its error, SD over pairs, extremes, n.

        The error is the jackknife's over members, each left out with all its pairs: pairs are not independent.
        """
        of = (
            pd.DataFrame({kind: self._of(kind) for kind in self.kinds})
            .agg(["mean", "std", "min", "max", "count"])
            .T
        )
        found = of.rename(columns={"std": "sd", "min": "least", "max": "largest", "count": "n"})
        found.insert(1, "error", [self._jackknife(self._of(kind)) for kind in self.kinds])
        return found.rename_axis("barrier").astype({"n": int})

    def probability(self, threshold: float, kind: str | None = None) -> Share:
        """Return the share of pairs whose barrier is above a threshold, in the loss's unit: P(barrier > ε)."""
        from scipy.stats import binomtest  # a second, which no import waits for

        values = self._of(kind)
        known = values[~np.isnan(values)]
        if not len(known):
            return Share(np.nan, 0.0, 1.0, 0, np.nan)
        above = int((known > threshold).sum())
        low, high = binomtest(above, len(known)).proportion_ci(0.95)
        error = self._jackknife(np.where(np.isnan(values), np.nan, values > threshold))
        return Share(above / len(known), float(low), float(high), len(known), error)

    def matrix(self, kind: str | None = None) -> Float64[np.ndarray, "member member"]:
        """Return the barrier of a kind between every two members, 0 on the diagonal."""
        found = np.zeros((len(self.members), len(self.members)))
        a, b = self.pairs["a"].to_numpy(), self.pairs["b"].to_numpy()
        found[a, b] = found[b, a] = self._of(kind)
        return found

    def clusters(self, threshold: float, kind: str | None = None) -> Int64[np.ndarray, "member"]:
        """Return each member's cluster, 0, 1, …: those joined by pairs whose barrier is at most a threshold.

        Two members of one cluster may have a higher barrier between them, with lower ones by way of others.
        """
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        _, labels = connected_components(csr_matrix(self.matrix(kind) <= threshold), directed=False)
        return labels.astype(np.int64)

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        return "\n".join([self.title, self.table.to_string(float_format=number), *self.notes])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(line)}</p>" for line in self.notes)
        return f"<div><p>{escape(self.title)}</p>{self.table.to_html(float_format=number)}{said}</div>"

    def _of(self, kind: str | None) -> np.ndarray:
        kind = self.kinds[0] if kind is None else kind
        if kind not in self.kinds:
            raise unknown_name("barrier", kind, self.kinds)
        return self.pairs[kind].to_numpy(np.float64)

    def _jackknife(self, values: np.ndarray) -> float:
        """The standard error of a mean over pairs, a member with all its pairs left out at a time."""
        a, b, count = self.pairs["a"].to_numpy(), self.pairs["b"].to_numpy(), len(self.members)
        left = [values[(a != k) & (b != k)] for k in range(count)]
        if any(np.isnan(own).all() for own in left):
            return np.nan
        return sqrt((count - 1) * float(np.var([np.nanmean(own) for own in left])))


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
        loss: As of ``evaluate``: cross-entropy where nothing is given, or the members' column ``loss``; of a run, its
            own.
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
    members, table, notes = _members(points)
    if isinstance(points, Run) and loss is None and objective is None:
        loss, objective = goal_of_run(points).values()
    goal = goal_of(members, data, loss, objective)
    path = np.linspace(0, 1, steps)
    a, b = np.triu_indices(len(members), 1)
    own = np.arange(len(members))
    rows = pd.DataFrame(
        {
            _FROM: np.concatenate([own, a.repeat(steps - 2)]),
            _TO: np.concatenate([own, b.repeat(steps - 2)]),
            _AT: np.concatenate([np.zeros(len(own)), np.tile(path[1:-1], len(a))]),
        }
    )
    lines = Population.from_rows(members.space, rows, partial(_between, members), members.device)
    lines = lines.without_columns(*rows).with_columns(**_shared(members, goal, data))
    pairs, measured = {"a": a, "b": b}, {}
    there = ("kept", "recomputed") if normalised(members.space) else ("kept",)
    for name in there:
        if len(there) > 1 and statistics not in ("both", name):
            continue
        points_of = lines if name == "kept" else recomputed(lines, data)
        scores = evaluate(points_of, data, ["loss"], loss=loss, objective=objective, split=split)
        values = scores.iloc[:, lines.table.shape[1]].to_numpy(np.float64)
        inside = values[len(own) :].reshape(len(a), steps - 2)
        found = measured[name] = np.column_stack([values[a], inside, values[b]])
        chord = found[:, :1] + path * (found[:, -1:] - found[:, :1])
        prefix = "" if name == "kept" else "recomputed_"
        pairs[f"{prefix}chord"] = (found - chord)[:, 1:-1].max(1).clip(min=0)
        pairs[f"{prefix}worse"] = found.max(1) - found[:, [0, -1]].max(1)
    frame = pd.DataFrame(pairs)
    if holes := int(frame.isna().any(axis=1).sum()):
        notes = (*notes, f"{holes:,} pairs have a loss on the way that is no number: they have no barrier.")
    title = f"Barriers between {len(own):,} points of {members.title} on {data.name} ({split} {goal.name})"
    losses = measured.get("kept"), measured.get("recomputed")
    seconds = time.perf_counter() - began
    return Barriers(
        title, data.name, split, goal.name, table, frame, tuple(path.tolist()), *losses, seconds, notes
    )


def _members(points: Population | Run) -> tuple[Population, pd.DataFrame, tuple[str, ...]]:
    """Finite members of one space, their table, and what to say of those of a run that are left out."""
    members, rows, left = kept_of(points)
    table, notes = members.table, [f"{said}." for said in left]
    if isinstance(points, Run):
        table = table.copy()
        table.insert(0, "member", rows)
    parts = members.parts()
    if len(parts) > 1:
        raise ModelspaceError(
            f"the members are points of {len(parts)} spaces, between which there is no line: take those of one, "
            "population.query(…)"
        )
    pairs = len(members) * (len(members) - 1) // 2
    notes = (
        f"{pairs:,} pairs share {len(members):,} members: sd is that of pairs, error that over members.",
        *notes,
    )
    return finite(parts[0][1], 2), table, notes


def _shared(members: Population, goal: Loss, data: Data) -> dict[str, Any]:
    """The columns on which a row's loss depends, which are the same for all members."""
    names = {*goal.hyperparameters(), "loss", "objective", *(("task",) if data.tasks else ())} & set(
        members.table
    )
    for name in sorted(names):
        if len(set(map(repr, members.table[name]))) > 1:
            raise ModelspaceError(
                f"members have a {name} of their own, and a line between two has none: take those of one, "
                f"population.query('{name} == …'), or drop it, population.without_columns('{name}')"
            )
    return {name: members.table[name].iloc[0] for name in names}


def _between(members: Population, table: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
    """Return points of lines, and buffers: floating-point ones are interpolated too."""
    at = [torch.from_numpy(table[name].to_numpy(copy=True)).to(members.device) for name in (_FROM, _TO, _AT)]

    def between(of_ends: Tensor) -> Tensor:
        if not (of_ends.is_floating_point() or of_ends.is_complex()):
            return of_ends[at[0]]
        weight = at[2].to(of_ends.dtype).view(-1, *[1] * (of_ends.dim() - 1))
        return torch.lerp(of_ends[at[0]], of_ends[at[1]], weight)

    return between(members.points), {name: between(value) for name, value in members.buffers.items()}
