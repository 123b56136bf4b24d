"""Inputs and outputs as nests: tuples, lists, dictionaries and dataclasses with tensors at their leaves."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

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
