"""RMSprop, K members at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Inexact
from torch import Tensor

from modelspace.optimizers.base import Columns, Optimizer, State, zeros


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

    def init(self, points: Inexact[Tensor, "member parameter"]) -> State:
        """Make the averages and the momentum buffer."""
        return zeros(["square_avg", "momentum_buffer", *(["grad_avg"] if self.centered else [])], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {**hyper, "rest": 1 - hyper["alpha"]}

    def apply(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        c: Mapping[str, Float[Tensor, "member 1"]],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = torch.addcmul(-gradient if self.maximize else gradient, points, c["weight_decay"])
        variance = square = torch.addcmul(state["square_avg"] * c["alpha"], gradient * c["rest"], gradient)
        new = {"square_avg": square}
        if self.centered:
            mean = new["grad_avg"] = torch.lerp(state["grad_avg"], gradient, c["rest"])
            variance = torch.addcmul(square, mean, mean, value=-1)
        deviation = variance.sqrt() + c["eps"]
        buffer = torch.addcdiv(state["momentum_buffer"] * c["momentum"], gradient, deviation)
        new["momentum_buffer"] = buffer
        return torch.addcmul(points, buffer, -c["lr"]), new
