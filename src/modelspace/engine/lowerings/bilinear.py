"""``F.bilinear``, for which ``vmap`` has no rule: y_o = xᵀ W_o z + b_o."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def bilinear(
    input1: Float[Tensor, "*batch first"],
    input2: Float[Tensor, "*batch second"],
    weight: Float[Tensor, "output first second"],
    bias: Float[Tensor, "output"] | None = None,
) -> Float[Tensor, "*batch output"]:
    """The formula above, as one matrix product and a sum."""
    first = torch.einsum("...i,oij->...oj", input1, weight)
    output = (first * input2[..., None, :]).sum(-1)
    return output if bias is None else output + bias


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {F.bilinear: bilinear}
