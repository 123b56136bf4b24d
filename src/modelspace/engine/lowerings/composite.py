"""Functions that PyTorch writes in Python, opened: what they call is lowered too.

A function mode sees ``F.multi_head_attention_forward`` as one call, and while it handles that, not the products,
softmax and dropout inside. The reason is a check at the head of each such function. An opened function is the same
code with that check answered by no.
"""

import types
from collections.abc import Callable
from functools import cache
from typing import Any

import torch.nn.functional as F

_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@cache
def _unchecked() -> dict[str, Any]:
    """The names of ``torch.nn.functional``, its checks for function modes answered by no."""
    return {**vars(F), **dict.fromkeys(_CHECKS, lambda *_: False)}


@cache
def opened(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The opened form of a function of ``torch.nn.functional``; None for any other function."""
    if not isinstance(function, types.FunctionType):
        return None
    ours = function.__module__ == F.__name__
    if not ours and not function.__qualname__.startswith("boolean_dispatch"):
        return None
    # F.max_pool2d and others are closures over the two functions that they choose from.
    cells = None
    if function.__closure__ is not None:
        contents = [cell.cell_contents for cell in function.__closure__]
        cells = tuple(
            types.CellType(opened(c) or c if isinstance(c, types.FunctionType) else c) for c in contents
        )
    names = _unchecked() if ours else function.__globals__
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
