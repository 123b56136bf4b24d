"""Linear layers with one matrix a member.

``vmap`` computes X Wᵀ member by member. Here it is W Xᵀ, seen transposed: the numbers are the same, the batch is the
innermost axis in memory, as after a convolution, and a layer with few outputs is three times as fast, since CPU
libraries do a product with a narrow right-hand side at a third of their speed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.batched import batched
from modelspace.engine.lowerings.products import matrix_product

_NARROW = 24  # outputs of a layer on sequences; measured: from about here on the two forms are equally fast


def _rule(
    count: int, x: tuple[Tensor, bool], w: tuple[Tensor, bool], b: tuple[Tensor | None, bool]
) -> Tensor | None:
    (inputs, own), (weight, stacked), (bias, own_bias) = x, w, b
    if not stacked:
        return None
    outputs, features = weight.shape[1:]
    lead = inputs.shape[1:-1] if own else inputs.shape[:-1]
    if len(lead) > 1 and own and outputs >= _NARROW:
        return None
    if own:
        product = weight @ inputs.reshape(count, -1, features).mT
    else:
        product = matrix_product(weight.reshape(-1, features), inputs.reshape(-1, features).mT)
        product = product.view(count, outputs, -1)
    if bias is not None:
        product = product + (bias[:, :, None] if own_bias else bias[None, :, None])
    return product.mT if len(lead) == 1 else product.mT.reshape(count, *lead, outputs)


_linear = batched(F.linear, _rule)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` whose batching rule is the one above."""
    return _linear(input, weight, bias)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {F.linear: linear}
