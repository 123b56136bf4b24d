"""Learning-rate schedules of K members at once.

A schedule gives the factor that multiplies a member's learning rate, for many steps and all members in one
call. **Steps are updates of the optimizer, not epochs**, counted from 0 at the first update.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.optimizers.base import ranges_of

Columns = Mapping[str, Float64[Tensor, "1 member"] | float | int]


@runtime_checkable
class Schedule(Protocol):
    """A factor of the learning rate as a function of the step.

    `ranges` and ``*`` are the same for every schedule, so they are written here once and inherited.
    """

    def hyperparameters(self) -> Hyperparameters:
        """Give the columns' names and defaults."""
        ...

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be."""
        return ranges_of(self)

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factor of each step and member.

        Args:
            step: Numbers of updates, 0 at the first, below ``total_steps``; [T, K] where members have their own.
            total_steps: Updates in the whole run, ≥ 1; [K] where members make unequal numbers.
            columns: Values of `hyperparameters`, [1, K] or a number; a name left out has the field's value.

        Returns:
            [T, K]; [T, 1], which broadcasts, where no column has a value a member.
        """
        ...

    @property
    def monitors(self) -> tuple[str, ...]:
        """The validation scores that it goes by, as they are called in the history."""
        return ()

    def memory(
        self, columns: Mapping[str, Float64[Tensor, "member _"]]
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Make what it remembers of each member's scores: columns that `factor` reads."""
        return {}

    def observed(
        self,
        memory: dict[str, Float64[Tensor, "member 1"]],
        columns: Mapping[str, Float64[Tensor, "member _"]],
        scores: Mapping[str, Float64[Tensor, "member"]],
        higher_is_better: Collection[str],
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Give what it remembers after an epoch.

        Args:
            memory: Before it.
            columns: The members' hyper-parameters.
            scores: The epoch's, by the names of `monitors`.
            higher_is_better: The scores of which more is better.
        """
        return memory

    def __mul__(self, other: "Schedule") -> "Product":
        return Product(self, other)


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as given, at every step.

    Example:
        >>> import torch
        >>> Constant().factor(torch.zeros(2, 1, dtype=torch.float64), 2, {}).flatten().tolist()
        [1.0, 1.0]
    """

    def hyperparameters(self) -> Hyperparameters:
        """Give none."""
        return {}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give 1 everywhere."""
        return torch.ones_like(step)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 towards ``final``, as `torch.optim.lr_scheduler.CosineAnnealingLR`.

    f(t) = final + (1 − final)(1 + cos(πt/T))/2, so ``eta_min`` = final · lr. The last update, t = T − 1, is one
    step short of ``final``; a run that goes on after T goes up again.

    Attributes:
        final: Column ``cosine_final``, in [0, 1].
        steps: Column ``cosine_steps``: T in updates, whole; 0 is the run's length.

    Example:
        >>> import torch
        >>> step = torch.tensor([[0.0], [50.0]], dtype=torch.float64)
        >>> [round(factor, 6) for factor in Cosine().factor(step, 100, {}).flatten().tolist()]
        [1.0, 0.5]

    Source:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv 1608.03983 (no
        restarts here).
    """

    final: float = 0.0
    steps: int = 0

    def hyperparameters(self) -> Hyperparameters:
        """Give ``cosine_final`` and ``cosine_steps``."""
        return {"cosine_final": self.final, "cosine_steps": self.steps}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        final = column(self, columns, "cosine_final", step)
        progress = step / length(self, columns, "cosine_steps", step, total_steps)
        return anneal(torch.ones_like(step), final, progress)


@dataclass(frozen=True)
class Step(Schedule):
    """A factor again and again after so many updates, as `torch.optim.lr_scheduler.StepLR`.

    f(t) = gamma^⌊t/every⌋

    Attributes:
        every: Column ``step_every``: updates (not epochs) from one drop to the next, whole, ≥ 1.
        gamma: Column ``step_factor``, > 0.

    Example:
        >>> import torch
        >>> step = torch.tensor([[0.0], [9.0], [10.0]], dtype=torch.float64)
        >>> Step(every=10).factor(step, 30, {}).flatten().tolist()
        [1.0, 1.0, 0.1]
    """

    every: int
    gamma: float = 0.1

    def hyperparameters(self) -> Hyperparameters:
        """Give ``step_every`` and ``step_factor``."""
        return {"step_every": self.every, "step_factor": self.gamma}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        every = column(self, columns, "step_every", step)
        return column(self, columns, "step_factor", step) ** torch.div(step, every, rounding_mode="floor")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to the learning rate, then far below it, as `torch.optim.lr_scheduler.OneCycleLR`.

    That is with ``max_lr`` = lr, cosine annealing and ``cycle_momentum=False``: half a cosine from
    1/div_factor to 1 at step pct_start · T − 1, and half a cosine to 1/(div_factor · final_div_factor) at the
    last update, T − 1.

    Attributes:
        pct_start: Column ``onecycle_pct_start``, the share of the run that rises, in [0, 1].
        div_factor: Column ``onecycle_div_factor``, > 0.
        final_div_factor: Column ``onecycle_final_div_factor``, > 0.
        steps: Column ``onecycle_steps``: T in updates, whole; 0 is the run's length.

    Example:
        >>> import torch
        >>> step = torch.tensor([[0.0], [29.0], [99.0]], dtype=torch.float64)
        >>> [round(factor, 6) for factor in OneCycle().factor(step, 100, {}).flatten().tolist()]
        [0.04, 1.0, 4e-06]

    Source:
        Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
        Rates", arXiv 1708.07120.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    steps: int = 0

    def hyperparameters(self) -> Hyperparameters:
        """Give the columns' names and defaults."""
        return {
            "onecycle_pct_start": self.pct_start,
            "onecycle_div_factor": self.div_factor,
            "onecycle_final_div_factor": self.final_div_factor,
            "onecycle_steps": self.steps,
        }

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        first = 1 / column(self, columns, "onecycle_div_factor", step)
        last = first / column(self, columns, "onecycle_final_div_factor", step)
        steps = length(self, columns, "onecycle_steps", step, total_steps)
        peak = column(self, columns, "onecycle_pct_start", step) * steps - 1
        top = torch.ones_like(step)
        # A peak at the first or at the last step leaves one phase empty: its 0/0 is never chosen, except at
        # a peak at step 0 itself, which torch refuses and which is the top here.
        rise = torch.where(peak > 0, anneal(first, top, step / peak), top)
        fall = anneal(top, last, (step - peak) / (steps - 1 - peak))
        return torch.where(step <= peak, rise, fall)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line from ``start`` up to 1, as `torch.optim.lr_scheduler.LinearLR`.

    f(t) = start + (end − start) · min(1, t/steps)

    Attributes:
        steps: Column ``warmup_steps``: updates (not epochs) until the factor is ``end``, whole, ≥ 0.
        start: Column ``warmup_start``, in (0, 1]; torch's default.
        end: Column ``warmup_end``, in [0, 1]; below ``start`` the line falls.

    Example:
        >>> import torch
        >>> step = torch.tensor([[0.0], [5.0], [10.0]], dtype=torch.float64)
        >>> Warmup(steps=10, start=0.5).factor(step, 100, {}).flatten().tolist()
        [0.5, 0.75, 1.0]

    Source:
        Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", arXiv 1706.02677.
    """

    steps: int
    start: float = 1 / 3
    end: float = 1.0

    def hyperparameters(self) -> Hyperparameters:
        """Give ``warmup_steps``, ``warmup_start`` and ``warmup_end``."""
        return {"warmup_steps": self.steps, "warmup_start": self.start, "warmup_end": self.end}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        steps = column(self, columns, "warmup_steps", step)
        start = column(self, columns, "warmup_start", step)
        end = column(self, columns, "warmup_end", step)
        return torch.where(step < steps, start + (end - start) * step / steps, end)


@dataclass(frozen=True)
class Product(Schedule):
    """Two schedules' factors multiplied: ``Warmup(100) * Cosine()``.

    Both count from the first step of the run: the cosine falls during the warm-up too.

    Attributes:
        left: A schedule.
        right: A schedule of another kind.

    Raises:
        ModelspaceError: Both sides read a column of the same name.

    Example:
        >>> import torch
        >>> step = torch.tensor([[0.0], [50.0]], dtype=torch.float64)
        >>> product = Warmup(steps=10, start=0.5) * Cosine()
        >>> [round(factor, 6) for factor in product.factor(step, 100, {}).flatten().tolist()]
        [0.5, 0.5]
    """

    left: Schedule
    right: Schedule

    def __post_init__(self) -> None:
        shared = self.left.hyperparameters().keys() & self.right.hyperparameters().keys()
        if shared:
            raise ModelspaceError(
                "a product of schedules must have each kind at most once; both sides have "
                f"{', '.join(sorted(shared))}: write one schedule with the combined effect"
            )

    def hyperparameters(self) -> Hyperparameters:
        """Give both sides' columns."""
        return self.left.hyperparameters() | self.right.hyperparameters()

    @property
    def monitors(self) -> tuple[str, ...]:
        """Those of both sides."""
        return (*self.left.monitors, *self.right.monitors)

    def memory(
        self, columns: Mapping[str, Float64[Tensor, "member _"]]
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Make what both sides remember."""
        return self.left.memory(columns) | self.right.memory(columns)

    def observed(
        self,
        memory: dict[str, Float64[Tensor, "member 1"]],
        columns: Mapping[str, Float64[Tensor, "member _"]],
        scores: Mapping[str, Float64[Tensor, "member"]],
        higher_is_better: Collection[str],
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Give what both sides remember: see `Schedule.observed`."""
        memory = self.left.observed(memory, columns, scores, higher_is_better)
        return self.right.observed(memory, columns, scores, higher_is_better)

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the product of both sides' factors."""
        return self.left.factor(step, total_steps, columns) * self.right.factor(step, total_steps, columns)


def column(schedule: Schedule, columns: Columns, name: str, step: Tensor) -> Float64[Tensor, "..."]:
    """Give a column's values, or the field's."""
    value = columns.get(name, schedule.hyperparameters()[name])
    return torch.as_tensor(value, dtype=step.dtype, device=step.device)


def length(
    schedule: Schedule, columns: Columns, name: str, step: Tensor, total_steps: int | Tensor
) -> Tensor:
    """Give a number of updates, the whole run's where it is 0."""
    steps = column(schedule, columns, name, step)
    return torch.where(steps > 0, steps, torch.as_tensor(total_steps, dtype=step.dtype, device=step.device))


def anneal(start: Tensor, end: Tensor, progress: Tensor) -> Tensor:
    """Go half a cosine from start to end."""
    return end + (start - end) * (1 + torch.cos(math.pi * progress)) / 2
