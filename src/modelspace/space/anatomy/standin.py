"""A module's stand-in: the same code and ties, with tensors that have shapes, types and a device, and no values."""

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from modelspace.errors import ModelspaceError

# Constructors read the values of these (rates of stochastic depth, tables of positions), and they are small.
_KEPT_REAL = frozenset({torch.arange, torch.tensor, torch.linspace, torch.logspace})


class MetaBuild(TorchFunctionMode):
    """While entered, modules are built on the meta device: any size costs nothing.

    Unlike ``torch.device("meta")`` it leaves ``arange``, ``tensor``, ``linspace`` and ``logspace`` real, whose
    values constructors read.

    Example:
        >>> with MetaBuild():
        ...     net = nn.Linear(10**6, 10**6)
        >>> net.weight.is_meta, torch.arange(3).is_meta
        (True, False)
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _device_constructors() and func not in _KEPT_REAL and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def fake(tensor: Shaped[Tensor, "..."], mode: FakeTensorMode, dtype: torch.dtype | None = None) -> Tensor:
    """A fake CPU tensor of the same shape, strides and type; a parameter stays a parameter.

    Args:
        tensor: Any dense tensor.
        mode: The mode that owns the fakes.
        dtype: Another type for a floating-point tensor.
    """
    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    with mode, torch.no_grad():
        data = torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=kind, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def real(tensor: Shaped[Tensor, "..."], dtype: torch.dtype | None = None) -> Tensor:
    """A copy in memory; zeros where the tensor has no values."""
    data = torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().clone().cpu()
    if dtype is not None and data.is_floating_point():
        data = data.to(dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def stand_in(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a module with each tensor changed; a tensor met twice (a tie) is changed once.

    Args:
        module: Any module.
        change: Makes a tensor's substitute, as `fake` and `real` do.

    Raises:
        ModelspaceError: the module refuses to be copied.
    """
    memo: dict[int, Any] = {}
    for layer in module.modules():
        for tensor in _tensors_of(layer):
            if id(tensor) not in memo:
                memo[id(tensor)] = change(tensor)
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelspaceError(f"{type(module).__name__} can't be copied: {error}") from error


def _tensors_of(layer: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors kept as plain attributes, in lists and dictionaries too."""
    for owned in (layer._parameters, layer._buffers):
        yield from (tensor for tensor in owned.values() if tensor is not None)
    seen: set[int] = set()
    for name, value in vars(layer).items():
        if name not in ("_parameters", "_buffers", "_modules"):
            yield from _held(value, seen)


def _held(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in seen and isinstance(value, list | tuple | dict):
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _held(item, seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and id(value) not in seen:
        seen.add(id(value))
        for item in vars(value).values() if hasattr(value, "__dict__") else ():
            yield from _held(item, seen)


# What errors without a class of their own say.
_SIGNS = ("FakeTensor", "fake impl", "data pointer", "tensor subclass", "meta tensor")


def needs_values(error: BaseException | None) -> bool:
    """Whether a failure came from there being no values, rather than from the shapes."""
    while error is not None:
        if isinstance(
            error,
            DataDependentOutputException
            | DynamicOutputShapeException
            | UnsupportedOperatorException
            | UnsupportedFakeTensorException
            | NotImplementedError,
        ):
            return True
        text = str(error)
        if any(sign in text for sign in _SIGNS):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Fake tensors log each failure with its traceback before they raise it; the error says it better."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
