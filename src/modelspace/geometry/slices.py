"""Slices of a space: lines, planes and curves in ℝⁿ, whose points are made when they are asked for.

    t ↦ Σ_q w_q(t) c_q

Every slice is a few control rows c_q, points or directions, and weights that are functions of the coordinates t:
affine ones, Bernstein polynomials or hat functions. A grid of them is a population whose rows are made a shard at a
time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from modelspace.errors import ModelspaceError
from modelspace.population import Population, joined, population_of
from modelspace.space import TRAINING, ModelSpace
from modelspace.widest import widest

Point = Population | nn.Module | Mapping[str, Tensor]
_AT_ONCE = 2**22  # numbers of the points that are read at once
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False, repr=False)
class Slice:
    """A line, plane or curve in a space.

    Attributes:
        space: The space.
        kind: ``line``, ``plane``, ``random``, ``principal``, ``subspace``, ``bezier`` or ``polychain``.
        axes: The coordinates' names.
        controls: What is weighted, ``[q, n]``.
        affine: The weights are ``[1, t] @ affine``, ``[1 + d, q]``; None for the two curves.
        buffers: Each buffer, ``[q, *shape]``, weighted as the controls; ``[1, *shape]`` where all points share it.
        marks: The points that it was made through: ``label``, a coordinate an axis, and ``distance`` from the slice.
        notes: What a reader should know of how it was made.
        explained: The share of the points' variance along each principal axis, the largest first; all of them.
    """

    space: ModelSpace
    kind: str
    axes: tuple[str, ...]
    controls: Shaped[Tensor, "control parameter"]
    affine: np.ndarray | None
    buffers: dict[str, Tensor]
    marks: pd.DataFrame
    notes: tuple[str, ...] = ()
    explained: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def between(self) -> bool:
        """Whether it runs through several points, between which running statistics fit no batch."""
        return len(self.marks) > 1

    def weights(self, t: Any) -> Float[Tensor, "point control"]:
        """Return what the controls are multiplied with at coordinates ``[m, d]``.

        Raises:
            ModelspaceError: there are not d coordinates a point, or one is NaN or infinite.
        """
        given = np.asarray(t.cpu() if isinstance(t, Tensor) else t, dtype=np.float64)
        given = given.reshape(-1, 1) if given.ndim < 2 and len(self.axes) == 1 else given
        if given.ndim != 2 or given.shape[1] != len(self.axes):
            raise ModelspaceError(
                f"coordinates of this {self.kind} are [points, {len(self.axes)}] ({', '.join(self.axes)}); received "
                f"shape {given.shape}"
            )
        if not np.isfinite(given).all():
            bad = np.flatnonzero(~np.isfinite(given).all(1))
            raise ModelspaceError(f"coordinates must be finite; row {bad[0]} is {given[bad[0]].tolist()}")
        degree = len(self.controls) - 1
        if self.affine is not None:
            found = np.c_[np.ones(len(given)), given] @ self.affine
        elif self.kind == "bezier":
            found = np.hstack(
                [comb(degree, i) * given**i * (1 - given) ** (degree - i) for i in range(degree + 1)]
            )
        else:
            whole = np.clip(np.floor(given * degree), 0, degree - 1).astype(int)
            found = np.zeros((len(given), degree + 1))
            np.put_along_axis(found, whole, 1 - (given * degree - whole), 1)
            np.put_along_axis(found, whole + 1, given * degree - whole, 1)
        device = self.controls.device
        return torch.from_numpy(found).to(device, widest(device))

    def points(self, t: Any) -> Shaped[Tensor, "point parameter"]:
        """Return the points at coordinates ``[m, d]``, ``[m, n]``; the same for each in whatever company."""
        return _weighted(self.weights(t), self.controls)

    def population(self, t: Any) -> Population:
        """Return the points at coordinates ``[m, d]`` as members, whose table has a column an axis."""
        _ = self.weights(t)
        given = np.asarray(t.cpu() if isinstance(t, Tensor) else t, dtype=np.float64)
        table = pd.DataFrame(given.reshape(-1, len(self.axes)), columns=pd.Index(self.axes))
        return Population.from_rows(self.space, table, self.make, self.controls.device)

    def make(self, rows: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the points and buffers of rows of a table of coordinates."""
        weights = self.weights(rows[list(self.axes)].to_numpy())
        return _weighted(weights, self.controls), {n: _weighted(weights, b) for n, b in self.buffers.items()}

    def grid(self, *values: Sequence[float] | np.ndarray) -> Population:
        """Return the product of the axes' values as members, the last axis fastest."""
        if len(values) != len(self.axes):
            raise ModelspaceError(
                f"a grid has values for {', '.join(self.axes)}; received {len(values)} axes"
            )
        meshed = np.meshgrid(*(np.asarray(v, dtype=np.float64) for v in values), indexing="ij")
        return self.population(np.stack([each.ravel() for each in meshed], 1))

    def coordinates(self, population: Population) -> tuple[np.ndarray, np.ndarray]:
        """Project members orthogonally onto the slice; on a curve, to its nearest point with t in [0, 1].

        Returns:
            Their coordinates, ``[K, d]``, and how far they are from there, ``[K]``.

        Raises:
            ModelspaceError: they are points of another space.
        """
        _check_space("the population", population.space, self.space)
        size = max(1, _AT_ONCE // self.space.dimension)
        parts = [
            self._projected(_wide(population[k : k + size].points.to(self.controls.device)))
            for k in range(0, len(population), size)
        ]
        coordinates = [np.zeros((0, len(self.axes))), *(t for t, _ in parts)]
        return np.concatenate(coordinates), np.concatenate([np.zeros(0), *(d for _, d in parts)])

    def _projected(self, points: Tensor) -> tuple[np.ndarray, np.ndarray]:
        wide = _wide(self.controls)
        if self.affine is not None:
            first, *directions = torch.from_numpy(self.affine).to(wide) @ wide
            along, away = torch.stack(directions), points - first
            gram = (along @ along.mH).real
            t = torch.linalg.solve(gram, (away @ along.mH).real.mT).mT
            nearest = first + t.to(wide) @ along
        else:
            t = torch.full((len(points), 1), 0.5, device=wide.device, dtype=wide.real.dtype)
            offset = torch.linspace(-0.5, 0.5, 1001, device=wide.device, dtype=t.dtype)
            centred, towards = wide - wide[0], points - wide[0]
            gram, cross = (centred @ centred.mH).real, (towards @ centred.mH).real
            for width in (1.0, 4e-3, 1.6e-5):  # each a grid between the neighbours of the one before
                tried = (t + width * offset).clamp(0, 1)
                w = self.weights(tried.reshape(-1)).view(*tried.shape, -1).to(t)
                apart = ((w @ gram) * w).sum(2) - 2 * (w * cross[:, None]).sum(2)
                t = tried.gather(1, apart.argmin(1, keepdim=True))
            nearest = self.weights(t.reshape(-1)).to(wide) @ wide
        return t.cpu().numpy(), (points - nearest).norm(dim=1).cpu().numpy()

    def __repr__(self) -> str:
        size = f"through {len(self.marks)} points" if self.between else "from one point"
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"Slice of {self.space.title}: {self.kind} in {', '.join(self.axes)}, {size}{notes}"


def _weighted(weights: Tensor, rows: Tensor) -> Tensor:
    """Combine rows; what is no floating-point number, or shared, is the first's."""
    if len(rows) == 1 or not (rows.is_floating_point() or rows.is_complex()):
        return rows[:1].expand(len(weights), *rows.shape[1:]).contiguous()
    # Not a matrix product, whose sums may depend on how many rows there are: a point is the same in any shard.
    each = weights.to(rows.dtype).view(*weights.shape, *[1] * (rows.dim() - 1))
    found = each[:, 0] * rows[0]
    for q in range(1, len(rows)):
        found.addcmul_(each[:, q], rows[q])
    return found


def _wide(values: Tensor) -> Tensor:
    kind = widest(values.device)
    return values.to(kind.to_complex() if values.is_complex() else kind)


def _axes(space: ModelSpace, dims: int, names: Sequence[str] = "xyz") -> tuple[str, ...]:
    """Name axes; not as an argument of the architecture, or of training, is named."""
    wanted = names[:dims] if dims <= len(names) else [f"x{i + 1}" for i in range(dims)]
    taken = {*space.arguments, *TRAINING}
    return tuple(name + "_axis" * (name in taken) for name in wanted)


def _check_space(name: str, given: ModelSpace, space: ModelSpace) -> None:
    kinds = [[(n, type(m).__qualname__) for n, m in s.template.named_modules()] for s in (given, space)]
    if not given.is_like(space) or kinds[0] != kinds[1]:
        raise ModelspaceError(
            f"{name} is of another space, {given.title} in ℝ^{given.dimension:,}, than the other points, of "
            f"{space.title} in ℝ^{space.dimension:,}"
        )


def _together(given: Mapping[str, Point], least: int = 1) -> Population:
    """Return points that are given one by one, by what they are called, as one population."""
    known = [p for p in given.values() if isinstance(p, Population | nn.Module)]
    for name, point in given.items():
        if not isinstance(point, Population | nn.Module | Mapping):
            what = (
                f"run.population[[k]] of the {type(point).__name__}" if hasattr(point, "population") else ""
            )
            raise ModelspaceError(
                f"{name} is a point: {what or 'a population of one member, a module or a state dict'}; received "
                f"{type(point).__name__}"
            )
    if not known:
        raise ModelspaceError("state dicts alone do not say their architecture: give one point as a module")
    space = known[0].space if isinstance(known[0], Population) else ModelSpace(known[0])
    parts = []
    for name, point in given.items():
        if isinstance(point, Population):
            if len(point) != 1:
                raise ModelspaceError(
                    f"{name} is one point, population[[k]]; received {len(point):,} members"
                )
            _check_space(name, point.space, space)
        else:
            try:
                point = population_of([point], space)
            except ModelspaceError as error:
                raise ModelspaceError(f"{name} is of another space: {error}") from error
        parts.append(point)
    return finite(joined(parts, pd.DataFrame({"label": list(given)})), least)


def finite(population: Population, least: int = 1) -> Population:
    """Return the members, at least so many, all of whose coordinates are numbers.

    Raises:
        ModelspaceError: there are fewer, or a diverged one is among them.
    """
    if len(population) < least:
        raise ModelspaceError(f"at least {least} points are needed; received {len(population)}")
    bad = np.flatnonzero(~population.points.isfinite().all(1).cpu().numpy())
    if len(bad):
        row = population.table.iloc[bad[0]].to_dict()
        who = ", ".join(f"{n} {v}" for n, v in row.items()) or f"member {bad[0]}"
        raise ModelspaceError(
            f"a point has NaN or infinite coordinates ({who}): a member that diverged has no place"
        )
    return population


def _labels(population: Population) -> list[str]:
    table = population.table
    if "label" in table:
        return table["label"].astype(str).tolist()
    return [f"seed {s}" for s in table["seed"]] if "seed" in table else [str(k) for k in range(len(table))]


def _marks(labels: Sequence[str], axes: Sequence[str], at: Any, distance: Any = 0.0) -> pd.DataFrame:
    coordinates = dict(zip(axes, np.asarray(at, dtype=np.float64).T, strict=True))
    return pd.DataFrame({"label": list(labels), **coordinates, "distance": distance})


def line(a: Point, b: Point) -> Slice:
    """Return the straight line a + t (b − a); floating-point buffers are interpolated as the points are.

    Raises:
        ModelspaceError: they are points of two spaces, one has diverged, or they are the same point.
    """
    ends = _together({"a": a, "b": b})
    if torch.equal(ends.points[0], ends.points[1]):
        raise ModelspaceError("a line needs two points; a and b are the same: its direction is zero")
    axes = _axes(ends.space, 1, "t")
    affine = np.array([[1.0, 0], [-1, 1]])
    marks = _marks("ab", axes, [[0], [1]])
    return Slice(ends.space, "line", axes, ends.points, affine, ends.buffers, marks)


def plane(a: Point, b: Point | None = None, c: Point | None = None, *, directions: Any = None) -> Slice:
    """Return the plane through three points, or through one along two directions.

    Through three points, coordinates are orthonormal: a is the origin, x runs towards b, and distances in the picture
    are distances in ℝⁿ. Floating-point buffers are interpolated as the points are. Along directions, two tensors of n
    numbers as they are, coordinates are their multiples, and buffers are a's.

    Raises:
        ModelspaceError: points of several spaces, a diverged one, three on one line, or directions that are zero or
            parallel.
    """
    if directions is not None:
        if b is not None or c is not None:
            raise ModelspaceError(
                "a plane goes through three points, or through one along two directions; not both"
            )
        return _along(_together({"a": a}), "plane", directions, ())
    if b is None or c is None:
        raise ModelspaceError(
            "a plane goes through three points, a, b and c; or through a, along directions=[u, v]"
        )
    corners = _together({"a": a, "b": b, "c": c})
    first, *others = _wide(corners.points)
    u, w = (other - first for other in others)
    length = float(u.norm())
    if not length or not float(w.norm()):
        raise ModelspaceError(f"a plane needs three points; a and {'c' if length else 'b'} are the same")
    x = float(torch.vdot(u, w).real) / length
    y = float((w - (x / length) * u).norm())
    if y <= 1e-6 * float(w.norm()):
        raise ModelspaceError("a plane needs three points that are not on one line; a, b and c are")
    affine = np.array(
        [[1, 0, 0], [-1 / length, 1 / length, 0], [x / (y * length) - 1 / y, -x / (y * length), 1 / y]]
    )
    axes = _axes(corners.space, 2)
    marks = _marks("abc", axes, [[0, 0], [length, 0], [x, y]])
    return Slice(corners.space, "plane", axes, corners.points, affine, corners.buffers, marks)


def _along(origin: Population, kind: str, directions: Any, notes: tuple[str, ...]) -> Slice:
    """Return what is reached from a point along some directions."""
    space, first = origin.space, origin.points
    rows = [torch.as_tensor(d).to(first.device) for d in directions]
    for k, row in enumerate(rows):
        if tuple(row.shape) != (space.dimension,):
            raise ModelspaceError(
                f"a direction of {space.title} is {space.dimension:,} numbers; received {tuple(row.shape)}"
            )
        if not bool(row.isfinite().all()) or not bool(row.any()):
            what = "is zero" if bool(row.isfinite().all()) else "has NaN or infinite numbers"
            raise ModelspaceError(f"direction {k + 1} of {len(rows)} {what}")
    units = torch.stack([_wide(row) / _wide(row).norm() for row in rows])
    if kind == "plane" and len(rows) != 2:
        raise ModelspaceError(f"a plane has two directions; received {len(rows)}")
    if float(torch.linalg.eigvalsh(units @ units.mH)[0]) < 1e-12:
        raise ModelspaceError("the directions are parallel, or one is a combination of others")
    axes = _axes(space, len(rows))
    controls = torch.cat([first, *(row[None].to(first.dtype) for row in rows)])
    marks = _marks(["origin"], axes, np.zeros((1, len(rows))))
    return Slice(space, kind, axes, controls, np.eye(1 + len(rows)), origin.buffers, marks, notes)


def random(a: Point, *, seed: int = 0, dims: int = 2, biases: bool = False) -> Slice:
    """Return random directions from a point, filter-normalised: each filter's direction has its filter's norm.

    A filter is what makes one output of a weight: a slice along its first dimension, or along the output channels of
    a transposed convolution. Biases and normalisation parameters stay as they are, unless ``biases``: then each of
    them has a direction of its own norm. Axes are independent; a seed draws the same numbers for every point.

    Source: Li, Xu, Taylor, Studer & Goldstein, Visualizing the Loss Landscape of Neural Nets (2018).

    Raises:
        ModelspaceError: the point has diverged, or all its filters are zero.
    """
    origin = _together({"a": a})
    space, generator = origin.space, torch.Generator().manual_seed(seed)
    owners = {f"{n}.{p}".lstrip("."): m for n, m in space.template.named_modules() for p in m._parameters}
    kind = torch.complex128 if space.dtype.is_complex else torch.float64
    drawn = [torch.randn(space.dimension, generator=generator, dtype=kind) for _ in range(dims)]
    values = origin.points[0].cpu().to(kind)
    for block in space.layout:
        at, layer = slice(block.start, block.stop), owners.get(block.name)
        own = values[at].view(block.shape)
        small = own.dim() < 2 or isinstance(layer, _NORMS)
        groups = layer.groups if isinstance(layer, _TRANSPOSED) else 1
        if small:
            shape, within = (-1,), (0,)
        elif isinstance(layer, _TRANSPOSED):
            shape, within = (groups, block.shape[0] // groups, block.shape[1], -1), (1, 3)
        else:
            shape, within = (block.shape[0], -1), (1,)
        own = own.reshape(shape)
        for direction in drawn:
            raw = direction[at].view(own.shape)
            scale = own.norm(dim=within, keepdim=True) / raw.norm(dim=within, keepdim=True)
            direction[at] = (raw * (scale if biases or not small else 0)).reshape(-1)
    said = (
        "each of norm its own"
        if biases
        else "which are left as they are (biases=True gives them directions too)"
    )
    note = (
        f"directions are filter-normalised: each filter's has its filter's norm; but for biases and normalisation "
        f"parameters, {said}"
    )
    return _along(origin, "random", drawn, (note,))


def subspace(a: Point, *, dims: int, seed: int = 0) -> Slice:
    """Return a random subspace through a point: orthonormal directions, of no direction preferred.

    Raises:
        ModelspaceError: the point has diverged, or the space has fewer dimensions.
    """
    origin = _together({"a": a})
    space, generator = origin.space, torch.Generator().manual_seed(seed)
    if not 1 <= dims <= space.dimension:
        raise ModelspaceError(f"dims is 1 to n = {space.dimension:,}; received {dims}")
    kind = torch.complex128 if space.dtype.is_complex else torch.float64
    drawn = torch.randn(space.dimension, dims, generator=generator, dtype=kind)
    return _along(origin, "subspace", list(torch.linalg.qr(drawn).Q.mT), ())


def principal(points: Population, *, dims: int = 2) -> Slice:
    """Return the principal axes of points: the origin is their mean, coordinates are orthonormal.

    By the eigenvectors of the K × K Gram matrix of the centred points; nothing of n × n is made. Floating-point
    buffers are combined as the points are.

    Raises:
        ModelspaceError: there are not more points than axes, one has diverged, or they lie in fewer dimensions.
    """
    points = finite(points, dims + 1)
    rows, count = points.points, len(points)
    gram = torch.zeros(count, count, dtype=_wide(rows[:, :1]).dtype, device=rows.device)
    for start in range(0, rows.shape[1], size := max(1, _AT_ONCE // count)):
        part = _wide(rows[:, start : start + size])
        part = part - part.mean(0)
        gram += part @ part.mH
    variance, vectors = (each.flip(-1) for each in torch.linalg.eigh(gram))
    variance = variance.clamp(min=0)
    if float(variance[dims - 1]) <= 1e-12 * float(variance[0]) or not float(variance[0]):
        raise ModelspaceError(f"these {count} points lie in fewer than {dims} dimensions")
    largest = vectors.abs().argmax(0)
    signs = vectors.gather(0, largest[None])  # an axis' sense is arbitrary: its largest entry is positive
    vectors = vectors * (signs.conj() / signs.abs())
    weights = torch.cat(
        [torch.full_like(vectors[:, :1], 1 / count), (vectors / variance.sqrt().clamp(min=1e-300))[:, :dims]],
        1,
    ).mH

    def combined(values: Tensor) -> Tensor:
        if not (values.is_floating_point() or values.is_complex()):
            return values[:1]
        flat, middle = values.reshape(count, -1), torch.zeros_like(values[:1]).reshape(1, -1)
        found = middle.repeat(1 + dims, 1)
        for start in range(0, flat.shape[1], size):
            part = _wide(flat[:, start : start + size])
            mean = part.mean(0, keepdim=True)
            found[:, start : start + size] = torch.cat([mean, weights[1:].to(part.dtype) @ (part - mean)])
        return found.view(1 + dims, *values.shape[1:])

    axes = _axes(points.space, dims)
    found = Slice(
        points.space,
        "principal",
        axes,
        combined(rows),
        np.eye(1 + dims),
        {name: combined(value) for name, value in points.buffers.items()},
        _marks(_labels(points), axes, np.zeros((count, dims))),
        explained=(variance / variance.sum()).cpu().numpy(),
    )
    at, distance = found.coordinates(points)
    found.marks.loc[:, list(axes)], found.marks["distance"] = at, distance
    return found


def bezier(controls: Population | Sequence[Point]) -> Slice:
    """Return the Bézier curve Σ C(q, i) tⁱ (1 − t)^(q − i) cᵢ from the first control, t = 0, to the last, t = 1."""
    return _curve("bezier", controls)


def polychain(controls: Population | Sequence[Point]) -> Slice:
    """Return the chain of straight pieces through the controls, each of equal length in t ∈ [0, 1]."""
    return _curve("polychain", controls)


def _curve(kind: str, controls: Population | Sequence[Point]) -> Slice:
    if not isinstance(controls, Population):
        controls = _together({f"control {k}": each for k, each in enumerate(controls)}, 2)
    given = finite(controls, 2)
    axes, last = _axes(given.space, 1, "t"), len(given) - 1
    through = range(len(given)) if kind == "polychain" else (0, last)  # a Bézier curve's bends are beside it
    marks = _marks([_labels(given)[k] for k in through], axes, [[k / last] for k in through])
    return Slice(given.space, kind, axes, given.points, None, given.buffers, marks)
