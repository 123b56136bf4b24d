"""``fit``: the search of all rows of a population at once, shard by shard."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.data import Data, epoch_indices
from modelspace.engine import Function, Lowering, Scoring, choose_plan, probe, using_threads
from modelspace.errors import ModelspaceError
from modelspace.fit.early_stopping import EarlyStopping, Stopper
from modelspace.fit.recipe import Recipe, make_recipe
from modelspace.fit.run import DIVERGED, FINISHED, STOPPED, UNFINISHED, Run
from modelspace.fit.step import Shard, make_step
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.optimizers import Optimizer, Schedule
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.space.forward import samples_as


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
        loss: A name, or a function of (outputs, labels) to a scalar.
        optimizer: A name, or an optimizer of ``modelspace.optimizers`` with defaults for what is no column.
        epochs: Passes over the training split.
        batch_size: Samples a step; more than there are means all of them.
        schedule: The learning rate's factor as a function of the step; constant where None.
        clip_norm: Limit of each member's gradient norm.
        clip_value: Limit of each gradient entry.
        metrics: Validation metrics beside the loss; accuracy where the labels are classes.
        early_stopping: An ``EarlyStopping``, or its patience in epochs.
        data_seed: Seed of the shared data order.
        lowering: ``"vmap"`` or ``"loop"``; measured where None.
        chunk: Members in a shard; measured where None.
        compile: Whether the step is compiled; where None, if the run is long enough to repay it.
        threads: Threads within an operation; all or one, as measured, where None. The same lowering, chunk, compile
            and threads (``run.plan.choices``) give the same numbers bit for bit on one machine.

    Returns:
        The run. After Ctrl-C, the run of what was finished until then, with ``interrupted`` set.

    Raises:
        ModelspaceError: data, loss, columns or architecture do not fit each other.
    """
    began = time.perf_counter()
    data = datasets.load(data)
    if metrics is None:
        metrics = ["accuracy"] if data.classes is not None else []
    recipe = make_recipe(
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=clip_norm,
        clip_value=clip_value,
        data_seed=data_seed,
        metrics_=metrics,
        early_stopping=early_stopping,
    )
    training = Training(population, data, recipe)
    choices = {"lowering": lowering, "chunk": chunk, "compile": compile, "threads": threads}
    return training.run(began, choices)


class Training:
    """One fit in progress."""

    def __init__(self, population: Population, data: Data, recipe: Recipe):
        if len(population) == 0:
            raise ModelspaceError("the population has no members")
        self.population = population
        self.data = data
        self.recipe = recipe
        self.device = population.points.device
        self.columns = recipe.columns(population)
        self.coefficients = recipe.coefficients(population)
        self.data_seeds = recipe.data_seeds(population)
        self.function = Function(population.space, self.device)
        self.inputs = samples_as(data.train.inputs, population.space.dtype).to(self.device)
        self.labels = data.train.labels.to(self.device)
        self._check_first_batch()
        self.steps = len(epoch_indices(len(self.inputs), recipe.batch_size, recipe.data_seed, 0))
        seeds = population.table["seed"] if "seed" in population.table else range(len(population))
        self.seeds = torch.tensor([int(s) for s in seeds], dtype=torch.int64, device=self.device)

    def _check_first_batch(self) -> None:
        """Hold one member's outputs against loss and metrics, so that a mismatch is one clear message."""
        size = min(len(self.inputs), max(self.recipe.batch_size, 2))
        outputs = probe(self.population.module(0), self.inputs[:size])
        labels = self.data.train.labels[:size]
        self.recipe.loss.check(outputs.cpu(), labels.cpu())
        if self.data.classes is not None and outputs.dim() >= 2 and self.recipe.loss.name == "cross_entropy":
            for split in self.data.splits.values():
                datasets.check_labels(split.labels, outputs.shape[1])
        for metric in self.recipe.metrics:
            metric.check(outputs.cpu(), labels.cpu())

    def run(self, began: float, choices: dict[str, Any]) -> Run:
        """Plan, then train shard after shard."""
        members, epochs = len(self.population), self.recipe.epochs
        names = ["validation_loss", *(f"validation_{m.name}" for m in self.recipe.metrics)]
        history = {name: np.full((members, epochs), np.nan) for name in ["train_loss", *names]}
        status = np.full(members, UNFINISHED, dtype=object)
        made = np.zeros(members, dtype=np.int64)
        trained = self.population.copy()
        plan, step = choose_plan(
            self._build,
            members,
            self.steps * epochs,
            key=(self.population.space, self.recipe.loss, self.coefficients, self.data_seeds is None),
            **choices,
        )
        if plan.fallback:
            name = self.population.space.title
            warnings.warn(
                f"{name}: {plan.fallback}; its members are computed one after the other", stacklevel=3
            )
        scoring = Scoring(
            self.function,
            {"loss": self.recipe.loss, **{m.name: m for m in self.recipe.metrics}},
            samples_as(self.data.validation.inputs, self.population.space.dtype).to(self.device),
            self.data.validation.labels.to(self.device),
            plan,
            calls=ceil(members / plan.chunk) * epochs,
        )
        interrupted = False
        title = f"fitting {members:,} members of {self.population.space.title}"
        try:
            with (
                using_threads(plan.threads),
                progress(title, members * self.steps * epochs, "member-steps") as advance,
            ):
                for start in range(0, members, plan.chunk):
                    stop = min(start + plan.chunk, members)
                    # The last shard is filled up with copies of the last member: one shape, one program.
                    rows = torch.arange(start, start + plan.chunk).clamp(max=members - 1)
                    shard = self._shard(rows)
                    curves, stopped = self._train(shard, rows, step, scoring, stop - start, advance)
                    real = slice(0, stop - start)
                    trained.points[start:stop] = shard.points[real]
                    for name, value in shard.buffers.items():
                        trained.buffers[name][start:stop] = value[real]
                    for name, values in curves.items():
                        history[name][start:stop] = values[real]
                    active = shard.active[real].cpu().numpy()
                    early = stopped[real].cpu().numpy()
                    status[start:stop] = np.where(early, STOPPED, np.where(active, FINISHED, DIVERGED))
                    made[start:stop] = shard.steps[real].cpu().numpy()
        except KeyboardInterrupt:
            interrupted = True
        seconds = time.perf_counter() - began
        settings = self.recipe.describe()
        return Run(trained, history, status, made, settings, self.data.name, plan, seconds, interrupted)

    def _build(self, lowering: Lowering, chunk: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """A step for shards of this size, and arguments to measure it with."""
        own = self.data_seeds is not None
        step = make_step(self.function, self.recipe.loss, self.coefficients, lowering, own_batches=own)
        rows = torch.arange(chunk).clamp(max=len(self.population) - 1)
        shard = self._shard(rows)
        inputs, labels = next(self._batches(rows, 0))
        coefficients = self.coefficients.of(shard, 0, 1, self.steps * self.recipe.epochs)[0]
        return step, shard.arguments(coefficients, self._numbers(0)[0], inputs, labels)

    def _shard(self, rows: Tensor) -> Shard:
        index = rows.to(self.device)
        points = self.population.points[index]
        return Shard(
            points,
            {name: value[index] for name, value in self.population.buffers.items()},
            self.recipe.optimizer.init(points),
            torch.ones(len(rows), dtype=torch.bool, device=self.device),
            torch.zeros(len(rows), dtype=torch.int64, device=self.device),
            {name: value[rows].to(self.device) for name, value in self.columns.items()},
            self.seeds[index],
        )

    def _batches(self, rows: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch: shared, or stacked where members have their own order."""
        samples, size = len(self.inputs), self.recipe.batch_size
        if self.data_seeds is None:
            order = epoch_indices(samples, size, self.recipe.data_seed, epoch)
        else:
            seeds = self.data_seeds[rows].tolist()
            each = {seed: epoch_indices(samples, size, seed, epoch) for seed in dict.fromkeys(seeds)}
            order = torch.stack([each[seed] for seed in seeds], 1)
        order = order.to(self.device)
        return ((self.inputs[index], self.labels[index]) for index in order)

    def _numbers(self, epoch: int) -> Tensor:
        first = epoch * self.steps
        return torch.arange(first, first + self.steps, dtype=torch.int64, device=self.device)

    def _train(
        self,
        shard: Shard,
        rows: Tensor,
        step: Callable[..., Tensor],
        scoring: Scoring,
        real: int,
        advance: Callable[[int], None],
    ) -> tuple[dict[str, np.ndarray], Tensor]:
        """Train one shard from start to end; its curves, and which members stopped early."""
        epochs = self.recipe.epochs
        members = len(rows)
        scores = [f"validation_{name}" for name in scoring.names]
        curves = {name: np.full((members, epochs), np.nan) for name in ["train_loss", *scores]}
        stopper = Stopper(self.recipe.early_stopping, self.recipe.higher_is_better, shard)
        for epoch in range(epochs):
            numbers = self._numbers(epoch)
            first = epoch * self.steps
            coefficients = self.coefficients.of(shard, first, self.steps, self.steps * epochs)
            losses = torch.empty(self.steps, members, dtype=torch.float64, device=self.device)
            training = shard.active.clone()
            for i, (inputs, labels) in enumerate(self._batches(rows, epoch)):
                losses[i] = step(*shard.arguments(coefficients[i], numbers[i], inputs, labels))
                advance(real)
            measured = scoring(shard.points, shard.buffers)
            kept = (training & shard.active).cpu().numpy()
            for name, values in zip(curves, [losses.mean(0), *measured.unbind(1)], strict=True):
                curves[name][kept, epoch] = values.cpu().numpy()[kept]
            stopper.after({name: values[:, epoch] for name, values in curves.items()})
            if not bool(shard.active[:real].any()):
                advance(real * self.steps * (epochs - epoch - 1))
                break
        stopper.finish()
        return curves, stopper.stopped
