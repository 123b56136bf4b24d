"""``connect``: curves of low loss between points, whose bends are trained as members with t drawn at every step."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from importlib import import_module
from math import comb
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from modelspace import data as datasets
from modelspace.engine import evaluate, goal_of
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.fit import Options, fit
from modelspace.geometry._ground import Ground
from modelspace.geometry._statistics import normalised, recomputed
from modelspace.geometry.slices import Slice, finite
from modelspace.population import Population, population_of
from modelspace.show import number
from modelspace.space import TRAINING, ModelSpace

Ends = Population | nn.Module | Mapping[str, Tensor]


class OnCurve(nn.Module):
    """An architecture at a point of a curve: the bends are the parameters, the ends two buffers.

    In training t is drawn uniformly of [0, 1) at every forward, in evaluation it is ½. Garipov et al. minimise the
    mean loss over t in this way.

    Args:
        module: The architecture.
        space: Its space.
        curve: ``bezier`` or ``polychain``.
        bends: How many control points are between the ends.
    """

    ends: Tensor

    def __init__(self, module: nn.Module, space: ModelSpace, curve: str, bends: int):
        super().__init__()
        self.module = module.requires_grad_(False)
        self.bends = nn.Parameter(torch.zeros(bends, space.dimension, dtype=space.dtype))
        self.register_buffer("ends", torch.zeros(2, space.dimension, dtype=space.dtype))
        self._blocks = [(b.name, slice(b.start, b.stop), b.shape) for b in space.layout]
        self._curve = curve

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Compute the architecture's outputs at t."""
        t = self.bends.new_empty((), dtype=self.bends.dtype.to_real()).fill_(0.5)
        if self.training:
            t = torch.rand((), dtype=t.dtype, device=t.device)
        controls = (self.ends[0], *self.bends, self.ends[1])
        degree = len(controls) - 1
        if self._curve == "bezier":
            weights = [comb(degree, j) * t**j * (1 - t) ** (degree - j) for j in range(degree + 1)]
        else:
            weights = [(1 - (degree * t - j).abs()).clamp(min=0) for j in range(degree + 1)]
        point = sum(
            (w * control for w, control in zip(weights[1:], controls[1:], strict=True)),
            weights[0] * controls[0],
        )
        views = {name: point[at].view(shape) for name, at, shape in self._blocks}
        return functional_call(self.module, views, inputs, named)


@dataclass(frozen=True, repr=False)
class Connection:
    """Curves between pairs of points, and the loss along them, beside the straight lines'.

    Attributes:
        title: Of what.
        data: The data's name.
        loss: The loss's name.
        members: A row a curve: ``pair``, ``seed``, the columns it was trained with, and its ``status``.
        slices: The curves, t from 0 to 1: give one to ``landscape``.
        path: The t that were looked at.
        lines: By split, the loss along each curve's straight line, ``[curve, step]``.
        curves: By split, that along the trained curve, ``[curve, step]``.
        recomputed: Whether normalisation statistics were recomputed at each point; the ends' own are too, then.
        seconds: That it took.
    """

    title: str
    data: str
    loss: str
    members: pd.DataFrame
    slices: tuple[Slice, ...]
    path: tuple[float, ...]
    lines: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    recomputed: bool
    seconds: float

    @property
    def slice(self) -> Slice:
        """The first curve."""
        return self.slices[0]

    @property
    def table(self) -> pd.DataFrame:
        """A row a curve: by split, the worse end, the highest of the line and of the curve, and ``ratio``.

        ``ratio`` is the curve's highest loss, of the points looked at, over the worse end's: 1 is a curve that rises
        nowhere above its ends.
        """
        found = self.members.copy()
        for split, curves in self.curves.items():
            lines, worse = self.lines[split], curves[:, [0, -1]].max(1)
            columns = {"worse_end": worse, "line": lines.max(1), "curve": curves.max(1)}
            columns["ratio"] = columns["curve"] / worse
            found = found.assign(**{f"{split}_{name}": values for name, values in columns.items()})
        return found

    @property
    def summary(self) -> pd.DataFrame:
        """A row a quantity of ``table``: mean over pairs, SD of the pairs' means, SD of a pair's seeds, pairs."""
        table = self.table
        by_pair: Any = table.drop(columns=list(self.members)).groupby(table["pair"])
        means, within = by_pair.mean(), by_pair.var().mean() ** 0.5
        columns = {"mean": means.mean(), "sd_pairs": means.std(), "sd_seeds": within}
        return pd.DataFrame(columns).assign(pairs=len(means))

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.summary.to_string(float_format=number)}\n{self._said()}"

    def _repr_html_(self) -> str:
        shown = self.summary.to_html(float_format=number)
        return f"<div><p>{escape(self.title)}</p>{shown}<p>{escape(self._said())}</p></div>"

    def _said(self) -> str:
        kept = "recomputed at each point" if self.recomputed else "none to recompute"
        return f"Highest of {len(self.path)} points; normalisation statistics: {kept}."


def connect(
    a: Ends,
    b: Ends,
    data: Any,
    *,
    curve: Literal["bezier", "polychain"] = "bezier",
    bends: int = 1,
    seeds: int | list[int] = 1,
    steps: int = 61,
    **settings: Any,
) -> Connection:
    """Find a curve of low loss between two points, by training its bends: mode connectivity.

    The mean loss over t ∈ [0, 1] is minimised, t being drawn at each step by each curve's own seed; bends begin
    on the straight line. Several pairs, seeds and hyper-parameters are one population, which ``fit`` trains.

    Args:
        a: One end: a population (row k of both is a pair), a module, or a state dict where the other is not.
        b: The other end, of the same space.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        curve: ``"bezier"``, or ``"polychain"``: straight from bend to bend.
        bends: Control points between the ends, at least 1.
        seeds: Of the draws of t, or their number: each is a curve for each pair.
        steps: Points of each curve at which the loss is measured, both ends included; 61 as in the paper.
        **settings: Those of ``fit``, and columns, one value for all or one a curve: ``epochs=20, lr=1e-2``.

    Returns:
        The curves, with the loss along each and along the straight line, on the training and test split.

    Raises:
        ModelspaceError: points of two spaces, unequal numbers of ends, frozen parameters of a point's own, no bends,
            or what ``fit`` refuses.

    Source:
        Garipov et al., "Loss surfaces, mode connectivity, and fast ensembling of DNNs", NeurIPS 2018.
    """
    began = time.perf_counter()
    if curve not in ("bezier", "polychain"):
        raise unknown_name("curve", curve, ("bezier", "polychain"))
    if bends < 1 or steps < 3:
        raise ModelspaceError(
            f"a curve has 1 bend and 3 steps at least; received bends={bends}, steps={steps}"
        )
    data = datasets.load(data)
    first, last = _ends(a, b)
    space = first.space
    own = {each.name for each in fields(Options)}  # pyright: ignore[reportArgumentType]
    columns = {name: value for name, value in settings.items() if name not in own}
    settings = {name: value for name, value in settings.items() if name in own}
    share = torch.linspace(0, 1, bends + 2, dtype=torch.float64).tolist()
    straight = torch.stack([torch.lerp(first.points, last.points, t) for t in share], 1)
    buffers = {n: _between(b, last.buffers[n], share) for n, b in first.buffers.items()}
    given = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    pair = np.arange(len(first)).repeat(len(given))
    table = pd.DataFrame({"source": pair, "seed": given * len(first)}).assign(**columns)
    wrapped = ModelSpace(
        OnCurve(space.fresh(), space, curve, bends),
        input_shape=space.input_shape,
        input_dtype=space.input_dtype,
    )
    kept = {f"module.{n}": b[:, 0] for n, b in buffers.items()} | {"ends": straight[:, [0, -1]]}
    begin = straight[:, 1:-1].flatten(1)[pair]
    population = Population(wrapped, begin, {n: b[pair] for n, b in kept.items()}, table)
    run = fit(population, data, **settings)
    bent = run.population.points.view(len(pair), bends, -1)
    trained = torch.cat([straight[pair, :1], bent, straight[pair, -1:]], 1)
    marks = pd.DataFrame({"label": ["a", "b"], "t": [0.0, 1.0], "distance": 0.0})
    slices = [
        Slice(space, curve, ("t",), controls[k], None, {n: b[pair[k]] for n, b in buffers.items()}, marks)
        for controls in (trained, straight[pair])
        for k in range(len(pair))
    ]
    path = np.linspace(0, 1, steps)
    asked = table[[n for n in table if n in TRAINING or n not in space.arguments]]
    along = Ground(slices, pd.DataFrame(pd.concat([asked, asked])), first.device).population(path[:, None])
    loss, objective = settings.get("loss"), settings.get("objective")
    again = normalised(space)
    along, found = recomputed(along, data) if again else along, {}
    for split in [name for name in ("train", "test") if len(data.splits[name])]:
        scores = evaluate(along, data, ["loss"], loss=loss, objective=objective, split=split)
        values = scores.iloc[:, asked.shape[1]].to_numpy(np.float64)
        found[split] = values.reshape(2, len(pair), steps)
    named = goal_of(along, data, loss, objective).name
    title = (
        f"{len(pair)} {curve} curve{'s' * (len(pair) > 1)} between {len(first)} pair{'s' * (len(first) > 1)} of "
        f"points of {space.title} on {data.name} ({named})"
    )
    return Connection(
        title,
        data.name,
        named,
        table.rename(columns={"source": "pair"}).assign(status=run.status),
        tuple(slices[: len(pair)]),
        tuple(path.tolist()),
        {split: straight for split, (_, straight) in found.items()},
        {split: bent for split, (bent, _) in found.items()},
        again,
        time.perf_counter() - began,
    )


def _ends(a: Ends, b: Ends) -> tuple[Population, Population]:
    """Both ends as members of one space, row k of both a pair."""
    space = next((p.space for p in (a, b) if isinstance(p, Population)), None)
    space = space or next((ModelSpace(p) for p in (a, b) if isinstance(p, nn.Module)), None)
    first, last = (finite(p if isinstance(p, Population) else population_of([p], space)) for p in (a, b))
    if len(first) != len(last):
        raise ModelspaceError(
            f"row k of both ends is a pair: they are as many; received {len(first)} and {len(last)}"
        )
    if not first.space.is_like(last.space) or len(first.parts()) > 1:
        raise ModelspaceError(
            f"a and b are points of one space; received {first.space.title} and {last.space.title}"
        )
    if own := first.space.own_frozen:
        raise ModelspaceError(
            f"each point of {first.space.title} has frozen parameters of its own ({', '.join(own)}): two points "
            "with others are not joined by a curve of parameters"
        )
    return first, last


def _between(first: Tensor, last: Tensor, share: list[float]) -> Tensor:
    """Return a buffer at each control of the straight line, ``[pair, control, …]``; no number between integers."""
    if not (first.is_floating_point() or first.is_complex()):
        return torch.stack([first] * len(share), 1)
    return torch.stack([torch.lerp(first, last, t) for t in share], 1)
