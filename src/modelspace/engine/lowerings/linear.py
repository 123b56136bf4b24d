"""Linear layers with one matrix a member.

``vmap`` computes X Wᵀ member by member. With few outputs that product has a narrow right-hand side, which CPU
libraries do at a third of their speed; (W Xᵀ)ᵀ is the same numbers with a wide one, in both directions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.batched import batched

_NARROW = 24  # outputs; measured: from about here on the two forms are equally fast


def _rule(
    count: int, x: tuple[Tensor, bool], w: tuple[Tensor, bool], b: tuple[Tensor | None, bool]
) -> Tensor | None:
    (inputs, own), (weight, stacked), (bias, own_bias) = x, w, b
    if not stacked:
        return None
    outputs = weight.shape[1]
    if own and outputs >= _NARROW:
        return None
    features = inputs.shape[-1]
    if own:
        lead = inputs.shape[1:-1]
        product = weight @ inputs.reshape(count, -1, features).mT
    else:
        lead = inputs.shape[:-1]
        product = (weight.reshape(-1, features) @ inputs.reshape(-1, features).mT).view(count, outputs, -1)
    if bias is not None:
        product = product + (bias[:, :, None] if own_bias else bias[None, :, None])
    return product.mT.contiguous().view(count, *lead, outputs)


_linear = batched(F.linear, _rule)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` whose batching rule is the one above."""
    return _linear(input, weight, bias)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {F.linear: linear}
