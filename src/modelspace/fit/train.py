"""Training one shard: epochs, batches, scores, early stopping, checkpoints.

It is what ``modelspace.reference.train`` does for one network, for c of them at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.construction import seeded_elsewhere
from modelspace.data import check_labels, epoch_indices, permutation
from modelspace.engine import Draws, Scoring, lowered, stream_seed
from modelspace.errors import ModelspaceError
from modelspace.fit import precision
from modelspace.fit.recipe import EarlyStopping, Epoch
from modelspace.fit.recording import Recorded
from modelspace.fit.records import room
from modelspace.fit.step import Shard, Stepped, by_row, settled
from modelspace.fit.task import Task
from modelspace.nest import Nest, mapped, on, stacked, take
from modelspace.population import Population
from modelspace.runs import Recorder, Status
from modelspace.space import samples_as
from modelspace.widest import widest

Advance = Callable[[int], None]


class Program(NamedTuple):
    """How shards of one size are computed.

    Attributes:
        step: Their step.
        scoring: Their validation scores.
        size: Members in a shard.
        rest: The step of an incomplete batch, which is not compiled; None where there is none.
    """

    step: Callable[..., Stepped]
    scoring: Scoring
    size: int
    rest: Callable[..., Stepped] | None


class Progress(NamedTuple):
    """All that a shard's next update depends on: a nest of tensors, member axis first.

    Attributes:
        shard: The members.
        position: Epochs that are over, and updates in this one: ``[c, 2]``, the same for all.
        losses: Before each update of this epoch: the loss, and what an objective names beside it.
        curves: What was measured after each epoch; NaN where a member made no such epoch.
        stopping: Of early stopping: the best ``score``, the epochs ``waited`` since, who is ``stopped``.
        best: The ``points`` and ``buffers`` that are the result, where these are not the last: the best epoch's, or
            an average.
        schedule: What the schedule remembers of the scores.
        records: What was recorded: ``values`` and ``steps``; see ``room``.
    """

    shard: Shard
    position: Int64[Tensor, "member 2"]
    losses: Float64[Tensor, "member step value"]
    curves: dict[str, Float64[Tensor, "member epoch"]]
    stopping: dict[str, Tensor]
    best: dict[str, Any]
    schedule: dict[str, Float64[Tensor, "member 1"]]
    records: dict[str, dict[str, Tensor]]


def train(
    task: Task,
    program: Program,
    rows: Sequence[int],
    begun: Mapping[str, Tensor] | None = None,
    recorder: Recorder | None = None,
    advance: Advance = lambda _: None,
) -> dict[str, Tensor]:
    """Train some members to the end.

    Args:
        task: The fit.
        program: How they are computed.
        rows: The members, no more than the program's.
        begun: The tensors of their last checkpoint; None where they start.
        recorder: Takes checkpoints; None takes none.
        advance: Told of every member-step.

    Returns:
        The members as named tensors: their results, and all that more epochs would depend on.
    """
    # A shard that is not full is filled up with copies of its last member: one shape, one program.
    places = task.local(rows)
    filled = [*places, *[places[-1]] * (program.size - len(rows))]
    task, recipe, real = task.of_shard(filled), task.recipe, len(rows)
    progress = start(task, filled)
    recorded = None
    if task.recordings:
        progress = progress._replace(records=room(task.recordings, len(filled)))
        recorded = Recorded(task, filled, progress.records)
    if begun is not None:
        restore(progress, begun)
    elif recorded is not None:
        recorded.begin(progress.shard)
    epoch, made = progress.position[0].tolist()
    advance(real * (epoch * task.steps + made))
    while epoch < recipe.epochs:
        if made == 0 and not bool(progress.shard.active[:real].any()):
            advance(real * task.steps * (recipe.epochs - epoch))
            break
        count = min(task.steps, task.updates - epoch * task.steps)
        scheduled = replace(task, columns={**task.columns, **progress.schedule})
        for stepped, shard in updates(scheduled, progress.shard, program.step, epoch, made, program.rest):
            for place, values in enumerate((stepped.losses, *stepped.also.values())):
                progress.losses[:, made, place] = values
            made += 1
            if recorded is not None:
                recorded.step(progress.shard, stepped, shard, epoch, made)
            progress = progress._replace(shard=shard)
            advance(real)
            if recorder is not None and recorder.due:
                progress.position[:] = torch.tensor([epoch, made])
                recorder.checkpoint(rows, named(task, progress, real))
        scored = None if task.own is None else task.own.scored
        scores = program.scoring(
            _result(task, progress)["points"], progress.shard.buffers, task.terms, scored
        )
        _enter(progress, _means(task, progress.losses[:, :count]), scores, epoch)
        progress = progress._replace(schedule=_observed(task, progress, epoch))
        if recipe.early_stopping is not None:
            progress = _stop(task, progress, recipe.early_stopping, epoch)
        if recipe.on_epoch is not None:
            progress = _told(task, progress, rows, epoch)
        epoch, made = epoch + 1, 0
        progress.position[:] = torch.tensor([epoch, made])
        if recorder is not None and recorder.due:
            recorder.checkpoint(rows, named(task, progress, real))
    return named(task, progress, real)


def updates(
    task: Task,
    shard: Shard,
    step: Callable[..., Stepped],
    epoch: int,
    made: int = 0,
    rest: Callable[..., Stepped] | None = None,
) -> Iterator[tuple[Stepped, Shard]]:
    """Make the updates of one epoch.

    Args:
        task: The shard's.
        shard: The members.
        step: Their step.
        epoch: Counted from 0.
        made: Updates of it that are behind.
        rest: The step of an incomplete batch; None where there is none.

    Yields:
        What each step gave, and the shard after it.
    """
    numbers = numbers_of(task, epoch)
    total = task.updates if not task.ragged else (task.own_steps() * task.recipe.epochs).to(task.device)
    coefficients = task.coefficients.of(task.columns, numbers, total, shard.points.dtype)
    given = zip(
        coefficients[made:].unbind(), numbers[made:].unbind(), batches(task, epoch, made), strict=False
    )
    for own, number, batch in given:
        stepped = (rest if rest and task.is_rest(batch) else step)(shard, own, number, batch)
        shard = settled(stepped, shard)
        yield stepped, shard


def numbers_of(task: Task, epoch: int) -> Int64[Tensor, "step *member"]:
    """Return the numbers of an epoch's updates, from 0 at a member's first.

    Of members that make unequal numbers of them, each member's own: −1 where it makes none.
    """
    if not task.ragged:
        last = min((epoch + 1) * task.steps, task.updates)
        return torch.arange(epoch * task.steps, last, device=task.device)
    own, place = task.own_steps(), torch.arange(task.steps)[:, None]
    return torch.where(place < own, epoch * own + place, -1).to(task.device)


def batches(task: Task, epoch: int, made: int = 0) -> Iterator[tuple[Nest, Nest]]:
    """Yield inputs and labels of each update of an epoch: shared, or with a member axis where members have their own.

    Args:
        task: The shard's.
        epoch: Counted from 0.
        made: Updates of it that are behind.
    """
    recipe = task.recipe
    count = min(task.steps, task.updates - epoch * task.steps)
    if task.stream is not None:
        reading = task.stream.read(recipe.data_seed, epoch, made)
        for i, split in zip(range(made, count), reading, strict=False):
            if task.outputs is not None:
                check_labels(split.labels, task.outputs, task.recipe.loss.left_out)
            inputs = on(task.device, samples_as(split.inputs, task.population.space.dtype))
            yield (
                _transformed(task, inputs, epoch * task.steps + i),
                _of_each(task, on(task.device, split.labels)),
            )
        return
    if not task.own_order:
        order = _sequence(task, task.samples, recipe.data_seed, epoch, {})
    else:
        order = torch.stack(list(_own_orders(task, epoch)), 1)
    order = order.to(task.device)
    if recipe.accumulate > 1:
        order = order.unflatten(0, (task.steps, recipe.accumulate))
    indices = [*order.unbind()]
    if task.rest:
        del indices[task.steps - 1 :]
        whole = permutation(task.samples, recipe.data_seed, epoch)
        indices.append(whole[len(whole) - task.rest :].to(task.device))
    for i, index in enumerate(indices[made:count], epoch * task.steps + made):
        if task.noise is None:
            labels = _of_each(task, take(task.labels, index))
        elif not task.own_order:
            labels = task.labels[:, index].movedim(0, index.dim() - 1)
        else:
            labels = task.labels[torch.arange(len(task.labels), device=task.device)[:, None], index]
        yield _transformed(task, take(task.inputs, index), i), labels


def example(task: Task) -> tuple[Nest, Nest]:
    """Return a shard's first batch; of a stream, which is not read for it, the one that is held."""
    if task.stream is None:
        return next(batches(task, 0))
    inputs, labels = take((task.inputs, task.labels), slice(task.batch_size))
    return _transformed(task, inputs, 0), _of_each(task, labels)


def _of_each(task: Task, labels: Nest) -> Nest:
    """Labels of shared samples with a member axis before the samples, where the inputs have one."""
    if task.own_order or not task.own_inputs:
        return labels
    at = int(task.recipe.accumulate > 1)

    def expanded(part: Tensor) -> Tensor:
        whole = part.unsqueeze(at).expand(*part.shape[:at], len(task.seeds), *part.shape[at:])
        return whole.contiguous()  # as a compiled step expects them

    return mapped(expanded, labels)


def _transformed(task: Task, inputs: Nest, number: int) -> Nest:
    """The inputs of an update after the recipe's transform, whose random numbers are a function of seed and step.

    Members that share samples share the random numbers too: what differs between them is the strength.
    """
    recipe, parts = task.recipe, task.recipe.accumulate
    whole = recipe.transform
    if whole is None:
        return inputs
    rows = [task.columns[name][:, 0].tolist() for name in task.strengths]
    strengths = [*zip(*rows, strict=True)] if rows else [()] * len(task.seeds)

    def one(x: Nest, strength: tuple[float, ...], seed: int, step: int) -> Nest:
        draws = Draws(torch.tensor(seed, device=task.device), torch.tensor(step, device=task.device))
        transform = partial(whole, **recipe.typed(dict(zip(task.strengths, strength, strict=True))))
        with torch.no_grad(), lowered(draws, batched=False), seeded_elsewhere(stream_seed(seed, step, 0)):
            return transform(mapped(Tensor.clone, x))

    def members(x: Nest, step: int) -> Nest:
        if task.own_order:
            own = zip(strengths, task.seeds.tolist(), strict=True)
            return stacked([one(take(x, k), *each, step) for k, each in enumerate(own)])
        made = {each: one(x, each, recipe.data_seed, step) for each in dict.fromkeys(strengths)}
        return stacked([made[each] for each in strengths]) if rows else made[()]

    if parts == 1:
        return members(inputs, number)
    return stacked([members(take(inputs, i), number * parts + i) for i in range(parts)])


def _sequence(
    task: Task, samples: int, seed: int, epoch: int, known: dict[Any, Tensor]
) -> Int64[Tensor, "batch sample"]:
    """Return the batches of an epoch of the fit, for a member with so many samples.

    That is an epoch of its own; with a given number of steps, as many batches for all members: then a part of its
    own, or several one after the other. A member that has fewer repeats its first, which no step takes.
    """
    recipe, batch = task.recipe, task.batch_size
    batches = task.steps * recipe.accumulate

    def order(epoch: int) -> Tensor:
        key = samples, seed, epoch
        if key not in known:
            whole = epoch_indices(samples, batch, seed, epoch)
            known[key] = whole[: len(whole) // recipe.accumulate * recipe.accumulate]
        return known[key]

    if recipe.steps is None:
        index = order(epoch)
    else:
        each, first = len(order(0)), epoch * batches
        wholes = range(first // each, -(-(first + batches) // each))
        index = torch.cat([order(e) for e in wholes])[first % each :]
    if len(index) < batches:
        index = torch.cat([index, index[:1].expand(batches - len(index), -1)])
    return index[:batches]


def _own_orders(task: Task, epoch: int) -> Iterator[Int64[Tensor, "batch sample"]]:
    """Yield each member's batches of an epoch, as rows of the pool."""
    seeds = [task.recipe.data_seed] * len(task.seeds) if task.data_seeds is None else task.data_seeds.tolist()
    known: dict[Any, Tensor] = {}
    for k, seed in enumerate(seeds):
        rows = None if task.own is None else task.own.train[k]
        index = _sequence(task, task.samples if rows is None else len(rows), seed, epoch, known)
        yield index if rows is None else rows[index]


def start(task: Task, rows: Sequence[int]) -> Progress:
    """Return a shard before its first update.

    Args:
        task: The shard's.
        rows: Its members.
    """
    members, recipe, device = task.population[rows], task.recipe, task.device
    points, buffers, count = members.points, members.buffers, len(rows)
    active = torch.ones(count, dtype=torch.bool, device=device)
    waited = torch.zeros(count, dtype=torch.int64, device=device)
    state = task.coefficients.init(points)
    rule, stopping, best = recipe.early_stopping, {}, {}
    if rule is not None:
        score = torch.full((count,), torch.inf, dtype=widest(device), device=device)
        stopping = {"score": score, "waited": waited, "stopped": torch.zeros_like(active)}
    if recipe.on_epoch is not None and rule is None:
        stopping = {"stopped": torch.zeros_like(active)}
    if keeps_result(task, points, state):
        best = {"points": points.clone(), "buffers": {n: value.clone() for n, value in buffers.items()}}
    shard = Shard(
        points,
        buffers,
        state,
        precision.scaling(count, task.function.products, device),
        active,
        torch.zeros_like(waited),
        task.seeds.to(device),
    )
    curve = torch.full((count, recipe.epochs), torch.nan, dtype=torch.float64)
    return Progress(
        shard,
        torch.zeros(count, 2, dtype=torch.int64),
        torch.zeros(count, task.steps, 1 + len(task.also), dtype=widest(device), device=device),
        {name: curve.clone() for name in task.curves},
        stopping,
        best,
        recipe.schedule.memory(task.columns),
        {},
    )


def keeps_result(task: Task, points: Tensor, state: dict[str, Tensor]) -> bool:
    """Whether the members' result is another than their last points: those of the best epoch, or an average."""
    rule = task.recipe.early_stopping
    averages = task.coefficients.optimizer.evaluated(points, state) is not points
    return averages or (rule is not None and rule.restore_best)


def named(task: Task, progress: Progress, real: int) -> dict[str, Tensor]:
    """Return a shard as named tensors, member axis first.

    Args:
        task: The shard's.
        progress: The shard, with early stopping and curves.
        real: Its members; what fills it up stands behind them.
    """
    shard, stopping = progress.shard, progress.stopping
    states = torch.where(shard.active, Status.FINISHED.code, Status.DIVERGED.code)
    if stopping:
        states = torch.where(stopping["stopped"], Status.STOPPED.code, states)
    if progress.best:  # a member that has none yet has its last
        rule = task.recipe.early_stopping
        seen = torch.zeros_like(shard.active)
        if rule is not None and rule.restore_best:
            seen = stopping["score"].isfinite()
        now = _result(task, progress)
        best = pytree.tree_map(lambda best, last: by_row(seen, best, last), progress.best, now)
        progress = progress._replace(best=best)
    leaves = {"states": states.to(torch.int8), **_leaves(progress)}
    return {name: value[:real] for name, value in leaves.items()}


def restore(progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Go on, in place, from what ``named`` gave of as many members or fewer, of as many epochs or fewer."""
    index = torch.arange(len(progress.position)).clamp(max=len(tensors["active"]) - 1)
    for name, value in _leaves(progress).items():
        known = tensors[name][index]
        value[tuple(map(slice, known.shape))] = known.to(value)


def _leaves(progress: Progress) -> dict[str, Tensor]:
    """The tensors of a nest, by the keys on the way to them; the shard's fields stand at its top."""
    nest = {**progress.shard._asdict(), **progress._asdict()}
    del nest["shard"]
    leaves, _ = pytree.tree_flatten_with_path(nest)
    return {".".join(str(key.key) for key in path): value for path, value in leaves}  # pyright: ignore


def _result(task: Task, progress: Progress) -> dict[str, Any]:
    """What the members are now: points at which they are scored, and buffers."""
    shard = progress.shard
    points = task.coefficients.optimizer.evaluated(shard.points, shard.state)
    return {"points": points, "buffers": shard.buffers}


def _told(task: Task, progress: Progress, rows: Sequence[int], epoch: int) -> Progress:
    """Call what is to be called after an epoch; stop the members that it says."""
    assert task.recipe.on_epoch is not None
    real, now, before = len(rows), _result(task, progress), task.population
    table = before.table.iloc[task.local(rows)]
    buffers = {name: value[:real].clone() for name, value in now["buffers"].items()}
    members = Population(before.space, now["points"][:real].clone(), buffers, table)
    scores = {name: values[:real, epoch].numpy().copy() for name, values in progress.curves.items()}
    mask = task.recipe.on_epoch(Epoch(epoch, list(rows), members, scores))
    if mask is None:
        return progress
    asked = torch.as_tensor(np.asarray(mask, dtype=bool), device=task.device)
    if asked.shape != (real,):
        raise ModelspaceError(
            f"on_epoch returned {tuple(asked.shape)}: a mask has one entry for each of the {real} members, or is None"
        )
    now_stopped = torch.zeros_like(progress.shard.active)
    now_stopped[:real] = asked
    now_stopped &= progress.shard.active
    stopping = {**progress.stopping, "stopped": progress.stopping["stopped"] | now_stopped}
    active = progress.shard.active & ~now_stopped
    return progress._replace(shard=progress.shard._replace(active=active), stopping=stopping)


def _means(task: Task, losses: Float64[Tensor, "member step value"]) -> Float64[Tensor, "member value"]:
    """The means of what was measured at each update, over those that the member made."""
    if not task.ragged:
        return losses.mean(1)
    own = task.own_steps().to(losses.device)
    made = torch.arange(losses.shape[1], device=losses.device) < own[:, None]
    return torch.where(made[:, :, None], losses, 0).sum(1) / own[:, None]


def _enter(
    progress: Progress,
    means: Float64[Tensor, "member value"],
    scores: Float[Tensor, "member score"],
    epoch: int,
) -> None:
    """Enter an epoch's training loss and validation scores into the curves."""
    kept = progress.shard.active.cpu()
    values = torch.cat([means, scores], 1).cpu().to(torch.float64)
    for curve, column in zip(progress.curves.values(), values.unbind(1), strict=True):
        curve[kept, epoch] = column[kept]


def _observed(task: Task, progress: Progress, epoch: int) -> dict[str, Tensor]:
    """What the schedule remembers after an epoch's scores."""
    schedule, memory = task.recipe.schedule, progress.schedule
    scores = {name: progress.curves[name][:, epoch] for name in schedule.monitors}
    on = {name: score.to(task.device, widest(task.device)) for name, score in scores.items()}
    return schedule.observed(memory, task.columns, on, task.recipe.higher_is_better)


def _stop(task: Task, progress: Progress, rule: EarlyStopping, epoch: int) -> Progress:
    """Take in the scores of an epoch, and stop the members that have waited long enough."""
    shard, stopping = progress.shard, progress.stopping
    known = rule.monitor in task.recipe.higher_is_better
    sign = -1.0 if (known if rule.higher_is_better is None else rule.higher_is_better) else 1.0
    score = sign * progress.curves[rule.monitor][:, epoch].to(stopping["score"])
    better = score < stopping["score"] - rule.min_delta
    waited = torch.where(better, 0, stopping["waited"] + 1)
    now = shard.active & (waited >= rule.patience)
    best = progress.best
    if rule.restore_best:
        last = _result(task, progress)
        best = pytree.tree_map(lambda best, last: by_row(better, last, best), best, last)
    return progress._replace(
        shard=shard._replace(active=shard.active & ~now),
        stopping={
            "score": torch.where(better, score, stopping["score"]),
            "waited": waited,
            "stopped": stopping["stopped"] | now,
        },
        best=best,
    )
