"""Minimisers of a risk in one variable where no formula is known."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_HALVINGS = 60


def minimum(
    risk: Callable[[Float[Tensor, "point *problem"]], Float[Tensor, "point *problem"]],
    grid: Float[Tensor, "point *problem"],
) -> Float[Tensor, "*problem"]:
    """Where risks are least: the best point of a grid, then bisection of the slope between its neighbours.

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
