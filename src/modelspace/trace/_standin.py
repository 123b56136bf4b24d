"""Stand-ins with shapes, types and a device, and no values: for inputs, nested as they may be, and for a module."""

import dataclasses
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

from modelspace.construction import with_tensors
from modelspace.errors import ModelspaceError


@dataclasses.dataclass(frozen=True)
class Spec:
    """A tensor's shape and type, in place of a tensor that would have to be allocated.

    Attributes:
        shape: The whole shape, batch included.
        dtype: The type of its elements.
        below: Where a forward reads values, integers drawn below this; ones where None.

    Example:
        >>> Spec((8, 128), torch.long).shape
        (8, 128)
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    below: int | None = None


def mapped(nest: Any, change: Callable[[Any], Any]) -> Any:
    """The same nest with each tensor and each `Spec` changed; anything else stays.

    Args:
        nest: Tuples, lists, dictionaries, named tuples and dataclasses, in any depth.
        change: Called with each leaf that is a tensor or a `Spec`.

    Example:
        >>> mapped({"tokens": Spec((2, 3)), "cache": None}, lambda spec: spec.shape)
        {'tokens': (2, 3), 'cache': None}
    """
    if isinstance(nest, Tensor | Spec):
        return change(nest)
    if isinstance(nest, Mapping):
        items = {key: mapped(value, change) for key, value in nest.items()}
        return items if type(nest) is dict else _rebuilt(nest, items)
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(mapped(value, change) for value in nest))
    if isinstance(nest, list | tuple):
        return type(nest)(mapped(value, change) for value in nest)
    if dataclasses.is_dataclass(nest) and not isinstance(nest, type):
        fields = {f.name: mapped(getattr(nest, f.name), change) for f in dataclasses.fields(nest) if f.init}
        return dataclasses.replace(nest, **fields)
    return nest


def _rebuilt(nest: Mapping, items: dict[Any, Any]) -> Any:
    try:
        return type(nest)(**items) if dataclasses.is_dataclass(nest) else type(nest)(items)  # pyright: ignore[reportCallIssue]
    except Exception as error:
        raise ModelspaceError(
            f"a {type(nest).__name__} can't be made anew from its items ({error}): give a plain dictionary"
        ) from error


def tensors_in(nest: Any) -> Iterator[Tensor]:
    """Every tensor of a nest, in order."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        for value in nest.values():
            yield from tensors_in(value)
    elif isinstance(nest, list | tuple):
        for value in nest:
            yield from tensors_in(value)
    elif dataclasses.is_dataclass(nest) and not isinstance(nest, type):
        for item in dataclasses.fields(nest):
            yield from tensors_in(getattr(nest, item.name, None))


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
    """A fake CPU tensor of the same shape, strides and type, or of another floating-point type."""
    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    with mode, torch.no_grad():
        data = torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=kind, device="cpu")
    return _like(tensor, data)


def real(tensor: Shaped[Tensor, "..."], dtype: torch.dtype | None = None) -> Tensor:
    """A copy in memory; zeros where the tensor has no values."""
    data = torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().clone().cpu()
    if dtype is not None and data.is_floating_point():
        data = data.to(dtype)
    return _like(tensor, data)


def _like(tensor: Tensor, data: Tensor) -> Tensor:
    """A parameter stays a parameter."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def stand_in(module: nn.Module, change: Callable[[Tensor], Tensor]) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy of a module with each tensor changed, as `fake` and `real` do, and each tensor's substitute.

    Raises:
        ModelspaceError: the module refuses to be copied.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.parallel.DistributedDataParallel):
            raise ModelspaceError(
                f"layer {name or 'itself'} (DistributedDataParallel) belongs to a group of processes and can't be "
                "copied: give the module that it wraps, .module"
            )
    return with_tensors(module, change)


@contextmanager
def lent(module: nn.Module, changed: Mapping[int, Tensor]) -> Iterator[None]:
    """Put the substitutes into a module itself while the block runs.

    A copy's closures and patched forwards, compiled ones too, still reach the module that was copied.
    """
    held = [
        (layer, owner, name, value)
        for layer in module.modules()
        for owner in (layer._parameters, layer._buffers, vars(layer))
        for name, value in owner.items()
        if isinstance(value, Tensor) and id(value) in changed
    ]
    try:
        for layer, owner, name, value in held:
            _put(layer, owner, name, changed[id(value)])
        yield
    finally:
        for layer, owner, name, value in held:
            _put(layer, owner, name, value)


def _put(layer: nn.Module, owner: Any, name: str, value: Tensor) -> None:
    if isinstance(layer, torch.jit.ScriptModule):
        setattr(layer, name, value)
    else:
        owner[name] = value


class SparseWithoutValues(Exception):
    """A sparse operand is known by its shape alone."""


READS_VALUES = "its forward reads values"
# What errors without a class of their own say.
_SIGNS = ("FakeTensor", "fake impl", "data pointer", "tensor subclass", "meta tensor", "TorchScript")


def needs_values(error: BaseException | None) -> str | None:
    """Why a pass can't do without values; None where it failed for another reason, as on its shapes."""
    while error is not None:
        if isinstance(error, DataDependentOutputException | DynamicOutputShapeException):
            return READS_VALUES
        if isinstance(error, SparseWithoutValues):
            return "it multiplies sparse tensors"
        if isinstance(
            error, UnsupportedOperatorException | UnsupportedFakeTensorException | NotImplementedError
        ):
            return "an operation of its forward can't run on shapes alone"
        text = str(error)
        if any(sign in text for sign in _SIGNS):
            return READS_VALUES
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Fake tensors log each failure with its traceback before they raise it; the error says it better.

    What is compiled runs as it was written: it is what is counted, and a compiled module warns of global hooks.
    """
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _eager(), torch.jit.optimized_execution(False):
            warnings.filterwarnings("ignore", message=".*global hooks on modules", category=UserWarning)
            yield
    finally:
        logger.setLevel(before)


def _eager() -> AbstractContextManager[Any]:
    """Nothing can be compiled before the compiler is imported, which takes a second."""
    compiler = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if compiler else nullcontext()
