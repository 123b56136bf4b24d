"""A module's copy on another device, ties included."""

import copy
from typing import Any

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
