"""A module's copy on another device, ties included; a module apart from another; whether tensors are the same."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelspace.errors import ModelspaceError


def copied(module: nn.Module, device: str) -> nn.Module:
    """A copy whose tensors are on a device; ties stay ties, which ``module.to("meta")`` would undo.

    Args:
        module: Any module.
        device: ``"meta"`` for a copy that allocates nothing; a meta tensor elsewhere becomes zeros.

    Raises:
        ModelspaceError: the module refuses to be copied.
    """

    def moved(tensor: Tensor) -> Tensor:
        if device == "meta":
            data = torch.empty_like(tensor, device="meta")
        elif tensor.is_meta:
            data = torch.zeros_like(tensor, device=device)
        else:
            data = tensor.detach().clone().to(device)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(data, requires_grad=tensor.requires_grad)
        return data

    memo: dict[int, Any] = {}
    for layer in module.modules():
        # Tensors kept as plain attributes, not registered as buffers, are the network's all the same.
        for tensor in (*layer._parameters.values(), *layer._buffers.values(), *vars(layer).values()):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = moved(tensor)
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelspaceError(f"{type(module).__name__} can't be copied: {error}") from error


def apart_from(module: nn.Module, other: nn.Module) -> nn.Module:
    """The module, sharing no memory with another that the same callable built.

    A callable may put one tensor into every network that it builds (class weights, a pretrained table), or one layer
    (a backbone): what one network writes there is in all of them. A shared layer is copied with all of the module; a
    shared tensor gets memory of its own.

    Args:
        module: It; what it shares is replaced in it.
        other: What stays as it is.
    """
    if module is other or {id(x) for x in module.modules()} & {id(x) for x in other.modules()}:
        return copy.deepcopy(module)
    theirs = [*other.parameters(), *other.buffers()]
    objects, memory = set(map(id, theirs)), {place for x in theirs if (place := _memory(x))}
    own: dict[int, Tensor] = {}
    for layer in module.modules():
        for held in cast(list[dict[str, Any]], [layer._parameters, layer._buffers]):
            for name, value in held.items():
                if value is None or _memory(value) not in memory:
                    continue
                if id(value) in objects:
                    held[name] = own.setdefault(id(value), _copied(value))
                else:
                    value.data = value.data.clone()
    return module


def _memory(value: Tensor) -> int | None:
    """Where a tensor's numbers are; None where it has none of its own."""
    if value.is_meta or value.layout is not torch.strided or not value.numel():
        return None
    return value.untyped_storage().data_ptr()


def _copied(value: Tensor) -> Tensor:
    data = value.detach().clone()
    return nn.Parameter(data, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else data


def same(first: Tensor, second: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors are equal, NaN included; or nearly so, by their norms."""
    if first.shape != second.shape or first.layout != second.layout:
        return False
    if first.is_meta or first is second:
        return True
    a, b = (x.detach().to_dense() if x.layout is not torch.strided else x.detach() for x in (first, second))
    if torch.equal(a, b):
        return True
    if not (a.is_floating_point() or a.is_complex()):
        return False
    a, b = a.nan_to_num(), b.nan_to_num()
    return torch.equal(a, b) or bool((a - b).norm() <= tolerance * b.norm())
