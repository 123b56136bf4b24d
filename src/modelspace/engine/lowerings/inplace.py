"""Operations that write into a tensor, where ``vmap`` can only compute what they write.

``x.lerp_(y, w)`` has no batching rule and ``x.lerp(y, w)`` has one, and so for two dozen others, and for every call
with ``out=``: the result is computed, then copied. ``x[mask] = value``, with a mask of each member's own, is a
``torch.where``: an index of that kind has another length for each member.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.engine.lowerings.spreading import REFUSED, is_own

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def separated(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Call] | None:
    """An operation that writes its result into a tensor, taken apart.

    Returns:
        The tensor, and the operation that computes the result: function, arguments, keyword arguments. None where the
        operation does not write, or nothing else computes its result.

    Raises:
        RuntimeError: It writes a member's values into a tensor that all members share.
    """
    parts = _separated(function, args, kwargs)
    if parts is not None and not is_own(parts[0]) and any(map(is_own, pytree.tree_leaves((args, kwargs)))):
        raise RuntimeError(f"{function.__name__} {REFUSED[0]} without a member axis")
    return parts


def _separated(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Call] | None:
    target = kwargs.get("out")
    if isinstance(target, Tensor):
        return target, (function, args, {name: value for name, value in kwargs.items() if name != "out"})
    name = getattr(function, "__name__", "")
    plain = getattr(Tensor, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    if plain is None or not args or not isinstance(args[0], Tensor):
        return None
    # The backward may need what is about to be overwritten.
    return args[0], (plain, (args[0].clone(), *args[1:]), kwargs)


def set_item(input: Tensor, index: Any, value: Any) -> None:
    """``input[index] = value``; with a mask for an index, by ``torch.where``."""
    mask = isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
    rest = input.dim() - index.dim() if mask else 0
    if not mask or (isinstance(value, Tensor) and value.dim() > rest):
        input[index] = value
        return
    chosen = index.bool().reshape(*index.shape, *[1] * rest)
    input.copy_(torch.where(chosen, value, input))


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.Tensor.__setitem__: set_item}
