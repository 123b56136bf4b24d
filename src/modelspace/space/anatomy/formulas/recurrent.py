"""Fused recurrent layers: RNN, LSTM and GRU as one kernel.

Each token meets each matrix of its layer and direction once: 2·tokens·Σ numel(W) FLOP, projections included. The
backward, into inputs and weights, is twice that. Kernels that go step by step are counted by their own products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _tokens(x: Tensor, batch_sizes: Sequence[int] | None) -> int:
    """Time steps times sequences; a packed batch is a plain list of tokens."""
    return x.shape[0] if batch_sizes else x.shape[0] * x.shape[1]


def _matrices(weights: Sequence[Tensor]) -> int:
    return sum(weight.numel() for weight in weights if weight.ndim == 2)


def _onednn(x: Tensor, w0: Tensor, w1: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * _tokens(x, None) * _matrices([w0, w1])


def _onednn_backward(x: Tensor, w0: Tensor, w1: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * _onednn(x, w0, w1)


def _cudnn(x: Tensor, weights: Sequence[Tensor], *args: Any, **kwargs: Any) -> int:
    """``batch_sizes`` is the only list of numbers among the arguments."""
    sizes = next((a for a in args if isinstance(a, list | tuple) and a and isinstance(a[0], int)), None)
    return 2 * _tokens(x, sizes) * _matrices(weights)


def _cudnn_backward(x: Tensor, weights: Sequence[Tensor], *args: Any, **kwargs: Any) -> int:
    # output_mask is a list of booleans, which are integers in Python.
    return 2 * _cudnn(x, weights, *(a for a in args if not _flags(a)))


def _flags(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], bool)


_KNOWN = {
    "mkldnn_rnn_layer": _onednn,
    "mkldnn_rnn_layer_backward": _onednn_backward,
    "_cudnn_rnn": _cudnn,
    "_cudnn_rnn_backward": _cudnn_backward,
    "miopen_rnn": _cudnn,
    "miopen_rnn_backward": _cudnn_backward,
}
FORMULAS = {getattr(aten, name): formula for name, formula in _KNOWN.items() if hasattr(aten, name)}
