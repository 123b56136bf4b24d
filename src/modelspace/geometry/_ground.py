"""What a landscape evaluates: points of slices with common axes, how far they go, and where they are denser."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace import metrics as catalogue
from modelspace import tensorfile
from modelspace.data import Data
from modelspace.engine import evaluate
from modelspace.errors import ModelspaceError
from modelspace.geometry._statistics import recomputed
from modelspace.geometry.slices import Slice
from modelspace.losses import Loss
from modelspace.nest import in_order
from modelspace.population import Population
from modelspace.progress import notice, progress
from modelspace.runs import describe
from modelspace.show import number
from modelspace.tensorfile import DamagedError, bytes_of, held

RISE = 5.0  # times the loss at the marks: so far an adaptive range goes
_FIRST, _WIDER, _TIMES = 0.25, 2**0.5, 8
_SEEN = 8  # slices whose rim is looked at
_SPLIT = 0.1  # share of the cells that a round of refinement halves
_FORMAT = "modelspace.landscape/1"
MOST = 4096  # points of a piece
_OF = "of slice"  # no architecture can have an argument of this name


class Ground:
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
        columns = {str(name): column.iloc[which].to_numpy() for name, column in self._columns.items()}
        return made.without_columns(*rows).with_columns(**columns)

    def _made(self, rows: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
        of = rows[_OF].to_numpy()
        where = [(np.flatnonzero(of == k), self.cut[k]) for k in dict.fromkeys(of.tolist())]
        return in_order([(at, own.make(rows.iloc[at])) for at, own in where])


class Scores:
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
        self._piece = int(np.clip(min(most, 2**26 // size) if statistics == "recomputed" else most, 1, MOST))

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


def identity_of(
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


def range_of(
    ground: Ground,
    scores: Scores,
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
    base, beyond, rim = float(losses.mean()), _FIRST * unit, losses
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


def refined_by(
    ground: Ground,
    scores: Scores,
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
