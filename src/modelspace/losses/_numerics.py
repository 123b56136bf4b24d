"""What keeps losses finite, and what finds the minimisers and constants that have no formula."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Reals = Float[Tensor, "..."]

# Beyond these exponents e^x goes on along its tangent. The gradient comes back in the outputs' own dtype, so half of
# the exponents that float16 can hold is kept for what multiplies it: scores of up to 1e3 there, 1e4 elsewhere.
KNEES = {torch.float16: 8.0, torch.bfloat16: 64.0, torch.float32: 64.0, torch.float64: 512.0}
_LARGEST_SQUARE = 256.0  # in float16, of a standardised residual
# Above its threshold torch's softplus returns its argument. The default of 20 leaves a relative error of
# 1e-10, which float64 sees; at 40 what is dropped, exp(-40), is below the rounding of every dtype.
_SOFTPLUS_THRESHOLD = 40
_HALVINGS = 60
_FARTHEST = 24.0  # beyond this score neighbouring risks are equal in float64
_SPAN, _POINTS = 40.0, 16_001


def wide(x: Reals) -> Reals:
    """Turn half precision into float32, in which squares and sums of losses don't overflow; leave all else."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def scalar(value: Any, like: Reals) -> Float[Tensor, ""]:
    """Make a parameter, a number or one member's tensor, a tensor of another's dtype and device."""
    return (like.new_zeros(()) + value).to(like.dtype)


def softplus(x: Reals) -> Reals:
    """Compute log(1 + e^x), exact in every dtype."""
    return F.softplus(x, threshold=_SOFTPLUS_THRESHOLD)


def exponential(x: Reals, dtype: torch.dtype, part: float = 1.0) -> Reals:
    """Compute e^x up to a knee and the tangent there beyond it: finite in value and gradient.

    Args:
        x: Exponents, widened.
        dtype: That of the outputs, in which the gradient comes back. It decides the knee: 8 in float16, 64 in
            bfloat16 and float32, 512 in float64.
        part: What the knee is multiplied with, below 1 where e^x is multiplied by what may be large.

    Example:
        >>> exponential(torch.tensor([0.0, 1e4]), torch.float32)
        tensor([1.0000e+00, 6.1959e+31])
    """
    knee = part * KNEES[dtype]
    return torch.exp(x.clamp(max=knee)) + math.exp(knee) * (x - knee).clamp(min=0)


def bearable(q: Reals, dtype: torch.dtype) -> Reals:
    """Flatten q ≥ 0, which a scale divides, to what a float16 gradient bears: 256 (1 + log(q / 256)) beyond 256.

    Args:
        q: Widened.
        dtype: That of the outputs; all but float16 are left alone.
    """
    if dtype is not torch.float16:
        return q
    most = _LARGEST_SQUARE
    return q.clamp(max=most) + most * torch.log(q.clamp(min=most) / most)


def minimum(
    risk: Callable[[Float[Tensor, "point *problem"]], Float[Tensor, "point *problem"]],
    grid: Float[Tensor, "point *problem"],
) -> Float[Tensor, "*problem"]:
    """Find where risks are least: the best point of a grid, then bisection of the slope between its neighbours.

    Args:
        risk: Elementwise in its argument, differentiable but for kinks.
        grid: Ascending along the first dimension, fine enough that the best point's neighbours enclose no second
            minimum; float64.

    Returns:
        Each minimiser to about 1e-12 where the slope crosses 0; the end of the grid where the risk falls towards it.
    """
    best = risk(grid).argmin(0, keepdim=True)
    low = grid.gather(0, (best - 1).clamp(min=0)).squeeze(0)
    high = grid.gather(0, (best + 1).clamp(max=len(grid) - 1)).squeeze(0)
    slope = torch.func.grad(lambda z: risk(z.unsqueeze(0)).sum())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (low + high) / 2


def best_score(
    value: Callable[[Reals, float], Reals], p: Float[Tensor, "*problem"]
) -> Float[Tensor, "*problem"]:
    """Find the score z that minimises p ℓ(z, +1) + (1 − p) ℓ(z, −1).

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


def steepest(function: Callable[[Reals], Reals]) -> float:
    """Find max |f′|, to about 1e-9, of a function that is level or straight beyond ±40, elementwise."""
    return _largest(torch.func.grad(lambda v: function(v).sum()))


def most_bent(function: Callable[[Reals], Reals]) -> float:
    """Find max |f″|, in the same way."""
    slope = torch.func.grad(lambda v: function(v).sum())
    return _largest(torch.func.grad(lambda v: slope(v).sum()))


def _largest(function: Callable[[Reals], Reals]) -> float:
    grid = torch.linspace(-_SPAN, _SPAN, _POINTS, dtype=torch.float64)
    best = float(grid[function(grid).abs().argmax()])
    step = 2 * _SPAN / (_POINTS - 1)
    near = torch.linspace(best - step, best + step, 2001, dtype=torch.float64)
    return float(function(near).abs().max())
