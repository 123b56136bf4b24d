"""Convolutions by what each weight meets: grouped, depthwise, dilated and transposed ones, forward and backward.

Every weight meets one position of the smaller side (of the output; of the input where transposed) per sample, so a
pass is 2·N·positions·numel(W) FLOP: the forward, the gradient of the input, and that of the weight, each. PyTorch's
own counter takes a grouped convolution's weight gradient for an ungrouped one. Padding lowers nothing.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _pass(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    return 2 * x.shape[0] * prod((x if transposed else out).shape[2:]) * weight.numel()


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *args: Any,
    out_val: Tensor,
    **kwargs: Any,
) -> int:
    return _pass(x, weight, out_val, transposed)


def _plain(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return _pass(x, weight, out_val, transposed=False)


def _transposed(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return _pass(x, weight, out_val, transposed=True)


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    **kwargs: Any,
) -> int:
    return sum(output_mask[:2]) * _pass(x, weight, grad, transposed)


def _time_batch_channel(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.numel() * weight.shape[0] * weight.shape[1]


def _time_batch_channel_backward(grad: Tensor, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    """Always both gradients."""
    return 4 * grad.numel() * weight.shape[0] * weight.shape[1]


_KNOWN: dict[str, Callable[..., int]] = {
    "convolution": _forward,
    "_convolution": _forward,
    "convolution_overrideable": _forward,
    "convolution_backward": _backward,
    "convolution_backward_overrideable": _backward,
    "cudnn_convolution": _plain,
    "cudnn_convolution_relu": _plain,
    "cudnn_convolution_add_relu": _plain,
    "miopen_convolution": _plain,
    "miopen_depthwise_convolution": _plain,
    "mkldnn_convolution": _plain,
    "_slow_conv2d_forward": _plain,
    "slow_conv3d_forward": _plain,
    "slow_conv_dilated2d": _plain,
    "slow_conv_dilated3d": _plain,
    "_conv_depthwise2d": _plain,
    "conv_depthwise3d": _plain,
    "cudnn_convolution_transpose": _transposed,
    "miopen_convolution_transpose": _transposed,
    "slow_conv_transpose2d": _transposed,
    "slow_conv_transpose3d": _transposed,
    "conv_tbc": _time_batch_channel,
    "conv_tbc_backward": _time_batch_channel_backward,
}
FORMULAS = {getattr(aten, name): formula for name, formula in _KNOWN.items() if hasattr(aten, name)}
