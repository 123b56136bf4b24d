"""Steps scaled by the history of the gradients, K members at once: Adagrad, Adadelta, RMSprop, Rprop; ASGD."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.optimizers.base import (
    Columns,
    Numbers,
    Optimizer,
    Points,
    Rows,
    State,
    decay,
    decayed,
    number,
    sign,
    zeros,
)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad, as `torch.optim.Adagrad`.

    With g the gradient plus λp, t the number of the step, η the learning rate::

        s ← s + g²        (s ← s₀ + g² at the first step)
        p ← p − η/(1 + (t − 1)δ) · g/(√s + ε)

    Attributes:
        lr: η > 0.
        lr_decay: δ ≥ 0.
        weight_decay: λ ≥ 0, coupled.
        initial_accumulator_value: s₀ ≥ 0.
        eps: ε ≥ 0.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> Adagrad().hyperparameters()["eps"]
        1e-10

    Source:
        Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
        JMLR 12 (2011).
    """

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the sum of squares."""
        return zeros(["sum"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {
            **decay(hyper, decoupled=False),
            "initial": torch.where(step <= 1, hyper["initial_accumulator_value"], 0.0),
            "step_size": hyper["lr"] / (1 + (step - 1) * hyper["lr_decay"]),
            "eps": hyper["eps"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        total = torch.addcmul(state["sum"] + c["initial"], gradient, gradient)
        return torch.addcdiv(points, gradient * -c["step_size"], total.sqrt() + c["eps"]), {"sum": total}


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta, as `torch.optim.Adadelta`.

    With g the gradient plus λp, η the learning rate::

        v ← ρv + (1 − ρ)g²
        Δ = √(u + ε)/√(v + ε) · g
        u ← ρu + (1 − ρ)Δ²
        p ← p − ηΔ

    Attributes:
        lr: η > 0.
        rho: ρ in [0, 1].
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0, coupled.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> Adadelta().hyperparameters()["rho"]
        0.9

    Source:
        Zeiler, "ADADELTA: An Adaptive Learning Rate Method", arXiv 1212.5701.
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the averages of squared gradients and of squared steps."""
        return zeros(["square_avg", "acc_delta"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**hyper, "rest": 1 - hyper["rho"]}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        square = torch.addcmul(state["square_avg"] * c["rho"], gradient * c["rest"], gradient)
        delta = (state["acc_delta"] + c["eps"]).sqrt() / (square + c["eps"]).sqrt() * gradient
        steps = torch.addcmul(state["acc_delta"] * c["rho"], delta * c["rest"], delta)
        return torch.addcmul(points, delta, -c["lr"]), {"square_avg": square, "acc_delta": steps}


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop, as `torch.optim.RMSprop`.

    With g the gradient plus λp, η the learning rate::

        v ← αv + (1 − α)g²
        b ← μb + g / (√v + ε)
        p ← p − ηb

    With ``centered``, a ← αa + (1 − α)g and √(v − a²) takes the place of √v. That root is NaN where rounding
    makes v smaller than a²: choose α well above 0.

    Attributes:
        lr: η > 0.
        alpha: α in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0, coupled: it enters v and b.
        momentum: μ ≥ 0.
        centered: Divide by the gradient's standard deviation in place of its root mean square.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> import torch
        >>> from modelspace.hyperparameters import hyper_columns
        >>> points = torch.ones(2, 3)
        >>> rmsprop = RMSprop(alpha=0.75)
        >>> hyper = hyper_columns(rmsprop, {"lr": [0.1, 0.2]}, members=2)
        >>> first = torch.tensor(1.0, dtype=torch.float64)
        >>> points, state = rmsprop.update(torch.ones(2, 3), rmsprop.init(points), points, hyper, first)
        >>> points[:, 0]
        tensor([0.8000, 0.6000])

    Source:
        Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012; centered: Graves,
        "Generating Sequences With Recurrent Neural Networks", arXiv 1308.0850.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the averages and the momentum buffer."""
        return zeros(["square_avg", "momentum_buffer", *(["grad_avg"] if self.centered else [])], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**hyper, "rest": 1 - hyper["alpha"]}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        variance = square = torch.addcmul(state["square_avg"] * c["alpha"], gradient * c["rest"], gradient)
        new = {"square_avg": square}
        if self.centered:
            mean = new["grad_avg"] = torch.lerp(state["grad_avg"], gradient, c["rest"])
            variance = torch.addcmul(square, mean, mean, value=-1)
        deviation = variance.sqrt() + c["eps"]
        buffer = torch.addcdiv(state["momentum_buffer"] * c["momentum"], gradient, deviation)
        new["momentum_buffer"] = buffer
        return torch.addcmul(points, buffer, -c["lr"]), new


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Resilient backpropagation, as `torch.optim.Rprop`: for gradients of all data.

    Each coordinate has a step size s, η at the first step. With g the gradient and h the last one::

        s ← s · (η₊ where gh > 0,   η₋ where gh < 0), between the least and the largest step size
        g ← 0 where gh < 0
        p ← p − s sign(g)

    Attributes:
        lr: η > 0, the first step size; a schedule changes no later one.
        etas: η₋ in (0, 1) and η₊ > 1.
        step_sizes: The least and the largest step size, ≥ 0.
        maximize: Climb: g is minus the gradient.

    Example:
        >>> Rprop().hyperparameters()["etas"]
        (0.5, 1.2)

    Source:
        Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
        Algorithm", ICNN 1993.
    """

    lr: float = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the last gradient and the step sizes."""
        return zeros(["prev", "step_size"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        shrink, grow = hyper["etas"][..., :1], hyper["etas"][..., 1:]
        least, most = hyper["step_sizes"][..., :1], hyper["step_sizes"][..., 1:]
        first = torch.where(step <= 1, hyper["lr"], 0.0)
        return {"first": first, "shrink": shrink, "grow": grow, "least": least, "most": most}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = -gradient if self.maximize else gradient
        agreed = gradient * state["prev"]
        factor = torch.where(agreed > 0, c["grow"], torch.where(agreed < 0, c["shrink"], 1.0))
        size = (state["step_size"] + c["first"]) * factor
        size = torch.minimum(torch.maximum(size, c["least"]), c["most"])
        gradient = torch.where(agreed < 0, 0.0, gradient)
        return torch.addcmul(points, sign(gradient), size, value=-1), {"prev": gradient, "step_size": size}


@dataclass(frozen=True)
class ASGD(Optimizer):
    """Averaged stochastic gradient descent, as `torch.optim.ASGD`.

    With g the gradient plus λp, t the number of the step, η the learning rate, ηₜ = η/(1 + Λη(t − 1))^α::

        p ← (1 − Ληₜ)p − ηₜg
        a ← a + (p − a)/max(1, t − 1 − t₀)

    The average a is kept in the state and, as in torch, is not the result: `SWA` makes averages the result.

    Attributes:
        lr: η > 0; under a schedule ηₜ is made of the last step's.
        lambd: Λ ≥ 0.
        alpha: α in [0, 1).
        t0: t₀ ≥ 0.
        weight_decay: λ ≥ 0, coupled.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> ASGD().hyperparameters()["alpha"]
        0.75

    Source:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim.
        30 (1992).
    """

    lr: float = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the average, and the next step's size."""
        return {**zeros(["ax"], points), "eta": number(points, 0.0)}

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        rate = hyper["lr"]
        return {
            **decay(hyper, decoupled=False),
            "first": torch.where(step <= 1, rate, 0.0),
            "next": rate / (1 + hyper["lambd"] * rate * step) ** hyper["alpha"],
            "lambd": hyper["lambd"],
            "mu": 1 / (step - 1 - hyper["t0"]).clamp(min=1),
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        eta = (state["eta"] + c["first"]).to(points.dtype)
        points = torch.addcmul(points * (1 - c["lambd"] * eta), gradient, eta, value=-1)
        after = c["next"].to(state["eta"].dtype).expand_as(state["eta"])
        return points, {"ax": torch.lerp(state["ax"], points, c["mu"]), "eta": after}
