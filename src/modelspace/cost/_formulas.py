"""FLOP formulas of operations: PyTorch's own, those that it lacks, and the user's.

One multiply-and-add is two FLOP, a complex one eight. A user's formula is called as the operation was, with shapes in
place of tensors, and with ``out_shape``, the shape of the result; ours take the tensors and ``out_val``.

- Products: each stored number of one operand meets a row or a column of the other.
- Convolutions: every weight meets one position of the smaller side (of the output; of the input where transposed) a
  sample, so a pass is 2·N·positions·numel(W): the forward, the gradient of the input, and that of the weight, each.
  PyTorch's own counter takes a grouped convolution's weight gradient for an ungrouped one. Padding lowers nothing.
- Attention: Softmax(QKᵀ)V of B·H heads, S queries, T keys, widths E and F is 2·B·H·S·T·(E + F). Masks, causal ones
  too, don't lower it: the counter of PyTorch doesn't either, and most kernels compute what they mask.
- Recurrent layers as one kernel: each token meets each matrix of its layer and direction once, 2·tokens·Σ numel(W),
  projections included; the backward, into inputs and weights, is twice that. Kernels that go step by step are counted
  by their own products.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
    shape_wrapper,
)

from modelspace.errors import ModelspaceError
from modelspace.trace import SPARSE, Formula, SparseWithoutValues, stored

_registered: dict[Any, Formula] = {}


def register_flop_formula(operation: Any, formula: Formula) -> None:
    """Count an operation by this formula from now on, in this process.

    Args:
        operation: ``torch.ops.library.name``.
        formula: Called as the operation is, with a shape in place of each tensor, and ``out_shape``; gives the
            FLOP, a multiply-and-add being two.

    Raises:
        ModelspaceError: it is not an operation, or the formula can't be called.

    Example:
        >>> def product(a, b, *, out_shape):
        ...     return 2 * a[0] * a[1] * b[1]
        >>> register_flop_formula(torch.ops.aten._int_mm, product)
    """
    _registered.update(_checked({operation: formula}))


def _checked(formulas: Mapping[Any, Formula]) -> dict[Any, Formula]:
    """The same formulas, told to take tensors; an overload stands for its operation."""
    found = {}
    for operation, formula in formulas.items():
        if isinstance(operation, torch._ops.OpOverload):
            operation = operation._overloadpacket
        if not isinstance(operation, torch._ops.OpOverloadPacket | torch._ops.HigherOrderOperator):
            raise ModelspaceError(
                f"a FLOP formula belongs to an operation, torch.ops.library.name; received {operation!r}"
            )
        if not callable(formula):
            raise ModelspaceError(
                f"the FLOP formula of {operation} is a function of shapes; received {formula!r}"
            )
        found[operation] = shape_wrapper(formula)
    return found


def all_formulas(more: Mapping[Any, Formula] | None = None) -> dict[Any, Formula]:
    """Every formula known: those given win over the registered ones, ours over PyTorch's.

    Args:
        more: The user's own, for this call.

    Raises:
        ModelspaceError: as for `register_flop_formula`.
    """
    aten = torch.ops.aten
    ours = {getattr(aten, name): formula for name, formula in _OURS.items() if hasattr(aten, name)}
    by_type = {packet: _by_type(formula) for packet, formula in {**flop_registry, **ours}.items()}
    return {**by_type, **_registered, **_checked(more or {})}


def _by_type(formula: Formula) -> Formula:
    """The formula of a product that may be complex: four real multiplications and additions for each."""

    def counted(*args: Any, **kwargs: Any) -> int:
        real = formula(*args, **kwargs)
        return 4 * real if any(isinstance(x, Tensor) and x.is_complex() for x in args) else real

    return counted


# Products of matrices, vectors and batches, dense or sparse; bilinear forms, grouped and packed weights.


def _product(a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> int:
    """All numbers of one operand where it is dense."""
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


# Convolutions: grouped, depthwise, dilated and transposed ones, forward and backward.


def _pass(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    return 2 * x.shape[0] * prod((x if transposed else out).shape[2:]) * weight.numel()


def _convolution(
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


def _convolution_backward(
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


# Attention whose kernels PyTorch's counter lacks: the CPU's, and those of the fused encoder layer.


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query.shape, _spread(key, query), _spread(value, query))


def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, _spread(key, query), _spread(value, query))


def _spread(key: Tensor, query: Tensor) -> tuple[int, ...]:
    """The shape of keys or values shared by groups of heads, as if each head had its own."""
    return (*query.shape[:-2], *key.shape[-2:])


def _native_attention(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> int:
    """With its four projections, of queries and output, keys and values."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    return 2 * batch * width * width * (2 * queries + 2 * keys) + 4 * batch * queries * keys * width


def _encoder_layer(src: Tensor, embed_dim: int, num_heads: int, *args: Any, **kwargs: Any) -> int:
    # norm_weight_1 … norm_bias_2, then the two matrices of the feed-forward part and their biases.
    first, second = args[11], args[13]
    feed_forward = 2 * src.shape[0] * src.shape[1] * (first.numel() + second.numel())
    return _native_attention(src, src) + feed_forward


# Fused recurrent layers: RNN, LSTM and GRU as one kernel.


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


_NAMES: dict[Callable[..., int], str] = {
    _product: "mm bmm mv _int_mm _scaled_mm_v2 hspmm _sparse_mm _sparse_sparse_matmul _sparse_mm_reduce_impl",
    _added_product: "addmm addmm_ addmv addmv_ addbmm addbmm_ baddbmm baddbmm_ _addmm_activation sspaddmm "
    "_sparse_addmm",
    _inner: "dot vdot",
    _outer: "addr addr_",
    _packed_weight: "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu",
    _grouped: "_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2",
    _reduced_backward: "_sparse_mm_reduce_impl_backward",
    _sampled: "sparse_sampled_addmm",
    _trilinear: "_trilinear",
    _convolution: "convolution _convolution convolution_overrideable",
    _convolution_backward: "convolution_backward convolution_backward_overrideable",
    _plain: "cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu miopen_convolution "
    "miopen_depthwise_convolution mkldnn_convolution _slow_conv2d_forward slow_conv3d_forward "
    "slow_conv_dilated2d slow_conv_dilated3d _conv_depthwise2d conv_depthwise3d",
    _transposed: "cudnn_convolution_transpose miopen_convolution_transpose slow_conv_transpose2d "
    "slow_conv_transpose3d",
    _time_batch_channel: "conv_tbc",
    _time_batch_channel_backward: "conv_tbc_backward",
    _attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_fused_attention_overrideable "
    "_scaled_dot_product_attention_math_for_mps",
    _attention_backward: "_scaled_dot_product_flash_attention_for_cpu_backward "
    "_scaled_dot_product_fused_attention_overrideable_backward",
    _native_attention: "_native_multi_head_attention",
    _encoder_layer: "_transformer_encoder_layer_fwd",
    _onednn: "mkldnn_rnn_layer",
    _onednn_backward: "mkldnn_rnn_layer_backward",
    _cudnn: "_cudnn_rnn miopen_rnn",
    _cudnn_backward: "_cudnn_rnn_backward miopen_rnn_backward",
}
_OURS = {name: formula for formula, names in _NAMES.items() for name in names.split()}
