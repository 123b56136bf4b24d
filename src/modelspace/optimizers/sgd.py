"""Stochastic gradient descent with momentum, K members at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Inexact
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.optimizers.base import Columns, Optimizer, State, ranges_of, zeros


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, as `torch.optim.SGD`.

    With g the gradient plus λp, b the momentum buffer, μ the momentum, τ the dampening, η the learning rate::

        b ← μb + (1 − τ)g      (b ← g at the first step)
        p ← p − ηb             (with nesterov, p ← p − η(g + μb))

    Where μ is 0 the dampening is ignored and p ← p − ηg.

    Attributes:
        lr: η > 0.
        momentum: μ ≥ 0; with ``nesterov``, μ > 0.
        dampening: τ, any finite number; with ``nesterov``, 0.
        weight_decay: λ ≥ 0, coupled: it enters the momentum.
        nesterov: Look ahead along the momentum.
        maximize: Climb: g is minus the gradient, before λp is added.

    Example:
        >>> import torch
        >>> from modelspace.hyperparameters import hyper_columns
        >>> points = torch.ones(2, 3)
        >>> sgd = SGD()
        >>> hyper = hyper_columns(sgd, {"lr": [0.1, 0.5]}, members=2)
        >>> first = torch.tensor(1.0, dtype=torch.float64)
        >>> points, state = sgd.update(torch.ones(2, 3), sgd.init(points), points, hyper, first)
        >>> points[:, 0]
        tensor([0.9000, 0.5000])

    Source:
        Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
        learning", ICML 2013 (the form here multiplies the buffer by η when it is applied, as torch does).
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be; ``nesterov`` narrows momentum and dampening."""
        ranges = ranges_of(self)
        if self.nesterov:
            ranges["momentum"] = replace(
                ranges["momentum"], expected="a positive number where nesterov is on", low_included=False
            )
            ranges["dampening"] = replace(
                ranges["dampening"],
                expected="0 where nesterov is on",
                low=0.0,
                high=0.0,
                low_included=True,
                high_included=True,
            )
        return ranges

    def init(self, points: Inexact[Tensor, "member parameter"]) -> State:
        """Make the momentum buffer."""
        return zeros(["momentum_buffer"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        undamped = (step <= 1) | (hyper["momentum"] == 0)
        share = torch.where(undamped, 1.0, 1 - hyper["dampening"])
        return {**{name: hyper[name] for name in ("lr", "momentum", "weight_decay")}, "share": share}

    def apply(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        c: Mapping[str, Float[Tensor, "member 1"]],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = torch.addcmul(-gradient if self.maximize else gradient, points, c["weight_decay"])
        buffer = torch.addcmul(state["momentum_buffer"] * c["momentum"], gradient, c["share"])
        direction = torch.addcmul(gradient, buffer, c["momentum"]) if self.nesterov else buffer
        return torch.addcmul(points, direction, -c["lr"]), {"momentum_buffer": buffer}
