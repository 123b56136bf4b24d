"""Products of matrices, vectors and batches, dense or sparse; bilinear forms, grouped and packed weights."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from modelspace.trace import SPARSE, SparseWithoutValues, stored

aten = torch.ops.aten


def _product(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    """Each stored number of one operand meets a row or a column of the other: all of them where it is dense."""
    if _sparse(a) and _sparse(b):
        return _both_sparse(a, b)
    if _sparse(b):
        return 2 * _stored(b) * a.shape[-2]
    return 2 * _stored(a) * (b.shape[-1] if b.ndim > 1 else 1)


def _added_product(added: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return _product(a, b)


def _both_sparse(a: Tensor, b: Tensor) -> int:
    """Each stored number of a column of a meets each one of that row of b."""
    _stored(a)
    columns, rows = a.to_sparse_coo()._indices()[1], b.to_sparse_coo()._indices()[0]
    counted = (torch.bincount(which, minlength=a.shape[1]) for which in (columns, rows))
    return 2 * int(torch.dot(*counted))


def _sparse(tensor: Tensor) -> bool:
    return tensor.layout in SPARSE


def _stored(tensor: Tensor) -> int:
    if _sparse(tensor) and isinstance(tensor, FakeTensor):
        raise SparseWithoutValues("what a sparse operand stores is not known from its shape")
    return stored(tensor)[-1].numel()


def _inner(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.numel()


def _outer(added: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * a.numel() * b.numel()


def _packed_weight(a: Tensor, b: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * a.numel() * out_val.shape[-1]


def _sampled(mask: Tensor, a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    """Only the entries that the mask stores are computed."""
    return 2 * _stored(mask) * a.shape[-1]


def _reduced_backward(
    sparse: Tensor, grad: Tensor, dense: Tensor, reduce: str, chosen: Tensor, output_mask: list[bool]
) -> int:
    return sum(output_mask) * _product(sparse, dense)


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
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "addmm": _added_product,
    "addmm_": _added_product,
    "addmv": _added_product,
    "addmv_": _added_product,
    "addbmm": _added_product,
    "addbmm_": _added_product,
    "baddbmm": _added_product,
    "baddbmm_": _added_product,
    "_addmm_activation": _added_product,
    "dot": _inner,
    "vdot": _inner,
    "addr": _outer,
    "addr_": _outer,
    "_int_mm": _product,
    "_weight_int8pack_mm": _packed_weight,
    "_weight_int4pack_mm": _packed_weight,
    "_weight_int4pack_mm_for_cpu": _packed_weight,
    "_scaled_mm_v2": _product,
    "_grouped_mm": _grouped,
    "_scaled_grouped_mm": _grouped,
    "_scaled_grouped_mm_v2": _grouped,
    "hspmm": _product,
    "sspaddmm": _added_product,
    "_sparse_mm": _product,
    "_sparse_addmm": _added_product,
    "_sparse_sparse_matmul": _product,
    "_sparse_mm_reduce_impl": _product,
    "_sparse_mm_reduce_impl_backward": _reduced_backward,
    "sparse_sampled_addmm": _sampled,
    "_trilinear": _trilinear,
}
FORMULAS = {getattr(aten, name): formula for name, formula in _KNOWN.items() if hasattr(aten, name)}
