"""``fit``: the search of all rows of a population at once, shard by shard."""

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.engine import Plan, using_threads
from modelspace.errors import ModelspaceError, the_users_told
from modelspace.fit.divide import divided
from modelspace.fit.memory import check_kept
from modelspace.fit.options import Options
from modelspace.fit.plan import choose, program
from modelspace.fit.precision import coordinates_in, products_in
from modelspace.fit.records import room
from modelspace.fit.runner import Job, Rows, halved, in_workers, pieces
from modelspace.fit.settings import takes
from modelspace.fit.task import Task, prepare
from modelspace.fit.train import Advance, train
from modelspace.memory import free_bytes
from modelspace.population import Population
from modelspace.processes import can_fork, is_out_of_memory, shared
from modelspace.progress import progress
from modelspace.runs import Held, Keep, Recorder, Run, describe, needed


@the_users_told()
@takes(Options)
def fit(population: Population | Run, data: Any, options: Options) -> Run:
    """Train every member of a population on the training split; the given population stays as it is.

    Each member is trained as the plain loop would train it (``modelspace.reference``): its own hyper-parameters
    from the population's columns (by the names of ``torch.optim``: ``lr``, ``weight_decay``, ``betas``, …;
    ``clip_norm``, ``clip_value``; the schedule's own), its own random numbers from its seed. An epoch is
    ⌊N/batch_size⌋ batches of a fresh order, shared by all members unless the population has a column
    ``data_seed``. A member whose loss or point stops being finite is frozen at its last point and counted.

    Args:
        population: K members, on the device where they are to be trained. Or a run in a folder, which goes on for
            more
            epochs with all that its optimizer remembers, given its settings again.
        data: A ``Data``, or whatever ``modelspace.data.load`` takes: a name, tensors, a data set, a file.
        options: Each by its name, as ``fit(…, epochs=5)``: the fields of ``Options``.

    Returns:
        The run. After Ctrl-C, the run of what was finished until then, with ``interrupted`` set.

    Raises:
        ModelspaceError: data, loss, columns or architecture do not fit each other; the folder can't be written to,
            holds another run, or another process is at it; or memory has no room for it, and what would fit.
    """
    began = time.perf_counter()
    data = datasets.load(data)
    if isinstance(population, Run):
        options = replace(options, out=population.folder if options.out is None else options.out)
        population = population.begun()
    population = coordinates_in(options.precision, population)
    recipe = options.resolved(population, data)
    settings = recipe.describe()
    about = None
    if options.out is not None:  # what the code is, before any of it is executed
        space, device, tensors = population.space, population.device, recipe.loss.tensors()
        about = describe(space, device, data, options.keep, settings, recipe.code, tensors)
    parts = divided(population, data, recipe)
    tasks = [prepare(part.population, data, part.recipe, rows=part.rows) for part in parts]
    curves, higher = tasks[0].curves, tasks[0].recipe.higher_is_better
    for task in tasks:
        if task.curves != curves:
            named = (f"{t.recipe.loss.name} ({', '.join(t.also) or 'none'})" for t in (tasks[0], task))
            raise ModelspaceError(
                f"objectives name different values beside their loss: {' and '.join(named)}; one table has one set "
                "of curves, so let each return the same names"
            )
    if about is not None:
        about["spec"]["also"], about["higher_is_better"] = list(tasks[0].also), higher
    keep = replace(Keep.of(options.keep, curves, higher), records=options.out is None)
    with (
        Recorder(options.out, about, fresh=options.fresh, seconds=options.checkpoint_seconds) as recorder,
        products_in(recipe.precision),
    ):
        free = free_bytes(population.device)
        known = [plan.workers for plan in recorder.plans]
        most = torch.get_num_threads() if can_fork(population.device) else 1
        most = max(options.plan.get("workers") or most, *known, 1)
        for task in tasks:
            check_kept(task, keep, most, free)
        recorder.allocate(population, curves, recipe.epochs, keep, most)
        if keep.records and recipe.record:
            recorder.held = Held([_room_of(task, most) for task in tasks])
        left = recorder.left(longer=all(task.can_go_on for task in tasks))
        jobs = []
        for number, task in enumerate(tasks):
            rows = task.own_of(left)
            plan = recorder.plans[number] if number < len(recorder.plans) else None
            step, memory = None, None
            if plan is None or rows:
                like = next(
                    (job.plan for job, *_ in jobs if plan is None and job.task.computes_like(task)), plan
                )
                choices = {**(like.choices if like else {}), **options.plan}
                plan, step, memory = choose(task, keep, choices, free, asked="shard" in options.plan)
                if like and like.choices == plan.choices:
                    plan = replace(plan, reason=like.reason)
                _say(plan, population)
            jobs.append((Job(task, plan, step), rows, memory))
        predicted = [memory for *_, memory in jobs if memory is not None]
        largest = max(predicted, key=lambda memory: memory.needed, default=None)
        recorder.begin([job.plan for job, *_ in jobs], largest)
        work = [
            (job, [rows for rows in pieces(own, job.plan.shard) if not recorder.adopt(rows)])
            for job, own, _ in jobs
        ]
        members = sum(len(rows) for _, shards in work for rows in shards)
        title = f"fitting {members:,} members of {population.title}"
        runner = local if options.runner == "local" else options.runner
        amount = sum(len(rows) * job.task.updates for job, shards in work for rows in shards)
        plans = [job.plan for job, _ in work]
        with suppress(KeyboardInterrupt), progress(title, amount, "member-steps") as advance:
            for number, (job, shards) in enumerate(work):
                plans[number] = runner(job, shards, recorder, advance)
        seconds = time.perf_counter() - began
        return recorder.run(plans, seconds, population.title, data.name, settings, higher)


def local(job: Job, shards: Sequence[Rows], recorder: Recorder, advance: Advance) -> Plan:
    """Train all shards on this machine, in this process or in as many as the plan says; see ``Runner``."""
    plan, left = job.plan, list(shards)
    with using_threads(plan.threads):
        how = program(job.task, plan, job.step)

        def train_one(rows: Rows, advance: Advance) -> None:
            tensors = train(job.task, how, rows, recorder.restore(rows), recorder, advance)
            recorder.finish(rows, needed(tensors, recorder.needs))

        if plan.workers > 1 and len(left) > 1:
            lost = in_workers(train_one, plan.workers, left, recorder, advance)
            left = [rows for shard in left if (rows := recorder.unfinished(shard))]
            if lost and left:
                plan = halved(plan, lost)
                how, left = program(job.task, plan), pieces(left, plan.shard)
        while left:
            try:
                train_one(left[0], advance)
                recorder.commit(left[0])
                left = left[1:]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                plan = halved(plan, "out of memory")
                # What the failed attempt holds is freed before the next one asks.
                error.__traceback__ = None
                how, left = program(job.task, plan), pieces(left, plan.shard)
    return plan


def _room_of(task: Task, processes: int) -> tuple[np.ndarray, dict[str, dict[str, Tensor]]]:
    """A task's rows, and memory for what is recorded of them, which as many processes may write into."""
    members = len(task.population)
    rows = np.arange(members) if task.rows is None else task.rows
    return rows, room(task.recordings, members, shared if processes > 1 else Tensor.contiguous)


def _say(plan: Plan, population: Population) -> None:
    """What has no batched form is said once, by name."""
    name = population.title
    if plan.fallback:
        warnings.warn(f"{name}: {plan.fallback}; its members are computed one after the other", stacklevel=5)
    elif plan.one_by_one:
        what = ", ".join(plan.one_by_one)
        warnings.warn(
            f"{name}: no batched form of {what}: that alone is computed member by member", stacklevel=5
        )
