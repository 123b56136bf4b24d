"""Optimizers around an optimizer: sharpness-aware steps, averages of the points; and the schedule-free ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.optimizers.base import (
    Columns,
    Numbers,
    Optimizer,
    Points,
    Rows,
    Shapes,
    State,
    number,
    ranges_of,
    zeros,
)


@dataclass(frozen=True)
class Wrapper(Optimizer):
    """What an optimizer around another has from it: all, unless it says otherwise.

    Attributes:
        optimizer: The one within.

    Raises:
        ModelspaceError: it is none, or has a hyper-parameter of the same name.
    """

    optimizer: Optimizer

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, type) or not isinstance(self.optimizer, Optimizer):
            raise ModelspaceError(
                f"{type(self).__name__} goes around an optimizer, as {type(self).__name__}(Adam()); "
                f"received {self.optimizer!r}"
            )
        again = Optimizer.hyperparameters(self).keys() & self.optimizer.hyperparameters().keys()
        if again:
            raise ModelspaceError(
                f"{type(self).__name__} is around another with the columns {', '.join(sorted(again))}"
            )

    def hyperparameters(self) -> Hyperparameters:
        """Give those of both."""
        return self.optimizer.hyperparameters() | Optimizer.hyperparameters(self)

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be."""
        return {**ranges_of(self), **self.optimizer.ranges()}

    def on(self, shapes: Shapes) -> Self:
        """Give the optimizer of parameters of these shapes."""
        return replace(self, optimizer=self.optimizer.on(shapes))

    @property
    def takes_groups(self) -> bool:
        """Whether the one within does."""
        return self.optimizer.takes_groups

    def init(self, points: Points) -> State:
        """Make the state of the one within."""
        return self.optimizer.init(points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the numbers of the one within: see `Optimizer.coefficients`."""
        return self.optimizer.coefficients({n: hyper[n] for n in self.optimizer.hyperparameters()}, step)

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take the step of the one within."""
        return self.optimizer.apply(gradient, state, points, c)

    def look(self, gradient: Rows, points: Rows, c: Numbers) -> Rows | None:
        """Give where the one within wants the gradient."""
        return self.optimizer.look(gradient, points, c)

    def evaluated(self, points: Points, state: State) -> Points:
        """Give the points of the one within at which members are scored."""
        return self.optimizer.evaluated(points, state)


Named = tuple[str, str, tuple[tuple[str, Any], ...]]


@dataclass(frozen=True)
class Grouped(Wrapper):
    """One whose groups of parameters differ, as a configured one of torch may have them.

    Attributes:
        optimizer: The one within, with the hyper-parameters of the first group.
        groups: The others: a name, patterns of parameter names, and their hyper-parameters.

    Example:
        >>> from modelspace.optimizers import SGD
        >>> Grouped(SGD(), (("head", "fc.*", (("lr", 0.1),)),)).hyperparameters()["lr"]
        0.001
    """

    groups: tuple[Named, ...] = ()


@dataclass(frozen=True)
class SAM(Wrapper):
    """Step by the gradient at the worst point nearby.

    With g the gradient at p and ρ the radius, the one within steps from p by the gradient of the same batch at
    p + ρg/(‖g‖ + 10⁻¹²); with ``adaptive`` at p + ρp²g/(‖ |p|g ‖ + 10⁻¹²). Two gradients a step. Losses are those
    at p, buffers (BatchNorm's statistics) those of the first forward, limits on the gradient hold for the second.

    Attributes:
        optimizer: The one within.
        sam_rho: ρ ≥ 0.
        adaptive: Scale the neighbourhood with the parameters.

    Example:
        >>> from modelspace.optimizers import SGD
        >>> list(SAM(SGD(momentum=0.9)).hyperparameters())[-1]
        'sam_rho'

    Source:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv 2010.01412;
        adaptive: Kwon et al., "ASAM", arXiv 2102.11600.
    """

    sam_rho: float = 0.05
    adaptive: bool = False

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**super().coefficients(hyper, step), "sam_rho": hyper["sam_rho"]}

    def look(self, gradient: Rows, points: Rows, c: Numbers) -> Rows:
        """Give the worst point nearby, to first order."""
        scaled = gradient * points.abs() if self.adaptive else gradient
        norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True) + 1e-12
        ascent = gradient * points.square() if self.adaptive else gradient
        return torch.addcmul(points, ascent, c["sam_rho"] / norm)


@dataclass(frozen=True)
class _Average(Wrapper):
    """An average a of the points, which is what is scored and the result: a ← a + w(p − a) after each step.

    Buffers are those of the points in training: a BatchNorm's statistics are not taken again at the average.
    """

    def init(self, points: Points) -> State:
        """Make the average: the start."""
        return {**super().init(points), "average": points.clone()}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take the step of the one within, then move the average."""
        own = {name: value for name, value in state.items() if name != "average"}
        points, new = super().apply(gradient, own, points, c)
        # A lerp with weight 0 keeps every bit, one with weight 1 takes every bit.
        return points, {**new, "average": torch.lerp(state["average"], points, c["average"])}

    def evaluated(self, points: Points, state: State) -> Points:
        """Give the average."""
        return state["average"]


@dataclass(frozen=True)
class EMA(_Average):
    """Score and keep the exponential moving average of the points, as torch's `AveragedModel` updated each step.

    With p the point after a step: a ← p at the first, then a ← κa + (1 − κ)p. Training goes on from p. Buffers
    (BatchNorm's statistics) are those of the last step.

    Attributes:
        optimizer: The one within.
        ema_decay: κ in [0, 1); 0 is no average.

    Example:
        >>> from modelspace.optimizers import Adam
        >>> EMA(Adam()).hyperparameters()["ema_decay"]
        0.999

    Source:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim.
        30 (1992); `torch.optim.swa_utils.get_ema_multi_avg_fn`.
    """

    ema_decay: float = 0.999

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        weight = torch.where(step <= 1, 1.0, 1 - hyper["ema_decay"])
        return {**super().coefficients(hyper, step), "average": weight}


@dataclass(frozen=True)
class SWA(_Average):
    """Score and keep the mean of the points from some step on, as torch's `AveragedModel`.

    With p the point after a step: the mean of those after steps ``swa_start``, ``swa_start`` + ``swa_every``, …;
    p itself before the first. At the defaults it is Polyak's average of all. Training goes on from p. Buffers
    (BatchNorm's statistics) are those of the last step.

    Attributes:
        optimizer: The one within.
        swa_start: The first step that counts, whole, ≥ 1.
        swa_every: Steps from one that counts to the next, whole, ≥ 1.

    Example:
        >>> from modelspace.optimizers import SGD
        >>> SWA(SGD(), swa_start=100).hyperparameters()["swa_start"]
        100

    Source:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv 1803.05407;
        `torch.optim.swa_utils.AveragedModel`.
    """

    swa_start: int = 1
    swa_every: int = 1

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        behind = step - hyper["swa_start"]
        counts = torch.remainder(behind, hyper["swa_every"]) == 0
        weight = torch.where(counts, 1 / (behind / hyper["swa_every"] + 1), 0.0)
        return {**super().coefficients(hyper, step), "average": torch.where(behind < 0, 1.0, weight)}


@dataclass(frozen=True)
class ScheduleFreeSGD(Optimizer):
    """Descend without knowing when to stop: SGD whose result is an average that needs no schedule.

    The gradient g is taken at y, a mean of the iterate z and the result x; with ηₜ the learning rate::

        z ← z − ηₜ(g + λy)
        x ← (1 − c)x + cz,   c = ηₜ² / (η₁² + … + ηₜ²)
        y = (1 − β)z + βx

    What a schedule is for is a warm-up only. Members are scored at x, which is their result. Buffers (BatchNorm's
    statistics) are those of y.

    Attributes:
        lr: η > 0.
        momentum: β in [0, 1].
        weight_decay: λ ≥ 0, at y.

    Example:
        >>> ScheduleFreeSGD().hyperparameters()["momentum"]
        0.9

    Source:
        Defazio et al., "The Road Less Scheduled", arXiv 2405.15682.
    """

    lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0

    def init(self, points: Points) -> State:
        """Make iterate and average, both the start."""
        return {"z": points.clone(), "x": points.clone(), "weight_sum": number(points, 0.0)}

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return dict(hyper)

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        direction = torch.addcmul(gradient, points, c["weight_decay"])
        return _free_step(direction, state, c["lr"], c["momentum"])

    def evaluated(self, points: Points, state: State) -> Points:
        """Give the average x."""
        return state["x"]


@dataclass(frozen=True)
class ScheduleFreeAdamW(Optimizer):
    """Descend without knowing when to stop: AdamW whose result is an average that needs no schedule.

    As `ScheduleFreeSGD`, with γₜ = ηₜ√(1 − β₂ᵗ) in place of ηₜ::

        v ← β₂v + (1 − β₂)g²
        z ← z − γₜ(g/(√v + ε) + λy)

    Attributes:
        lr: η > 0.
        betas: β, the weight of the average in y, and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0, decoupled, at y.

    Example:
        >>> ScheduleFreeAdamW().hyperparameters()["lr"]
        0.0025

    Source:
        Defazio et al., "The Road Less Scheduled", arXiv 2405.15682, algorithm 1.
    """

    lr: float = 2.5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def init(self, points: Points) -> State:
        """Make iterate and average, both the start, and the second moment."""
        return {**ScheduleFreeSGD().init(points), **zeros(["exp_avg_sq"], points)}

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        beta1, beta2 = hyper["betas"][..., :1], hyper["betas"][..., 1:]
        return {
            "lr": hyper["lr"] * (1 - beta2**step).sqrt(),
            "beta1": beta1,
            "beta2": beta2,
            "rest2": 1 - beta2,
            "eps": hyper["eps"],
            "weight_decay": hyper["weight_decay"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        second = torch.addcmul(state["exp_avg_sq"] * c["beta2"], gradient * c["rest2"], gradient)
        direction = torch.addcmul(gradient / (second.sqrt() + c["eps"]), points, c["weight_decay"])
        points, new = _free_step(direction, state, c["lr"], c["beta1"])
        return points, {**new, "exp_avg_sq": second}

    def evaluated(self, points: Points, state: State) -> Points:
        """Give the average x."""
        return state["x"]


def _free_step(direction: Rows, state: State, rate: Tensor, beta: Tensor) -> tuple[Rows, State]:
    """Move z along the direction, x towards z, and take y between them."""
    total = state["weight_sum"] + rate.to(state["weight_sum"].dtype).square()
    z = torch.addcmul(state["z"], direction, -rate)
    x = torch.lerp(state["x"], z, (rate.to(total.dtype).square() / total).to(z.dtype))
    return torch.lerp(z, x, beta), {"z": z, "x": x, "weight_sum": total}
