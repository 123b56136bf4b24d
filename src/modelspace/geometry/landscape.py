"""``landscape``: the loss, and any metric, over lines and planes through trained points, of many points at once."""

import hashlib
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
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace import data as datasets
from modelspace import metrics as catalogue
from modelspace import tensorfile
from modelspace.atomic import whole_file
from modelspace.data import Data
from modelspace.engine import evaluate, goal_of
from modelspace.errors import ModelspaceError, the_users_told, unknown_name
from modelspace.geometry import slices
from modelspace.geometry._statistics import has_statistics, recomputed
from modelspace.geometry.slices import Slice, finite
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.nest import in_order
from modelspace.population import Population
from modelspace.progress import notice, progress
from modelspace.runs import Run, describe, ended_well
from modelspace.show import number
from modelspace.tensorfile import DamagedError, bytes_of, held

RISE = 5.0  # times the loss at the marks: so far an adaptive range goes
_FIRST, _WIDER, _TIMES = 0.25, 2**0.5, 8
_SEEN = 8  # slices whose rim is looked at
_SPLIT = 0.1  # share of the cells that a round of refinement halves
_FORMAT = "modelspace.landscape/1"
_OF, _MEMBER = "of slice", "of member"  # no architecture can have arguments of these names


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
    barriers: Any
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

        A minimum is below all its neighbours. Around a saddle candidate, on a plane, the surface is above and below by
        turns, at least twice each. Points on the rim, or with a neighbour that is no number, are neither.
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
        """Write it, whole or not at all: ``.npz`` (each axis, each score, the marks' columns), or the frame as Parquet.

        Raises:
            ModelspaceError: another suffix, or the place can't be written to.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".parquet":
            import_module("modelspace.export.table").write_table(self.frame, str(path))
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

    def report(
        self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None
    ) -> None:
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
        reach: How far beyond the marks, in the axes' unit. Where None, a line goes from mark to mark, and of others the
            range is widened until the mean loss on its rim is 5 times that of the marks.
        metrics: Beside the loss: see ``evaluate``.
        loss: As of ``evaluate``.
        objective: In place of a loss.
        splits: Of the data.
        statistics: Running statistics of normalisation layers: ``"kept"``, interpolated between points as weights are;
            ``"recomputed"`` of the training samples at each point of the grid. Where None, recomputed on slices through
            several points, between which interpolated ones are of no batch; the notes say which.
        refine: Rounds in each of which the tenth of the cells where the surface bends most are halved; their points are
            in ``refined`` and in the frame.
        seed: Of random directions.
        out: A folder: what is evaluated is written there, and the same call goes on from it, bit for bit.

    Returns:
        The landscape.

    Raises:
        ModelspaceError: members of several spaces, a diverged one, no labels, too few members for the slice, or
            ``out`` holds another landscape.

    Example:
        >>> import modelspace as ms
        >>> from torch import nn
        >>> data = ms.data.load((torch.randn(40, 4), torch.arange(40) % 3))
        >>> population = ms.ModelSpace(nn.Linear, in_features=4, out_features=3).sample(seeds=2)
        >>> found = landscape(population, data, plane="line", grid=11, splits=["train"])
        >>> found.values["train_loss"].shape, len(found.extrema()) <= 1  # the loss is convex
        ((1, 11), True)
    """
    began = time.perf_counter()
    data = datasets.load(data)
    members, numbers, left = _members(points)
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
        statistics = "recomputed" if first.between and has_statistics(members.space) else "kept"
    if statistics not in ("kept", "recomputed"):
        raise unknown_name("statistics", statistics, ("kept", "recomputed"))
    wanted = ["loss", *metrics]
    scores = _Scores(members, data, wanted, {"loss": loss, "objective": objective}, splits, statistics)
    if out is not None:
        asked = {"plane": plane if isinstance(plane, str) else "given", "grid": counts, "reach": reach}
        asked |= {"splits": list(splits), "statistics": statistics, "refine": refine, "seed": seed}
        scores.kept_in(Path(out), _identity(members, data, goal, metrics, cut, asked))
    ground = _Ground(cut, columns, members.device)
    notes = [*left, *first.notes]
    if has_statistics(members.space):
        how = (
            "recomputed from the training samples"
            if statistics == "recomputed"
            else "as the members have them"
        )
        notes.append(f"running statistics of normalisation layers are {how} at each point")
    what = f"landscape of {len(cut)} slice{'s' if len(cut) > 1 else ''} of {members.title}"
    own = scores(members, "kept", what)
    low, high, why = _range(ground, scores, reach, members, own[:, 0], what)
    notes += [why] if why else []
    lines = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
    index = np.stack([m.ravel() for m in np.meshgrid(*map(np.arange, counts), indexing="ij")], 1)
    at = np.stack([axis[i] for axis, i in zip(lines, index.T, strict=True)], 1)
    found = scores(ground.population(at), statistics, what).reshape(len(cut), *counts, -1)
    values = {name: found[..., i] for i, name in enumerate(scores.names)}
    refined = _refined(ground, scores, lines, found, refine, statistics, what)
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
        None,
        statistics,
        scores.done,
        int((~np.isfinite(found)).sum()),
        time.perf_counter() - began,
        tuple(notes),
    )


def _members(points: Population | Run) -> tuple[Population, np.ndarray, list[str]]:
    """Return the members that have a place, their numbers in a run, and what to say of the others."""
    if isinstance(points, Population):
        return finite(points), np.arange(len(points)), []
    well = ended_well(points.status[points.kept])
    if not well.any():
        raise ModelspaceError("the run has no member that ended without diverging and whose point was kept")
    out = len(points.members) - int(well.sum())
    said = (
        f"{out:,} of the run's {len(points.members):,} members are left out: diverged, unfinished or not kept"
    )
    return finite(points.population[well]), points.kept[well], [said] if out else []


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
        raise unknown_name("plane", str(plane), ("random", "line", "seeds", "principal"))
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
    shared = {n: c for n, c in members.table.items() if c.map(repr).nunique() == 1}
    parting = sorted(map(str, (deciding & set(members.table)) - set(shared)))
    if parting or len(members.parts()) > 1:
        what = f"a {parting[0]} of their own" if parting else "arguments of the architecture of their own"
        raise ModelspaceError(
            f"members have {what}, and a slice through several has none: take members of one"
        )
    return pd.DataFrame({name: column.iloc[:1] for name, column in shared.items()}, index=[0])


class _Ground:
    """Points of several slices with common axes, as one population.

    Args:
        cut: The slices.
        columns: The members' columns that points of each slice have, a row a slice.
        device: Where they are.
    """

    def __init__(self, cut: list[Slice], columns: pd.DataFrame, device: torch.device):
        self.cut, self._columns, self._device = cut, columns.reset_index(drop=True), device

    def population(self, at: np.ndarray, some: np.ndarray | None = None) -> Population:
        """Return the points at coordinates ``[m, d]`` of each slice, slice by slice; unmade."""
        some = np.arange(len(self.cut)) if some is None else some
        which, first = some.repeat(len(at)), self.cut[0]
        rows = pd.DataFrame(np.tile(at, (len(some), 1)), columns=pd.Index(first.axes)).assign(**{_OF: which})
        made = Population.from_rows(first.space, rows, self._made, self._device)
        columns = {name: column.iloc[which].to_numpy() for name, column in self._columns.items()}
        return made.without_columns(*rows).with_columns(**columns)

    def _made(self, rows: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
        of = rows[_OF].to_numpy()
        where = [(np.flatnonzero(of == k), self.cut[k]) for k in dict.fromkeys(of.tolist())]
        return in_order([(at, own.make(rows.iloc[at])) for at, own in where])


class _Scores:
    """Scores of populations, one after the other; what a call before this one left in a folder is not computed again.

    Attributes:
        names: The scores', the split's before each.
        done: How many members were evaluated.
    """

    def __init__(
        self,
        members: Population,
        data: Data,
        metrics: list[Any],
        goal: dict[str, Any],
        splits: Sequence[str],
        statistics: str,
    ):
        self._data, self._metrics, self._goal, self._splits = data, metrics, goal, splits
        self.names: list[str] = []
        self.done = 0
        self._rows = torch.zeros(0, 0, dtype=torch.float64)
        self._file: Path | None = None
        self._identity = ""
        # A piece takes seconds, and what of it is in memory, where statistics are recomputed, less than a GiB.
        size, samples = members.space.dimension, sum(len(data.part(split)) for split in splits)
        most = 2**36 // (size * samples)
        self._piece = int(np.clip(min(most, 2**26 // size) if statistics == "recomputed" else most, 8, 4096))

    def kept_in(self, folder: Path, identity: str) -> None:
        """Read what a call before left in a folder, and write there from here on.

        Raises:
            ModelspaceError: it is damaged, or of another landscape.
        """
        self._file, self._identity = folder / "landscape.safetensors", identity
        if not self._file.exists():
            return
        try:
            tensors, words = tensorfile.read(self._file, _FORMAT)
            self._rows = held(tensors, "scores", torch.float64, -1, -1)
        except DamagedError as error:
            raise ModelspaceError(
                f"'{self._file}' is damaged ({error}): remove it, or give another out="
            ) from error
        if words.get("identity") != identity:
            raise ModelspaceError(
                f"'{folder}' holds another landscape (other points, data, loss or settings): give another out="
            )
        self.names = words["names"].split("\n")

    def __call__(
        self, population: Population, statistics: str, what: str
    ) -> Float64[np.ndarray, "member score"]:
        """Return the scores of members."""
        if statistics == "recomputed":
            population = recomputed(population, self._data)
        parts, total = [], len(population)
        with progress(what, total, "points") as advance:
            for start in range(0, total, self._piece):
                count = min(self._piece, total - start)
                if self.done + count > len(self._rows):
                    try:
                        self._add(population[start : start + count], statistics)
                    except KeyboardInterrupt:
                        kept = f"{len(self._rows):,} points are kept in '{self._file}': the same call goes on there"
                        nothing = "nothing is kept: give out=FOLDER, from which the same call goes on"
                        notice(f"{what}: interrupted; {kept if self._file else nothing}")
                        raise
                parts.append(self._rows[self.done : self.done + count])
                self.done += count
                advance(count)
        return torch.cat(parts).numpy()

    def _add(self, some: Population, statistics: str) -> None:
        if statistics == "recomputed":
            _ = some.stacks  # once for all splits
        found: dict[str, np.ndarray] = {}
        for split in self._splits:
            scored = evaluate(some, self._data, self._metrics, split=split, **self._goal)
            for name in scored.columns[some.table.shape[1] :]:
                found[f"{split}_{name.removeprefix(f'{split}_')}"] = scored[name].to_numpy(np.float64)
        self.names = list(found)
        rows = torch.from_numpy(np.stack(list(found.values()), 1))
        self._rows = torch.cat([self._rows.view(-1, rows.shape[1]), rows])
        if self._file is not None:
            words = {"format": _FORMAT, "identity": self._identity, "names": "\n".join(self.names)}
            tensorfile.write(self._file, {"scores": self._rows}, words)


def _identity(
    members: Population,
    data: Data,
    goal: Loss,
    metrics: Iterable[Any],
    cut: list[Slice],
    asked: dict[str, Any],
) -> str:
    """Return a hash of all that the scores depend on."""
    executed = (*goal.code, *(catalogue.resolve(metric).function for metric in metrics))
    settings = {**asked, "loss": str(goal), "metrics": [str(metric) for metric in metrics]}
    about = describe(members.space, members.device, data, "scores", settings, executed, goal.tensors())
    digest = hashlib.blake2b(repr(about["spec"]).encode(), digest_size=16)
    digest.update(repr(members.table.to_dict("split")).encode())
    for each in cut:
        digest.update(
            repr((each.kind, each.axes, None if each.affine is None else each.affine.tolist())).encode()
        )
        for value in (each.controls, *each.buffers.values()):
            digest.update(bytes_of(value))
    for value in (members.points, *members.buffers.values()):
        digest.update(bytes_of(value))
    return digest.hexdigest()


def _range(
    ground: _Ground,
    scores: _Scores,
    reach: float | None,
    members: Population,
    losses: np.ndarray,
    what: str,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the grid's ends along each axis, and what to say of them."""
    first = ground.cut[0]
    marks = first.coordinates(members)[0] if len(ground.cut) == 1 else np.zeros((1, len(first.axes)))
    if first.affine is None or first.kind == "line":
        marks = np.array([[0.0], [1.0]])
    else:
        marks = np.concatenate([marks, first.marks[list(first.axes)].to_numpy()])
    low, high = marks.min(0), marks.max(0)
    if reach is not None or first.kind == "line" or first.affine is None:
        if reach is not None and (reach < 0 or (reach > 0 and first.affine is None)):
            raise ModelspaceError(
                f"reach is a length, and 0 for a curve, whose t is in [0, 1]; received {reach}"
            )
        if not reach and not (high > low).all():
            raise ModelspaceError("the marks are one point along an axis: give reach > 0")
        return low - (reach or 0), high + (reach or 0), ""
    unit = float((high - low).max())
    if not unit:
        control = first.controls.abs().square().sum(1).sqrt().cpu().double().numpy()
        unit = 1.0 if first.kind == "random" else control[0] / control[1:].max() or 1.0
    some = np.unique(np.linspace(0, len(ground.cut) - 1, _SEEN).astype(int))
    base, beyond = float(losses.mean()), _FIRST * unit
    for _ in range(_TIMES):
        ends = [np.linspace(a - beyond, b + beyond, 5) for a, b in zip(low, high, strict=True)]
        steps = [at for at in product(range(5), repeat=len(ends)) if set(at) & {0, 4}]
        at = np.array([[axis[i] for axis, i in zip(ends, step, strict=True)] for step in steps])
        rim = scores(ground.population(at, some), "kept", what)[:, 0]
        rim = rim[np.isfinite(rim)]
        if not len(rim) or rim.mean() - base >= (RISE - 1) * abs(base):
            return low - beyond, high + beyond, ""
        beyond *= _WIDER
    ratio = number(float(rim.mean()) / base) if base else "–"
    beyond /= _WIDER
    note = f"the loss on the rim is {ratio} times that of the members at the widest range that was tried"
    return low - beyond, high + beyond, note


def _refined(
    ground: _Ground,
    scores: _Scores,
    lines: list[np.ndarray],
    found: np.ndarray,
    rounds: int,
    statistics: str,
    what: str,
) -> pd.DataFrame:
    """Halve the cells where the mean of the first score bends most, round after round; return the points between."""
    unit, dims, axes = 2**rounds, len(lines), ground.cut[0].axes
    known = {
        tuple(unit * i for i in at): float(found[(slice(None), *at, 0)].mean())
        for at in np.ndindex(*found.shape[1:-1])
    }
    cells = [(tuple(unit * i for i in at), unit) for at in np.ndindex(*(len(line) - 1 for line in lines))]
    at_once, parts = max(1, round(_SPLIT * len(cells))), []

    def bend(cell: tuple[tuple[int, ...], int]) -> float:
        corner, size = cell
        worst = 0.0
        for at in product(*((i, i + size) for i in corner)):
            for axis in range(dims):
                ends = [
                    known.get(tuple(i + d * (k == axis) for k, i in enumerate(at))) for d in (-size, size)
                ]
                if None not in ends and np.isfinite(rise := sum(ends) - 2 * known[at]):  # pyright: ignore
                    worst = max(worst, abs(rise))
        return worst

    for _ in range(rounds):
        cells.sort(key=bend, reverse=True)
        chosen, cells = cells[:at_once], cells[at_once:]
        halves = [
            (tuple(i + d * size // 2 for i, d in zip(corner, step, strict=True)), size // 2)
            for corner, size in chosen
            for step in product((0, 1), repeat=dims)
        ]
        corners = (p for corner, size in halves for p in product(*((i, i + size) for i in corner)))
        new = [point for point in dict.fromkeys(corners) if point not in known]
        at = np.stack(
            [np.interp(np.array(new)[:, k] / unit, range(len(v)), v) for k, v in enumerate(lines)], 1
        )
        values = scores(ground.population(at), statistics, what)
        means = values[:, 0].reshape(len(ground.cut), -1).mean(0)
        known |= dict(zip(new, means.tolist(), strict=True))
        cells += halves
        columns = dict(zip(axes, np.tile(at, (len(ground.cut), 1)).T, strict=True))
        index = {"slice": np.arange(len(ground.cut)).repeat(len(at))}
        parts.append(pd.DataFrame({**index, **columns, **dict(zip(scores.names, values.T, strict=True))}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _marks(cut: list[Slice], members: Population, numbers: np.ndarray) -> pd.DataFrame:
    """Return where the members are on the slices."""
    axes, several = cut[0].axes, len(cut) > 1
    at, distance = cut[0].coordinates(members)
    if several:
        at, distance = np.zeros_like(at), np.zeros(len(members))
    found = {"slice": np.arange(len(members)) if several else 0, "member": numbers}
    own = {str(n): c.to_numpy() for n, c in members.table.items() if n not in (*axes, *found)}
    return pd.DataFrame({**found, **own, **dict(zip(axes, at.T, strict=True)), "distance": distance})
