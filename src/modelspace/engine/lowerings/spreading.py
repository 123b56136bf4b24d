"""Tensors that all members share made each member's own, so that a member may write into them.

``vmap`` refuses to write one member's values into a tensor without a member axis: what ``torch.zeros`` made in the
forward, a copy of the input. Where a forward does that, the tensors that it makes get their member axis at once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from modelspace.engine.lowerings.batched import batched

REFUSED = ("is not possible because there exists a Tensor", "doesn't match the broadcast shape")

FACTORIES: frozenset[Callable[..., Tensor]] = frozenset(
    {
        torch.zeros,
        torch.ones,
        torch.empty,
        torch.full,
        torch.eye,
        torch.tensor,
        torch.arange,
        torch.linspace,
        torch.zeros_like,
        torch.ones_like,
        torch.empty_like,
        torch.full_like,
        torch.clone,
        torch.Tensor.new,
        torch.Tensor.clone,
        torch.Tensor.new_zeros,
        torch.Tensor.new_ones,
        torch.Tensor.new_empty,
        torch.Tensor.new_full,
        torch.Tensor.new_tensor,
    }
)


def writes_into_shared(error: Exception) -> bool:
    """Whether this is ``vmap``'s refusal to write a member's values into a tensor that all members share."""
    return any(text in str(error) for text in REFUSED)


def is_own(value: Any) -> bool:
    """Whether ``vmap`` sees a member axis in it."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return isinstance(value, Tensor) and functorch.is_batchedtensor(value)


def _rule(count: int, anchor: tuple[Tensor, bool], shared: tuple[Tensor, bool]) -> Tensor:
    value, own = shared
    return value.clone() if own else value.expand(count, *value.shape).clone()


_spread = batched(lambda anchor, value: value.clone(), _rule)


def spread(anchor: Tensor, value: Tensor) -> Tensor:
    """``value`` in memory of each member's own; ``anchor`` is any tensor with a member axis."""
    return _spread(anchor, value)
