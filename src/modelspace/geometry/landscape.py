"""``landscape``: the loss, and any metric, over lines and planes through trained points, of many points at once."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from modelspace import data as datasets
from modelspace.atomic import whole_file
from modelspace.data import Data
from modelspace.engine import goal_of
from modelspace.errors import ModelspaceError, the_users_told, unknown_name
from modelspace.geometry import slices
from modelspace.geometry._computed import goal_of_run, kept_of
from modelspace.geometry._ground import Ground, Scores, identity_of, range_of, refined_by
from modelspace.geometry._statistics import normalised
from modelspace.geometry.barriers import Barriers, barriers
from modelspace.geometry.slices import Slice, finite
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.population import Population
from modelspace.runs import Run
from modelspace.show import number

_PAIRED = 8  # members of one slice, whose 28 pairs are few

PLANES = ("random", "line", "seeds", "principal")


@dataclass(frozen=True, repr=False)
class Landscape:
    """Scores over a grid on one slice through points, or on a slice through each point with common axes.

    Attributes:
        title: The space's.
        data: The data's name.
        plane: The slices' kind.
        axes: The coordinates' names.
        grid: Each axis' values.
        values: By name, the split's before it (``train_loss``), ``[slice, *grid]``; NaN where a score is no number.
        refined: Points between those of the grid, where the surface bends: ``slice``, coordinates, values.
        marks: The members: ``slice``, ``member``, their columns, coordinates, ``distance`` from the slice, values.
        explained: The share of the members' variance along each principal axis; empty of other slices.
        barriers: Between the members of one slice, where they are few.
        statistics: Of normalisation layers: ``kept`` or ``recomputed``.
        evaluated: How many points were evaluated, on the way to the range too.
        holes: How many values of the grid are no finite number.
        seconds: Wall time of this call.
        notes: What a reader should know.
    """

    title: str
    data: str
    plane: str
    axes: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    values: dict[str, np.ndarray]
    refined: pd.DataFrame
    marks: pd.DataFrame
    explained: tuple[float, ...]
    barriers: Barriers | None
    statistics: str
    evaluated: int
    holes: int
    seconds: float
    notes: tuple[str, ...]

    def of(self, name: str | None = None) -> np.ndarray:
        """Return a score's values, ``[slice, *grid]``; the first split's loss where none is named."""
        name = next(iter(self.values)) if name is None else name
        if name not in self.values:
            raise unknown_name("score", name, self.values)
        return self.values[name]

    def mean(self, name: str | None = None) -> np.ndarray:
        """Return the mean over slices, ``[*grid]``; NaN where it is NaN on any."""
        return self.of(name).mean(0)

    def sd(self, name: str | None = None) -> np.ndarray:
        """Return the standard deviation over slices, ``[*grid]``; NaN of one slice."""
        values = self.of(name)
        return values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)

    def band(self, name: str | None = None, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the interval of the mean over slices by Student's t, low and high; NaN of one slice."""
        from scipy import stats  # two seconds, which nobody waits for who asks for no band

        count = len(self.of(name))
        t = stats.t.ppf((1 + level) / 2, count - 1) if count > 1 else np.nan
        reach = float(t) * self.sd(name) / count**0.5
        return self.mean(name) - reach, self.mean(name) + reach

    def above(self, threshold: float, name: str | None = None) -> np.ndarray:
        """Return the share of slices above a threshold, ``[*grid]``; NaN where one has no number."""
        values = self.of(name)
        return np.where(np.isnan(values).any(0), np.nan, (values > threshold).mean(0))

    def extrema(self, name: str | None = None) -> pd.DataFrame:
        """Return minima and saddle candidates of the grid: points of the slice, not of the space.

        A minimum is below all its neighbours. Around a saddle candidate, on a plane, the surface is above and below
        by turns, at least twice each. Points on the rim, or with a neighbour that is no number, are neither.
        """
        rows, values = [], self.of(name)
        around = [step for step in product((-1, 0, 1), repeat=len(self.axes)) if any(step)]
        circle = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
        for at in np.ndindex(*(max(0, len(axis) - 2) for axis in self.grid)):
            index = tuple(i + 1 for i in at)
            steps = circle if len(self.axes) == 2 else around
            places = [tuple(i + d for i, d in zip(index, step, strict=True)) for step in steps]
            rise = np.stack([values[:, *place] - values[:, *index] for place in places], 1)
            turns = (np.sign(rise) != np.sign(np.roll(rise, 1, 1))).sum(1)
            saddle = (len(self.axes) == 2) & (turns >= 4) & (rise != 0).all(1)
            for kind, found in (
                ("minimum", (rise > 0).all(1)),
                ("saddle", saddle & np.isfinite(rise).all(1)),
            ):
                for k in np.flatnonzero(found):
                    coordinates = {a: g[i] for a, g, i in zip(self.axes, self.grid, index, strict=True)}
                    rows.append({"kind": kind, "slice": k, **coordinates, "value": values[k, *index]})
        found = pd.DataFrame(rows, columns=pd.Index(["kind", "slice", *self.axes, "value"]))
        return found.sort_values(["slice", "kind", "value"], ignore_index=True)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a point of each slice: ``slice``, coordinates, whether ``refined``, values."""
        count = len(self.of())
        meshed = [m.ravel() for m in np.meshgrid(*self.grid, indexing="ij")]
        columns = {a: np.tile(m, count) for a, m in zip(self.axes, meshed, strict=True)}
        scores = {name: value.ravel() for name, value in self.values.items()}
        index = {"slice": np.arange(count).repeat(len(meshed[0]))}
        base = pd.DataFrame({**index, **columns, "refined": False, **scores})
        if not len(self.refined):
            return base
        return pd.concat([base, self.refined.assign(refined=True)], ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it, whole or not at all: ``.npz`` of axes, scores and marks, or the frame as Parquet.

        Raises:
            ModelspaceError: another suffix, or the place can't be written to.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".parquet":
            import_module("modelspace.export").write_table(self.frame, str(path))
            return
        if suffix != ".npz":
            raise ModelspaceError(
                f"'{path}' is no name of a landscape's data: it must end in .npz or .parquet"
            )
        marks = {f"marks.{n}": c.to_numpy() for n, c in self.marks.items()}
        texts = {n: v.astype(str) if v.dtype == object else v for n, v in marks.items()}
        axes = {axis: np.array(values) for axis, values in zip(self.axes, self.grid, strict=True)}
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **axes, **self.values, **texts)

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        shape = " × ".join(str(len(axis)) for axis in self.grid)
        ends = ", ".join(
            f"{a} {number(g[0])} to {number(g[-1])}" for a, g in zip(self.axes, self.grid, strict=True)
        )
        count = len(self.of())
        first = f"{self.title} on {self.data}: {self.plane}, {shape} points ({ends})"
        lines = [first + (f" of each of {count} members" if count > 1 else "")]
        for name, value in self.values.items():
            known = value[np.isfinite(value)]
            span = f"{number(known.min())} to {number(known.max())}" if len(known) else "no number anywhere"
            lines.append(f"  {name:<16}{span}")
        lines += [f"  {self.holes:,} holes: values that are no finite number"] if self.holes else []
        done = f"  {self.evaluated:,} points in {number(self.seconds)} s, statistics {self.statistics}"
        return "\n".join([*lines, done, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>{self.marks.to_html(max_rows=10, escape=True)}"


@the_users_told()
def landscape(
    points: Population | Run,
    data: Any,
    *,
    plane: str | Slice = "random",
    grid: int | Sequence[int] = 25,
    reach: float | None = None,
    metrics: Iterable[str | Metric | Callable[[Any, Any], Tensor]] = (),
    loss: Any = None,
    objective: Any = None,
    splits: Sequence[str] = ("train", "test"),
    statistics: Literal["kept", "recomputed"] | None = None,
    refine: int = 0,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Landscape:
    """Evaluate the loss, and metrics, on a grid over a slice through points, or over a slice through each.

    Args:
        points: Members of one space; of a run, those that ended well and whose points were kept.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        plane: ``"random"``, a slice through each member along random directions, filter-normalised and the same for
            all; or one slice: ``"line"`` through two members, ``"seeds"`` through three, ``"principal"`` axes of all;
            or a ``Slice``, on which the members are marked.
        grid: Points along each axis; a tuple also says how many axes, ``(51,)`` for lines.
        reach: How far beyond the marks, in the axes' unit. Where None, a line goes from mark to mark, and of others
            the range is widened until the mean loss on its rim is 5 times that of the marks.
        metrics: Beside the loss: see ``evaluate``.
        loss: As of ``evaluate``; of a run, where None, its own.
        objective: In place of a loss.
        splits: Of the data.
        statistics: Running statistics of normalisation layers: ``"kept"``, interpolated between points as weights
            are; ``"recomputed"`` of the training samples at each point of the grid. Where None, recomputed on slices
            through several points, between which interpolated ones are of no batch; the notes say which.
        refine: Rounds in each of which the tenth of the cells where the surface bends most are halved; their points
            are in ``refined`` and in the frame.
        seed: Of random directions.
        out: A folder: what is evaluated is written there, and the same call goes on from it, bit for bit.

    Returns:
        The landscape.

    Raises:
        ModelspaceError: members of several spaces, a diverged one, no labels, too few members for the slice, or
            ``out`` holds another landscape.

    Example:
        >>> import modelspace as ms
        >>> import torch
        >>> from torch import nn
        >>> data = ms.data.load((torch.randn(40, 4), torch.arange(40) % 3))
        >>> population = ms.ModelSpace(nn.Linear, in_features=4, out_features=3).sample(seeds=2)
        >>> found = landscape(population, data, plane="line", grid=11, splits=["train"])
        >>> found.values["train_loss"].shape, len(found.extrema()) <= 1  # the loss is convex
        ((1, 11), True)
    """
    began = time.perf_counter()
    data = datasets.load(data)
    members, numbers, left = kept_of(points)
    members = finite(members)
    if isinstance(points, Run) and loss is None and objective is None:
        loss, objective = goal_of_run(points).values()
    dims = len(grid) if isinstance(grid, Sequence) else 2
    cut = _cut(members, plane, dims, seed)
    axes, first = cut[0].axes, cut[0]
    counts = tuple(grid) if isinstance(grid, Sequence) else (grid,) * len(axes)
    if len(counts) != len(axes) or min(counts) < 2:
        raise ModelspaceError(
            f"grid is the number of points along each of {', '.join(axes)}, at least 2; received {grid}"
        )
    goal = goal_of(members, data, loss, objective)
    columns = _columns(members, goal, data, len(cut))
    if statistics is None:
        statistics = "recomputed" if first.between and normalised(members.space) else "kept"
    if statistics not in ("kept", "recomputed"):
        raise unknown_name("statistics", statistics, ("kept", "recomputed"))
    wanted = ["loss", *metrics]
    scores = Scores(members, data, wanted, {"loss": loss, "objective": objective}, splits, statistics)
    if out is not None:
        asked = {"plane": plane if isinstance(plane, str) else "given", "grid": counts, "reach": reach}
        asked |= {"splits": list(splits), "statistics": statistics, "refine": refine, "seed": seed}
        scores.kept_in(Path(out), identity_of(members, data, goal, metrics, cut, asked))
    ground = Ground(cut, columns, members.device)
    notes = [*left, *first.notes]
    if normalised(members.space):
        how = (
            "recomputed from the training samples"
            if statistics == "recomputed"
            else "as the members have them"
        )
        notes.append(f"running statistics of normalisation layers are {how} at each point")
    what = f"landscape of {len(cut)} slice{'s' if len(cut) > 1 else ''} of {members.title}"
    own = scores(members, "kept", what)
    low, high, why = range_of(ground, scores, reach, members, own[:, 0], what)
    notes += [why] if why else []
    lines = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
    index = np.stack([m.ravel() for m in np.meshgrid(*map(np.arange, counts), indexing="ij")], 1)
    at = np.stack([axis[i] for axis, i in zip(lines, index.T, strict=True)], 1)
    found = scores(ground.population(at), statistics, what).reshape(len(cut), *counts, -1)
    values = {name: found[..., i] for i, name in enumerate(scores.names)}
    refined = refined_by(ground, scores, lines, found, refine, statistics, what)
    between = None
    if first.between and len(members) <= _PAIRED:
        between = barriers(members, data, loss=loss, objective=objective, split=splits[0])
    marks = _marks(cut, members, numbers).assign(**dict(zip(scores.names, own.T, strict=True)))
    return Landscape(
        members.title,
        data.name,
        first.kind,
        axes,
        tuple(tuple(line.tolist()) for line in lines),
        values,
        refined,
        marks,
        tuple(first.explained.tolist()),
        between,
        statistics,
        scores.done,
        int((~np.isfinite(found)).sum()),
        time.perf_counter() - began,
        tuple(notes),
    )


def _cut(members: Population, plane: str | Slice, dims: int, seed: int) -> list[Slice]:
    """Return the slice through the members, or that through each."""
    if isinstance(plane, Slice):
        plane.coordinates(members[:0])  # of the same space
        return [plane]
    singles = [members[[k]] for k in range(len(members))]
    if plane == "random":
        return [slices.random(each, seed=seed, dims=dims) for each in singles]
    if plane == "principal":
        return [slices.principal(members, dims=dims)]
    if plane not in ("line", "seeds"):
        raise unknown_name("plane", str(plane), PLANES)
    needed = 2 if plane == "line" else 3
    if len(members) != needed:
        raise ModelspaceError(
            f"plane='{plane}' goes through {needed} members; received {len(members)}: take some, population[[…]]"
        )
    return [slices.line(*singles) if plane == "line" else slices.plane(*singles)]


def _columns(members: Population, goal: Loss, data: Data, count: int) -> pd.DataFrame:
    """Return the columns that a slice's points have: the member's own, or those that all members share."""
    if count == len(members):
        return members.table
    deciding = {*goal.hyperparameters(), "loss", "objective", *(("task",) if data.tasks else ())}
    shared = {str(n): c for n, c in members.table.items() if c.map(repr).nunique() == 1}
    parting = sorted(map(str, (deciding & set(members.table)) - set(shared)))
    if parting or len(members.parts()) > 1:
        what = f"a {parting[0]} of their own" if parting else "arguments of the architecture of their own"
        raise ModelspaceError(
            f"members have {what}, and a slice through several has none: take members of one"
        )
    return pd.DataFrame({name: column.iloc[:1] for name, column in shared.items()}, index=[0])


def _marks(cut: list[Slice], members: Population, numbers: np.ndarray) -> pd.DataFrame:
    """Return where the members are on the slices."""
    axes, several = cut[0].axes, len(cut) > 1
    at, distance = cut[0].coordinates(members)
    if several:
        at, distance = np.zeros_like(at), np.zeros(len(members))
    found = {"slice": np.arange(len(members)) if several else 0}
    own_numbers = members.table["member"].to_numpy() if "member" in members.table else numbers
    found["member"] = own_numbers  # a moment's is its row of the run
    own = {str(n): c.to_numpy() for n, c in members.table.items() if n not in (*axes, *found)}
    return pd.DataFrame({**found, **own, **dict(zip(axes, at.T, strict=True)), "distance": distance})
