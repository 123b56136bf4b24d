"""``fit``: the search of all rows of a population at once, shard by shard."""

import os
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.engine import Lowering, Plan, loss_of
from modelspace.engine.workers import can_fork
from modelspace.errors import the_users_told
from modelspace.fit import memory as memories
from modelspace.fit.early_stopping import EarlyStopping
from modelspace.fit.execution import pieces
from modelspace.fit.precision import Precision, products_in
from modelspace.fit.recipe import make_recipe
from modelspace.fit.runner import Job, Runner
from modelspace.fit.runner import resolve as resolve_runner
from modelspace.fit.training import Training
from modelspace.losses import Loss
from modelspace.memory import free_bytes
from modelspace.metrics import Metric, usual
from modelspace.optimizers import Optimizer, Schedule
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.runs import Keep, Recorder, Run, describe


@the_users_told()
def fit(
    population: Population,
    data: Any,
    *,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    epochs: int = 20,
    batch_size: int = 32,
    schedule: str | Schedule | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    metrics: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]] | None = None,
    early_stopping: EarlyStopping | int | None = None,
    data_seed: int = 0,
    lowering: Lowering | None = None,
    chunk: int | None = None,
    compile: bool | None = None,
    threads: int | None = None,
    workers: int | None = None,
    runner: str | Runner = "local",
    precision: Precision = "32",
    accumulate: int = 1,
    out: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    keep: Literal["all", "scores"] | int = "all",
    checkpoint_seconds: float = 60.0,
) -> Run:
    """Train every member of a population on the training split; the given population stays as it is.

    Each member is trained as the plain loop would train it (``modelspace.reference``): its own hyper-parameters
    from the population's columns (by the names of ``torch.optim``: ``lr``, ``weight_decay``, ``betas``, …;
    ``clip_norm``, ``clip_value``; the schedule's own), its own random numbers from its seed. An epoch is
    ⌊N/batch_size⌋ batches of a fresh order, shared by all members unless the population has a column
    ``data_seed``. A member whose loss or point stops being finite is frozen at its last point and counted.

    Args:
        population: K members, on the device where they are to be trained.
        data: A ``Data``, or whatever ``modelspace.data.load`` takes: a name, tensors, a data set, a file.
        loss: A name, a loss of ``modelspace.losses``, or a function of (outputs, labels) to a scalar. A column
            ``loss`` of the population holds each member's own by name, and columns may hold the losses' parameters
            (``gamma``, ``delta``, …).
        optimizer: A name, or an optimizer of ``modelspace.optimizers`` with defaults for what is no column.
        epochs: Passes over the training split.
        batch_size: Samples a step; more than there are means all of them.
        schedule: The learning rate's factor as a function of the step; constant where None.
        clip_norm: Limit of each member's gradient norm.
        clip_value: Limit of each gradient entry.
        metrics: Validation metrics beside the loss; accuracy where the labels are classes and outputs score them.
        early_stopping: An ``EarlyStopping``, or its patience in epochs.
        data_seed: Seed of the shared data order.
        lowering: ``"vmap"`` or ``"loop"``; measured where None.
        chunk: Members in a shard; measured where None.
        compile: Whether the step is compiled; where None, if the run is long enough to repay it.
        threads: Threads within an operation; all or one, as measured, where None.
        workers: Processes that share the shards, each with one thread; measured where None. The same lowering, chunk,
            compile, threads and workers (``run.plan.choices``) give the same numbers bit for bit on one machine.
        runner: Who trains the shards: ``"local"``, this machine; ``"ray"``, a Ray cluster, or a Ray of its own
            here (``modelspace.distribute.RayRunner``); or a ``modelspace.fit.Runner`` of your own.
        precision: ``"32"``: the coordinates' own type; ``"bf16-mixed"`` or ``"16-mixed"``: matrix products in 16
            bits, float16 with a loss scale for each member; ``"tf32"``: float32 products at reduced precision on a
            GPU.
        accumulate: Batches whose gradients' mean makes one update.
        out: A folder in which the run is written down as it goes; None writes nothing. The same call continues a run
            that was killed, bit for bit as if it had not been; with more members or epochs, only what is missing
            is trained (more epochs where the schedule does not depend on their number).
        fresh: Remove what the folder holds of another run first.
        keep: Whose points are kept: ``"all"``; the best so many of each setting, by the last validation score;
            or none, ``"scores"``: then memory does not grow with the members' points.
        checkpoint_seconds: How often, about, a shard in training is put down in the folder.

    Returns:
        The run. After Ctrl-C, the run of what was finished until then, with ``interrupted`` set.

    Raises:
        ModelspaceError: data, loss, columns or architecture do not fit each other; the folder can't be written to,
            holds another run, or another process is at it; or memory has no room for it, and what would fit.
    """
    began = time.perf_counter()
    train_all = resolve_runner(runner)
    data = datasets.load(data)
    objective = loss_of(population, loss)
    recipe = make_recipe(
        loss=objective,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=clip_norm,
        clip_value=clip_value,
        data_seed=data_seed,
        metrics_=usual(objective, data.classes) if metrics is None else metrics,
        early_stopping=early_stopping,
        precision=precision,
        accumulate=accumulate,
    )
    about, executed = (
        None,
        (*objective.code, *(m.function for m in recipe.metrics), recipe.optimizer, recipe.schedule),
    )
    if out is not None:
        about = describe(
            population.space,
            population.device,
            data,
            keep,
            recipe.describe(),
            recipe.higher_is_better,
            executed,
        )
    training = Training(population, data, recipe)
    policy = Keep.of(keep, training.curves, recipe.higher_is_better)
    choices = {
        "lowering": lowering,
        "chunk": chunk,
        "compile": compile,
        "threads": threads,
        "workers": workers,
    }
    with (
        Recorder(out, about, fresh=fresh, seconds=checkpoint_seconds) as recorder,
        products_in(precision),
    ):
        choices = {n: recorder.choices.get(n) if value is None else value for n, value in choices.items()}
        processes = workers or (torch.get_num_threads() if can_fork(training.device) else 1)
        free = free_bytes(training.device)
        memories.check_kept(training, policy, processes, free)
        recorder.allocate(population, training.curves, epochs, policy, processes)
        groups = recorder.left(longer=training.can_go_on)
        if recorder.plan is not None and not groups:
            plan, step, memory = recorder.plan, None, None
        else:
            asked = chunk is not None
            plan, step, memory = memories.plan_within(training, policy, choices, free, asked=asked)
            _say(plan, population)
        recorder.begin(plan, memory)
        shards = [rows for rows in pieces(groups, plan.chunk) if not recorder.adopt(rows)]
        title = f"fitting {sum(map(len, shards)):,} members of {population.space.title}"
        amount = sum(map(len, shards)) * training.steps * epochs
        try:
            with progress(title, amount, "member-steps") as advance:
                plan = train_all(Job(training, plan, step), shards, recorder, advance)
        except KeyboardInterrupt:
            pass  # the run says which members are unfinished
        seconds = time.perf_counter() - began
        settings, higher = recipe.describe(), recipe.higher_is_better
        return recorder.run(plan, seconds, population.space.title, data.name, settings, higher)


def _say(plan: Plan, population: Population) -> None:
    """What has no batched form is said once, by name."""
    name = population.space.title
    if plan.fallback:
        warnings.warn(f"{name}: {plan.fallback}; its members are computed one after the other", stacklevel=3)
    elif plan.one_by_one:
        what = ", ".join(plan.one_by_one)
        warnings.warn(
            f"{name}: no batched form of {what}: that alone is computed member by member", stacklevel=3
        )
