"""Outputs and scores of every member on given samples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import ceil, prod
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from modelspace import data as datasets
from modelspace import metrics as catalogue
from modelspace.construction import seeded, seeded_elsewhere
from modelspace.engine.function import Function, Named, stacked_outputs
from modelspace.engine.gradient import Score, at, goal_of, terms_of, work_of
from modelspace.engine.plan import Plan, balanced
from modelspace.engine.program import CompileError, compiled
from modelspace.engine.witness import first_and_last, unbatched, unbatched_outputs
from modelspace.errors import ModelspaceError, the_users_told, told
from modelspace.losses import Loss, Objective, Objectives, kinds_in
from modelspace.metrics import Metric
from modelspace.nest import (
    Nest,
    arguments,
    axes,
    described,
    in_order,
    mapped,
    mapped_together,
    on,
    only_tensors,
    stacked,
    take,
    tensors,
    unweighted,
)
from modelspace.nest import samples as samples_in
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.space import ModelSpace, samples_as
from modelspace.trace import forward_checked
from modelspace.widest import widest

SCORED_AT_ONCE = 128  # samples scored at once: enough to fill the products, few enough to stay in the cache
_MOST_SAMPLES = 512  # at once, where nothing else is in memory
# A call costs milliseconds, whatever it computes, and is repaid by as many members as have so many numbers in their
# widest layer. Where these are fewer than a handful, each alone fills the processor, and is 1.1 to 3.3 × as fast so.
_NUMBERS, _HANDFUL = 2**23, 8
_MOST_MEMBERS = 512
_ON_A_GPU = 256  # members
HELD_AT_ONCE = 2**26  # bytes of outputs that scores of all samples are taken of; one member's at least
BESIDE = 0.05  # how far from a member's point it is looked at whether samples are computed apart


class Scoring:
    """Scores over a fixed set of samples, for shards of one size.

    Outputs are computed a piece of the samples at a time. The mean over samples is the mean of its pieces' values
    (``is_sample_mean``); any other score is taken once, on the outputs of all samples together, of one member after
    the other: then no more members are computed at once than their outputs have room. An objective is computed of
    batches, in order, and its values' mean over samples is taken.

    Args:
        function: The architecture.
        scores: By name, each a function of one member's outputs and labels to a number; or an ``Objective``.
        inputs: A nest of ``[samples, …]``, shared by the members.
        labels: A nest of ``[samples, …]``.
        plan: How members are computed.
        calls: How many times it will be called: whether compiling is repaid.
        example: Some member, by which it is seen whether a sample's outputs depend on the samples beside it: then all
            samples are one piece.
        batch_size: Samples in a batch of an objective.
        piece: The most samples of a piece.

    Attributes:
        piece: The samples computed at once; all of them where outputs depend on the samples beside.
    """

    def __init__(
        self,
        function: Function,
        scores: Mapping[str, Score],
        inputs: Nest,
        labels: Nest,
        plan: Plan,
        calls: int,
        example: Population,
        batch_size: int = SCORED_AT_ONCE,
        piece: int = SCORED_AT_ONCE,
    ):
        self._function = function
        self._inputs, self._labels = inputs, labels
        self._batched = plan.lowering == "vmap"
        self._objective = next(((n, s) for n, s in scores.items() if isinstance(s, Objective)), None)
        of_outputs = {n: s for n, s in scores.items() if not isinstance(s, Objective)}
        self._means = {n: s for n, s in of_outputs.items() if is_sample_mean(s, labels)}
        self._wholes = {n: s for n, s in of_outputs.items() if n not in self._means}
        also = () if self._objective is None else self._objective[1].named
        self.names = (*scores, *also)
        samples = self._samples = samples_in(inputs)
        self._batch = batch_size
        self._together = False  # whether all samples are one piece
        self.piece = ceil(samples / ceil(samples / piece)) if samples else 1
        self._most = plan.shard  # members at once
        if of_outputs and samples > self.piece and not self._apart(example):
            self.piece, self._most = samples, max(1, plan.shard * piece // samples)
            self._together = True
        if samples and self._wholes:
            one = self._outputs(example, take(inputs, slice(min(2, self.piece))))
            self._most = min(self._most, max(1, HELD_AT_ONCE // max(1, members_bytes(one, samples))))
        # In a compiled run the forward alone is worth compiling from about the same length on.
        self._compile = plan.compiled and calls * ceil(samples / self.piece) > 200
        self._programs: dict[str, Callable[..., Any]] = {}

    def __call__(
        self,
        points: Float[Tensor, "member parameter"],
        buffers: Named,
        terms: Mapping[str, Float[Tensor, "member"]],
        rows: Sequence[Int64[Tensor, "row"]] | None = None,
    ) -> Float[Tensor, "member score"]:
        """Return the scores of c members, NaN where there are no samples.

        Args:
            points: ``[c, n]``.
            buffers: ``[c, …]`` each.
            terms: The losses' own columns.
            rows: Each member's own samples; None where all are scored on all.
        """
        if rows is not None:
            return self._own_scores(points, buffers, dict(terms), rows)
        size = ceil(len(points) / ceil(len(points) / self._most))
        parts = []
        for begin in range(0, len(points), size):
            at_once = slice(begin, begin + size)
            own = points[at_once]
            buffers_, terms_ = ({name: x[at_once] for name, x in held.items()} for held in (buffers, terms))
            parts.append(self._scores(own, buffers_, terms_, compile=self._compile and len(own) == size))
        return torch.cat(parts)

    def _own_scores(
        self, points: Tensor, buffers: Named, terms: Named, rows: Sequence[Int64[Tensor, "row"]]
    ) -> Tensor:
        """Score members on samples of their own: those together that have equally many.

        A mean over samples is that of its parts. So members of many different numbers of samples are scored by the
        powers of two that make up the number: a dozen groups at most in place of as many as there are numbers.
        """
        lengths = [len(own) for own in rows]
        powers = {power for length in set(lengths) for power in _powers(length)}
        apart = not (self._wholes or self._together or self._objective) and len(powers) < len(set(lengths))
        alike: dict[int, list[tuple[int, int]]] = {}  # by size: member, and where its samples begin
        for k, length in enumerate(lengths):
            begin = 0
            for size in _powers(length) if apart else [length] if length else []:
                alike.setdefault(size, []).append((k, begin))
                begin += size
        kind = {"dtype": widest(points.device), "device": points.device}
        total = torch.zeros(len(points), len(self.names), **kind)
        for size, parts in alike.items():
            index = torch.stack([rows[k][begin : begin + size] for k, begin in parts]).to(points.device)
            at = torch.tensor([k for k, _ in parts], device=points.device)
            held = ({name: value[at] for name, value in each.items()} for each in (buffers, terms))
            total[at] += self._scores(points[at], *held, compile=False, own=index) * size
        return total / torch.tensor(lengths, **kind)[:, None]

    def _scores(
        self, points: Tensor, buffers: Named, terms: Named, *, compile: bool, own: Tensor | None = None
    ) -> Tensor:
        members, samples = len(points), self._samples if own is None else own.shape[1]
        kind = {"dtype": widest(points.device), "device": points.device}
        if not samples:
            return torch.full((members, len(self.names)), torch.nan, **kind)
        columns: dict[str, Tensor] = {}
        given = points, buffers, terms, own
        whole = samples if self._together else self.piece
        if self._means or self._wholes:
            total, outputs = self._over_pieces(self._piece_scores, whole, given, compile=compile)
            columns |= dict(zip(self._means, (total / samples).unbind(1), strict=True)) if self._means else {}
            for name, score in self._wholes.items():
                columns[name] = self._whole(name, score, outputs, terms, own).to(**kind)
        if self._objective is not None:
            name, objective = self._objective
            total, _ = self._over_pieces(self._objective_values, self._batch, given, compile=compile)
            columns |= dict(zip((name, *objective.named), (total / samples).unbind(1), strict=True))
        return torch.stack([columns[name] for name in self.names], 1)

    def _over_pieces(
        self,
        score: Callable[..., Any],
        size: int,
        given: tuple[Tensor, Named, Named, Tensor | None],
        *,
        compile: bool,
    ) -> tuple[Tensor, Nest]:
        """Sum over the samples what ``score`` gives as means of pieces; join the outputs that it gives."""
        points, buffers, terms, own = given
        samples = self._samples if own is None else own.shape[1]
        total, parts = torch.zeros((), dtype=widest(points.device), device=points.device), []
        for begin in range(0, samples, size):
            piece = slice(begin, begin + size) if own is None else own[:, begin : begin + size]
            inputs, labels = take(self._inputs, piece), take(self._labels, piece)
            count = min(size, samples - begin)
            compute = score
            if compile and count == size:
                compute = self._compiled(score, points, buffers, inputs, labels, terms, False)
            means, outputs = compute(points, buffers, inputs, labels, terms, own is not None)
            if means is not None:
                total = total + means * count
            if outputs is not None:
                parts.append(outputs)
        if len(parts) < 2:
            return total, parts[0] if parts else None
        return total, mapped_together(lambda *pieces: torch.cat(pieces, 1), *parts)

    def _piece_scores(
        self, points: Tensor, buffers: Named, inputs: Nest, labels: Nest, terms: Named, own: bool
    ) -> tuple[Tensor | None, Nest]:
        """Return the means over a piece's samples, ``[member, score]``, and its outputs; where they are needed."""
        outputs = stacked_outputs(self._function, points, buffers, inputs, batched=self._batched, own=own)
        # A lowered layer leaves the batch innermost, where the largest of a row's scores takes five times as long.
        outputs = mapped(Tensor.contiguous, outputs)
        columns = []
        for score in self._means.values():
            if self._batched:
                column = torch.vmap(
                    lambda z, y, t, s=score: self._function.score(at(s, t), z, y),
                    in_dims=(0, axes(labels, 0 if own else None), 0),
                )(outputs, labels, terms)
            else:
                each = [take(labels, k) if own else labels for k in range(len(points))]
                column = torch.stack(
                    [at(score, _row(terms, k))(take(outputs, k), y) for k, y in enumerate(each)]
                )
            columns.append(column.to(widest(points.device)))
        return torch.stack(columns, 1) if columns else None, outputs if self._wholes else None

    def _objective_values(
        self, points: Tensor, buffers: Named, inputs: Nest, labels: Nest, terms: Named, own: bool
    ) -> tuple[Tensor, None]:
        """Return an objective's values of one batch, ``[member, value]``."""
        assert self._objective is not None
        _, objective = self._objective
        values = objective_values(
            self._function, objective, points, buffers, inputs, labels, terms, batched=self._batched, own=own
        )
        names = ("loss", *objective.named)
        return torch.stack([values[name].to(widest(points.device)) for name in names], 1), None

    def _whole(self, name: str, score: Score, outputs: Nest, terms: Named, rows: Tensor | None) -> Tensor:
        """Take a score of all samples' outputs and labels, member by member, in plain tensors to be written into.

        Of a traceable metric, of as many members at once as a piece of the memory that outputs may have holds.
        """
        values = []
        first = tensors(outputs)[0]
        if self._batched and isinstance(score, Metric) and score.traceable:
            few = max(1, HELD_AT_ONCE // 16 * len(first) // max(1, first.nbytes))
            own = self._labels if rows is None else take(self._labels, rows)
            axis = None if rows is None else 0
            with torch.no_grad():
                return torch.vmap(score, in_dims=(0, axis), chunk_size=few)(outputs, own)
        for k in range(len(first)):
            own = take(outputs, k)
            labels = self._labels if rows is None else take(self._labels, rows[k])
            with torch.no_grad():
                try:
                    value = at(score, _row(terms, k))(mapped(Tensor.clone, own), mapped(Tensor.clone, labels))
                except ModelspaceError:
                    raise
                except Exception as error:
                    if all(tensor.isfinite().all() for tensor in tensors(own)):
                        raise ModelspaceError(
                            f"'{name}' failed on the outputs of one member for all {samples_in(labels)} samples, of "
                            f"shape {kinds_in(own)}, and labels of shape {kinds_in(labels)}: {told(error)}"
                        ) from error
                    value = first.new_tensor(torch.nan)  # a member gone astray ends nobody else's run
            values.append(value.detach().to(widest(first.device)))
        return torch.stack(values)

    def _outputs(self, members: Population, inputs: Nest) -> Nest:
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
        half = ceil(self.piece / 2)
        both = (
            tensors(self._outputs(member, take(self._inputs, slice(size)))) for size in (self.piece, half)
        )
        return all(self._alike(whole[0], part[0], half) for whole, part in zip(*both, strict=True))

    def _alike(self, whole: Tensor, part: Tensor, half: int) -> bool:
        if whole.shape[:1] != (self.piece,) or part.shape != (half, *whole.shape[1:]):
            return False
        if not whole.is_floating_point():
            return torch.equal(whole[:half], part)
        kinds = (whole.dtype, self._function.products or whole.dtype)
        rounding = max(1e-3, *(16 * torch.finfo(kind).eps for kind in kinds))
        size = float(whole.abs().nan_to_num(0, 0, 0).amax()) if whole.numel() else 0.0
        return torch.allclose(whole[:half], part, rtol=0, atol=rounding * size, equal_nan=True)

    def _compiled(self, score: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
        name = score.__name__
        if name not in self._programs:
            key = (
                self._function.space,
                name,
                self._objective,
                tuple(self._means.values()),
                bool(self._wholes),
            )
            try:
                self._programs[name] = compiled(score, *arguments, key=key)
            except CompileError:
                self._programs[name] = score
        return self._programs[name]


def objective_values(
    function: Function,
    objective: Objective,
    points: Float[Tensor, "member parameter"],
    buffers: Named,
    inputs: Nest,
    labels: Nest,
    terms: Mapping[str, Float[Tensor, "member"]],
    *,
    batched: bool,
    own: bool = False,
) -> dict[str, Float[Tensor, "member"]]:
    """Compute an objective of one batch in evaluation mode for c members: ``loss`` and what is named beside it.

    With ``own``, inputs and labels have a member axis.
    """

    def one(compute: Callable[..., Any], p: Any, b: Any, terms: Named, inputs: Nest, labels: Nest) -> Any:
        work = work_of(at(objective, terms), labels)
        return compute(p, b, inputs, training=False, work=work)[0]

    copies = {name: value.clone() for name, value in buffers.items()}
    with torch.enable_grad():  # an objective may differentiate with respect to inputs
        if batched:
            views = function.space.layout.views(points.detach())
            samples = (axes(nest, 0 if own else None) for nest in (inputs, labels))
            values = torch.vmap(partial(one, function), in_dims=(0, 0, 0, *samples))(
                views, copies, dict(terms), inputs, labels
            )
        else:
            given = [take((inputs, labels), k) if own else (inputs, labels) for k in range(len(points))]
            values = stacked(
                [
                    one(function.single, points[k], _row(copies, k), _row(terms, k), *batch)
                    for k, batch in enumerate(given)
                ]
            )
    return mapped(Tensor.detach, values)


def _powers(number: int) -> list[int]:
    """Return the powers of two whose sum is a number, from the largest on."""
    return [1 << bit for bit in reversed(range(number.bit_length())) if number >> bit & 1]


def is_sample_mean(score: Score, labels: Nest) -> bool:
    """Whether a score's value of all these labels is known to be the mean over samples of what each has by itself."""
    plain = unweighted(labels) if isinstance(score, Metric) else labels
    return isinstance(score, Metric | Loss) and isinstance(plain, Tensor) and score.is_sample_mean(plain)


def members_bytes(outputs: Nest, samples: int) -> int:
    """Return the bytes of one member's outputs for so many samples, of its outputs ``[1, few, …]`` for a few."""
    return sum(
        part.nbytes * samples // max(1, part.shape[1] if part.dim() > 1 else 1) for part in tensors(outputs)
    )


def _row(terms: Mapping[str, Tensor], k: int) -> Named:
    return {name: column[k] for name, column in terms.items()}


def probe(module: torch.nn.Module, inputs: Nest) -> Nest:
    """Return the outputs of one plain module in evaluation mode, their tensors; what fails names the layer.

    Raises:
        ModelspaceError: the inputs do not fit, or there are no tensors among the outputs.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    positional, keywords = arguments(inputs)
    try:
        with torch.no_grad(), seeded_elsewhere(0):
            outputs = forward_checked(module.eval(), *positional, **keywords)
    finally:
        for layer, training in modes:
            layer.training = training
    if not tensors(found := only_tensors(outputs)):
        raise ModelspaceError(
            f"{type(module).__name__} returned a {type(outputs).__name__}: a tensor is expected, or a tuple, dict or "
            "dataclass of tensors"
        )
    return found


def tried(objective: Objective, module: nn.Module, inputs: Nest, labels: Nest) -> Objective:
    """Compute an objective of one batch with one plain module; return it with the names of its further scalars.

    Raises:
        ModelspaceError: it fails, returns no scalar, or its loss does not depend on the module's parameters.
    """
    what = f"objective '{objective.name}'"
    parts = (
        {"inputs": inputs, "labels": labels} if objective.form == "pair" else objective.batch(inputs, labels)
    )
    module.train()
    try:
        with torch.enable_grad(), seeded(0), seeded_elsewhere(0):
            values = objective.made(module, inputs, labels)
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(f"{what} failed on a batch of {described(parts)}: {told(error)}") from error
    if not values["loss"].requires_grad and any(p.requires_grad for p in module.parameters()):
        raise ModelspaceError(
            f"{what} has no gradient with respect to the model's parameters (.item(), .detach() or no_grad on the "
            "way?)"
        )
    return replace(objective, named=tuple(name for name in values if name != "loss"))


@the_users_told()
def evaluate(
    population: Population,
    data: Any,
    metrics: Iterable[str | Metric | Callable[[Any, Any], Tensor]] | None = None,
    *,
    loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
    objective: Objective | Callable[[Any, Any], Any] | Literal["model"] | None = None,
    batch_size: int = SCORED_AT_ONCE,
    split: str = "test",
) -> pd.DataFrame:
    """Score every member on one split of the data, in evaluation mode.

    A member's score is ``score(model(inputs), labels)`` of the whole split, however many samples and members are
    computed at once. Losses with class weights, ``ignore_index`` or a sum, and functions of the user's, are no means
    over samples: of those the outputs of all samples are in memory together, of as many members as 64 MiB hold, but
    of one at least.

    Where the data are several tasks and the population has a column ``task``, a member is scored on its own samples.

    Args:
        population: K members.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        metrics: Names, ``"loss"`` among them, or functions of all outputs and all labels of the split to a number;
            see ``modelspace.metrics.Metric``. Where None, the loss, and the accuracy if the labels are classes.
        loss: What ``"loss"`` means, cross-entropy where nothing is given; with a column of that name, each member's
            own.
        objective: In place of a loss, as of ``fit``; what it names beside its loss is a column each too.
        batch_size: Samples in a batch of an objective, whose values are means over the split's batches.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        The population's table with one further column a metric; ``test_loss`` (the split's name before it) where
        the table has a column ``loss`` already.

    Raises:
        ModelspaceError: an unknown metric or split, an empty split, or inputs that do not fit.
    """
    data = datasets.load(data)
    part, rows = data.part(split), own_rows(population, data, split)
    goal = goal_of(population, data, loss, objective)
    if isinstance(goal, Objectives):
        return _of_each(population, data, metrics, goal, batch_size, split)
    named = ["loss", *catalogue.usual(goal, data.classes)] if metrics is None else metrics
    scores: dict[str, Score] = {
        metric.name if metric is not goal else "loss": metric
        for metric in [goal if m == "loss" else catalogue.resolve(m, left_out=goal.left_out) for m in named]
    }
    device = population.device
    inputs = on(device, samples_as(part.inputs, population.space.dtype))
    labels = on(device, part.labels)
    if isinstance(goal, Objective) and "loss" in scores:
        batch = (take(nest, slice(max(2, batch_size))) for nest in (inputs, labels))
        scores["loss"] = goal = tried(goal, population.module(0), *batch)
    of_outputs = [s for s in scores.values() if isinstance(s, Loss | Metric) and not isinstance(s, Objective)]
    means = all(is_sample_mean(s, labels) for s in of_outputs)
    few, of_few = (take(nest, slice(2 if means else SCORED_AT_ONCE)) for nest in (inputs, labels))
    outputs: Any = probe(population.module(0), few) if of_outputs else None
    for metric in of_outputs:
        if is_sample_mean(metric, labels):
            metric.check(outputs, of_few)
        else:  # what is a function of all samples need not be one of a few
            metric.check_values(outputs, of_few)
    terms = {n: t for s in scores.values() if isinstance(s, Loss) for n, t in terms_of(population, s).items()}
    columns = members_scores(population, inputs, labels, scores, terms, batch_size, rows)
    also = goal.named if isinstance(goal, Objective) and "loss" in scores else ()
    names = [f"{split}_{name}" if name in population.table else name for name in (*scores, *also)]
    return population.table.assign(**{n: columns[:, i].cpu().numpy() for i, n in enumerate(names)})


def own_rows(population: Population, data: datasets.Data, split: str) -> list[Int64[Tensor, "row"]] | None:
    """Return the samples of a split that each member is scored on; None where all are scored on all of it."""
    if "task" not in population.table or not data.tasks:
        return None
    views = datasets.views_of(data, population.table.loc[:, ["task"]], None, 0)
    assert views is not None
    return [views.of_split(split, k) for k in range(len(population))]


def _of_each(
    population: Population,
    data: datasets.Data,
    metrics: Any,
    goals: Objectives,
    batch_size: int,
    split: str,
) -> pd.DataFrame:
    """The scores of members whose objectives are a column."""
    parts = []
    for name, table in population.table.groupby("objective", sort=False):
        part = population[table.index.to_numpy()].without_columns("objective")
        goal = goals.of(str(name))
        scores = evaluate(part, data, metrics, objective=goal, batch_size=batch_size, split=split)
        parts.append(scores.drop(columns=list(part.table)).set_index(table.index))
    return pd.concat([population.table, pd.concat(parts).sort_index()], axis=1)


def members_at_once(population: Population, samples: int) -> tuple[int, bool]:
    """Return how many members of one program are best evaluated at once, and whether together.

    Args:
        population: The members.
        samples: How many samples of each.
    """
    members, device = len(population), population.device
    most = rows_at_once(population.space if members > 1 else None, device, samples)
    return balanced(members, max(most, _HANDFUL)), device.type != "cpu" or most >= _HANDFUL


def rows_at_once(space: ModelSpace | None, device: torch.device, samples: int) -> int:
    """Return how many members fill the processor together; where they are fewer than a handful, each alone does.

    Args:
        space: Theirs; where None, the size of their layers is not looked at.
        device: Where they compute.
        samples: How many samples of each.
    """
    if device.type != "cpu":
        return _ON_A_GPU
    if space is not None and space.input_shape is not None:
        with suppress(ModelspaceError):
            layers = [layer for layer in space.anatomy().layers if layer.flops or layer.parameters]
            widest = max((prod(layer.output_shape[1:]) for layer in layers), default=1)
            return min(_MOST_MEMBERS, _NUMBERS // max(1, widest * samples))
    return _MOST_MEMBERS // 16


def members_scores(
    population: Population,
    inputs: Nest,
    labels: Nest,
    scores: Mapping[str, Score],
    terms: Mapping[str, Float64[Tensor, "member"]] | None = None,
    batch_size: int = SCORED_AT_ONCE,
    samples: Sequence[Int64[Tensor, "row"]] | None = None,
) -> Float[Tensor, "member score"]:
    """Return the scores of every member, shard by shard.

    Args:
        population: The members.
        inputs: A nest of ``[samples, …]``.
        labels: The same of the labels.
        scores: By name.
        terms: The losses' own hyper-parameters, a value a member.
        batch_size: Samples in a batch of an objective.
        samples: Each member's own; None where all are scored on all.
    """
    parts = population.parts()
    if len(parts) > 1:
        scored = []
        for rows, part in parts:
            own = {name: term[rows] for name, term in (terms or {}).items()}
            theirs = samples and [samples[k] for k in rows]
            scored.append((rows, members_scores(part, inputs, labels, scores, own, batch_size, theirs)))
        return in_order(scored)
    population = parts[0][1]
    if population.is_drawn:
        _ = (
            population.stacks
        )  # seeds are drawn once for all that is asked of them; other points, a shard at a time
    example = population[[0]]
    real = example.points.dtype.to_real()
    own = {n: t.to(population.device, real) for n, t in (terms or {}).items()}
    function = Function(population.space, population.device)
    piece = min(samples_in(inputs), _MOST_SAMPLES)
    shard, together = members_at_once(population, piece)
    of_outputs = not all(isinstance(score, Objective) for score in scores.values())
    fallback = None if together else "a member alone fills the processor"
    if of_outputs and together:
        fallback = unbatched_outputs(function, population, inputs)
    goals = [score for score in scores.values() if isinstance(score, Objective)]
    if goals and fallback is None:
        fallback = _unbatched_objective(function, population, goals[0], inputs, labels, own, batch_size)
    lowering = "vmap" if fallback is None else "loop"
    plan = Plan(lowering, shard, False, torch.get_num_threads(), fallback or "batched", fallback)
    scoring = Scoring(function, scores, inputs, labels, plan, 1, example, batch_size, piece)
    parts = []
    with progress(f"evaluating {len(population):,} members", len(population), "members") as advance:
        for start in range(0, len(population), shard):
            rows = slice(start, min(start + shard, len(population)))
            some, terms = population[rows], {n: t[rows] for n, t in own.items()}
            parts.append(scoring(some.points, some.buffers, terms, samples and samples[rows]))
            advance(len(parts[-1]))
    return torch.cat(parts)


def _unbatched_objective(
    function: Function,
    population: Population,
    objective: Objective,
    inputs: Nest,
    labels: Nest,
    terms: Named,
    batch_size: int,
) -> str | None:
    """Say why an objective can't be computed under ``vmap``; None where it can."""
    members, ends = first_and_last(population), slice(None, None, max(1, len(population) - 1))
    few, of_few = (take(nest, slice(batch_size)) for nest in (inputs, labels))
    own = {name: column[ends] for name, column in terms.items()}
    works = [work_of(at(objective, _row(own, k)), of_few) for k in range(len(members))]
    given = members.points, members.buffers, few, of_few, own
    compute = partial(objective_values, function, objective, *given)
    return unbatched(function, members, few, works, compute, f"objective '{objective.name}'")
