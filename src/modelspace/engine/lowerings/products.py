"""Matrix products whose weight gradient is computed in the faster of its two orders.

    ∂W = G Cᵀ = (C Gᵀ)ᵀ

The numbers are the same, the time is not: where both matrices lie with the summed axis innermost, as after a
convolution, the library's two ways differ by a factor of up to three, in either direction, by shape and by machine
(16×144 over 2048: C Gᵀ is 2.8 times as fast on an AVX-512 machine; 9×27 over 800: half as fast). So both are timed
once for each shape that is met, a few milliseconds, and what was found is remembered in the user's cache folder.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.lowerings.trials import gain, seconds

_CLEARLY = 1.2  # the other order is taken where it is so many times as fast
_MEMBERS = 4  # stacked in a trial


def matrix_product(
    weight: Float[Tensor, "*member row inner"], columns: Float[Tensor, "*member inner column"]
) -> Float[Tensor, "*member row column"]:
    """``weight @ columns``, with the order of its weight gradient chosen by measurement."""
    if weight.device.type != "cpu":
        return weight @ columns
    shape = (weight.shape[-2], weight.shape[-1], columns.shape[-1])
    faster = _gain(*shape, 1 if weight.dim() == 2 else _MEMBERS, weight.dtype) > _CLEARLY
    return _Swapped.apply(weight, columns) if faster else weight @ columns


class _Swapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(weight, columns)
        return weight @ columns

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, columns = ctx.saved_tensors
        (gradient,) = gradients
        return (columns @ gradient.mT).mT, weight.mT @ gradient if ctx.needs_input_grad[1] else None


def _gain(rows: int, inner: int, columns: int, members: int, dtype: torch.dtype) -> float:
    """How many times as fast as G Cᵀ the other order is."""

    def trial() -> tuple[float, float]:
        g = torch.ones(members, rows, columns, dtype=dtype)
        c = torch.ones(members, inner, columns, dtype=dtype)
        return seconds(lambda: g @ c.mT), seconds(lambda: c @ g.mT)

    return gain(f"{members} × {rows}×{inner} over {columns}, {dtype}", trial)
