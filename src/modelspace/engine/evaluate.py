"""Outputs and scores of every member on given samples."""

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from modelspace import data as datasets
from modelspace import metrics as catalogue
from modelspace.construction import seeded_elsewhere
from modelspace.engine.function import Function, Named, stacked_outputs
from modelspace.engine.gradient import Score, at, loss_of, terms_of
from modelspace.engine.plan import Plan, balanced, shard_sizes
from modelspace.engine.program import CompileError, compiled
from modelspace.engine.witness import unbatched_outputs
from modelspace.errors import ModelspaceError, the_users_told, told, unknown_name
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.space import samples_as
from modelspace.trace import forward_checked
from modelspace.widest import widest

SCORED_AT_ONCE = 128  # samples scored at once: enough to fill the products, few enough to stay in the cache
HELD_AT_ONCE = 2**26  # bytes of outputs that scores of all samples are taken of; one member's at least
BESIDE = 0.05  # how far from a member's point it is looked at whether samples are computed apart


class Scoring:
    """Scores over a fixed set of samples, for shards of one size.

    Outputs are computed a piece of the samples at a time. The mean over samples is the mean of its pieces' values
    (``is_sample_mean``); any other score is taken once, on the outputs of all samples together, of one member after
    the other: then no more members are computed at once than their outputs have room.

    Args:
        function: The architecture.
        scores: By name, each a function of one member's outputs and labels to a number.
        inputs: ``[samples, …]``, shared by the members.
        labels: ``[samples, …]``.
        plan: How members are computed.
        calls: How many times it will be called: whether compiling is repaid.
        example: Some member, by which it is seen whether a sample's outputs depend on the samples beside it: then all
            samples are one piece.
    """

    def __init__(
        self,
        function: Function,
        scores: Mapping[str, Score],
        inputs: Tensor,
        labels: Tensor,
        plan: Plan,
        calls: int,
        example: Population,
    ):
        self.names = tuple(scores)
        self._function = function
        self._inputs, self._labels = inputs, labels
        self._batched = plan.lowering == "vmap"
        self._means = {n: s for n, s in scores.items() if is_sample_mean(s, labels)}
        self._wholes = {n: s for n, s in scores.items() if n not in self._means}
        samples = len(inputs)
        self._piece = ceil(samples / ceil(samples / SCORED_AT_ONCE)) if samples else 1
        self._most = plan.shard  # members at once
        if samples > self._piece and not self._apart(example):
            self._piece, self._most = samples, max(1, plan.shard * SCORED_AT_ONCE // samples)
        if samples and self._wholes:
            one = self._outputs(example, inputs[: min(2, self._piece)])
            self._most = min(self._most, max(1, HELD_AT_ONCE // max(1, members_bytes(one, samples))))
        # In a compiled run the forward alone is worth compiling from about the same length on.
        self._compile = plan.compiled and calls * ceil(samples / self._piece) > 200
        self._program: Callable[..., tuple[Tensor | None, Tensor | None]] | None = None

    def __call__(
        self,
        points: Float[Tensor, "member parameter"],
        buffers: Named,
        terms: Mapping[str, Float[Tensor, "member"]],
    ) -> Float[Tensor, "member score"]:
        """Return the scores of c members, NaN where there are no samples; ``terms`` are the losses' own columns."""
        size = ceil(len(points) / ceil(len(points) / self._most))
        parts = []
        for begin in range(0, len(points), size):
            rows = slice(begin, begin + size)
            own = points[rows]
            buffers_, terms_ = ({name: x[rows] for name, x in held.items()} for held in (buffers, terms))
            parts.append(self._scores(own, buffers_, terms_, compile=self._compile and len(own) == size))
        return torch.cat(parts)

    def _scores(self, points: Tensor, buffers: Named, terms: Named, *, compile: bool) -> Tensor:
        members, samples = len(points), len(self._inputs)
        kind = {"dtype": widest(points.device), "device": points.device}
        if not samples:
            return torch.full((members, len(self.names)), torch.nan, **kind)
        total = torch.zeros(members, len(self._means), **kind)
        outputs: Tensor = torch.empty(0)
        for begin in range(0, samples, self._piece):
            piece = slice(begin, begin + self._piece)
            inputs, labels = self._inputs[piece], self._labels[piece]
            score = self._piece_scores
            if compile and len(inputs) == self._piece:
                score = self._compiled(points, buffers, inputs, labels, terms)
            means, given = score(points, buffers, inputs, labels, terms)
            if means is not None:
                total += means * len(inputs)
            if given is not None:
                if begin == 0:
                    shape = members, samples, *given.shape[2:]
                    outputs = given if len(inputs) == samples else given.new_empty(shape)
                if outputs is not given:
                    outputs[:, piece] = given
        columns = dict(zip(self._means, (total / samples).unbind(1), strict=True))
        for name, score in self._wholes.items():
            columns[name] = self._whole(name, score, outputs, terms).to(**kind)
        return torch.stack([columns[name] for name in self.names], 1)

    def _piece_scores(
        self, points: Tensor, buffers: Named, inputs: Tensor, labels: Tensor, terms: Named
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the means over a piece's samples, ``[member, score]``, and its outputs; where they are needed."""
        outputs = stacked_outputs(self._function, points, buffers, inputs, batched=self._batched)
        columns = []
        for score in self._means.values():
            if self._batched:
                column = torch.vmap(
                    lambda z, y, t, s=score: self._function.score(at(s, t), z, y), in_dims=(0, None, 0)
                )(outputs, labels, terms)
            else:
                values = [at(score, _row(terms, k))(own, labels) for k, own in enumerate(outputs)]
                column = torch.stack(values)
            columns.append(column.to(widest(points.device)))
        return torch.stack(columns, 1) if columns else None, outputs if self._wholes else None

    def _whole(self, name: str, score: Score, outputs: Tensor, terms: Named) -> Tensor:
        """Take a score of all samples' outputs and labels, member by member, in plain tensors to be written into."""
        values = []
        for k, own in enumerate(outputs):
            with torch.no_grad():
                try:
                    value = at(score, _row(terms, k))(own.clone(), self._labels.clone())
                except ModelspaceError:
                    raise
                except Exception as error:
                    if own.isfinite().all():
                        raise ModelspaceError(
                            f"'{name}' failed on the outputs of one member for all {len(self._inputs)} samples, of "
                            f"shape {list(own.shape)} ({own.dtype}), and labels of shape "
                            f"{list(self._labels.shape)} ({self._labels.dtype}): {told(error)}"
                        ) from error
                    value = own.new_tensor(torch.nan)  # a member gone astray ends nobody else's run
            values.append(value.detach().to(widest(own.device)))
        return torch.stack(values)

    def _outputs(self, members: Population, inputs: Tensor) -> Tensor:
        return stacked_outputs(self._function, members.points, members.buffers, inputs, batched=self._batched)

    def _apart(self, example: Population) -> bool:
        """Tell whether a sample's outputs are the same whatever samples are beside it, as far as one member tells.

        At a point beside the member's own: where a network begins with zeros, nothing would show.
        """
        member = example[[0]]
        noise = torch.randn(member.points.shape, generator=torch.Generator().manual_seed(0))
        member = Population(
            member.space, member.points + BESIDE * noise.to(member.points), member.buffers, member.table
        )
        piece, half = self._inputs[: self._piece], ceil(self._piece / 2)
        whole, part = (self._outputs(member, samples)[0] for samples in (piece, piece[:half]))
        if whole.shape[:1] != piece.shape[:1] or part.shape != (half, *whole.shape[1:]):
            return False
        if not whole.is_floating_point():
            return torch.equal(whole[:half], part)
        kinds = (whole.dtype, self._function.products or whole.dtype)
        rounding = max(1e-3, *(16 * torch.finfo(kind).eps for kind in kinds))
        size = float(whole.abs().nan_to_num(0, 0, 0).amax()) if whole.numel() else 0.0
        return torch.allclose(whole[:half], part, rtol=0, atol=rounding * size, equal_nan=True)

    def _compiled(self, *arguments: Any) -> Callable[..., tuple[Tensor | None, Tensor | None]]:
        if self._program is None:
            key = (self._function.space, tuple(self._means.values()), bool(self._wholes))
            try:
                self._program = compiled(self._piece_scores, *arguments, key=key)
            except CompileError:
                self._program = self._piece_scores
        return self._program


def is_sample_mean(score: Score, labels: Tensor) -> bool:
    """Whether a score's value of all these labels is known to be the mean over samples of what each has by itself."""
    return isinstance(score, Metric | Loss) and score.is_sample_mean(labels)


def members_bytes(outputs: Tensor, samples: int) -> int:
    """Return the bytes of one member's outputs for so many samples, of its outputs ``[1, few, …]`` for a few."""
    return outputs.nbytes * samples // max(1, outputs.shape[1] if outputs.dim() > 1 else 1)


def _row(terms: Mapping[str, Tensor], k: int) -> Named:
    return {name: column[k] for name, column in terms.items()}


def probe(module: torch.nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of one plain module in evaluation mode; what fails names the layer.

    Raises:
        ModelspaceError: the inputs do not fit, or the outputs are not one tensor.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        with torch.no_grad(), seeded_elsewhere(0):
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


@the_users_told()
def evaluate(
    population: Population,
    data: Any,
    metrics: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]] = ("loss", "accuracy"),
    *,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    split: str = "test",
) -> pd.DataFrame:
    """Score every member on one split of the data, in evaluation mode.

    A member's score is ``score(model(inputs), labels)`` of the whole split, however many samples and members are
    computed at once. Losses with class weights, ``ignore_index`` or a sum, and functions of the user's, are no means
    over samples: of those the outputs of all samples are in memory together, of as many members as 64 MiB hold, but
    of one at least.

    Args:
        population: K members.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        metrics: Names, ``"loss"`` among them, or functions of all outputs and all labels of the split to a number;
            see ``modelspace.metrics.Metric``.
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
    few = inputs[: 2 if all(is_sample_mean(s, labels) for s in scores.values()) else SCORED_AT_ONCE]
    outputs = probe(population.module(0), few)
    for metric in scores.values():
        if is_sample_mean(metric, labels):
            metric.check(outputs, labels[: len(few)])
        else:  # what is a function of all samples need not be one of a few
            metric.check_values(outputs, labels[: len(few)])
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
    """Return the scores of every member, shard by shard; ``terms`` are their losses' own hyper-parameters."""
    real = population.points.dtype.to_real()
    own = {n: t.to(population.device, real) for n, t in (terms or {}).items()}
    function = Function(population.space, population.device)
    shard = balanced(len(population), shard_sizes(population.device).scored)
    fallback = unbatched_outputs(function, population, inputs)
    lowering = "vmap" if fallback is None else "loop"
    plan = Plan(lowering, shard, False, torch.get_num_threads(), fallback or "batched", fallback)
    scoring = Scoring(function, scores, inputs, labels, plan, 1, population[[0]])
    parts = []
    with progress(f"evaluating {len(population):,} members", len(population), "members") as advance:
        for start in range(0, len(population), shard):
            rows = slice(start, min(start + shard, len(population)))
            buffers = {n: b[rows] for n, b in population.buffers.items()}
            parts.append(scoring(population.points[rows], buffers, {n: t[rows] for n, t in own.items()}))
            advance(len(parts[-1]))
    return torch.cat(parts)
