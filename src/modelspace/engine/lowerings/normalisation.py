"""BatchNorm whose running statistics are the plain mean over all batches (``momentum=None``); weight normalisation.

    running ← running + (batch − running) / count,  count ← count + 1 before

PyTorch's own forward reads the count as a Python number, which no member of many has. So under ``vmap`` the layer's
forward is another one: the update above with the count as a tensor, the batch's statistics being what a momentum of 1
leaves in temporaries. Every other mode of BatchNorm and InstanceNorm is batched as it stands.

Weight normalisation, w = g v / ‖v‖, has no batching rule either: here it is the formula (Salimans and Kingma,
arXiv 1602.07868).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Forwards = Sequence[tuple[nn.Module, Callable[[Tensor], Tensor]]]

# A class with a forward of its own is left to it.
_PYTORCH_S: frozenset[Any] = frozenset({_BatchNorm.forward, nn.SyncBatchNorm.forward})


def batched_forwards(module: nn.Module) -> Forwards:
    """The layers of a module that need another forward under ``vmap``, each with it."""
    return [
        (layer, partial(_cumulative, layer))
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
        and type(layer).forward in _PYTORCH_S
        and layer.momentum is None
        and layer.num_batches_tracked is not None
    ]


@contextmanager
def replaced(forwards: Forwards) -> Iterator[None]:
    """Within the block, the layers have these forwards."""
    try:
        for layer, forward in forwards:
            layer.forward = forward
        yield
    finally:
        for layer, _ in forwards:
            vars(layer).pop("forward", None)


def _cumulative(layer: _BatchNorm, input: Tensor) -> Tensor:
    mean, variance, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
    tracked = layer.training and layer.track_running_stats
    if not tracked or mean is None or variance is None or count is None:
        return type(layer).forward(layer, input)
    layer._check_input_dim(input)
    count.add_(1)
    batch = torch.zeros_like(mean), torch.zeros_like(variance)
    output = F.batch_norm(input, *batch, layer.weight, layer.bias, True, 1.0, layer.eps)
    for running, new in zip((mean, variance), batch, strict=True):
        running.add_((new - running) / count)
    return output


def weight_norm(
    v: Float[Tensor, "*shape"], g: Float[Tensor, "*sizes"], dim: int = 0
) -> Float[Tensor, "*shape"]:
    """``torch._weight_norm``: ‖v‖ over every axis but ``dim``; over all where it is -1."""
    axes = [axis for axis in range(v.dim()) if dim == -1 or axis != dim]
    return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=dim != -1))


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {torch._weight_norm: weight_norm}
