"""What is computed of members' curvature: whose operators, on which samples, and how many at once."""

import ast
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from modelspace.data import Data, generator
from modelspace.engine import Derivatives, own_rows
from modelspace.errors import ModelspaceError
from modelspace.geometry._spectrum import Drawn, extremes, krylov, quadrature
from modelspace.geometry._trace import traces
from modelspace.losses import Loss, Objectives, resolve
from modelspace.memory import free_bytes
from modelspace.optimizers import SGD, Adam, AdamW, Constant, Optimizer
from modelspace.population import Population
from modelspace.runs import Run, ended_well
from modelspace.show import bytes_text
from modelspace.space import ModelSpace

_START, _FRESH, _PROBES, _DENSITY, _SUBSET = range(
    70, 75
)  # purposes of random numbers, beside those of the data
_NODES = 64  # of a density, a probe


class Asked(NamedTuple):
    """What is computed of each member: arguments of ``curvature``."""

    top: int
    trace: bool
    density: bool
    by_layer: bool
    probes: int
    tolerance: float
    steps: int
    seed: int

    def vectors(self, n: int) -> int:
        """Return the most vectors of a basis: for traces alone a block and its image, as Hutch++ has it."""
        return min(n, self.steps * self.top if self.top else 2 * self.probes * self.trace)

    def products(self, n: int) -> int:
        """Return the most products of a member."""
        found = self.vectors(n) + (self.top + 1) * bool(self.top) + self.probes * self.trace
        return found + self.probes * min(n, _NODES) * self.density

    def at_once(self, members: Population, rows: int) -> tuple[int, int, int, int]:
        """Return how many members half of the free memory has room for, products, vectors of a basis, probes at once.

        Args:
            members: The members.
            rows: How many products are best computed at once.

        Raises:
            ModelspaceError: there is no room for one member.
        """
        n, free = members.space.dimension, free_bytes(members.device)
        vector, beside = n * members.space.dtype.itemsize, 4 * max(self.top + 1, self.probes)
        room, nodes = free // (2 * vector) - beside, min(n, _NODES)
        basis, group = min(self.vectors(n), max(room, 0)), max(1, min(self.probes, room // nodes))
        if room < max(nodes * self.density, min(self.vectors(n), 3 * max(self.top, self.probes))):
            raise ModelspaceError(
                f"vectors of {n:,} numbers take {bytes_text(vector)} each, and {bytes_text(free)} are free, half of "
                "which holds too few for one member: ask for less (top=1, probes=2, no density)"
            )
        most = (room + beside) // max(1, max(basis, nodes * group * self.density) + beside)
        most = max(1, min(most, 4 * rows // max(self.top, 1)))
        size = ceil(len(members) / ceil(len(members) / most))
        count = size * (self.top or self.probes)
        return size, ceil(count / ceil(count / rows)), basis, group

    def of(self, shard: "Shard", members: Sequence[int], basis: int, group: int) -> dict[str, Any]:
        """Return what was found of a shard's members, by name; ``nodes`` and weights of each probe."""
        points, layer, space = shard.points, shard.layer if self.by_layer else None, None
        found, fresh = {}, Drawn(self.seed, _FRESH, members)
        if self.top or self.trace:
            width, tolerance = (
                min(self.top or self.probes, points.shape[1]),
                self.tolerance if self.top else None,
            )
            start = Drawn(self.seed, _START, members).vectors(points, 0, width)
            space = krylov(shard, start, basis, fresh, tolerance, layer)
            found |= extremes(shard, space, self.top) if self.top else {}
        if self.trace:
            probes = Drawn(self.seed, _PROBES, members, signs=True).vectors(points, 0, self.probes)
            found |= traces(shard, probes, space, layer)
        nodes = []
        for first in range(0, self.probes * self.density, group):
            count = min(group, self.probes - first)
            start = Drawn(self.seed, _DENSITY, members, signs=True).vectors(points, first, count)
            fresh = Drawn(self.seed, _FRESH, np.repeat(members, count).tolist())
            space = krylov(
                lambda rows, v, c=count: shard(rows // c, v), start.flatten(0, 1)[:, None], _NODES, fresh
            )
            nodes.append([each.unflatten(0, (-1, count)) for each in quadrature(space)])
        found["nodes"] = [torch.cat(each, 1) for each in zip(*nodes, strict=True)]
        return found


class Shard:
    """Some members' operators as a ``Product``, D^{-1/2} A D^{-1/2} where there is a preconditioner D ``[c, n]``.

    So many products are computed at once as ``size`` says, exactly as many if ``same``.
    """

    def __init__(
        self,
        derivatives: Derivatives,
        members: Population,
        terms: dict[str, Tensor],
        preconditioner: Tensor | None,
        advance: Callable[[int], None],
        size: int,
        same: bool,
    ):
        self.points, self.buffers, self.products = members.points, members.buffers, 0
        self.layer = layers_of(members.space)[1].to(members.device)
        self._derivatives, self._advance, self._size, self._same = derivatives, advance, size, same
        self._terms = {n: t.to(self.points) for n, t in terms.items()}
        self._scale = None if preconditioner is None else preconditioner.to(self.points).rsqrt()

    def __call__(self, rows: Int64[Tensor, "row"], vectors: Float[Tensor, "row n"]) -> Float[Tensor, "row n"]:
        count, size, parts = len(rows), self._size, []
        if self._same:  # a compiled program is of one number of rows
            few = torch.arange(ceil(count / size) * size, device=rows.device).clamp(max=count - 1)
            rows, vectors = rows[few], vectors[few]
        for own, part in zip(rows.split(size), vectors.split(size), strict=True):
            scale = 1 if self._scale is None else self._scale[own]
            buffers, terms = ({n: v[own] for n, v in held.items()} for held in (self.buffers, self._terms))
            parts.append(scale * self._derivatives.product(self.points[own], buffers, scale * part, terms))
            self._advance(min(size, count - size * (len(parts) - 1)))
        self.products += count
        return torch.cat(parts)[:count]


def jobs(
    population: Population, data: Data, goal: Loss, split: str, samples: int | None, seed: int
) -> Iterator[tuple[np.ndarray, Population, Loss, Int64[Tensor, "sample"]]]:
    """Yield the members that one program computes on the same samples: rows, members, what is minimised, samples."""
    own = own_rows(population, data, split)
    names = ["objective"] * isinstance(goal, Objectives) + ["task"] * (own is not None)
    groups = [np.arange(len(population))]
    if names:
        numbers = population.table.groupby(names, sort=False).ngroup().to_numpy()
        groups = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    for rows in groups:
        aim = (
            goal.of(str(population.table["objective"].iloc[rows[0]]))
            if isinstance(goal, Objectives)
            else goal
        )
        index = torch.arange(len(data.part(split))) if own is None else own[rows[0]]
        if samples is not None and samples < len(index):
            chosen = generator(seed, _SUBSET).permutation(len(index))[:samples]
            index = index[torch.from_numpy(np.sort(chosen))]
        for within, members in population[rows].parts() if names else population.parts():
            yield rows[within], members, aim, index


def layers_of(space: ModelSpace) -> tuple[list[str], Int64[Tensor, "n"]]:
    """Return the names of a space's layers, and each coordinate's: a module's own parameters are a layer."""
    owners = [block.name.rpartition(".")[0] or block.name for block in space.layout]
    names = list(dict.fromkeys(owners))
    sizes = torch.tensor([block.stop - block.start for block in space.layout])
    return names, torch.tensor([names.index(owner) for owner in owners]).repeat_interleave(sizes)


def kept_of(points: Population | Run) -> tuple[Population, np.ndarray, list[str]]:
    """Return members, their numbers in a run, and what to say of those of a run that are left out.

    Raises:
        ModelspaceError: a run has none that ended without diverging and whose point was kept.
    """
    if isinstance(points, Population):
        return points, np.arange(len(points)), []
    well = ended_well(points.status[points.kept])
    if not well.any():
        raise ModelspaceError("the run has no member that ended without diverging and whose point was kept")
    out = len(points.members) - int(well.sum())
    said = (
        f"{out:,} of the run's {len(points.members):,} members are left out: diverged, unfinished or not kept"
    )
    return points.population[well], points.kept[well], [said] if out else []


def moments(run: Run, record: str) -> Population:
    """Return the kept members at each time of a record of points, a row each, with ``member`` and ``step``.

    Buffers are those of each member at the run's end.

    Raises:
        ModelspaceError: there is no such record, or it holds no points.
    """
    recorded, ended = run.records[record], run.population
    found = [recorded.of(member) for member in run.kept.tolist()]
    rows = np.repeat(np.arange(len(found)), [len(steps) for steps, _ in found])
    if not len(rows) or any(x.shape[1:] != (ended.space.dimension,) for _, x in found if len(x)):
        raise ModelspaceError(f"record '{record}' holds no points of kept members: fit(…, record='points')")
    members, steps = run.kept[rows], torch.cat([steps for steps, _ in found]).numpy()
    points = torch.cat([x for _, x in found if len(x)]).to(ended.points)
    buffers = {name: value[rows] for name, value in ended.buffers.items()}
    return Population(
        ended.space, points, buffers, run.members.iloc[members].assign(member=members, step=steps)
    )


def goal_of_run(run: Run) -> dict[str, Any]:
    """Return the loss or the objective that a run minimised, as ``goal_of`` takes it.

    Raises:
        ModelspaceError: it was a function, which a run does not keep.
    """
    said = run.settings["loss"]
    if "loss" in run.members or said == "model":
        return {"loss": None, "objective": "model" if said == "model" else None}
    try:
        return {"loss": resolve(said), "objective": None}
    except ModelspaceError as error:
        raise ModelspaceError(f"the run minimised '{said}', a function: give loss= or objective=") from error


def optimizer_of_run(run: Run) -> Optimizer | None:
    """Return the optimizer of a run, if it is one whose thresholds are known, and no schedule moved its rate."""
    call = ast.parse(run.settings["optimizer"], mode="eval").body
    kinds = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in kinds or run.settings["groups"]:
        return None
    given = {part.arg: ast.literal_eval(part.value) for part in call.keywords if part.arg}
    return kinds[ast.unparse(call.func)](**given) if run.settings["schedule"] == repr(Constant()) else None
