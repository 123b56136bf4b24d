"""The plan of a fit: its step in every way of computing it, measured, among shards that memory has room for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

from torch import Tensor

from modelspace.engine import (
    Lowering,
    Plan,
    Scoring,
    balanced,
    choose_plan,
    compiled,
    shard_sizes,
    step_of,
    traced,
)
from modelspace.errors import ModelspaceError
from modelspace.fit.footprint import footprint as footprint_of
from modelspace.fit.memory import check, largest_shard, predict
from modelspace.fit.step import Shard, Step, Stepped
from modelspace.fit.task import Task
from modelspace.fit.train import Program, example, numbers_of, start
from modelspace.memory import Memory
from modelspace.nest import Nest, on
from modelspace.processes import can_fork
from modelspace.progress import notice
from modelspace.runs import Keep
from modelspace.show import bytes_text
from modelspace.space import samples_as


def build(task: Task, lowering: Lowering, size: int) -> tuple[Step, tuple[Shard, Tensor, Tensor, Nest]]:
    """Return the step of shards of some size, and arguments to call it with."""
    own, shard = _first(task, size)
    step = Step(
        task.function,
        task.recipe.loss,
        task.coefficients,
        lowering,
        own_inputs=task.own_inputs,
        own_labels=task.own_labels,
        accumulate=task.recipe.accumulate,
        norms=task.norms,
    )
    numbers = numbers_of(own, 0)[:1]
    coefficients = task.coefficients.of(own.columns, numbers, task.updates, shard.points.dtype)
    return step, (shard, coefficients[0], numbers[0], example(own))


def _first(task: Task, size: int) -> tuple[Task, Shard]:
    """The first shard of some size, filled up with copies of the last member, and its task."""
    rows = [min(row, len(task.population) - 1) for row in range(size)]
    own = task.of_shard(rows)
    return own, start(own, rows).shard


def program(task: Task, plan: Plan, step: Callable[..., Stepped] | None = None) -> Program:
    """Return how shards are computed as a plan says.

    Args:
        task: The fit.
        plan: The plan.
        step: Its step; made anew where None.
    """
    if step is None and (plan.compiled or plan.traced):
        step, arguments = build(task, plan.lowering, plan.shard)
        step = (compiled if plan.compiled else traced)(step, *arguments)
    elif step is None:
        step, _ = step_of(partial(build, task), plan.lowering, plan.shard)
    part = task.data.validation if task.views is None else task.views.scored
    pooled = task.views is not None and part is task.views.pool
    inputs, labels = (task.inputs, task.labels) if pooled else (part.inputs, part.labels)
    scoring = Scoring(
        task.function,
        task.scores,
        on(task.device, samples_as(inputs, task.population.space.dtype)),
        on(task.device, labels),
        plan,
        calls=ceil(task.total / plan.shard) * task.recipe.epochs,
        example=task.population[[0]],
        batch_size=task.recipe.batch_size,
    )
    if plan.compiled and plan.workers > 1:  # compiled here, before processes share it
        own, shard = _first(task, plan.shard)
        scoring(shard.points, shard.buffers, own.terms, None if own.own is None else own.own.scored)
    rest = build(task, plan.lowering, plan.shard)[0] if task.rest or task.stream else None
    return Program(step, scoring, plan.shard, rest)


def choose(
    task: Task, keep: Keep, choices: Mapping[str, Any], free: int, *, asked: bool
) -> tuple[Plan, Callable[..., Stepped] | None, Memory]:
    """Choose the plan among shards that memory has room for.

    Args:
        task: The fit.
        keep: Whose points are kept.
        choices: What was decided already, by the names of ``Plan.choices``.
        free: What is free.
        asked: Whether the shard's size was decided by the user: then it is not changed.

    Returns:
        The plan, its step (None where it is to be made anew), and what it is predicted to take.

    Raises:
        ModelspaceError: what was asked for does not fit, or not even one member does.
    """
    # Before anything is measured memory is looked at for the likely lowering, of a single member the loop.
    lowering = choices.get("lowering") or ("loop" if task.total == 1 else "vmap")
    workers = choices.get("workers") or 1
    shard: int | None = choices.get("shard")
    footprint = footprint_of(task, lowering)
    trial = Plan(lowering, 1, False, 1, "")
    if asked and shard is not None:
        trial = replace(trial, shard=shard, workers=workers)
    check(task, keep, trial, footprint, free)
    largest = largest_shard(task, keep, replace(trial, workers=1), footprint, free)
    if not asked and (shard or 0) * workers > largest:
        choices = {**choices, "shard": None}
    plan, step = measured(task, choices, largest)
    if plan.lowering != lowering:
        footprint = footprint_of(task, plan.lowering)
    members = len(task.population)
    best = balanced(-(-members // plan.workers), largest // plan.workers)
    most_tried = max(shard_sizes(task.device).tried)
    limited = not asked and largest < min(members, most_tried) and plan.shard == best
    first = plan
    while not asked and plan.workers > 1 and not largest_shard(task, keep, plan, footprint, free):
        plan = replace(plan, workers=plan.workers - 1)
    if not asked and predict(task, keep, plan, footprint, free).needed > free:
        most = largest_shard(task, keep, plan, footprint, free)
        plan = replace(plan, shard=balanced(-(-members // plan.workers), most))
    memory = check(task, keep, plan, footprint, free)
    if limited or plan != first:
        size = f"{plan.shard:,} members" if plan.shard > 1 else "1 member"
        each = f" in each of {plan.workers} processes" if plan.workers > 1 else ""
        notice(f"memory: {bytes_text(free)} are free, which is room for shards of {size}{each}")
        plan = replace(plan, reason=f"{plan.reason}; no larger shard fits into memory")
    return plan, step if plan.shard == first.shard else None, memory


def measured(
    task: Task, choices: Mapping[str, Any], largest: int | None = None
) -> tuple[Plan, Callable[..., Stepped]]:
    """Measure what is not decided; return the plan and its step.

    Args:
        task: The fit.
        choices: What was decided already, by the names of ``Plan.choices``.
        largest: Members in memory together, of all processes: larger shards are not tried.
    """
    recipe = task.recipe
    own = (task.own_inputs, task.noise is not None, task.norms)
    key = (task.population.space, recipe.loss, task.coefficients, own, recipe.precision, recipe.accumulate)
    plan, step = choose_plan(
        partial(build, task),
        task.total,
        task.updates,
        key=key,
        fingerprint=task.fingerprint,
        unrolled=lambda: bool(task.function.one_by_one),
        largest=largest,
        sizes=shard_sizes(task.device),
        unbatched=task.unbatched,
        **_possible(task, choices),
    )
    if plan.lowering == "vmap":
        plan = replace(plan, one_by_one=task.function.one_by_one)
    return plan, step


def _possible(task: Task, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices; one process where several can't be, one thread where a device computes."""
    workers, threads = choices.get("workers"), choices.get("threads")
    if workers not in (None, 1) and not can_fork(task.device):
        raise ModelspaceError("worker processes need Linux and members on the CPU: leave workers out")
    if not can_fork(task.device) or task.stream is not None:  # a loader has processes of its own
        workers = 1
    if threads is None and task.device.type != "cpu":
        threads = 1
    return {**choices, "workers": workers, "threads": threads}
