"""Attention whose kernels PyTorch's counter lacks: the CPU's, and those of the fused encoder layer.

Softmax(QKᵀ)V of B·H heads, S queries, T keys, widths E and F is 2·B·H·S·T·(E + F) FLOP. Masks, causal ones too, don't
lower it: the counter of PyTorch doesn't either, and most kernels compute what they mask.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def _forward(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query.shape, _spread(key, query), _spread(value, query))


def _backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, _spread(key, query), _spread(value, query))


def _spread(key: Tensor, query: Tensor) -> tuple[int, ...]:
    """The shape of keys or values shared by groups of heads, as if each head had its own."""
    return (*query.shape[:-2], *key.shape[-2:])


def _heads(tokens: int, rows: int, keys: int, width: int) -> int:
    """Products of attention with its four projections: ``rows`` = batch · queries tokens in all."""
    return 2 * tokens * 4 * width * width + 4 * rows * keys * width


def _native(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int, *args: Any, **kwargs: Any
) -> int:
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = 2 * batch * width * width * (2 * queries + 2 * keys)
    return projections + 4 * batch * queries * keys * width


def _encoder_layer(src: Tensor, embed_dim: int, num_heads: int, *args: Any, **kwargs: Any) -> int:
    batch, length, width = src.shape
    # norm_weight_1 … norm_bias_2, then the two matrices of the feed-forward part and their biases.
    first, second = args[11], args[13]
    feed_forward = 2 * batch * length * (first.numel() + second.numel())
    return _heads(batch * length, batch * length, length, width) + feed_forward


_KNOWN = {
    "_scaled_dot_product_flash_attention_for_cpu": _forward,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _backward,
    "_scaled_dot_product_fused_attention_overrideable": _forward,
    "_scaled_dot_product_fused_attention_overrideable_backward": _backward,
    "_scaled_dot_product_attention_math_for_mps": _forward,
    "_native_multi_head_attention": _native,
    "_transformer_encoder_layer_fwd": _encoder_layer,
}
FORMULAS = {getattr(aten, name): formula for name, formula in _KNOWN.items() if hasattr(aten, name)}
