"""Schedules that fall: in steps, by a power, again and again, by a function, or when a score no longer improves.

They count updates from 0, as those of ``schedules`` do; `Plateau` counts epochs.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters
from modelspace.optimizers.schedules import Columns, Schedule, anneal, column, length


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A factor at each of some updates, as `torch.optim.lr_scheduler.MultiStepLR`.

    f(t) = gamma^(how many milestones are at most t)

    Attributes:
        milestones: Numbers of updates, the same for all members.
        gamma: Column ``multistep_factor``, > 0.

    Example:
        >>> step = torch.tensor([[0.0], [5.0], [9.0]], dtype=torch.float64)
        >>> MultiStep((5, 9), gamma=0.5).factor(step, 30, {}).flatten().tolist()
        [1.0, 0.5, 0.25]
    """

    milestones: tuple[int, ...]
    gamma: float = 0.1

    def hyperparameters(self) -> Hyperparameters:
        """Give ``multistep_factor``."""
        return {"multistep_factor": self.gamma}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        passed = sum(
            ((step >= milestone).to(step.dtype) for milestone in self.milestones), torch.zeros_like(step)
        )
        return column(self, columns, "multistep_factor", step) ** passed


@dataclass(frozen=True)
class Exponential(Schedule):
    """A factor at every update, as `torch.optim.lr_scheduler.ExponentialLR`.

    f(t) = gamma^t

    Attributes:
        gamma: Column ``exponential_factor``, > 0.

    Example:
        >>> step = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
        >>> Exponential(0.5).factor(step, 30, {}).flatten().tolist()
        [1.0, 0.25]
    """

    gamma: float

    def hyperparameters(self) -> Hyperparameters:
        """Give ``exponential_factor``."""
        return {"exponential_factor": self.gamma}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        return column(self, columns, "exponential_factor", step) ** step


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Down to 0 by a power, as `torch.optim.lr_scheduler.PolynomialLR`.

    f(t) = (1 − min(1, t/T))^power

    Attributes:
        power: Column ``polynomial_power``, > 0; 1 is a straight line.
        steps: Column ``polynomial_steps``: T in updates, whole; 0 is the run's length.

    Example:
        >>> step = torch.tensor([[0.0], [15.0]], dtype=torch.float64)
        >>> Polynomial(power=2.0).factor(step, 30, {}).flatten().tolist()
        [1.0, 0.25]
    """

    power: float = 1.0
    steps: int = 0

    def hyperparameters(self) -> Hyperparameters:
        """Give ``polynomial_power`` and ``polynomial_steps``."""
        return {"polynomial_power": self.power, "polynomial_steps": self.steps}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        progress = (step / length(self, columns, "polynomial_steps", step, total_steps)).clamp(max=1)
        return (1 - progress) ** column(self, columns, "polynomial_power", step)


@dataclass(frozen=True)
class Hold(Schedule):
    """A factor for the first updates, then 1, as `torch.optim.lr_scheduler.ConstantLR`.

    Attributes:
        steps: Column ``hold_steps``: updates, whole, ≥ 0.
        value: Column ``hold_factor``, > 0.

    Example:
        >>> step = torch.tensor([[0.0], [4.0], [5.0]], dtype=torch.float64)
        >>> Hold(steps=5, value=0.5).factor(step, 30, {}).flatten().tolist()
        [0.5, 0.5, 1.0]
    """

    steps: int
    value: float = 1 / 3

    def hyperparameters(self) -> Hyperparameters:
        """Give ``hold_steps`` and ``hold_factor``."""
        return {"hold_steps": self.steps, "hold_factor": self.value}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        steps, value = (column(self, columns, name, step) for name in ("hold_steps", "hold_factor"))
        return torch.where(step < steps, value, 1.0)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine again and again, as `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.

    Each falls from 1 towards ``final``; the i-th takes every · growth^i updates.

    Attributes:
        every: Column ``restarts_every``: updates of the first, whole, ≥ 1.
        growth: Column ``restarts_growth``, whole, ≥ 1.
        final: Column ``restarts_final``, in [0, 1].

    Example:
        >>> step = torch.tensor([[0.0], [5.0], [10.0]], dtype=torch.float64)
        >>> [round(f, 6) for f in CosineRestarts(every=10).factor(step, 30, {}).flatten().tolist()]
        [1.0, 0.5, 1.0]

    Source:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv 1608.03983.
    """

    every: int
    growth: int = 1
    final: float = 0.0

    def hyperparameters(self) -> Hyperparameters:
        """Give ``restarts_every``, ``restarts_growth`` and ``restarts_final``."""
        return {"restarts_every": self.every, "restarts_growth": self.growth, "restarts_final": self.final}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        every, growth, final = (column(self, columns, name, step) for name in self.hyperparameters())
        # Cycles behind: of equal length, or of a geometric series, where rounding may not fall short of a restart.
        rate = growth.clamp(min=2)
        cycle = torch.floor(torch.log(step / every * (rate - 1) + 1) / torch.log(rate) + 1e-9)
        size = every * rate**cycle
        begun = every * (rate**cycle - 1) / (rate - 1)
        progress = torch.where(growth > 1, (step - begun) / size, torch.remainder(step, every) / every)
        return anneal(torch.ones_like(step), final, progress)


@dataclass(frozen=True, repr=False)
class Lambda(Schedule):
    """A function of the update's number, as `torch.optim.lr_scheduler.LambdaLR`; the same for all members.

    Attributes:
        function: Of a whole number from 0, to the factor.

    Example:
        >>> step = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
        >>> Lambda(lambda t: 1 / (1 + t)).factor(step, 30, {}).flatten().tolist()
        [1.0, 0.25]
    """

    function: Callable[[int], float]

    def __repr__(self) -> str:
        return f"Lambda({getattr(self.function, '__qualname__', type(self.function).__name__)})"

    def hyperparameters(self) -> Hyperparameters:
        """Give none."""
        return {}

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        factors = [float(self.function(int(t))) for t in step[:, 0].tolist()]
        return torch.tensor(factors, dtype=step.dtype, device=step.device)[:, None]


@dataclass(frozen=True)
class Plateau(Schedule):
    """A factor whenever a member's score has not improved for some epochs, as `…lr_scheduler.ReduceLROnPlateau`.

    Each member goes by its own validation score after each epoch.

    Attributes:
        gamma: Column ``plateau_factor``, in (0, 1).
        patience: Column ``plateau_patience``: epochs without improvement that are tolerated, whole, ≥ 0.
        threshold: Column ``plateau_threshold``, ≥ 0: what counts as an improvement.
        cooldown: Column ``plateau_cooldown``: epochs after a fall in which nothing is counted, whole, ≥ 0.
        min_lr: Column ``plateau_min_lr``, ≥ 0.
        threshold_mode: ``"rel"``, a share of the best score, or ``"abs"``.
        monitor: The score: a column of the history.
        eps: The least fall of the learning rate that is made.

    Example:
        >>> Plateau(patience=2).monitors
        ('validation_loss',)
    """

    gamma: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0
    threshold_mode: Literal["rel", "abs"] = "rel"
    monitor: str = "validation_loss"
    eps: float = 1e-8

    def hyperparameters(self) -> Hyperparameters:
        """Give the columns' names and defaults."""
        return {
            "plateau_factor": self.gamma,
            "plateau_patience": self.patience,
            "plateau_threshold": self.threshold,
            "plateau_cooldown": self.cooldown,
            "plateau_min_lr": self.min_lr,
        }

    def factor(
        self, step: Float64[Tensor, "step _"], total_steps: int | Tensor, columns: Columns
    ) -> Float64[Tensor, "step #member"]:
        """Give the factors: see `Schedule.factor`."""
        scale = columns.get("plateau_scale", 1.0)
        return torch.ones_like(step) * torch.as_tensor(scale, dtype=step.dtype, device=step.device)

    @property
    def monitors(self) -> tuple[str, ...]:
        """The score that it goes by."""
        return (self.monitor,)

    def memory(
        self, columns: Mapping[str, Float64[Tensor, "member _"]]
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Make the best score, epochs waited and left to wait, and the factor so far."""
        one = torch.ones_like(columns["lr"])
        start = {"best": one * torch.nan, "bad": one * 0, "cooling": one * 0, "scale": one}
        return {f"plateau_{name}": value for name, value in start.items()}

    def observed(
        self,
        memory: dict[str, Float64[Tensor, "member 1"]],
        columns: Mapping[str, Float64[Tensor, "member _"]],
        scores: Mapping[str, Float64[Tensor, "member"]],
        higher_is_better: Collection[str],
    ) -> dict[str, Float64[Tensor, "member 1"]]:
        """Count an epoch, and let the factor fall where enough were waited: see `Schedule.observed`."""
        best, bad, cooling, scale = (memory[f"plateau_{n}"] for n in ("best", "bad", "cooling", "scale"))
        factor, patience, threshold, cooldown, least = (columns[name] for name in self.hyperparameters())
        score, sign = (
            scores[self.monitor][:, None].to(best),
            -1.0 if self.monitor in higher_is_better else 1.0,
        )
        margin = threshold * best if self.threshold_mode == "rel" else threshold
        # No score is better than none.
        better = torch.where(best.isnan(), ~score.isnan(), sign * score < sign * (best - sign * margin))
        bad = torch.where(better, 0.0, bad + 1)
        bad, cooling = torch.where(cooling > 0, 0.0, bad), (cooling - 1).clamp(min=0)
        falls = bad > patience
        rate = columns["lr"] * scale
        lower = torch.maximum(rate * factor, least)
        after = {
            "best": torch.where(better, score, best),
            "bad": torch.where(falls, 0.0, bad),
            "cooling": torch.where(falls, cooldown, cooling),
            "scale": torch.where(falls & (rate - lower > self.eps), lower / columns["lr"], scale),
        }
        return {**memory, **{f"plateau_{name}": value for name, value in after.items()}}
