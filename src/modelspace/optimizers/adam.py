"""Adam and AdamW, K members at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Inexact
from torch import Tensor

from modelspace.optimizers.base import Columns, Optimizer, State, zeros


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

    def init(self, points: Inexact[Tensor, "member parameter"]) -> State:
        """Make the moments."""
        return _init(points, self.amsgrad)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**_decay(hyper, self.decoupled_weight_decay), **_coefficients(hyper, step)}

    def apply(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        c: Mapping[str, Float[Tensor, "member 1"]],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = -gradient if self.maximize else gradient
        if self.decoupled_weight_decay:
            return _step(gradient, state, points * c["kept"], c, self.amsgrad)
        gradient = torch.addcmul(gradient, points, c["weight_decay"])
        return _step(gradient, state, points, c, self.amsgrad)


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

    def init(self, points: Inexact[Tensor, "member parameter"]) -> State:
        """Make the moments."""
        return _init(points, self.amsgrad)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**_decay(hyper, decoupled=True), **_coefficients(hyper, step)}

    def apply(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        c: Mapping[str, Float[Tensor, "member 1"]],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = -gradient if self.maximize else gradient
        return _step(gradient, state, points * c["kept"], c, self.amsgrad)


def _init(points: Inexact[Tensor, "member parameter"], amsgrad: bool) -> State:
    return zeros(["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if amsgrad else [])], points)


def _decay(hyper: Columns, decoupled: bool) -> dict[str, Tensor]:
    return (
        {"kept": 1 - hyper["lr"] * hyper["weight_decay"]}
        if decoupled
        else {"weight_decay": hyper["weight_decay"]}
    )


def _coefficients(hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
    beta1, beta2 = hyper["betas"][..., :1], hyper["betas"][..., 1:]
    return {
        "rest1": 1 - beta1,
        "beta2": beta2,
        "rest2": 1 - beta2,
        "step_size": hyper["lr"] / (1 - beta1**step),
        "correction": (1 - beta2**step).sqrt(),
        "eps": hyper["eps"],
    }


def _step(
    gradient: Float[Tensor, "member parameter"],
    state: State,
    points: Float[Tensor, "member parameter"],
    c: Mapping[str, Float[Tensor, "member 1"]],
    amsgrad: bool,
) -> tuple[Float[Tensor, "member parameter"], State]:
    first = torch.lerp(state["exp_avg"], gradient, c["rest1"])
    second = torch.addcmul(state["exp_avg_sq"] * c["beta2"], gradient * c["rest2"], gradient)
    new = {"exp_avg": first, "exp_avg_sq": second}
    if amsgrad:
        second = torch.maximum(state["max_exp_avg_sq"], second)
        new["max_exp_avg_sq"] = second
    denominator = second.sqrt() / c["correction"] + c["eps"]
    return torch.addcdiv(points, first * c["step_size"], denominator, value=-1), new
