"""Operations that write, and views: what depends on the memory in which a tensor lies.

``vmap`` refuses to write one member's values into a tensor without a member axis: what ``torch.zeros`` made in the
forward, a copy of the input. Where a forward does that, the tensors that it makes get their member axis at once
(``spread``). ``x.lerp_(y, w)`` has no batching rule and ``x.lerp(y, w)`` has one, and so for two dozen others, and
for every call with ``out=``: the result is computed, then copied (``separated``). ``x[mask] = value``, with a mask of
each member's own, is a ``torch.where``: an index of that kind has another length for each member. And the lowered
layers keep the batch as the innermost axis, so that a ``view`` across it may need a copy.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.engine.lowerings.batched import Function, Pair, Table, batched, is_own

REFUSED = ("is not possible because there exists a Tensor", "doesn't match the broadcast shape")

FACTORIES: frozenset[Function] = frozenset(
    {
        getattr(torch, n)
        for n in ("zeros", "ones", "empty", "full", "eye", "tensor", "arange", "linspace", "clone")
    }
    | {getattr(torch, f"{n}_like") for n in ("zeros", "ones", "empty", "full")}
    | {getattr(Tensor, f"new_{n}") for n in ("zeros", "ones", "empty", "full", "tensor")}
    | {Tensor.new, Tensor.clone}
)


def writes_into_shared(error: Exception) -> bool:
    """Tell whether this is ``vmap``'s refusal to write a member's values into a tensor that all members share."""
    return any(text in str(error) for text in REFUSED)


def spread(anchor: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` in memory of each member's own; ``anchor`` is any tensor with a member axis."""
    return batched(lambda anchor, value: value.clone(), _spread, anchor, value)


def _spread(count: int, anchor: Pair, shared: Pair) -> Tensor:
    value, stacked = shared
    return value.clone() if stacked else value.expand(count, *value.shape).clone()


def separated(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Take an operation that writes its result into a tensor apart: the tensor; function and arguments of the result.

    Returns:
        None where the operation does not write, or nothing else computes its result.

    Raises:
        RuntimeError: it writes a member's values into a tensor that all members share.
    """
    target, name = kwargs.get("out"), getattr(function, "__name__", "")
    if isinstance(target, Tensor):
        parts = function, args, {name: value for name, value in kwargs.items() if name != "out"}
    else:
        plain = getattr(Tensor, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
        if plain is None or not args or not isinstance(args[0], Tensor):
            return None
        # The backward may need what is about to be overwritten.
        target, parts = args[0], (plain, (args[0].clone(), *args[1:]), kwargs)
    if not is_own(target) and any(map(is_own, pytree.tree_leaves((args, kwargs)))):
        raise RuntimeError(f"{name} {REFUSED[0]} without a member axis")
    return target, parts


def set_item(input: Tensor, index: Any, value: Any) -> None:
    """``input[index] = value``; with a mask for an index, by ``torch.where``."""
    mask = isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
    rest = input.dim() - index.dim() if mask else 0
    if not mask or (isinstance(value, Tensor) and value.dim() > rest):
        input[index] = value
        return
    chosen = index.bool().reshape(*index.shape, *[1] * rest)
    input.copy_(torch.where(chosen, value, input))


def view(input: Tensor, *shape: Any, **other: Any) -> Tensor:
    """``input.view(…)`` where that is possible, ``input.reshape(…)`` where the layout is not plain PyTorch's."""
    try:
        return input.view(*shape, **other)
    except RuntimeError:
        if other or (shape and isinstance(shape[0], torch.dtype)):
            raise
        return input.reshape(*shape)


TABLE: Table = {Tensor.__setitem__: set_item, Tensor.view: view}
