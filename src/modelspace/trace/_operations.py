"""What an operation is to the count: arithmetic, a product, or only memory; and the bytes that it moves."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modelspace.trace._ledger import stored

aten = torch.ops.aten

# FakeTensor asks these of itself at every turn.
QUERIES = frozenset(
    {
        *(aten.sym_is_contiguous.default, aten.is_contiguous.default, aten.is_contiguous.memory_format),
        *(aten.is_strides_like_format.default, aten.is_non_overlapping_and_dense.default),
        *(aten.size.default, aten.sym_size.default, aten.stride.default, aten.sym_stride.default),
        *(aten.storage_offset.default, aten.sym_storage_offset.default),
        *(aten.numel.default, aten.sym_numel.default, aten.dim.default, torch.ops.prim.layout.default),
    }
)

# They allocate, fill, copy or relabel memory.
_ALLOCATIONS = frozenset(
    {
        *(aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided),
        *(aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.t_, aten.as_strided_),
        *(aten.detach, aten._unsafe_view, aten.lift_fresh, aten._reshape_alias, aten.alias, aten.lift),
    }
)
_FILLS = frozenset(
    {
        *(aten.zeros, aten.zeros_like, aten.new_zeros, aten.ones, aten.ones_like, aten.new_ones),
        *(aten.full, aten.full_like, aten.new_full, aten.arange, aten.scalar_tensor),
        *(aten.fill_, aten.fill, aten.zero_, aten.copy_, aten.clone, aten._to_copy, aten.copy),
        *(aten.cat, aten.stack, aten.repeat, aten.constant_pad_nd, aten.roll, aten.flip),
    }
)
# Of their table they read only the rows that they return.
_LOOKUPS = frozenset({aten.embedding, aten.index_select, aten.index, aten.gather, aten._embedding_bag})

# What their kernels take beside arguments and results (oneDNN's and cuDNN's scratch, reordered operands, what a
# recurrence keeps for its backward) no shape tells.
_SCRATCH = (
    *("convolution", "convolution_backward", "_convolution", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"),
    *("_cudnn_rnn", "_cudnn_rnn_backward", "miopen_rnn", "miopen_rnn_backward"),
)
WORKSPACES = frozenset(getattr(aten, name) for name in _SCRATCH if hasattr(aten, name))


@cache
def composite(func: Any) -> bool:
    """Whether an operation is made of others, with no kernel of its own; in inference mode such a one comes whole."""
    name, has = func.name(), torch._C._dispatch_has_kernel_for_dispatch_key
    return has(name, "CompositeImplicitAutograd") and not has(name, "CPU")


def moves_nothing(func: Any) -> bool:
    """Whether an operation only relabels memory, or reserves it."""
    return getattr(func, "is_view", False) or getattr(func, "_overloadpacket", None) in _ALLOCATIONS


def computes(func: Any) -> bool:
    """Whether an operation does arithmetic, as far as its name tells."""
    packet = getattr(func, "_overloadpacket", func)
    library = getattr(func, "namespace", "")
    return not moves_nothing(func) and packet not in _FILLS and library not in ("prim", "profiler")


def elementwise(func: Any) -> bool:
    """Whether PyTorch says of an operation that it treats each element by itself, or reduces them."""
    tags = getattr(func, "tags", ())
    return torch.Tag.pointwise in tags or any(str(tag).endswith("reduction") for tag in tags)


def bytes_moved(func: Any, given: Iterable[Tensor], made: Iterable[Tensor]) -> int:
    """Bytes read and written: each argument and each result once, expanded dimensions not repeated."""
    if moves_nothing(func):
        return 0
    written = sum(_extent(tensor) for tensor in made)
    if getattr(func, "_overloadpacket", None) in _LOOKUPS:
        _, *indices = given
        return 2 * written + sum(_extent(tensor) for tensor in indices)
    return written + sum(_extent(tensor) for tensor in given)


def _extent(tensor: Tensor) -> int:
    extent = 0
    for part in stored(tensor):
        count = 1
        for size, stride in zip(part.shape, part.stride(), strict=True):
            count *= size if stride or not size else 1
        extent += count * part.element_size()
    return extent


def grouped_shape(a: Tensor, b: Tensor, offsets: Tensor | None) -> tuple[int, ...]:
    """The shape of a grouped product, whose own shape function takes bfloat16 only.

    Args:
        a: ``[rows, inner]``, or ``[group, rows, inner]``.
        b: ``[inner, columns]``, or ``[group, inner, columns]``.
        offsets: The end of each group in the dimension that is divided.

    Example:
        >>> grouped_shape(torch.zeros(32, 16), torch.zeros(4, 16, 8), torch.zeros(4))
        (32, 8)
    """
    if a.ndim == b.ndim:
        groups = a.shape[0] if a.ndim == 3 else (0 if offsets is None else offsets.shape[0])
        return groups, a.shape[-2], b.shape[-1]
    return a.shape[-2], b.shape[-1]
