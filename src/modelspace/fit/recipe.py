"""What a fit does, resolved from names and checked before anything is computed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from modelspace import data as datasets
from modelspace import losses, metrics, optimizers
from modelspace.data import Data, Streamed, views_of
from modelspace.engine import goal_of, terms_of
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.fit.groups import ALL, Cells, Group, as_groups, cells_of, columns_of, frozen_until, of_cell
from modelspace.fit.records import Record, as_records
from modelspace.fit.settings import setting, settings
from modelspace.hyperparameters import Hyperparameters, Range, check, hyper_columns, numbers_of, validate
from modelspace.losses import Choice, Loss, Objective
from modelspace.metrics import Metric, usual
from modelspace.optimizers import Optimizer, Schedule
from modelspace.population import Population
from modelspace.precision import PRECISIONS, Precision, precision_named
from modelspace.widest import widest

LABEL_NOISE = Range("share of wrong labels", "between 0 and 1", 0.0, 1.0, high_included=True)
_STRENGTH = Range("argument of the transform", "a finite number", -np.inf, low_included=False)
_DESCRIBING = ("seed", "source", "phase")
_CLIPPING = ("clip_norm", "clip_value")
# Columns whose values each are a program of their own: settings of the same names.
DIVIDING = ("batch_size", "optimizer", "schedule", "accumulate", "objective")


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a member whose monitored score has not improved for ``patience`` epochs; the others go on.

    Attributes:
        patience: Epochs without improvement that are tolerated, at least 1.
        monitor: A column of the history measured on the validation split: ``"validation_loss"``,
            ``"validation_accuracy"``.
        min_delta: The least change that counts as an improvement, at least 0.
        higher_is_better: Whether more of the score is better; where None, as its metric says, and less of what else
            an objective names.
        restore_best: Keep the point of the best epoch instead of the last one.

    Raises:
        ModelspaceError: patience below 1 or a negative ``min_delta``.
    """

    patience: int = 5
    monitor: str = "validation_loss"
    min_delta: float = 0.0
    restore_best: bool = False
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_delta < 0:
            raise ModelspaceError(
                f"early stopping needs patience ≥ 1 and min_delta ≥ 0; received {self.patience}, {self.min_delta}"
            )


def _stopping(rule: EarlyStopping | int | None) -> EarlyStopping | None:
    return EarlyStopping(rule) if isinstance(rule, int) else rule


def _loss(loss: str | Loss | Callable[[Any, Any], Tensor] | None) -> Loss:
    # None until a fit is known: an objective may take its place.
    return None if loss is None else losses.resolve(loss)  # pyright: ignore[reportReturnType]


def _metrics(
    given: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]] | None,
) -> tuple[Metric, ...] | None:
    return None if given is None else tuple(metrics.resolve(metric) for metric in given)


class Epoch(NamedTuple):
    """What ``on_epoch`` is told of a shard after an epoch.

    Attributes:
        number: Counted from 0.
        rows: The members, by their rows in the population.
        population: They, as they are now.
        scores: What was measured, by name, ``[c]`` each.
    """

    number: int
    rows: list[int]
    population: Population
    scores: dict[str, np.ndarray]


@dataclass(frozen=True)
class Coefficients:
    """What the members' hyper-parameters are at each step: optimizer, schedule, clipping, loss; in one tensor.

    They depend on columns and step only, so they are computed for many steps at once, in double precision.

    Attributes:
        optimizer: The optimizer, on the space's parameters.
        schedule: The learning rate's factor.
        clipping: ``clip_norm``, ``clip_value``, both or none: the columns that limit the gradient.
        terms: The columns that are hyper-parameters of the loss.
        cells: The parameters by their groups.
        freezes: Whether a group waits for its first update.
    """

    optimizer: Optimizer
    schedule: Schedule
    clipping: tuple[str, ...]
    terms: tuple[str, ...] = ()
    cells: Cells = ALL
    freezes: bool = False

    def init(self, points: Shaped[Tensor, "member parameter"]) -> dict[str, Tensor]:
        """Make the optimizer's state; with groups, a member's one number is one for each coordinate."""
        state, count = self.optimizer.init(points), points.shape[1]
        if len(self.cells) == 1:
            return state
        return {n: v.repeat(1, count) if v.shape[1:] == (1,) != (count,) else v for n, v in state.items()}

    def of(
        self,
        columns: dict[str, Float64[Tensor, "member _"]],
        numbers: Int64[Tensor, "step *member"],
        total: int | Int64[Tensor, "member"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "step name member cell"]:
        """Compute the coefficients of some steps.

        Args:
            columns: The members' hyper-parameters, by name.
            numbers: The steps' numbers, 0 at the first; one a member where they differ.
            total: Steps of the whole fit; likewise.
            dtype: The points'; what is returned is of its real type.
        """
        # A member that makes no step now has number −1: what is computed of it is not used.
        numbers = numbers.to(widest(numbers.device)).clamp(min=0)
        numbers = numbers if numbers.dim() == 2 else numbers[:, None]
        own = {name: value.T for name, value in columns.items()}
        factors = self.schedule.factor(numbers, total, own)[:, :, None]
        found = []
        for cell in self.cells.groups:
            steps, values = numbers[:, :, None] + 1, of_cell(cell, columns, self.optimizer.hyperparameters())
            frozen = frozen_until(cell, columns)
            going = torch.ones_like(steps) if frozen is None else (steps > frozen).to(steps.dtype)
            steps = steps if frozen is None else (steps - frozen).clamp(min=1)
            values = self.optimizer.coefficients({**values, "lr": values["lr"] * factors}, steps)
            values |= {"going": going} if self.freezes else {}
            values |= {name: columns[name] for name in self.clipping}
            values |= {of_loss(name): columns[name] for name in self.terms}
            shape = (len(numbers), len(columns["lr"]), 1)
            found.append(torch.stack([value.expand(shape) for value in values.values()], 1))
        if len(self.cells) > 1:
            self.cells.index(numbers.device)  # made here, and not while a step is traced
        return torch.cat(found, 3).to(dtype.to_real())

    def named(self, coefficients: Float[Tensor, "name member cell"]) -> dict[str, Tensor]:
        """Return a step's coefficients by name, ``[c, 1]`` each; with groups the optimizer's are ``[c, n]``."""
        found = dict(zip(self.names, coefficients.unbind(), strict=True))
        if len(self.cells) == 1:
            return found
        index, shared = self.cells.index(coefficients.device), (*self.clipping, *map(of_loss, self.terms))
        return {n: v[:, :1] if n in shared else v.index_select(1, index) for n, v in found.items()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the second axis of ``of`` holds, in its order."""
        one = torch.ones(1, 2, dtype=torch.float64)
        hyper = dict.fromkeys(self.optimizer.hyperparameters(), one)
        going = ("going",) if self.freezes else ()
        return (*self.optimizer.coefficients(hyper, one), *going, *self.clipping, *map(of_loss, self.terms))


def of_loss(name: str) -> str:
    """Return what a loss's hyper-parameter is called among the coefficients, where an optimizer has its own names."""
    return f"loss.{name}"


@settings
class Recipe:
    """A fit's settings, the same for all members; what differs is in the population's columns."""

    loss: Loss = setting(
        default=None,
        converter=_loss,
        doc="A loss by name; cross-entropy where nothing is given. Or a loss of ``modelspace.losses``, or a "
        "function of (outputs, labels) to a scalar. "
        "A column ``loss`` of the population holds each member's own by name, and columns may hold the "
        "losses' parameters (``gamma``, ``delta``, …).",
    )
    objective: Objective | None = setting(
        default=None,
        converter=losses.objective_of,
        doc="In place of a loss: a function of (model, batch) that returns a scalar, or a dict with ``loss`` and "
        "further scalars, all of which are logged. ``model`` is the member itself, ``batch`` what the data give. "
        'Numbers among its keyword arguments may be columns; of several, ``{"elbo": f, "iwae": g}``, a column '
        "``objective`` holds each member's own by name. ``model`` where the model says its own loss: a "
        "``training_step``, or outputs with ``.loss``; that is so without being asked where it has the former.",
    )
    optimizer: Optimizer = setting(
        default="adam",
        converter=optimizers.resolve,
        doc="``sgd``, ``adam``, ``adamw`` or any other of ``torch.optim`` by its name; ``lion``, ``lamb``, "
        "``schedulefreeadamw``; ``ema(adam)``, ``swa(sgd)``, ``sam(sgd)``. Or an optimizer of "
        "``modelspace.optimizers``, or a class of ``torch.optim`` or one configured, with defaults for what is no "
        "column.",
    )
    schedule: Schedule = setting(
        default=None,
        converter=optimizers.resolve_schedule,
        doc="The learning rate's factor as a function of the step: ``cosine``, ``step``, ``one-cycle``, "
        "``warmup``, ``plateau``, or a product, ``warmup*cosine``; constant where nothing is given. Or a schedule of "
        "``modelspace.optimizers``, or one of ``torch.optim.lr_scheduler``, stepped after each update.",
    )
    groups: tuple[Group, ...] = setting(
        default=None,
        converter=as_groups,
        doc='Groups of parameters that have columns of their own (``lr.head``): ``{"head": "fc.*|*.bias"}``, shell '
        "patterns over the parameters' names. Or ``no_decay``: no weight decay of biases and norms; or ``layers``: "
        "each module a group, and a column ``layer_decay``. Several of them as a list.",
    )
    epochs: int = setting(default=20, at_least=1, doc="Passes over the training split.")
    steps: int | None = setting(
        default=None,
        at_least=1,
        doc="Updates of every member, in place of ``epochs``: members of unequal numbers of samples then make equal "
        "numbers of updates. Scores are still measured after each epoch, and at the end.",
    )
    folds: int | None = setting(
        default=None,
        at_least=2,
        doc="How many folds the column ``fold`` is one of; one more than the largest where nothing is given.",
    )
    batch_size: int = setting(
        default=32, at_least=1, doc="Samples a step; more than there are means all of them."
    )
    keep_last: bool = setting(
        default=False,
        doc="Keep the last batch of an epoch where it is incomplete. Otherwise it is left out: every epoch has "
        "another "
        "order, so that other samples are left out each time.",
    )
    transform: Callable[..., Any] | None = setting(
        default=None,
        doc="A function of a batch's inputs, in training alone: random crops and flips, noise; torchvision's "
        "``transforms.v2`` are such. What it draws with PyTorch is a function of the data seed and the step, the "
        "same for all members; where members have samples or an order of their own, of each one's seed. Numbers "
        "among its keyword arguments may be columns: ``def crop(x, augment=0.0)``.",
    )
    on_epoch: Callable[["Epoch"], Any] | None = setting(
        default=None,
        doc="A function that is called after each epoch of a shard with an ``Epoch``, its members and their scores; "
        "a "
        "mask that it returns stops members, as early stopping does.",
    )
    record: tuple[Record, ...] = setting(
        default=None,
        converter=as_records,
        doc="What is kept of members while they train. ``points``, ``distance`` (from the start), ``loss``, "
        "``grad_norm``, ``update_norm``, or a function of a member; a list of these, or a dict by name. At the start "
        "and after each epoch, or at the times of a ``Record``. ``run.records`` reads it.",
    )
    accumulate: int = setting(default=1, at_least=1, doc="Batches whose gradients' mean makes one update.")
    precision: Precision = setting(
        default="32",
        converter=precision_named,
        choices=PRECISIONS,
        doc="Number format: ``32``, the coordinates' own, float32 unless the space was built with another; "
        "``64``, all in double; ``tf32``, float32 products at reduced precision on an NVIDIA GPU; "
        "``bf16-mixed`` and ``16-mixed``, matrix products in 16 bits, float16 with a loss scale for each "
        "member.",
    )
    clip_norm: float | None = setting(default=None, doc="Limit of each member's gradient norm.")
    clip_value: float | None = setting(default=None, doc="Limit of each gradient entry.")
    data_seed: int = setting(
        default=0, doc="Seed of the shared data order; a column of this name holds each member's own."
    )
    metrics: tuple[Metric, ...] | None = setting(
        default=None,
        converter=_metrics,
        doc="Validation metrics beside the loss. Where None, accuracy if the labels are classes and outputs score"
        " them.",
    )
    early_stopping: EarlyStopping | None = setting(
        default=None,
        converter=_stopping,
        doc="Epochs without a lower validation loss after which a member stops. Or an ``EarlyStopping``, for "
        "another score.",
    )

    def resolved(self, population: Population, data: Data) -> "Recipe":
        """Return the settings for these members and data: their own losses, the usual metrics.

        Args:
            population: The members.
            data: What they are trained on.

        Raises:
            ModelspaceError: an unknown name in a column ``loss``, early stopping monitors what is not measured, a
                loss
                as well as an objective, or no labels for a loss.
        """
        own = {each.name: getattr(self, each.name) for each in fields(Recipe)}
        if isinstance(data.train, Streamed):
            own["batch_size"] = self._batch_of(data.train, population)
        own["loss"] = loss = goal_of(population, data, self.loss, self.objective)
        own["objective"] = None
        if self.steps is not None:
            own["epochs"] = self._epochs(population, data)
        measured = usual(loss, data.classes) if self.metrics is None else self.metrics
        own["metrics"] = [metrics.resolve(each, left_out=loss.left_out) for each in measured]
        recipe = Recipe(**own)
        if not isinstance(loss, Objective):
            recipe.check_monitors()
        return recipe

    def check_monitors(self) -> None:
        """Refuse to monitor what is not measured; what an objective names is known once it was computed.

        Raises:
            ModelspaceError: early stopping or the schedule asks for an unknown score.
        """
        also = self.loss.named if isinstance(self.loss, Objective) else ()
        monitors = [f"validation_{name}" for name in ("loss", *(m.name for m in self.measured), *also)]
        rule = self.early_stopping
        for monitor in (*([] if rule is None else [rule.monitor]), *self.schedule.monitors):
            if monitor not in monitors:
                raise unknown_name("score to monitor", monitor, monitors)

    def _batch_of(self, stream: Streamed, population: Population) -> int:
        """The size of a loader's batches, where nothing is asked that only samples in memory allow."""
        at_random = ("data_seed", "label_noise", "batch_size", "accumulate", *datasets.COLUMNS)
        asked = [f"column {name}" for name in at_random if name in population.table]
        size = self.batch_size not in (Recipe.batch_size, stream.batch_size)
        settings = {"batch_size": size, "accumulate": self.accumulate > 1, "keep_last": self.keep_last}
        asked += [f"{name}=" for name, there in settings.items() if there]
        if asked:
            raise ModelspaceError(
                f"{', '.join(asked)}: batches are a loader's own here, in its order and of its size "
                f"({stream.batch_size}): leave it out, or give data that are in memory or mapped"
            )
        return stream.batch_size

    def _epochs(self, population: Population, data: Data) -> int:
        """How many epochs the given number of updates takes, of the member with most samples."""
        assert self.steps is not None
        if isinstance(data.train, Streamed):
            return -(-self.steps // data.train.batches)
        views = views_of(data, population.table, self.folds, self.data_seed)
        samples = len(data.train) if views is None else int(views.sizes().max())
        batches = samples // min(samples, self.batch_size) // self.accumulate
        return -(-self.steps // max(1, batches))

    def read(self) -> set[str]:
        """Return the columns that optimizer, schedule and loss read."""
        owners = (self.optimizer, self.schedule, *([] if self.loss is None else [self.loss]))
        return {name for owner in owners for name in owner.hyperparameters()} | {*self.strengths}

    @property
    def strengths(self) -> Hyperparameters:
        """The numbers among the keyword arguments of the transform, by name, with their defaults."""
        return {} if self.transform is None else numbers_of(self.transform, after=1)

    def typed(self, strengths: Mapping[str, Any]) -> dict[str, float | int]:
        """Return one member's arguments of the transform: whole numbers as such where the default is one."""
        numbers = {name: float(value) for name, value in strengths.items()}
        whole = [n for n, v in numbers.items() if isinstance(self.strengths[n], int) and v.is_integer()]
        return {**numbers, **{name: int(numbers[name]) for name in whole}}

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics, once ``resolved``."""
        return self.metrics or ()

    @property
    def code(self) -> tuple[Any, ...]:
        """What of the settings is executed: functions, and objects with methods."""
        told = [each for each in (self.transform, self.on_epoch) if each is not None]
        told += [record.what for record in self.record if callable(record.what)]
        return (*self.loss.code, *(m.function for m in self.measured), self.optimizer, self.schedule, *told)

    @property
    def higher_is_better(self) -> list[str]:
        """The validation scores of which more is better, by their names in the history.

        What an objective names counts as the metric of that name, if there is one.
        """
        also = self.loss.named if isinstance(self.loss, Objective) else ()
        known = [*self.measured, *(metrics.METRICS[name] for name in also if name in metrics.METRICS)]
        return [f"validation_{metric.name}" for metric in known if metric.higher_is_better]

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values, for records and reports."""
        return {each.name: _described(getattr(self, each.name)) for each in fields(Recipe)}

    def columns(self, population: Population) -> dict[str, Float64[Tensor, "member _"]]:
        """Return the hyper-parameters of every member, as the columns that a step reads.

        Raises:
            ModelspaceError: a column that nothing here reads, or values out of range (all are listed).
        """
        table = population.table
        terms = {name: column.numpy() for name, column in terms_of(population, self.loss).items()}
        others = (n for n in table.columns if n not in (*_DESCRIBING, *terms, *datasets.COLUMNS))
        given = {name: _values(table[name]) for name in others} | terms
        owners = (self.optimizer, self.schedule, self.loss)
        read = [name for owner in owners for name in owner.hyperparameters()]
        cells, ranges = cells_of(self._groups, population.space), self.optimizer.ranges()
        grouped = columns_of(cells, self.optimizer.hyperparameters(), ranges)
        for group in cells.named.values():  # what a group itself says, where no column does
            given = {f"{hyper}.{group.name}": np.array(value) for hyper, value in group.values} | given
        known = {*read, *grouped, *_CLIPPING, "data_seed", "label_noise", *datasets.COLUMNS}
        strengths = [name for name in self.strengths if name in given]
        if both := sorted(known & {*strengths}):
            raise ModelspaceError(
                f"column {both[0]} is an argument of the transform as well as another hyper-parameter here: give it "
                "another name there"
            )
        known |= {*self.strengths}
        for name in given:
            if name not in known:
                raise self._unread(name, known)
        clipping = self.coefficients(population).clipping
        limits = {n: given.get(n, np.array(getattr(self, n))) for n in clipping}
        problems = [p for n, values in limits.items() for p in check(n, values, optimizers.RANGES[n])]
        problems += [p for n in grouped if n in given for p in check(n, given[n], grouped[n])]
        problems += [p for n in strengths for p in check(n, given[n], _STRENGTH)]
        if "label_noise" in given:
            problems += check("label_noise", given["label_noise"], LABEL_NOISE)
        for owner in owners:
            try:
                names = owner.hyperparameters()
                validate(owner, {n: v for n, v in given.items() if n in names})
            except ModelspaceError as error:
                problems.append(str(error))
        if problems:
            raise ModelspaceError("; ".join(problems))
        members = len(population)
        columns = hyper_columns(self.optimizer, given, members)
        columns |= hyper_columns(self.schedule, given, members)
        own = {name: given[name] for name in (*terms, *grouped, *strengths, "label_noise") if name in given}
        for name, values in {**limits, **own}.items():
            width = grouped[name].width if name in grouped else 1
            column = torch.tensor(values, dtype=torch.float64).reshape(-1, width)
            columns[name] = column.expand(members, width).contiguous()
        return columns

    @property
    def _groups(self) -> tuple[Group, ...]:
        """The groups given, after those that the optimizer was configured with."""
        optimizer = self.optimizer
        own = optimizer.groups if isinstance(optimizer, optimizers.Grouped) else ()
        return (*(Group(*each) for each in own), *self.groups)

    def _unread(self, name: str, known: set[str]) -> ModelspaceError:
        """The error for a column that nothing here reads, but perhaps another optimizer, loss or `fit` itself."""
        owner, objective = type(self.optimizer).__name__, self.loss.name
        takes = f"columns here are {', '.join(sorted(known))}"
        hyper, dot, group = name.partition(".")
        if dot and not self._groups:
            return ModelspaceError(
                f"column {name}: {hyper} of a group of parameters, and there is none: "
                f"fit(…, groups={{'{group}': 'fc.*'}})"
            )
        if name in {each.name for each in fields(Recipe)}:
            return ModelspaceError(
                f"column {name}: {name} is one for the whole fit, not one a member: fit(…, {name}=…); {takes}"
            )
        losses_own = [each for each, loss in losses.CATALOGUE.items() if name in loss.hyperparameters()]
        if name in optimizers.RANGES or losses_own:
            of = f" (it is one of the loss {' or '.join(losses_own[:3])})" if losses_own else ""
            return ModelspaceError(
                f"column {name} is no hyper-parameter of {owner}, its schedule or the loss {objective}{of}; {takes}"
            )
        kind = f"column (a hyper-parameter of {owner}, the schedule, the loss or the clipping)"
        return unknown_name(kind, name, known)

    def coefficients(self, population: Population) -> Coefficients:
        """Say how columns and steps become the numbers of an update."""
        clipping = tuple(n for n in _CLIPPING if getattr(self, n) is not None or n in population.table)
        terms = tuple(n for n in self.loss.hyperparameters() if n in population.table)
        shapes = tuple(block.shape for block in population.space.layout)
        cells = cells_of(self._groups, population.space)
        if len(cells) > 1 and not self.optimizer.takes_groups:
            raise ModelspaceError(
                f"{type(self.optimizer).__name__} takes all parameters as one: it has no groups, as in torch.optim"
            )
        given = (*map(str, population.table), *(f"{n}." for g in cells.named.values() for n, _ in g.values))
        freezes = any(name.startswith("frozen_until.") for name in given)
        return Coefficients(self.optimizer.on(shapes), self.schedule, clipping, terms, cells, freezes)


def _described(value: Any) -> Any:
    """A setting as a plain value."""
    if isinstance(value, Loss):
        return "each member's own" if isinstance(value, Choice) else str(value)
    if callable(value) and not isinstance(value, Optimizer | Schedule):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, tuple):
        return [each.name if isinstance(each, Metric) else str(each) for each in value]
    return value if value is None or isinstance(value, str | int | float) else repr(value)


def _values(column: Any) -> np.ndarray:
    try:
        return np.array(column.tolist(), dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelspaceError(
            f"column '{column.name}' holds {column.iloc[0]!r}: hyper-parameter columns are numbers"
        ) from None
