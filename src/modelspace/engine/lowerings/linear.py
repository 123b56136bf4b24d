"""Layers that multiply by a weight of each member's own: linear, bilinear, PReLU, weight normalisation.

``vmap`` computes X Wᵀ member by member. Here it is W Xᵀ, seen transposed: the numbers are the same, the batch is the
innermost axis in memory, as after a convolution, and a layer with few outputs is three times as fast, since CPU
libraries do a product with a narrow right-hand side at a third of their speed. Its weight gradient has two orders,

    ∂W = G Cᵀ = (C Gᵀ)ᵀ

The numbers are the same, the time is not: where both matrices lie with the summed axis innermost, as after a
convolution, the library's two ways differ by a factor of up to three, in either direction, by shape and by machine
(16×144 over 2048: C Gᵀ is 2.8 times as fast on an AVX-512 machine; 9×27 over 800: half as fast). So both are timed
once for each shape that is met, a few milliseconds, and the result is remembered in the user's cache folder.

``vmap`` has no rule for bilinear layers and weight normalisation; that for PReLU resizes its output and warns.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.lowerings.batched import Pair, Table, batched
from modelspace.engine.measurements import gain, seconds_of

_NARROW = 24  # outputs of a layer on sequences; measured: from about here on the two forms are equally fast
_CLEARLY = 1.2  # the other order is taken where it is so many times as fast
_MEMBERS = 4  # stacked in a trial


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` as W Xᵀ."""
    return batched(F.linear, _linear, input, weight, bias)


def _linear(count: int, x: Pair, w: Pair, b: Pair) -> Tensor | None:
    (inputs, stacked), (weight, own_weight), (bias, own_bias) = x, w, b
    if not own_weight:
        return None
    outputs, features = weight.shape[1:]
    lead = inputs.shape[1:-1] if stacked else inputs.shape[:-1]
    if len(lead) > 1 and stacked and outputs >= _NARROW:
        return None
    if stacked:
        product = weight @ inputs.reshape(count, -1, features).mT
    else:
        product = matrix_product(weight.reshape(-1, features), inputs.reshape(-1, features).mT)
        product = product.view(count, outputs, -1)
    if bias is not None:
        product = product + (bias[:, :, None] if own_bias else bias[None, :, None])
    return product.mT if len(lead) == 1 else product.mT.reshape(count, *lead, outputs)


def matrix_product(
    weight: Float[Tensor, "*member row inner"], columns: Float[Tensor, "*member inner column"]
) -> Float[Tensor, "*member row column"]:
    """``weight @ columns``, with the order of its weight gradient chosen by measurement."""
    if weight.device.type != "cpu":
        return weight @ columns
    rows, inner, over = weight.shape[-2], weight.shape[-1], columns.shape[-1]
    members = 1 if weight.dim() == 2 else _MEMBERS

    def trial() -> tuple[float, float]:
        g = torch.ones(members, rows, over, dtype=weight.dtype)
        c = torch.ones(members, inner, over, dtype=weight.dtype)
        return seconds_of(lambda: g @ c.mT), seconds_of(lambda: c @ g.mT)

    faster = gain(f"{members} × {rows}×{inner} over {over}, {weight.dtype}", trial) > _CLEARLY
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


def bilinear(
    input1: Float[Tensor, "*batch first"],
    input2: Float[Tensor, "*batch second"],
    weight: Float[Tensor, "output first second"],
    bias: Float[Tensor, "output"] | None = None,
) -> Float[Tensor, "*batch output"]:
    """``F.bilinear``: xᵀ W_o z + b_o, as one matrix product and a sum."""
    first = torch.einsum("...i,oij->...oj", input1, weight)
    output = (first * input2[..., None, :]).sum(-1)
    return output if bias is None else output + bias


def prelu(
    input: Float[Tensor, "*batch_channel_size"], weight: Float[Tensor, "slope"]
) -> Float[Tensor, "*batch_channel_size"]:
    """``F.prelu``: x where x > 0, w x elsewhere; one slope w for all, or one for each channel."""
    if weight.numel() == 1:
        weight = weight.reshape(())
    else:
        weight = weight.view(*input.shape[1:2], *[1] * (input.dim() - 2))
    return torch.where(input > 0, input, weight * input)


def weight_norm(
    v: Float[Tensor, "*shape"], g: Float[Tensor, "*sizes"], dim: int = 0
) -> Float[Tensor, "*shape"]:
    """``torch._weight_norm``: g v / ‖v‖, the norm over every axis but ``dim``, or all (-1) (arXiv 1602.07868)."""
    axes = [axis for axis in range(v.dim()) if dim == -1 or axis != dim]
    return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=dim != -1))


TABLE: Table = {F.linear: linear, F.bilinear: bilinear, torch.prelu: prelu, torch._weight_norm: weight_norm}
