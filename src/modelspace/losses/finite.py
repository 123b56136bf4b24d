"""What keeps losses finite: half precision is widened, exponentials go on linearly where a dtype would overflow."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Beyond these exponents e^x goes on along its tangent. The gradient comes back in the outputs' own dtype, so half of
# the exponents that float16 can hold is kept for what multiplies it: scores of up to 1e3 there, 1e4 elsewhere.
KNEES = {torch.float16: 8.0, torch.bfloat16: 64.0, torch.float32: 64.0, torch.float64: 512.0}
_LARGEST_SQUARE = 256.0  # in float16, of a standardised residual


def wide(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Half precision as float32, in which squares and sums of losses don't overflow; all else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def scalar(value: Any, like: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """A parameter, a number or one member's tensor, as a tensor of another's dtype and device."""
    return (like.new_zeros(()) + value).to(like.dtype)


def exponential(x: Float[Tensor, "..."], dtype: torch.dtype, part: float = 1.0) -> Float[Tensor, "..."]:
    """e^x up to a knee, beyond it the tangent there: finite in value and gradient.

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


def held(q: Float[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """What a float16 gradient can bear of a quantity q ≥ 0 that a scale divides: beyond 256, 256 (1 + log(q / 256)).

    Args:
        q: Widened.
        dtype: That of the outputs; all but float16 are left alone.
    """
    if dtype is not torch.float16:
        return q
    most = _LARGEST_SQUARE
    return q.clamp(max=most) + most * torch.log(q.clamp(min=most) / most)
