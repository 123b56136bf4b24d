"""Outputs and scores of every member on given samples."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import ceil
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from modelspace import data as datasets
from modelspace import metrics as catalogue
from modelspace.engine.compile import CompileError, compiled
from modelspace.engine.function import Function
from modelspace.engine.measurements import Lowering
from modelspace.engine.plan import Plan, balanced
from modelspace.engine.shard_sizes import shard_sizes
from modelspace.engine.terms import Score, at, loss_of, terms_of
from modelspace.engine.witness import witnessed_outputs
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.space.forward import forward_checked, samples_as
from modelspace.widest import widest

_TRIED = 4  # samples that real modules compute too
SCORED_AT_ONCE = 128  # samples scored at once: enough to fill the products, few enough to stay in the cache


def stacked_outputs(
    function: Function,
    points: Float[Tensor, "member parameter"],
    buffers: dict[str, Tensor],
    inputs: Tensor,
    *,
    batched: bool,
) -> Tensor:
    """f_p(x) in evaluation mode for c members at once, shape ``[c, batch, …]``."""
    with torch.no_grad():
        if batched:
            views = function.space.layout.views(points)
            copies = {name: value.clone() for name, value in buffers.items()}
            return torch.vmap(lambda p, b: function(p, b, inputs, training=False)[0], in_dims=(0, 0))(
                views, copies
            )
        rows = ({name: value[k] for name, value in buffers.items()} for k in range(len(points)))
        outputs = (
            function.single(p, b, inputs, training=False)[0] for p, b in zip(points, rows, strict=True)
        )
        return torch.stack([output.clone() for output in outputs])


class Scoring:
    """Means of scores over a fixed set of samples, for shards of one size.

    Args:
        function: The architecture.
        scores: By name, each a function of one member's outputs and labels to a mean over the samples.
        inputs: ``[samples, …]``, shared by the members.
        labels: ``[samples, …]``.
        plan: How members are computed.
        calls: How many times it will be called: whether compiling is repaid.
    """

    def __init__(
        self,
        function: Function,
        scores: Mapping[str, Score],
        inputs: Tensor,
        labels: Tensor,
        plan: Plan,
        calls: int,
    ):
        self.names = tuple(scores)
        self._scores = tuple(scores.values())
        self._function = function
        self._inputs, self._labels = inputs, labels
        self._batched = plan.lowering == "vmap"
        self._piece = ceil(len(inputs) / ceil(len(inputs) / SCORED_AT_ONCE)) if len(inputs) else 1
        # In a compiled run the forward alone is worth compiling from about the same length on.
        self._compile = plan.compiled and calls * ceil(len(inputs) / self._piece) > 200
        self._program: Callable[..., Tensor] | None = None

    def __call__(
        self,
        points: Float[Tensor, "member parameter"],
        buffers: dict[str, Tensor],
        terms: Mapping[str, Float[Tensor, "member"]],
    ) -> Float[Tensor, "member score"]:
        """The scores of c members, NaN where there are no samples; ``terms`` are the losses' own columns."""
        terms = dict(terms)
        total = torch.zeros(len(points), len(self._scores), dtype=widest(points.device), device=points.device)
        for begin in range(0, len(self._inputs), self._piece):
            inputs = self._inputs[begin : begin + self._piece]
            labels = self._labels[begin : begin + self._piece]
            whole = len(inputs) == self._piece
            score = (
                self._compiled(points, buffers, inputs, labels) if whole and self._compile else self._score
            )
            total += score(points, buffers, inputs, labels, terms) * len(inputs)
        return total / len(self._inputs) if len(self._inputs) else total * torch.nan

    def _score(
        self,
        points: Tensor,
        buffers: dict[str, Tensor],
        inputs: Tensor,
        labels: Tensor,
        terms: dict[str, Tensor],
    ) -> Tensor:
        outputs = stacked_outputs(self._function, points, buffers, inputs, batched=self._batched)
        if self._batched:
            columns = [
                torch.vmap(partial(self._one, s), in_dims=(0, None, 0))(outputs, labels, terms)
                for s in self._scores
            ]
        else:
            rows = [{name: column[k] for name, column in terms.items()} for k in range(len(outputs))]
            columns = [
                torch.stack([at(s, row)(z, labels) for z, row in zip(outputs, rows, strict=True)])
                for s in self._scores
            ]
        return torch.stack([column.to(widest(points.device)) for column in columns], 1)

    def _one(self, score: Score, outputs: Tensor, labels: Tensor, terms: dict[str, Tensor]) -> Tensor:
        return self._function.score(at(score, terms), outputs, labels)

    def _compiled(self, *arguments: Any) -> Callable[..., Tensor]:
        if self._program is None:
            key = (self._function.space, self._scores)
            try:
                self._program = compiled(self._score, *arguments, key=key)
            except CompileError:
                self._program = self._score
        return self._program


def probe(module: torch.nn.Module, inputs: Tensor) -> Tensor:
    """The outputs of one plain module in evaluation mode; what fails names the layer.

    Raises:
        ModelspaceError: the inputs do not fit, or the outputs are not one tensor.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        with torch.no_grad():
            outputs = forward_checked(module.eval(), inputs)
    finally:
        for layer, training in modes:
            layer.training = training
    if not isinstance(outputs, Tensor):
        raise ModelspaceError(
            f"{type(module).__name__} returned a {type(outputs).__name__}: one tensor is expected; "
            "wrap it in a module that returns the tensor to be compared with the labels"
        )
    return outputs


def evaluate(
    population: Population,
    data: Any,
    metrics: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]] = ("loss", "accuracy"),
    *,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    split: str = "test",
) -> pd.DataFrame:
    """Scores of every member on one split of the data, in evaluation mode.

    Args:
        population: K members.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        metrics: Names, ``"loss"`` among them, or functions of (outputs, labels) to a mean.
        loss: What ``"loss"`` means; with a column of that name, each member's own.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        The population's table with one further column a metric; ``test_loss`` (the split's name before it) where
        the table has a column ``loss`` already.

    Raises:
        ModelspaceError: an unknown metric or split, an empty split, or inputs that do not fit.
    """
    data = datasets.load(data)
    if split not in data.splits:
        raise unknown_name("split", split, data.splits)
    part = data.splits[split]
    if len(part) == 0:
        raise ModelspaceError(f"the {split} split of {data.name} is empty")
    scores = {
        metric.name if metric is not objective else "loss": metric
        for objective in [loss_of(population, loss)]
        for metric in [objective if m == "loss" else catalogue.resolve(m) for m in metrics]
    }
    device = population.device
    inputs = samples_as(part.inputs, population.space.dtype).to(device)
    labels = part.labels.to(device)
    outputs = probe(population.module(0), inputs[:2])
    for metric in scores.values():
        metric.check(outputs, labels[: len(outputs)])
    terms = {n: t for s in scores.values() if isinstance(s, Loss) for n, t in terms_of(population, s).items()}
    columns = members_scores(population, inputs, labels, scores, terms)
    names = [f"{split}_{name}" if name in population.table else name for name in scores]
    return population.table.assign(**{n: columns[:, i].cpu().numpy() for i, n in enumerate(names)})


def members_scores(
    population: Population,
    inputs: Tensor,
    labels: Tensor,
    scores: Mapping[str, Score],
    terms: Mapping[str, Float64[Tensor, "member"]] | None = None,
) -> Float[Tensor, "member score"]:
    """The scores of every member, shard by shard.

    Args:
        population: K members.
        inputs: ``[samples, …]``.
        labels: ``[samples, …]``.
        scores: By name.
        terms: The hyper-parameters of those scores that are losses, where members have their own.
    """
    own = {n: t.to(population.device, population.points.dtype) for n, t in (terms or {}).items()}
    function = Function(population.space, population.device)
    chunk = balanced(len(population), shard_sizes(population.device).scored)
    scoring = Scoring(
        function, scores, inputs, labels, _evaluation_plan(function, population, inputs, chunk), 1
    )
    parts = []
    with progress(f"evaluating {len(population):,} members", len(population), "members") as advance:
        for start in range(0, len(population), chunk):
            rows = slice(start, min(start + chunk, len(population)))
            buffers = {n: b[rows] for n, b in population.buffers.items()}
            parts.append(scoring(population.points[rows], buffers, {n: t[rows] for n, t in own.items()}))
            advance(len(parts[-1]))
    return torch.cat(parts)


def _evaluation_plan(function: Function, population: Population, inputs: Tensor, chunk: int) -> Plan:
    """Batched if the forward has a batched form that is the real modules', the loop otherwise."""
    fallback = unbatched_outputs(function, population, inputs)
    lowering: Lowering = "vmap" if fallback is None else "loop"
    return Plan(lowering, chunk, False, torch.get_num_threads(), fallback or "batched", fallback)


def unbatched_outputs(function: Function, population: Population, inputs: Tensor) -> str | None:
    """Why a population's outputs in evaluation mode can't be computed under ``vmap``; None where they can.

    Args:
        function: What is to compute them; it is told what the forward writes and draws.
        population: K ≥ 1 members.
        inputs: Samples, of which a few are tried.

    Raises:
        ModelspaceError: not even one member at a time is what the user's own module computes.
    """
    members = population[list(dict.fromkeys([0, len(population) - 1]))]
    few = inputs[:_TRIED]

    def outputs(batched: bool) -> Tensor:
        buffers = {name: value.clone() for name, value in members.buffers.items()}
        return stacked_outputs(function, members.points.clone(), buffers, few, batched=batched)

    return witnessed_outputs(function, members, few, outputs)
