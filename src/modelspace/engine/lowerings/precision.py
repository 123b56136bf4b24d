"""Mixed precision under ``vmap``: operations whose inputs are cast, as PyTorch's autocast casts them.

``torch.autocast`` inside ``vmap`` changes numerics (pytorch/pytorch issues 105442, 192617), so here the inputs are
cast explicitly. Source of the two lists: PyTorch's "Autocast Op Reference"; both devices' lists of operations that
need float32 are joined.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.linear,
        F.bilinear,
        F.scaled_dot_product_attention,
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.conv_transpose1d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
        torch.matmul,
        torch.mm,
        torch.bmm,
        torch.mv,
        torch.addmm,
        torch.addmv,
        torch.addbmm,
        torch.baddbmm,
        torch.einsum,
        torch.Tensor.matmul,
        torch.Tensor.mm,
        torch.Tensor.bmm,
        torch.Tensor.mv,
        torch.Tensor.__matmul__,
        torch.Tensor.__rmatmul__,
        torch.lstm,
        torch.gru,
        torch.rnn_tanh,
        torch.rnn_relu,
        torch.lstm_cell,
        torch.gru_cell,
        torch.rnn_tanh_cell,
        torch.rnn_relu_cell,
    }
)
FLOAT32: frozenset[Callable[..., Any]] = frozenset(
    {
        F.cross_entropy,
        F.nll_loss,
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        F.huber_loss,
        F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
        F.kl_div,
        F.poisson_nll_loss,
        F.gaussian_nll_loss,
        F.soft_margin_loss,
        F.margin_ranking_loss,
        F.cosine_similarity,
        F.softmax,
        F.log_softmax,
        F.softplus,
        F.layer_norm,
        F.group_norm,
        F.batch_norm,
        F.instance_norm,
        F.normalize,
        F.grid_sample,
        torch.softmax,
        torch.log_softmax,
        torch.Tensor.softmax,
        torch.Tensor.log_softmax,
        torch.layer_norm,
        torch.group_norm,
        torch.batch_norm,
        torch.instance_norm,
        torch.cdist,
        torch.exp,
        torch.log,
        torch.pow,
        torch.norm,
        torch.prod,
        torch.cumsum,
        torch.cumprod,
        torch.logsumexp,
        torch.Tensor.exp,
        torch.Tensor.log,
        torch.Tensor.pow,
        torch.Tensor.norm,
        torch.Tensor.prod,
        torch.Tensor.cumsum,
    }
)


def cast(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], products: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, cast where the function is in one of the lists.

    Args:
        function: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.
        products: The type of matrix products, bfloat16 or float16.
    """
    if function in PRODUCTS:
        return pytree.tree_map(
            lambda x: _to(x, products, {torch.float32, torch.bfloat16, torch.float16}), (args, kwargs)
        )
    if function in FLOAT32:
        return pytree.tree_map(lambda x: _to(x, torch.float32, {products}), (args, kwargs))
    return args, kwargs


def _to(value: Any, dtype: torch.dtype, among: set[torch.dtype]) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype in among else value
