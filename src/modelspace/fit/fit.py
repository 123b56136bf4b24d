"""``fit``: the search of all rows of a population at once, shard by shard."""

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from modelspace import data as datasets
from modelspace.engine import Plan, using_threads
from modelspace.errors import the_users_told
from modelspace.fit.memory import check_kept
from modelspace.fit.options import Options
from modelspace.fit.plan import choose, program
from modelspace.fit.precision import coordinates_in, products_in
from modelspace.fit.runner import Job, Rows, halved, in_workers, pieces
from modelspace.fit.settings import takes
from modelspace.fit.task import prepare
from modelspace.fit.train import Advance, train
from modelspace.memory import free_bytes
from modelspace.population import Population
from modelspace.processes import can_fork, is_out_of_memory
from modelspace.progress import progress
from modelspace.runs import Keep, Recorder, Run, describe, needed


@the_users_told()
@takes(Options)
def fit(population: Population, data: Any, options: Options) -> Run:
    """Train every member of a population on the training split; the given population stays as it is.

    Each member is trained as the plain loop would train it (``modelspace.reference``): its own hyper-parameters
    from the population's columns (by the names of ``torch.optim``: ``lr``, ``weight_decay``, ``betas``, …;
    ``clip_norm``, ``clip_value``; the schedule's own), its own random numbers from its seed. An epoch is
    ⌊N/batch_size⌋ batches of a fresh order, shared by all members unless the population has a column
    ``data_seed``. A member whose loss or point stops being finite is frozen at its last point and counted.

    Args:
        population: K members, on the device where they are to be trained.
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
    population = coordinates_in(options.precision, population)
    recipe = options.resolved(population, data)
    settings, higher = recipe.describe(), recipe.higher_is_better
    about = None
    if options.out is not None:  # what the code is, before any of it is executed
        space, device, tensors = population.space, population.device, recipe.loss.tensors()
        about = describe(space, device, data, options.keep, settings, higher, recipe.code, tensors)
    task = prepare(population, data, recipe)
    keep = Keep.of(options.keep, task.curves, higher)
    with (
        Recorder(options.out, about, fresh=options.fresh, seconds=options.checkpoint_seconds) as recorder,
        products_in(recipe.precision),
    ):
        choices = {**recorder.choices, **options.plan}
        free = free_bytes(task.device)
        workers = choices.get("workers") or (torch.get_num_threads() if can_fork(task.device) else 1)
        check_kept(task, keep, workers, free)
        recorder.allocate(population, task.curves, recipe.epochs, keep, workers)
        left = recorder.left(longer=task.can_go_on)
        if recorder.plan is not None and not left:
            plan, step, memory = recorder.plan, None, None
        else:
            plan, step, memory = choose(task, keep, choices, free, asked="shard" in options.plan)
            _say(plan, population)
        recorder.begin(plan, memory)
        shards = [rows for rows in pieces(left, plan.shard) if not recorder.adopt(rows)]
        members = sum(map(len, shards))
        title = f"fitting {members:,} members of {population.space.title}"
        runner = local if options.runner == "local" else options.runner
        amount = members * task.updates
        with suppress(KeyboardInterrupt), progress(title, amount, "member-steps") as advance:
            plan = runner(Job(task, plan, step), shards, recorder, advance)
        seconds = time.perf_counter() - began
        return recorder.run(plan, seconds, population.space.title, data.name, settings, higher)


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


def _say(plan: Plan, population: Population) -> None:
    """What has no batched form is said once, by name."""
    name = population.space.title
    if plan.fallback:
        warnings.warn(f"{name}: {plan.fallback}; its members are computed one after the other", stacklevel=5)
    elif plan.one_by_one:
        what = ", ".join(plan.one_by_one)
        warnings.warn(
            f"{name}: no batched form of {what}: that alone is computed member by member", stacklevel=5
        )
