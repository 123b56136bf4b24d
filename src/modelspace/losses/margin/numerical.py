"""What has no formula of a margin loss: its minimiser, its constants."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.minimise import minimum

Signed = Callable[[Float[Tensor, "..."], float], Float[Tensor, "..."]]

_FARTHEST = 24.0  # beyond it neighbouring risks are equal in float64
_SPAN, _POINTS = 40.0, 16_001


def minimiser(value: Signed, p: Float[Tensor, "*problem"]) -> Float[Tensor, "*problem"]:
    """The score z that minimises p ℓ(z, +1) + (1 − p) ℓ(z, −1).

    Args:
        value: ℓ of scores and one sign, elementwise and differentiable.
        p: The probability of +1, in (0, 1).

    Returns:
        z, to about 1e-9; ±inf where it lies beyond ±24, or where the risk falls for ever.
    """
    wanted = p.double()
    grid = torch.linspace(-_FARTHEST, _FARTHEST, 4801, dtype=torch.float64, device=p.device)
    grid = grid.view(-1, *[1] * p.ndim).expand(-1, *p.shape)
    found = minimum(lambda z: wanted * value(z, 1.0) + (1 - wanted) * value(z, -1.0), grid)
    beyond = found.abs() > _FARTHEST - 1e-6
    return torch.where(beyond, found.sign() * torch.inf, found).to(p.dtype)


def constants(function: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]) -> tuple[float, float]:
    """The largest slope and the largest curvature of a function that is level or straight beyond ±40.

    Args:
        function: Elementwise and twice differentiable, but for single points.

    Returns:
        max |φ′| and max |φ″|, to about 1e-9.
    """
    slope = torch.func.grad(lambda v: function(v).sum())
    curvature = torch.func.grad(lambda v: slope(v).sum())
    return _largest(slope), _largest(curvature)


def _largest(function: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]) -> float:
    grid = torch.linspace(-_SPAN, _SPAN, _POINTS, dtype=torch.float64)
    best = float(grid[function(grid).abs().argmax()])
    step = 2 * _SPAN / (_POINTS - 1)
    near = torch.linspace(best - step, best + step, 2001, dtype=torch.float64)
    return float(function(near).abs().max())
