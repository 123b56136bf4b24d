"""``view`` of a tensor that plain PyTorch would have laid out contiguously.

The lowered layers keep the batch as the innermost axis in memory, so that a ``view`` across it may need a copy.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def view(input: Tensor, *shape: Any, **other: Any) -> Tensor:
    """``input.view(…)`` where that is possible, ``input.reshape(…)`` where the layout is not plain PyTorch's."""
    try:
        return input.view(*shape, **other)
    except RuntimeError:
        if other or (shape and isinstance(shape[0], torch.dtype)):
            raise
        return input.reshape(*shape)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.Tensor.view: view}
