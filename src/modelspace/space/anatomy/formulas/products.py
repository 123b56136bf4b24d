"""Products that PyTorch's counter lacks: vectors, bilinear forms, grouped and scaled matrices, packed weights."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _matrix_vector(matrix: Tensor, vector: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(added: Tensor, matrix: Tensor, vector: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * matrix.numel()


def _inner(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.numel()


def _outer(added: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.numel() * b.numel()


def _two(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


def _packed_weight(a: Tensor, b: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * a.numel() * out_val.shape[-1]


def _added_two(added: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return _two(a, b)


def _added_batches(added: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.numel() * b.shape[2]


def _sparse(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a._nnz() * b.shape[1]


def _time_batch_channel(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.numel() * weight.shape[0] * weight.shape[1]


def _windows(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.numel() * prod(weight.shape[1:])


def _grouped(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    """Each row (or each column, or each slice of the inner dimension) meets one group's matrix, and one only."""
    groups = a.shape[0] if a.ndim == b.ndim == 3 else 1
    return 2 * groups * a.shape[-2] * a.shape[-1] * b.shape[-1]


def _trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: list[int],
    expand_b: list[int],
    expand_c: list[int],
    summed: list[int],
    *args: Any,
    **kwargs: Any,
) -> int:
    """The product of the first two, summed where the third has no extent, then that with the third.

    For a bilinear form y_bo = Σ_ij x_bi A_oij z_bj: 2·boij + 2·boj.
    """
    sizes = [0] * (a.ndim + len(expand_a))
    for tensor, expanded in ((a, expand_a), (b, expand_b), (c, expand_c)):
        own = iter(tensor.shape)
        for axis in range(len(sizes)):
            if axis not in expanded:
                sizes[axis] = max(sizes[axis], next(own))
    axes = range(len(sizes))
    first = [x for x in axes if x not in expand_a or x not in expand_b]
    early = {x for x in summed if x in expand_c}
    second = [x for x in axes if x not in early]
    return 2 * prod(sizes[x] for x in first) + 2 * prod(sizes[x] for x in second)


_KNOWN: dict[str, Callable[..., int]] = {
    "mv": _matrix_vector,
    "addmv": _added_matrix_vector,
    "addmv_": _added_matrix_vector,
    "dot": _inner,
    "vdot": _inner,
    "addr": _outer,
    "addmm_": _added_two,
    "baddbmm_": _added_batches,
    "addbmm": _added_batches,
    "_addmm_activation": _added_two,
    "_int_mm": _two,
    "_weight_int8pack_mm": _packed_weight,
    "_weight_int4pack_mm": _packed_weight,
    "_weight_int4pack_mm_for_cpu": _packed_weight,
    "_scaled_mm_v2": _two,
    "_grouped_mm": _grouped,
    "_scaled_grouped_mm": _grouped,
    "_scaled_grouped_mm_v2": _grouped,
    "_sparse_mm": _sparse,
    "_trilinear": _trilinear,
    "conv_tbc": _time_batch_channel,
    "_conv_depthwise2d": _windows,
    "conv_depthwise3d": _windows,
}
FORMULAS = {getattr(aten, name): formula for name, formula in _KNOWN.items() if hasattr(aten, name)}


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
