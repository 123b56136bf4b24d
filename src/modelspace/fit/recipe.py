"""What a fit does, resolved from names and checked before anything is computed."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace import losses, metrics, optimizers
from modelspace.engine import terms_of
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.fit.early_stopping import EarlyStopping
from modelspace.fit.step import Coefficients
from modelspace.hyperparameters import Range, check, hyper_columns, validate
from modelspace.losses import Choice, Loss
from modelspace.metrics import Metric
from modelspace.optimizers import Optimizer, Schedule
from modelspace.population import Population

_DESCRIBING = ("seed", "source", "phase")
_CLIPPING = ("clip_norm", "clip_value")
LABEL_NOISE = Range("share of wrong labels", "between 0 and 1", 0.0, 1.0, high_included=True)


@dataclass(frozen=True)
class Recipe:
    """A fit's settings, the same for all members; what differs is in the population's columns.

    Attributes:
        loss: What is minimised.
        optimizer: How.
        schedule: The learning rate's factor as a function of the step.
        epochs: Passes over the training split.
        batch_size: Samples a step.
        clip_norm: Limit of a member's gradient norm; None for no clipping.
        clip_value: Limit of a gradient entry; None for no clipping.
        data_seed: Seed of the data order, where the population has no column of that name.
        metrics: Measured on the validation split after each epoch, beside the loss.
        early_stopping: When a member stops before the last epoch.
        precision: The number format of matrix products.
        accumulate: Batches whose gradients' mean makes one update.
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    epochs: int
    batch_size: int
    clip_norm: float | None
    clip_value: float | None
    data_seed: int
    metrics: tuple[Metric, ...]
    early_stopping: EarlyStopping | None
    precision: str = "32"
    accumulate: int = 1

    def columns(self, population: Population) -> dict[str, Float64[Tensor, "member _"]]:
        """The hyper-parameters of every member, as the columns that a step reads.

        Raises:
            ModelspaceError: a column that nothing here reads, or values out of range (all are listed).
        """
        table = population.table
        terms = {name: column.numpy() for name, column in terms_of(population, self.loss).items()}
        others = (name for name in table.columns if name not in (*_DESCRIBING, *terms))
        given = {name: _values(table[name]) for name in others} | terms
        coefficients = self.coefficients(population)
        owners = (self.optimizer, self.schedule, self.loss)
        read = [name for owner in owners for name in owner.hyperparameters()]
        known = {*read, *_CLIPPING, "data_seed", "label_noise"}
        for name in given:
            if name not in known:
                raise self._unread(name, known)
        limits = {n: given.get(n, np.array(getattr(self, n))) for n in coefficients.clipping}
        problems = [p for n, values in limits.items() for p in check(n, values, optimizers.RANGES[n])]
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
        own = {name: given[name] for name in (*terms, "label_noise") if name in given}
        for name, values in {**limits, **own}.items():
            columns[name] = (
                torch.tensor(values, dtype=torch.float64).reshape(-1, 1).expand(members, 1).contiguous()
            )
        return columns

    def _unread(self, name: str, known: set[str]) -> ModelspaceError:
        """The error for a column that nothing here reads, but perhaps another optimizer, loss or `fit` itself."""
        owner, objective = type(self.optimizer).__name__, self.loss.name
        takes = f"columns here are {', '.join(sorted(known))}"
        if name in inspect.signature(make_recipe).parameters:
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
        """How columns and steps become the numbers of an update."""
        clipping = tuple(n for n in _CLIPPING if getattr(self, n) is not None or n in population.table)
        terms = tuple(n for n in self.loss.hyperparameters() if n in population.table)
        return Coefficients(self.optimizer, self.schedule, clipping, terms)

    def data_seeds(self, population: Population) -> Int64[Tensor, "member"] | None:
        """Each member's seed of the data order; None where all share the recipe's."""
        if "data_seed" not in population.table:
            return None
        return torch.tensor(population.table["data_seed"].to_numpy(dtype=np.int64))

    @property
    def higher_is_better(self) -> list[str]:
        """The validation scores of which more is better, by their names in the history."""
        return [f"validation_{metric.name}" for metric in self.metrics if metric.higher_is_better]

    def describe(self) -> dict[str, Any]:
        """The settings as plain values, for records and reports."""
        return {
            "loss": "each member's own" if isinstance(self.loss, Choice) else str(self.loss),
            "optimizer": repr(self.optimizer),
            "schedule": repr(self.schedule),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "precision": self.precision,
            "clip_norm": self.clip_norm,
            "clip_value": self.clip_value,
            "data_seed": self.data_seed,
            "metrics": [m.name for m in self.metrics],
            "early_stopping": None if self.early_stopping is None else repr(self.early_stopping),
        }


def make_recipe(
    *,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor],
    optimizer: str | Optimizer,
    schedule: str | Schedule | None,
    epochs: int,
    batch_size: int,
    clip_norm: float | None,
    clip_value: float | None,
    data_seed: int,
    metrics_: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]],
    early_stopping: EarlyStopping | int | None,
    precision: str = "32",
    accumulate: int = 1,
) -> Recipe:
    """Resolve names and check numbers.

    Raises:
        ModelspaceError: an unknown name, or a number out of range.
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("accumulate", accumulate)):
        if number < 1:
            raise ModelspaceError(f"{name} is at least 1; received {number}")
    stopping = EarlyStopping(early_stopping) if isinstance(early_stopping, int) else early_stopping
    recipe = Recipe(
        losses.resolve(loss),
        optimizers.resolve(optimizer),
        optimizers.resolve_schedule(schedule),
        epochs,
        batch_size,
        clip_norm,
        clip_value,
        data_seed,
        tuple(metrics.resolve(m) for m in metrics_),
        stopping,
        precision,
        accumulate,
    )
    monitors = ["validation_loss", *(f"validation_{m.name}" for m in recipe.metrics)]
    if stopping is not None and stopping.monitor not in monitors:
        raise unknown_name("score to monitor", stopping.monitor, monitors)
    return recipe


def _values(column: Any) -> np.ndarray:
    try:
        return np.array(column.tolist(), dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelspaceError(
            f"column '{column.name}' holds {column.iloc[0]!r}: hyper-parameter columns are numbers"
        ) from None
