"""``Task``: what is prepared once for all shards of a fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace import data as datasets
from modelspace.construction import seeded, seeded_elsewhere
from modelspace.data import Data, Streamed, Views, epoch_indices, noisy_labels, views_of
from modelspace.engine import (
    Function,
    Score,
    Trial,
    Verdict,
    fingerprint,
    is_sample_mean,
    members_scores,
    probe,
    terms_of,
    tried,
    witnessed,
)
from modelspace.errors import ModelspaceError, first_line, told
from modelspace.fit import precision
from modelspace.fit.recipe import Coefficients, Recipe
from modelspace.fit.records import Recording, recordings_of
from modelspace.losses import Loss, Objective
from modelspace.metrics import usual
from modelspace.nest import Nest, described, mapped, on, samples, take, tensors
from modelspace.population import Population
from modelspace.processes import is_out_of_memory
from modelspace.progress import notice
from modelspace.space import samples_as
from modelspace.widest import widest

_WITNESSED = 2  # batches: state that the first leaves behind shows in the second


class Own(NamedTuple):
    """The rows that each of some members is trained on, and is scored on; None there where all see all."""

    train: list[Int64[Tensor, "row"]]
    scored: list[Int64[Tensor, "row"]] | None

    @classmethod
    def of(cls, views: Views, rows: Sequence[int]) -> "Own":
        """Find them for these members; what several see alike is found, and stands in memory, once."""
        keys = views.alike(rows)
        one = dict(zip(keys, rows, strict=True))
        train = {key: views.train(k) for key, k in one.items()}
        scored = {key: views.validation(k) for key, k in one.items()} if views.own_scores else None
        return cls([train[key] for key in keys], None if scored is None else [scored[key] for key in keys])


@dataclass(frozen=True, eq=False)
class Task:
    """A fit before its first update; ``of_shard`` makes of it what one shard's steps read.

    Attributes:
        population: All members before training, on the device where they are trained.
        data: Its data.
        recipe: Its settings.
        function: The architecture, with the verdict taken to heart.
        verdict: How the engine may compute it.
        coefficients: How columns and steps become the numbers of an update.
        inputs: The training samples, on the device.
        labels: Their labels; with a leading member axis once a shard's members have their own.
        seeds: What the members' random numbers are a function of.
        columns: Their hyper-parameters.
        data_seeds: Each member's seed of the data order; None where all share the recipe's.
        views: Which samples each member sees; None where all see all.
        own: Once a shard's members have samples of their own: whose rows of the pool, to be trained on and scored on.
        noise: Each member's share of wrong labels; None where all have the labels as they are.
        steps: Updates an epoch; the most of any member, where they have unequal numbers of samples.
        outputs: What class labels are below, where they are scored by as many outputs; None elsewhere.
        ragged: Whether members make unequal numbers of updates.
        total: Members of the whole fit.
        rows: Where its members stand in the population of the whole fit, ascending; None where they are all of it.
        made_before: Whether their points stood in memory before the fit.
        recordings: What is recorded of them as they train.
    """

    population: Population
    data: Data
    recipe: Recipe
    function: Function
    verdict: Verdict
    coefficients: Coefficients
    inputs: Nest
    labels: Nest
    seeds: Int64[Tensor, "member"]
    columns: dict[str, Float64[Tensor, "member _"]]
    data_seeds: Int64[Tensor, "member"] | None
    views: Views | None
    own: Own | None
    noise: Float64[Tensor, "member"] | None
    steps: int
    outputs: int | None
    ragged: bool
    total: int
    made_before: bool
    rows: np.ndarray | None = None
    recordings: tuple[Recording, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.population.device

    @property
    def samples(self) -> int:
        """Training samples."""
        return samples(self.inputs)

    @property
    def also(self) -> tuple[str, ...]:
        """What an objective names beside its loss."""
        return self.recipe.loss.named if isinstance(self.recipe.loss, Objective) else ()

    @property
    def updates(self) -> int:
        """A member's updates in all, the most of any."""
        return self.recipe.steps or self.steps * self.recipe.epochs

    @property
    def norms(self) -> bool:
        """Whether a step gives its gradients' norms."""
        return any(record.what == "grad_norm" for record in self.recipe.record)

    @property
    def rest(self) -> int:
        """Samples of an incomplete batch at the end of each epoch; 0 where there is none, or it is left out."""
        return self.samples % self.batch_size if self.recipe.keep_last else 0

    @property
    def stream(self) -> Streamed | None:
        """Where batches come from, if they are a loader's own."""
        return self.data.train if isinstance(self.data.train, Streamed) else None

    def is_rest(self, batch: tuple[Nest, Nest]) -> bool:
        """Tell whether a batch is an incomplete one."""
        size = tensors(batch[0])[0].shape[int(self.own_inputs)]
        return size < self.batch_size if self.stream is not None else bool(self.rest) and size == self.rest

    @property
    def batch_size(self) -> int:
        """Samples in a batch: no more than a member has."""
        return min(self.samples if self.own is None else len(self.own.train[0]), self.recipe.batch_size)

    def own_steps(self) -> Int64[Tensor, "member"]:
        """Return each member's updates an epoch, where a shard's members have samples of their own."""
        assert self.own is not None
        lengths = torch.tensor([len(rows) for rows in self.own.train])
        return torch.div(lengths, self.batch_size * self.recipe.accumulate, rounding_mode="floor")

    @property
    def own_order(self) -> bool:
        """Whether each member has its own order of the samples."""
        return self.data_seeds is not None or self.views is not None

    @property
    def strengths(self) -> tuple[str, ...]:
        """The columns that the transform reads."""
        return tuple(name for name in self.recipe.strengths if name in self.population.table)

    @property
    def own_inputs(self) -> bool:
        """Whether each member has its own inputs in a batch."""
        return self.own_order or bool(self.strengths)

    @property
    def own_labels(self) -> bool:
        """Whether each member has its own labels in a batch."""
        return self.own_inputs or self.noise is not None

    @property
    def scores(self) -> dict[str, Score]:
        """What is measured on the validation split, by name."""
        return {"loss": self.recipe.loss, **{m.name: m for m in self.recipe.measured}}

    @property
    def curves(self) -> list[str]:
        """The names of what is recorded after each epoch."""
        measured = (*self.scores, *self.also)
        return [f"train_{name}" for name in ("loss", *self.also)] + [
            f"validation_{name}" for name in measured
        ]

    @property
    def terms(self) -> dict[str, Tensor]:
        """The hyper-parameters of the loss that differ from member to member, ``[c]`` each."""
        kind = self.population.space.dtype.to_real()
        return {n: self.columns[n][:, 0].to(self.device, kind) for n in self.coefficients.terms}

    @property
    def can_go_on(self) -> bool:
        """Whether a member's first epochs are the same however many follow: nothing in it looks ahead."""
        if self.recipe.steps and self.recipe.steps % self.steps:
            return False  # the last epoch is no whole one
        if any(record.looks_ahead for record in self.recipe.record):
            return False
        schedule = self.recipe.schedule
        own = {name: self.columns[name].T for name in schedule.hyperparameters()}
        numbers = torch.arange(min(self.updates, 4096), dtype=torch.float64)[:, None]
        shorter, longer = (schedule.factor(numbers, n, own) for n in (self.updates, 10 * self.updates))
        return bool(torch.equal(shorter, longer))

    @property
    def fingerprint(self) -> str:
        """What the times of a step depend on."""
        return fingerprint(self.population.space.signature(), *self._beside_the_space)

    def computes_like(self, other: "Task") -> bool:
        """Tell whether a plan for one is one for the other: they differ in numbers that leave the program alone."""
        ours, theirs = self.population.space, other.population.space
        mine, its = ours.hyperparameters, theirs.hyperparameters
        return (
            len(self.population) == len(other.population)
            and ours.is_like(theirs)
            and self._beside_the_space == other._beside_the_space
            and self.unbatched == other.unbatched
            and mine.keys() == its.keys()
            and all(
                mine[n] == its[n] or isinstance(mine[n], float) is isinstance(its[n], float) is True
                for n in mine
            )
        )

    @property
    def _beside_the_space(self) -> tuple[Any, ...]:
        recipe, device = self.recipe, str(self.device)
        if self.device.type == "cuda":
            device = torch.cuda.get_device_name(self.device)
        batch = (recipe.batch_size, recipe.accumulate, described(self.inputs), described(self.labels))
        names = (self.coefficients.names, len(self.coefficients.cells))
        settings = (str(recipe.loss), repr(recipe.optimizer), names, recipe.precision)
        shared = (not self.own_inputs, self.noise is None, self.ragged)
        return batch, settings, shared, device

    def own_of(self, left: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return those of the members of a whole fit that are this task's, in the order in which shards take them.

        Members of unequal lengths are taken longest first: those of a shard should end together.
        """
        found = [list(rows) for rows in left]
        if self.rows is not None:
            own = set(self.rows.tolist())
            found = [[row for row in rows if row in own] for rows in left]
        if self.ragged and self.views is not None:
            sizes = self.views.sizes()
            found = [
                np.array(rows)[(-sizes[self.local(rows)]).argsort(stable=True).numpy()].tolist()
                for rows in found
                if rows
            ]
        return [rows for rows in found if rows]

    def local(self, rows: Sequence[int]) -> list[int]:
        """Return where members of the whole fit stand among this task's."""
        return list(rows) if self.rows is None else np.searchsorted(self.rows, rows).tolist()

    def of_shard(self, rows: Sequence[int]) -> "Task":
        """Return the task as some members' steps read it: seeds, columns and labels are theirs, on the device."""
        index, labels = torch.tensor(rows), self.labels
        noise = None if self.noise is None else self.noise[index]
        if noise is not None:
            labels = noisy_labels(labels, noise, self.seeds[index], self.data.classes)
        kind = widest(self.device)
        own = None if self.views is None else Own.of(self.views, rows)
        made = replace(
            self,
            labels=labels,
            seeds=self.seeds[index],
            columns={name: value[index].to(self.device, kind) for name, value in self.columns.items()},
            data_seeds=None if self.data_seeds is None else self.data_seeds[index],
            own=own,
            noise=noise,
        )
        return replace(made, steps=int(made.own_steps().max())) if self.ragged else made

    def of(self, population: Population, seeds: Int64[Tensor, "member"]) -> "Task":
        """Return the same task of other members, which what was built for these serves too: steps and scoring.

        Args:
            population: Of the same space, with the same columns.
            seeds: What their random numbers are a function of.
        """
        recipe = self.recipe
        views = views_of(self.data, population.table, recipe.folds, recipe.data_seed)
        return replace(
            self, population=population, seeds=seeds, views=views, rows=None, **_members(population, recipe)
        )

    def unbatched(self) -> str | None:
        """Say why members can't be computed under ``vmap``; None where they can.

        Of one member alone it is found out here, when somebody asks: the loop, which it most often takes, has been
        witnessed already, and ``vmap`` takes as long again.
        """
        return (_witnessed(self) if self.total == 1 else self.verdict).batched

    def under(self, recipe: Recipe) -> "Task":
        """Return the same task under other settings of optimizer and schedule: members, data and batches stay."""
        return replace(
            self,
            recipe=recipe,
            coefficients=recipe.coefficients(self.population),
            **_members(self.population, recipe),
        )


def prepare(
    population: Population,
    data: Data,
    recipe: Recipe,
    total: int | None = None,
    *,
    rows: np.ndarray | None = None,
    trusting: bool = False,
    updates: int | None = None,
) -> Task:
    """Prepare a fit: check members, data and settings against each other, and the engine against real modules.

    Args:
        population: The members, on the device where they are to be trained.
        data: The data.
        recipe: The settings, resolved.
        total: How many members are trained under this task, where these are some of them.
        rows: Where they stand in the population of a whole fit; None where they are all of it.
        trusting: Whether to go on even where the engine and the real modules differ.
        updates: The most that a member of the whole fit makes, where these may make fewer.

    Raises:
        ModelspaceError: they do not fit each other, or the engine does not compute the architecture as it is.
    """
    if len(population) == 0:
        raise ModelspaceError("the population has no members")
    space, device = population.space, population.device
    made_before = population.is_made  # asking for all points makes them
    seeds = population.table["seed"] if "seed" in population.table else range(len(population))
    members = _members(population, recipe)
    coefficients = recipe.coefficients(population)
    if space.dtype.is_complex and "clip_value" in coefficients.clipping:
        raise ModelspaceError(
            f"clip_value limits real gradient entries, and the coordinates are {space.dtype}, which have no order: "
            "use clip_norm"
        )
    products = precision.products_of(recipe.precision, device)
    views = views_of(data, population.table, recipe.folds, recipe.data_seed)
    pool = data.train if views is None else views.pool
    inputs = on(device, samples_as(pool.inputs, space.dtype))
    labels = on(device, pool.labels)
    recipe, outputs = _check_first_batch(population, data, recipe, inputs, labels)
    if products is not None:
        _check_products(
            population[[0]], (take(inputs, slice(2)), take(labels, slice(2))), recipe.loss, products
        )
    sizes = torch.tensor([len(pool)]) if views is None else views.sizes()
    each = torch.clamp(sizes, max=recipe.batch_size)
    batches = torch.div(sizes, each, rounding_mode="floor")
    if int(batches.min()) < recipe.accumulate:
        raise ModelspaceError(
            f"an epoch has {int(batches.min())} batches of {int(each.min())}, fewer than "
            f"accumulate={recipe.accumulate}"
        )
    steps = int(torch.div(batches, recipe.accumulate, rounding_mode="floor").max())
    if recipe.keep_last:
        alone = {
            "samples or an order of its own for each member": views is not None
            or "data_seed" in population.table,
            "accumulate": recipe.accumulate > 1,
            "steps": recipe.steps is not None,
        }
        if others := [name for name, there in alone.items() if there]:
            raise ModelspaceError(f"keep_last does not go with {others[0]}: batches are to be whole there")
        steps += bool(len(pool) % int(each[0]))
    if isinstance(pool, Streamed):
        steps = pool.batches
    elif recipe.steps:
        steps = -(-recipe.steps // recipe.epochs)
    task = Task(
        population,
        data,
        recipe,
        Function(space, device, products),
        Verdict(),
        coefficients,
        inputs,
        labels,
        torch.tensor([int(seed) for seed in seeds], dtype=torch.int64),
        **members,
        views=views,
        own=None,
        steps=steps,
        outputs=outputs,
        # By the columns and not by their values, so that every worker of a cluster makes the same program.
        ragged=recipe.steps is None
        and views is not None
        and bool({"task", "fold", "samples"} & set(views.table)),
        rows=rows,
        total=len(population) if total is None else total,
        made_before=made_before,
    )
    _check_scores(task)
    verdict = _witnessed(task, batched=task.total > 1)
    if verdict.refused is not None and not trusting:
        raise ModelspaceError(verdict.refused)
    if verdict.counters and verdict.refused is None:
        notice(
            f"{space.title}: its forward changes {', '.join(verdict.counters)}, no parameter and no buffer. "
            "Nothing depended on it in the first batches; if something does later, members share it: register it as "
            "a buffer (self.register_buffer)"
        )
    most = task.updates if updates is None else updates
    recordings = recordings_of(recipe.record, population, most, recipe.epochs, task.also)
    return replace(task, verdict=verdict, recordings=recordings)


def _members(population: Population, recipe: Recipe) -> dict[str, Any]:
    """What the members' columns say."""
    columns = recipe.columns(population)
    noise = columns.pop("label_noise", None)
    own = population.table.get("data_seed")
    return {
        "columns": columns,
        "noise": None if noise is None else noise[:, 0],
        "data_seeds": None if own is None else torch.tensor([int(seed) for seed in own], dtype=torch.int64),
    }


def _check_first_batch(
    population: Population, data: Data, recipe: Recipe, inputs: Nest, labels: Nest
) -> tuple[Recipe, int | None]:
    """Hold one member against loss and metrics, so that a mismatch is one clear message.

    Returns:
        The recipe, whose objective knows what it names beside its loss; and what class labels are below.
    """
    size = min(samples(inputs), max(recipe.batch_size, 2))
    inputs, labels = take(inputs, slice(size)), take(labels, slice(size))
    if recipe.transform is not None:
        given = {
            name: population.table[name].iloc[0] for name in recipe.strengths if name in population.table
        }
        inputs = _tried(partial(recipe.transform, **recipe.typed(given)), inputs)
    # A selection draws its own points: the others' are not to be in memory yet.
    module = population[[0]].module(0)
    if isinstance(recipe.loss, Objective):
        recipe = replace(recipe, loss=tried(recipe.loss, module, inputs, labels))
        recipe.check_monitors()
        if not recipe.measured:
            return recipe, None
    classes, outputs = None, probe(module, inputs)
    there, here = on("cpu", outputs), on("cpu", labels)
    if not isinstance(recipe.loss, Objective):
        recipe.loss.check(there, here)
    if usual(recipe.loss, data.classes) and isinstance(outputs, Tensor) and outputs.dim() >= 2:
        classes = outputs.shape[1]
        for split in data.splits.values():
            datasets.check_labels(split.labels, classes, recipe.loss.left_out)
    for metric in recipe.measured:
        metric.check(there, here)
    return recipe, classes


def _tried(transform: Callable[[Nest], Nest], inputs: Nest) -> Nest:
    """Transform a batch once, so that what fails there is one clear message."""
    try:
        with torch.no_grad(), seeded(0), seeded_elsewhere(0):
            made = transform(mapped(Tensor.clone, inputs))
    except Exception as error:
        raise ModelspaceError(f"transform failed on inputs of {described(inputs)}: {told(error)}") from error
    if samples(made) != samples(inputs):
        raise ModelspaceError(
            f"transform makes {samples(made)} samples of {samples(inputs)}: it takes a batch, and gives as many"
        )
    return made


def _check_products(member: Population, few: tuple[Nest, Nest], loss: Loss, products: torch.dtype) -> None:
    """Compute one member in mixed precision, so that a layer which has no such form here is one clear message."""
    try:
        with (
            seeded(0),
            seeded_elsewhere(0),
            torch.autocast(member.device.type, products),
            torch.enable_grad(),
        ):
            loss.made(member.module(0).eval(), *few)  # a kernel may lack the form that a backward needs
    except Exception as error:
        if is_out_of_memory(error):
            raise
        others = "32 or bf16-mixed" if products is torch.float16 else "32"
        raise ModelspaceError(
            f"{member.space.title} can't be computed with products in {str(products).removeprefix('torch.')} on "
            f"{member.device}: {first_line(error)}; give precision {others}"
        ) from error


def _check_scores(task: Task) -> None:
    """Take what is a function of all validation samples once, so that what fails there fails before training."""
    part, member = task.data.validation if task.views is None else task.views.scored, task.population[[0]]
    labels = on(task.device, part.labels)
    scores = {
        n: s for n, s in task.scores.items() if not (is_sample_mean(s, labels) or isinstance(s, Objective))
    }
    if scores and len(part):
        inputs = on(task.device, samples_as(part.inputs, member.space.dtype))
        members_scores(member, inputs, labels, scores, terms_of(member, task.recipe.loss))


def _witnessed(task: Task, *, batched: bool = True) -> Verdict:
    """Hold the engine against real modules on the first batches; ``vmap``, too, if that may be taken."""
    recipe, function, seeds = task.recipe, task.function, task.seeds.tolist()
    rows = list(dict.fromkeys([0, next((k for k, seed in enumerate(seeds) if seed != seeds[0]), 0)]))
    order = epoch_indices(task.samples, recipe.batch_size, recipe.data_seed, 0)
    if task.views is not None:
        seen = task.views.train(0)
        order = seen[epoch_indices(len(seen), recipe.batch_size, recipe.data_seed, 0)]
    batches = [take((task.inputs, task.labels), index) for index in order[:_WITNESSED].to(task.device)]
    members = task.population[rows]
    terms = {name: column[rows] for name, column in task.terms.items()}
    trial = Trial(members, recipe.loss, batches, [seeds[k] for k in rows], terms)
    exact = function if function.products is None else Function(members.space, task.device)
    verdict = witnessed(exact, trial, batched=batched)
    function.trust(verdict)
    return verdict
