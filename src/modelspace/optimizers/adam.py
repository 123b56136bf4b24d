"""Adam and what came of it, K members at once: Adam, AdamW, NAdam, RAdam, Adamax, Lion."""

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
class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`.

    With g the gradient plus λp, t the number of the step, η the learning rate::

        m ← β₁m + (1 − β₁)g
        v ← β₂v + (1 − β₂)g²
        p ← p − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)

    With ``amsgrad`` the largest v so far takes the place of v in the last line.

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0, coupled: it enters m and v. `AdamW` decouples it.
        amsgrad: Keep the largest second moment.
        maximize: Climb: g is minus the gradient, before λp is added.
        decoupled_weight_decay: Decay as `AdamW` does.

    Example:
        >>> import torch
        >>> from modelspace.hyperparameters import hyper_columns
        >>> points = torch.ones(2, 3)
        >>> adam = Adam()
        >>> hyper = hyper_columns(adam, {"lr": [0.1, 0.5]}, members=2)
        >>> first = torch.tensor(1.0, dtype=torch.float64)
        >>> points, state = adam.update(torch.ones(2, 3), adam.init(points), points, hyper, first)
        >>> points[:, 0]
        tensor([0.9000, 0.5000])

    Source:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980; amsgrad: Reddi, Kale,
        Kumar, "On the Convergence of Adam and Beyond", arXiv 1904.09237.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled_weight_decay: bool = False

    def init(self, points: Points) -> State:
        """Make the moments."""
        return zeros(["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.amsgrad else [])], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {
            **decay(hyper, decoupled=self.decoupled_weight_decay),
            **adam_coefficients(hyper, step),
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        return adam_step(gradient, state, points, c)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    `Adam` with λ = 0 there, after p ← (1 − ηλ)p. Note that η multiplies λ.

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0.
        amsgrad: Keep the largest second moment.
        maximize: Climb: g is minus the gradient.

    Example:
        >>> import torch
        >>> from modelspace.hyperparameters import hyper_columns
        >>> points = torch.ones(2, 3)
        >>> adamw = AdamW(lr=0.1)
        >>> hyper = hyper_columns(adamw, {"weight_decay": [0.0, 1.0]}, members=2)
        >>> first = torch.tensor(1.0, dtype=torch.float64)
        >>> points, state = adamw.update(torch.ones(2, 3), adamw.init(points), points, hyper, first)
        >>> points[:, 0]
        tensor([0.9000, 0.8000])

    Source:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101 (where λ is not
        multiplied by η; here, as in torch, it is).
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    amsgrad: bool = False
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the moments."""
        return zeros(["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.amsgrad else [])], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**decay(hyper, decoupled=True), **adam_coefficients(hyper, step)}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        return adam_step(gradient, state, points, c)


@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum, as `torch.optim.NAdam`.

    With m and v of `Adam`, v̂ = v/(1 − β₂ᵗ), μₜ = β₁(1 − 0.96^(tψ)/2) and Πₜ = μ₁ … μₜ::

        p ← p − η((1 − μₜ)/(1 − Πₜ) g + μₜ₊₁/(1 − Πₜ₊₁) m) / (√v̂ + ε)

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0.
        momentum_decay: ψ ≥ 0.
        decoupled_weight_decay: Decay as `AdamW` does; it enters m and v otherwise.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> NAdam(lr=0.1).hyperparameters()["momentum_decay"]
        0.004

    Source:
        Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the moments, and the product of the momenta so far."""
        return {**zeros(["exp_avg", "exp_avg_sq"], points), "mu_product": number(points, 1.0)}

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        beta1, beta2 = _betas(hyper)
        mu, following = (beta1 * (1 - 0.5 * 0.96 ** (t * hyper["momentum_decay"])) for t in (step, step + 1))
        return {
            **decay(hyper, decoupled=self.decoupled_weight_decay),
            **_moments(hyper),
            "unbias2": 1 - beta2**step,
            "eps": hyper["eps"],
            "mu": mu,
            "mu_next": following,
            "of_gradient": -hyper["lr"] * (1 - mu),
            "of_momentum": -hyper["lr"] * following,
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        new = _averaged(gradient, state, c)
        product = new["mu_product"] = state["mu_product"] * c["mu"]
        denominator = (new["exp_avg_sq"] / c["unbias2"]).sqrt() + c["eps"]
        here, ahead = c["of_gradient"] / (1 - product), c["of_momentum"] / (1 - product * c["mu_next"])
        points = torch.addcdiv(points, gradient * here.to(points.dtype), denominator)
        return torch.addcdiv(points, new["exp_avg"] * ahead.to(points.dtype), denominator), new


@dataclass(frozen=True)
class RAdam(Optimizer):
    """Adam whose first steps wait for the second moment, as `torch.optim.RAdam`.

    With m and v of `Adam`, ρ∞ = 2/(1 − β₂) − 1 and ρ = ρ∞ − 2tβ₂ᵗ/(1 − β₂ᵗ)::

        r = √((ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ))
        p ← p − η/(1 − β₁ᵗ) · m · (r√(1 − β₂ᵗ)/(√v + ε)   where ρ > 5,   1   elsewhere)

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0.
        decoupled_weight_decay: Decay as `AdamW` does; it enters m and v otherwise.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> RAdam().hyperparameters()["lr"]
        0.001

    Source:
        Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", arXiv 1908.03265.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the moments."""
        return zeros(["exp_avg", "exp_avg_sq"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        beta1, beta2 = _betas(hyper)
        most = 2 / (1 - beta2) - 1
        length = most - 2 * step * beta2**step / (1 - beta2**step)
        square = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        rectified = torch.where(length > 5, square, 0.0).sqrt() * (1 - beta2**step).sqrt()
        return {
            **decay(hyper, decoupled=self.decoupled_weight_decay),
            **_moments(hyper),
            "step_size": hyper["lr"] / (1 - beta1**step),
            "rectified": rectified,
            "eps": hyper["eps"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        new = _averaged(gradient, state, c)
        adaptive = c["rectified"] / (new["exp_avg_sq"].sqrt() + c["eps"])
        scale = torch.where(c["rectified"] > 0, adaptive, 1.0)
        return torch.addcmul(points, new["exp_avg"] * scale, -c["step_size"]), new


@dataclass(frozen=True)
class Adamax(Optimizer):
    """Adam by the largest gradient, as `torch.optim.Adamax`.

    With g the gradient plus λp::

        m ← β₁m + (1 − β₁)g
        u ← max(β₂u, |g| + ε)
        p ← p − η/(1 − β₁ᵗ) · m/u

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0, coupled: it enters m and u.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> Adamax().hyperparameters()["lr"]
        0.002

    Source:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980, section 7.1.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the momentum and the largest gradient."""
        return zeros(["exp_avg", "exp_inf"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        beta1, beta2 = _betas(hyper)
        return {
            **decay(hyper, decoupled=False),
            "rest1": 1 - beta1,
            "beta2": beta2,
            "step_size": hyper["lr"] / (1 - beta1**step),
            "eps": hyper["eps"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        first = torch.lerp(state["exp_avg"], gradient, c["rest1"])
        largest = torch.maximum(state["exp_inf"] * c["beta2"], gradient.abs() + c["eps"])
        new = {"exp_avg": first, "exp_inf": largest}
        return torch.addcdiv(points, first * -c["step_size"], largest), new


@dataclass(frozen=True)
class Lion(Optimizer):
    """Steps by the sign of a momentum.

    With g the gradient::

        p ← (1 − ηλ)p − η sign(β₁m + (1 − β₁)g)
        m ← β₂m + (1 − β₂)g

    Attributes:
        lr: η > 0: a third to a tenth of what AdamW takes.
        betas: β₁ and β₂, each in [0, 1).
        weight_decay: λ ≥ 0, decoupled: three to ten times AdamW's.
        maximize: Climb: g is minus the gradient.

    Example:
        >>> Lion().hyperparameters()["betas"]
        (0.9, 0.99)

    Source:
        Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, algorithm 2.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    maximize: bool = False

    def init(self, points: Points) -> State:
        """Make the momentum."""
        return zeros(["exp_avg"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        beta1, beta2 = _betas(hyper)
        return {
            **decay(hyper, decoupled=True),
            "rest1": 1 - beta1,
            "rest2": 1 - beta2,
            "lr": hyper["lr"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, points = decayed(gradient, points, c, maximize=self.maximize)
        direction = sign(torch.lerp(state["exp_avg"], gradient, c["rest1"]))
        new = {"exp_avg": torch.lerp(state["exp_avg"], gradient, c["rest2"])}
        return torch.addcmul(points, direction, -c["lr"]), new


def _betas(hyper: Columns) -> tuple[Tensor, Tensor]:
    return hyper["betas"][..., :1], hyper["betas"][..., 1:]


def _moments(hyper: Columns) -> dict[str, Tensor]:
    beta1, beta2 = _betas(hyper)
    return {"rest1": 1 - beta1, "beta2": beta2, "rest2": 1 - beta2}


def adam_coefficients(hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
    """Give the numbers that `adam_step` reads."""
    beta1, beta2 = _betas(hyper)
    return {
        **_moments(hyper),
        "step_size": hyper["lr"] / (1 - beta1**step),
        "correction": (1 - beta2**step).sqrt(),
        "eps": hyper["eps"],
    }


def _averaged(gradient: Rows, state: State, c: Numbers) -> State:
    """Move the moments towards the gradient and its square."""
    first = torch.lerp(state["exp_avg"], gradient, c["rest1"])
    second = torch.addcmul(state["exp_avg_sq"] * c["beta2"], gradient * c["rest2"], gradient)
    return {"exp_avg": first, "exp_avg_sq": second}


def adam_step(gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
    """Take Adam's step, without weight decay."""
    new = _averaged(gradient, state, c)
    second = new["exp_avg_sq"]
    if "max_exp_avg_sq" in state:
        second = new["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], second)
    denominator = second.sqrt() / c["correction"] + c["eps"]
    return torch.addcdiv(points, new["exp_avg"] * -c["step_size"], denominator), new
