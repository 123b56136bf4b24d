"""A fit in progress: its data, its plan, and the training of one shard."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace import data as datasets
from modelspace.data import Data, epoch_indices, noisy_labels
from modelspace.engine import (
    Function,
    Lowering,
    Plan,
    Scoring,
    choose_plan,
    compiled,
    fingerprint,
    members_scores,
    probe,
    terms_of,
)
from modelspace.engine.evaluate import is_sample_mean
from modelspace.engine.function import Verdict
from modelspace.engine.plan import step_of
from modelspace.engine.real_modules import Trial
from modelspace.engine.shard_sizes import shard_sizes
from modelspace.engine.terms import Score
from modelspace.engine.witness import witnessed
from modelspace.engine.workers import can_fork
from modelspace.errors import ModelspaceError
from modelspace.fit import precision
from modelspace.fit.course import Course
from modelspace.fit.early_stopping import Stopper
from modelspace.fit.execution import Record, Trainer
from modelspace.fit.recipe import Recipe
from modelspace.fit.step import After, Shard, make_step
from modelspace.metrics import usual
from modelspace.population import Population
from modelspace.progress import notice
from modelspace.space.forward import samples_as
from modelspace.widest import widest

_WITNESSED = 2  # batches: state that the first leaves behind shows in the second


class Training:
    """One fit in progress.

    Args:
        population: Its members, on the device where they are to be trained.
        data: Its data.
        recipe: Its settings.
        members: How many the whole fit has, where these are some of them.
        trusting: Whether to go on even where the engine and the real modules differ.

    Attributes:
        verdict: How the engine may compute the network.
    """

    def __init__(
        self,
        population: Population,
        data: Data,
        recipe: Recipe,
        members: int | None = None,
        *,
        trusting: bool = False,
    ):
        if len(population) == 0:
            raise ModelspaceError("the population has no members")
        self.data = data
        self.recipe = recipe
        self.device = population.device
        self.made_before = population.is_made  # asking for all points makes them
        self.members = len(population) if members is None else members
        seeds = population.table["seed"] if "seed" in population.table else range(len(population))
        self._take(population, torch.tensor([int(s) for s in seeds], dtype=torch.int64))
        self.coefficients = recipe.coefficients(population)
        if population.space.dtype.is_complex and "clip_value" in self.coefficients.clipping:
            raise ModelspaceError(
                f"clip_value limits real gradient entries, and the coordinates are {population.space.dtype}, which "
                "have no order: use clip_norm"
            )
        self.products = precision.resolve(recipe.precision, self.device)
        self.function = Function(population.space, self.device, self.products)
        self.inputs = samples_as(data.train.inputs, population.space.dtype).to(self.device)
        self.labels = data.train.labels.to(self.device)
        self._check_first_batch()
        batches = len(epoch_indices(len(self.inputs), recipe.batch_size, recipe.data_seed, 0))
        self.steps = batches // recipe.accumulate
        if self.steps == 0:
            raise ModelspaceError(
                f"an epoch has {batches} batches of {recipe.batch_size}, fewer than accumulate={recipe.accumulate}"
            )
        self.verdict = self._witnessed()
        if self.verdict.refused is not None and not trusting:
            raise ModelspaceError(self.verdict.refused)

    def _take(self, population: Population, seeds: Tensor) -> None:
        self.population = population
        self.columns = self.recipe.columns(population)
        self.data_seeds = self.recipe.data_seeds(population)
        self.noise = self.columns.pop("label_noise", None)
        self._noisy: tuple[Tensor, Tensor] | None = (
            None  # the last shard's labels, the same in all its epochs
        )
        self.seeds = seeds.to(self.device)

    def of(self, population: Population, seeds: Int64[Tensor, "member"]) -> "Training":
        """The same fit of other members, which what was built for these serves too: steps and scoring.

        Args:
            population: Of the same space, with the same columns.
            seeds: What their random numbers are a function of.
        """
        other = copy.copy(self)
        other._take(population, seeds)
        return other

    def under(self, recipe: Recipe) -> "Training":
        """The same fit under other settings of optimizer and schedule: its members, data and batches stay."""
        other = copy.copy(self)
        other.recipe, other.coefficients = recipe, recipe.coefficients(self.population)
        other._take(self.population, self.seeds)
        return other

    def _check_first_batch(self) -> None:
        """Hold one member's outputs against loss and metrics, so that a mismatch is one clear message."""
        size = min(len(self.inputs), max(self.recipe.batch_size, 2))
        # A selection draws its own points: the others' are not to be in memory yet.
        outputs = probe(self.population[[0]].module(0), self.inputs[:size])
        labels = self.data.train.labels[:size]
        self.recipe.loss.check(outputs.cpu(), labels.cpu())
        if usual(self.recipe.loss, self.data.classes) and outputs.dim() >= 2:
            for split in self.data.splits.values():
                datasets.check_labels(split.labels, outputs.shape[1])
        for metric in self.recipe.metrics:
            metric.check(outputs.cpu(), labels.cpu())
        self._check_scores()

    def _check_scores(self) -> None:
        """Take what is a function of all validation samples once, so that what fails there fails before training."""
        part, member = self.data.validation, self.population[[0]]
        inputs, labels = (
            samples_as(part.inputs, member.space.dtype).to(self.device),
            part.labels.to(self.device),
        )
        scores = {n: s for n, s in self.scores.items() if not is_sample_mean(s, labels)}
        if scores and len(part):
            members_scores(member, inputs, labels, scores, terms_of(member, self.recipe.loss))

    def _witnessed(self) -> Verdict:
        """Hold the engine against real modules on the first batches."""
        seeds = self.seeds.tolist()
        rows = list(dict.fromkeys([0, next((k for k, seed in enumerate(seeds) if seed != seeds[0]), 0)]))
        order = epoch_indices(len(self.inputs), self.recipe.batch_size, self.recipe.data_seed, 0)
        batches = [(self.inputs[index], self.labels[index]) for index in order[:_WITNESSED].to(self.device)]
        members = self.population[rows]
        terms = {
            n: self.columns[n][rows, 0].to(self.device, members.points.dtype) for n in self.coefficients.terms
        }
        function = self.function if self.products is None else Function(self.population.space, self.device)
        trial = Trial(members, self.recipe.loss, batches, [seeds[k] for k in rows], terms)
        verdict = witnessed(function, trial)
        self.function.trust(verdict)
        if verdict.counters and verdict.refused is None:
            notice(
                f"{self.population.space.title}: its forward changes {', '.join(verdict.counters)}, no parameter "
                "and no buffer. Nothing depended on it in the first batches; if something does later, members share "
                "it: register it as a buffer (self.register_buffer)"
            )
        return verdict

    def plan(self, choices: dict[str, Any], largest: int | None = None) -> tuple[Plan, Callable[..., Any]]:
        """How it is computed, and the step for shards of that size; what can't be batched is said.

        Args:
            choices: What was decided already.
            largest: Members in memory together, of all processes: larger shards are not tried.
        """
        recipe, space = self.recipe, self.population.space
        key = (
            space,
            recipe.loss,
            self.coefficients,
            self.data_seeds is None,
            self.noise is None,
            recipe.precision,
            recipe.accumulate,
        )
        plan, step = choose_plan(
            self.build,
            self.members,
            self.steps * recipe.epochs,
            key=key,
            fingerprint=self.fingerprint(),
            unrolled=lambda: bool(self.function.one_by_one),
            largest=largest,
            sizes=shard_sizes(self.device),
            unbatched=self.verdict.batched,
            **self._possible(choices),
        )
        if plan.lowering == "vmap":
            plan = replace(plan, one_by_one=self.function.one_by_one)
        return plan, step

    def _possible(self, choices: dict[str, Any]) -> dict[str, Any]:
        """The choices; one process where several can't be, one thread where a device computes."""
        if choices["workers"] is None and not can_fork(self.device):
            choices = {**choices, "workers": 1}
        if choices["workers"] not in (None, 1) and not can_fork(self.device):
            raise ModelspaceError("worker processes need Linux and members on the CPU: leave workers out")
        if choices["threads"] is None and self.device.type != "cpu":
            choices = {**choices, "threads": 1}
        return choices

    def fingerprint(self) -> str:
        """What the times of a step depend on."""
        space, recipe = self.population.space, self.recipe
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        batch = (
            recipe.batch_size,
            recipe.accumulate,
            self.inputs.shape[1:],
            self.inputs.dtype,
            self.labels.shape[1:],
        )
        settings = (str(recipe.loss), repr(recipe.optimizer), self.coefficients.names, recipe.precision)
        shared = (self.data_seeds is None, self.noise is None)
        return fingerprint(space.signature(), batch, settings, shared, device)

    def scoring(self, plan: Plan) -> Scoring:
        """The validation scores, for shards as the plan says; compiled here, before processes share it."""
        part = self.data.validation
        scoring = Scoring(
            self.function,
            self.scores,
            samples_as(part.inputs, self.population.space.dtype).to(self.device),
            part.labels.to(self.device),
            plan,
            calls=ceil(self.members / plan.chunk) * self.recipe.epochs,
            example=self.population[[0]],
        )
        if plan.compiled and plan.workers > 1:
            shard = self.shard(self._rows(0, plan.chunk))
            scoring(shard.points, shard.buffers, self.terms(shard))
        return scoring

    @property
    def scores(self) -> dict[str, Score]:
        """What is measured on the validation split, by name."""
        return {"loss": self.recipe.loss, **{m.name: m for m in self.recipe.metrics}}

    @property
    def curves(self) -> list[str]:
        """The names of what is recorded after each epoch."""
        return ["train_loss", "validation_loss", *(f"validation_{m.name}" for m in self.recipe.metrics)]

    @property
    def can_go_on(self) -> bool:
        """Whether a member's first epochs are the same however many follow: the schedule does not look ahead."""
        given = {**self.recipe.schedule.hyperparameters(), **self.columns}
        columns = {name: given[name].T for name in self.recipe.schedule.hyperparameters()}
        steps = self.steps * self.recipe.epochs
        numbers = torch.arange(min(steps, 4096), dtype=torch.float64)[:, None]
        shorter, longer = (self.recipe.schedule.factor(numbers, n, columns) for n in (steps, 10 * steps))
        return bool(torch.equal(shorter, longer))

    def made(self, plan: Plan) -> Callable[..., Any]:
        """The step as a plan says, made anew."""
        if not plan.compiled:
            return step_of(self.build, plan.lowering, plan.chunk)[0]
        step, arguments = self.build(plan.lowering, plan.chunk)
        return compiled(step, *arguments)

    def trainer(
        self, plan: Plan, step: Callable[..., Any] | None = None, scoring: Scoring | None = None
    ) -> Trainer:
        """The function that trains one shard as the plan says.

        Args:
            plan: The plan.
            step: Its step; made anew where None.
            scoring: Its scoring; made anew where None.
        """
        make_update = step or self.made(plan)
        score = scoring or self.scoring(plan)

        def train(rows: Sequence[int], record: Record, advance: Callable[[int], None]) -> None:
            # A shard that is not full is filled up with copies of its last member: one shape, one program.
            filled = torch.tensor([*rows, *[rows[-1]] * (plan.chunk - len(rows))])
            course = self.course(filled)
            begun = record.restore(rows)
            if begun is not None:
                course.restore(begun)
                advance(len(rows) * (course.epoch * self.steps + course.step))
            self._train(course, filled, make_update, score, rows, record, advance)
            record.finish(rows, course.tensors(len(rows), record.needs))

        return train

    def _rows(self, start: int, stop: int) -> Tensor:
        return torch.arange(start, stop).clamp(max=len(self.population) - 1)

    def build(self, lowering: Lowering, chunk: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """A step for shards of this size, and arguments to measure it with."""
        own = self.data_seeds is not None
        accumulate = self.recipe.accumulate
        step = make_step(
            self.function,
            self.recipe.loss,
            self.coefficients,
            lowering,
            own_batches=own,
            own_labels=own or self.noise is not None,
            accumulate=accumulate,
        )
        rows = self._rows(0, chunk)
        shard = self.shard(rows)
        inputs, labels = next(self._batches(rows, 0))
        coefficients = self.coefficients.of(shard, 0, 1, self.steps * self.recipe.epochs)[0]
        return step, shard.arguments(coefficients, self._numbers(0)[0], inputs, labels)

    def shard(self, rows: Tensor) -> Shard:
        """These members, before their first step."""
        index = rows.to(self.device)
        members = self.population[rows.tolist()]
        points = members.points
        return Shard(
            points,
            members.buffers,
            self.recipe.optimizer.init(points),
            torch.ones(len(rows), dtype=torch.bool, device=self.device),
            torch.zeros(len(rows), dtype=torch.int64, device=self.device),
            {name: value[rows].to(self.device, widest(self.device)) for name, value in self.columns.items()},
            self.seeds[index],
            precision.scaling(len(rows), self.products, self.device),
        )

    def terms(self, shard: Shard) -> dict[str, Tensor]:
        """The hyper-parameters of the loss that differ from member to member, ``[c]`` each."""
        return {n: shard.hyper[n][:, 0].to(shard.points.dtype.to_real()) for n in self.coefficients.terms}

    def _batches(self, rows: Tensor, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from the ``start``-th on: shared, or stacked where members have their order."""
        samples, size = len(self.inputs), self.recipe.batch_size
        if self.data_seeds is None:
            order = epoch_indices(samples, size, self.recipe.data_seed, epoch)
        else:
            seeds = self.data_seeds[rows].tolist()
            each = {seed: epoch_indices(samples, size, seed, epoch) for seed in dict.fromkeys(seeds)}
            order = torch.stack([each[seed] for seed in seeds], 1)
        order = order.to(self.device)
        accumulate = self.recipe.accumulate
        if accumulate > 1:
            order = order[: self.steps * accumulate].unflatten(0, (self.steps, accumulate))
        labels = self._labels(rows)
        return ((self.inputs[index], labels(index)) for index in order[start:])

    def _labels(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """The labels of samples by their indices: ``[…, batch]``; ``[…, c, batch]`` where members have their own."""
        if self.noise is None:
            return self.labels.__getitem__
        if self._noisy is None or not torch.equal(self._noisy[0], rows):
            noise, seeds = self.noise[rows, 0], self.seeds.cpu()[rows]
            self._noisy = rows, noisy_labels(self.labels, noise, seeds, self.data.classes)
        own = self._noisy[1]
        if self.data_seeds is None:
            return lambda index: own[:, index].movedim(0, index.dim() - 1)
        member = torch.arange(len(rows), device=own.device)[:, None]
        return lambda index: own[member, index]

    def _numbers(self, epoch: int) -> Tensor:
        first = epoch * self.steps
        return torch.arange(first, first + self.steps, dtype=torch.int64, device=self.device)

    def updates(
        self, shard: Shard, rows: Tensor, step: Callable[..., After], epoch: int, start: int = 0
    ) -> Iterator[Tensor]:
        """Make the updates of one epoch, from the ``start``-th on; yields the losses before each, ``[c]``."""
        numbers = self._numbers(epoch)
        first = epoch * self.steps
        coefficients = self.coefficients.of(shard, first, self.steps, self.steps * self.recipe.epochs)
        for i, (inputs, labels) in enumerate(self._batches(rows, epoch, start), start):
            yield shard.take(step(*shard.arguments(coefficients[i], numbers[i], inputs, labels)))

    def course(self, rows: Tensor) -> Course:
        """A shard of these members before its first update."""
        shard, members = self.shard(rows), len(rows)
        nothing = torch.full((members, self.recipe.epochs), torch.nan, dtype=torch.float64)
        return Course(
            shard,
            Stopper(self.recipe.early_stopping, self.recipe.higher_is_better, shard),
            {name: nothing.clone() for name in self.curves},
            torch.zeros(members, self.steps, dtype=widest(self.device), device=self.device),
            shard.active.clone(),
        )

    def _train(
        self,
        course: Course,
        filled: Tensor,
        step: Callable[..., After],
        scoring: Scoring,
        rows: Sequence[int],
        record: Record,
        advance: Callable[[int], None],
    ) -> None:
        """Train one shard to its end, putting it down now and then."""
        shard, real = course.shard, len(rows)
        while course.epoch < self.recipe.epochs:
            if course.step == 0 and not bool(shard.active[:real].any()):
                advance(real * self.steps * (self.recipe.epochs - course.epoch))
                break
            for losses in self.updates(shard, filled, step, course.epoch, course.step):
                course.take(losses)
                advance(real)
                if record.due:
                    record.checkpoint(rows, course.tensors(real))
            course.end_epoch(scoring(shard.points, shard.buffers, self.terms(shard)))
            if record.due:
                record.checkpoint(rows, course.tensors(real))
