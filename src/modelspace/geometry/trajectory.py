"""``trajectory``: the ways of members through ℝⁿ, on one plane, beside what random walks would show there."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.geometry.slices import Slice
from modelspace.geometry.slices import _axes as axes_of
from modelspace.memory import free_bytes
from modelspace.population import Population
from modelspace.runs import Run, Status, ended_well
from modelspace.show import bytes_text, number, shape_text

_AT_ONCE = 2**22  # numbers that are wide at once


@dataclass(frozen=True, repr=False)
class Trajectory:
    """The ways of M members through ℝⁿ while they trained, at T times at most; NaN where one has none.

    ``explained`` is to be read beside ``null``: of a long random walk, which goes nowhere, the k-th component
    explains 6/(π²k²) of the variance, the first two 76 %; in n dimensions ± about √(2/n) of it.

    Attributes:
        title: Of what.
        members: M rows of the run's table; ``member`` is the row there.
        steps: Updates made, ``[M, T]``; −1 where there is no point.
        coordinates: On the principal axes of all points together, ``[M, T, d]``.
        explained: The share of the points' variance along each principal axis, ``[q]``, q ≤ 10.
        null: The same of random walks with as many steps from the same starts, each of the member's own mean squared
            length, in the limit of many dimensions.
        distance: From the start, ``[M, T]``.
        norm: Of the point, ``[M, T]``.
        turning: The angle between the way to a point and the way from it, in degrees, ``[M, T]``; random walks turn
            by 90.
        slice: The plane: give it to ``landscape``.
        notes: What was left out.

    Source:
        Antognini & Sohl-Dickstein, "PCA of high dimensional random walks with comparison to neural network training",
        NeurIPS 2018.
    """

    title: str
    members: pd.DataFrame
    steps: Int64[np.ndarray, "member time"]
    coordinates: Float64[np.ndarray, "member time axis"]
    explained: Float64[np.ndarray, "component"]
    null: Float64[np.ndarray, "component"]
    distance: Float64[np.ndarray, "member time"]
    norm: Float64[np.ndarray, "member time"]
    turning: Float64[np.ndarray, "member time"]
    slice: Slice
    notes: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """A row a point: its member, step, coordinates, distance from the start, norm and turning angle."""
        member, time = np.nonzero(self.steps >= 0)
        axes = dict(zip(self.slice.axes, self.coordinates[member, time].T, strict=True))
        curves = {name: getattr(self, name)[member, time] for name in ("distance", "norm", "turning")}
        rows = self.members.iloc[member].reset_index(drop=True)
        return rows.assign(step=self.steps[member, time], **axes, **curves)

    @property
    def components(self) -> pd.DataFrame:
        """A row a principal axis: the share of the variance that it explains, and of random walks."""
        axes = pd.RangeIndex(1, len(self.explained) + 1, name="component")
        found = {"explained": self.explained, "random_walk": self.null}
        return pd.DataFrame(found, index=axes)

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        return "\n".join([self.title, self.components.head(3).to_string(float_format=number), *self._said()])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(line)}</p>" for line in self._said())
        return f"<div><p>{escape(self.title)}</p>{self.components.head(3).to_html(float_format=number)}{said}</div>"

    def _said(self) -> list[str]:
        angles = self.turning[~np.isnan(self.turning)]
        turns = f"median turn {np.median(angles):.0f}° (random walks: 90°)" if len(angles) else "no turns"
        d = self.coordinates.shape[2]
        shown, walk = (100 * each[:d].sum() for each in (self.explained, self.null))
        return [f"{d} axes explain {shown:.1f} %, of random walks {walk:.1f} %; {turns}.", *self.notes]


def trajectory(
    run: Run, *, members: Iterable[int] | None = None, record: str = "points", dims: int = 2
) -> Trajectory:
    """Show the ways of members that were recorded while they trained, on the principal axes of all their points.

    The axes are those of the centred points, by their Gram matrix; nothing of n × n is made. Members are read two
    at a time: memory is that of two ways, and of the (M T)² numbers of the matrix.

    Args:
        run: Of ``fit(…, record="points")``.
        members: Rows of the run's; where None, all that did not diverge. A diverged one is shown until it did.
        record: What the points are called among ``run.records``.
        dims: Principal axes of ``slice`` and ``coordinates``.

    Returns:
        The ways.

    Raises:
        ModelspaceError: no points were recorded, or a member's at fewer than 3 times; members of several spaces; or
            the matrix has no room.

    Example:
        >>> import modelspace as ms
        >>> from modelspace.examples import DummyNet
        >>> population = ms.ModelSpace(DummyNet).sample(seeds=2, lr=[1e-3])
        >>> run = ms.fit(population, "digits-7x7", epochs=1, record=ms.Record("points", every=10))
        >>> found = trajectory(run)
        >>> found.steps[0].tolist(), found.coordinates.shape
        ([0, 10, 20, 30], (2, 4, 2))
    """
    ways = _Ways(run, record, members)
    lengths = [len(steps) for steps in ways.steps]
    gram = ways.products()
    centred = _centred(gram)
    variance, vectors = (each[..., ::-1] for each in np.linalg.eigh(centred))
    if not 1 <= dims < len(gram) or variance[dims - 1] <= 1e-12 * max(variance[0], 1e-300):
        raise ModelspaceError(
            f"{len(gram)} points that span fewer than {dims} dimensions have no such axes: dims=1"
        )
    length = np.sqrt(variance[:dims])
    axes = vectors[:, :dims] * np.sign(
        vectors[lengths[0] - 1, :dims]
    )  # the first member ends on the positive side
    at = axes * length
    weights = np.vstack([np.full(len(gram), 1 / len(gram)), (axes / length).T])
    names = axes_of(ways.space, dims)
    marks = pd.DataFrame({"member": ways.rows.repeat(lengths), "step": np.concatenate(ways.steps)})
    marks.insert(0, "label", [f"member {k}, step {t}" for k, t in marks.to_numpy()])
    marks[list(names)], marks["distance"] = at, np.sqrt((np.diag(centred) - (at**2).sum(1)).clip(min=0))
    explained, null = (
        variance.clip(min=0),
        np.linalg.eigvalsh(_centred(_walks(gram, ways.steps)))[::-1].clip(min=0),
    )
    explained, null = explained / explained.sum(), null / null.sum()
    plane = Slice(
        ways.space,
        "principal",
        names,
        ways.combined(weights),
        np.eye(1 + dims),
        ways.buffers(),
        marks,
        explained=explained,
    )
    ends = np.cumsum(lengths)[:-1]
    curves = [_curves(gram[k : k + t, k : k + t]) for k, t in zip([0, *ends], lengths, strict=True)]
    out = len(run.members) - len(ways.rows) if members is None else 0
    most = min(10, len(gram) - 1)
    return Trajectory(
        f"{len(ways.rows)} members of {run.title} on {run.data} at {max(lengths)} times of their training",
        run.members.iloc[ways.rows].reset_index(drop=True).assign(member=ways.rows),
        _padded(ways.steps, -1),
        _padded(np.split(at, ends)),
        explained[:most],
        null[:most],
        _padded([distance for distance, _ in curves]),
        _padded(ways.norms),
        _padded([turning for _, turning in curves]),
        plane,
        (f"{out:,} members that diverged or did not end are left out.",) if out else (),
    )


class _Ways:
    """What was recorded of some members, read of one or two at a time.

    Attributes:
        rows: They, of the run's.
        space: Theirs.
        steps: Of each, ``[t]``.
        norms: Of each point, ``[t]`` a member; known when ``products`` was called.
    """

    def __init__(self, run: Run, record: str, members: Iterable[int] | None):
        if record not in list(run.records):
            raise ModelspaceError(
                f"the run has no record '{record}': fit(…, record=\"points\") keeps points while members train"
            )
        self._run, self._recorded = run, run.records[record]
        ended = np.flatnonzero(ended_well(run.status))
        self.rows = ended if members is None else np.array([int(k) for k in members], dtype=np.int64)
        if not len(self.rows):
            raise ModelspaceError(
                f"none of the run's {len(run.members):,} members ended without diverging: members=…"
            )
        parts = Population.from_seeds(run.space, run.members.iloc[self.rows]).parts()
        if len(parts) > 1:
            raise ModelspaceError("the members are points of several spaces: take those of one, members=…")
        self.space, self.norms = parts[0][1].space, []
        self.steps = [self._steps(int(k)) for k in self.rows]
        needed, free = 4 * 8 * sum(map(len, self.steps)) ** 2, free_bytes(torch.device("cpu"))
        if needed > free:
            raise ModelspaceError(
                f"products of {sum(map(len, self.steps)):,} points take {bytes_text(needed)}, and {bytes_text(free)} "
                "are free: choose members=…"
            )

    def _steps(self, member: int) -> np.ndarray:
        steps, points = self._recorded.of(member)
        if len(steps) and points.shape[1:] != (self.space.dimension,):
            raise ModelspaceError(
                f"record '{self._recorded.name}' is no points of {self.space.title}, ℝ^{self.space.dimension:,}: "
                f"each value is {shape_text(tuple(points.shape[1:]))}"
            )
        if len(steps) < 3:
            status = self._run.status[member]
            raise ModelspaceError(
                f"a way has 3 points at least, and member {member} ({status}) was recorded at {len(steps)} times: "
                + (
                    "leave it out, members=…"
                    if status == Status.DIVERGED
                    else "record=Record('points', every=…)"
                )
            )
        return steps.numpy()

    def _points(self, place: int) -> Tensor:
        return self._recorded.of(int(self.rows[place]))[1]

    def products(self) -> Float64[np.ndarray, "point point"]:
        """Return the inner products of all points, from the first one on."""
        blocks: dict[tuple[int, int], Tensor] = {}
        origin = self._points(0)[0]
        for i in range(len(self.rows)):
            own = self._points(i)
            self.norms.append(torch.linalg.vector_norm(own, dim=1, dtype=_wide(own[:0]).dtype).numpy())
            for j in range(i, len(self.rows)):
                other = own if i == j else self._points(j)
                found = torch.zeros(len(own), len(other), dtype=torch.float64)
                for at in self._pieces(len(own) + len(other)):
                    a, b = (_wide(part[:, at]) - _wide(origin[at]) for part in (own, other))
                    found += (a @ b.mH).real
                blocks[i, j], blocks[j, i] = found, found.T
        count = range(len(self.rows))
        return torch.cat([torch.cat([blocks[i, j] for j in count], 1) for i in count]).numpy()

    def combined(self, weights: Float64[np.ndarray, "row point"]) -> Tensor:
        """Return weighted sums of all points: the first row's weights sum to 1, the others' to 0."""
        parts = np.split(weights, np.cumsum(list(map(len, self.steps)))[:-1], axis=1)
        origin = self._points(0)[0]
        found = torch.zeros(len(weights), self.space.dimension, dtype=_wide(origin[:0]).dtype)
        for m, part in enumerate(parts):
            own = self._points(m)
            for at in self._pieces(len(own)):
                away = _wide(own[:, at]) - _wide(origin[at])
                found[:, at] += torch.from_numpy(part).to(away) @ away
        found[0] += origin
        return found.to(origin.dtype)

    def buffers(self) -> dict[str, Tensor]:
        """Return the buffers of the first member as it ended, if it was kept; else the architecture's."""
        kept = np.flatnonzero(self._run.kept == self.rows[0])
        if len(kept):
            return self._run.population[kept].buffers
        return {name: value[None] for name, value in self.space.buffers_of(self.space.template).items()}

    def _pieces(self, rows: int) -> Iterator[slice]:
        size = max(1, _AT_ONCE // rows)
        return (slice(k, k + size) for k in range(0, self.space.dimension, size))


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.complex128 if values.is_complex() else torch.float64)


def _centred(gram: np.ndarray) -> np.ndarray:
    """The products of points about their mean."""
    mean = gram.mean(0)
    return gram - mean - mean[:, None] + mean.mean()


def _walks(gram: np.ndarray, steps: Sequence[np.ndarray]) -> Float64[np.ndarray, "point point"]:
    """The products that are expected of random walks from the same starts, after as many updates.

    Two points of a walk share the updates until the earlier of them; an update's mean square is the member's own.
    """
    lengths = [len(each) for each in steps]
    begins = np.cumsum([0, *lengths[:-1]])
    starts = begins.repeat(lengths)
    found = gram[np.ix_(starts, starts)].astype(np.float64)
    for begin, each in zip(begins, steps, strict=True):
        at = slice(begin, begin + len(each))
        squares = np.diag(np.diff(np.diff(gram[at, at], axis=0), axis=1))
        since = each - each[0]
        found[at, at] += squares.sum() / since[-1] * np.minimum(since, since[:, None])
    return found


def _curves(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distance from the start, and the turning angle, at each time, from one member's products."""
    own = np.diag(gram)
    moves = np.diff(np.diff(gram, axis=0), axis=1)
    size, turning = np.sqrt(np.diag(moves).clip(min=0)), np.full(len(gram), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        turning[1:-1] = np.degrees(np.arccos((np.diag(moves, 1) / (size[1:] * size[:-1])).clip(-1, 1)))
    return np.sqrt((own - 2 * gram[0] + own[0]).clip(min=0)), turning


def _padded(parts: Sequence[np.ndarray], nothing: float = np.nan) -> np.ndarray:
    """Members' rows as one array, however many each has."""
    found = np.full((len(parts), max(map(len, parts)), *parts[0].shape[1:]), nothing, dtype=parts[0].dtype)
    for row, part in zip(found, parts, strict=True):
        row[: len(part)] = part
    return found
