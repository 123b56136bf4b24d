"""Arrays and tensors as the tensors that a model and a loss take.

Inputs keep their dtype (integers are token indices for an embedding), except that a float64 NumPy array
becomes ``torch.get_default_dtype()``: float64 is what NumPy makes by itself, whereas a float64 tensor was
asked for. Integer and boolean labels become int64; float labels, ``torch.get_default_dtype()``.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from modelspace.data.dataset import Split
from modelspace.errors import ModelspaceError
from modelspace.nest import Nest, register

LABELS = ("labels", "label")
_NONE = object()


def is_array(value: Any) -> bool:
    """Whether it is a tensor or a NumPy array."""
    return isinstance(value, (Tensor, np.ndarray))


def input_tensor(value: Any, what: str) -> Shaped[Tensor, "..."]:
    """``value`` as an input.

    Args:
        value: A tensor, a NumPy array, or a number.
        what: What it is, for the error.

    Returns:
        A tensor outside autograd; of an array, always a copy.

    Raises:
        ModelspaceError: it is none of these, or an array of strings or objects.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        raise ModelspaceError(
            f"{what} is a {type(value).__name__}: expected a tensor, a NumPy array or a number"
        )
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        return torch.tensor(value)
    # A copy in the machine's byte order: torch takes no foreign bytes, negative strides or read-only memory.
    array = np.array(value, dtype=np.asarray(value).dtype.newbyteorder("="), order="C")
    try:
        tensor = torch.from_numpy(array)
    except TypeError:
        raise ModelspaceError(f"{what} is an array of {array.dtype}: expected numbers") from None
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def label_tensor(value: Any, what: str) -> Shaped[Tensor, "..."]:
    """``value`` as a label; as ``input_tensor``, with labels' dtypes.

    Args:
        value: A tensor, a NumPy array, or a number.
        what: What it is, for the error.

    Returns:
        A tensor of int64 or of the default float dtype.

    Raises:
        ModelspaceError: it is none of these, or complex.
    """
    tensor = input_tensor(value, what)
    if tensor.is_complex():
        raise ModelspaceError(f"{what} is {tensor.dtype}: labels are integers or real numbers")
    return tensor.to(torch.get_default_dtype() if tensor.is_floating_point() else torch.int64)


def is_nest(value: Any) -> bool:
    """Whether it is a tensor, an array, or a nest of them."""
    if is_array(value):
        return True
    parts = _parts(value)
    return bool(parts) and all(is_nest(part) for part in parts)


def split_of(source: Any, inputs_are: str, labels_are: str) -> Split:
    """Take a nest apart into inputs and labels.

    A tuple's or a list's last part is the labels, and what stands before it the inputs; of a dict, what is called
    ``labels`` or ``label`` is; what has no such part is inputs alone.

    Args:
        source: A tensor, an array, or a nest of them.
        inputs_are: What the inputs are called in errors: ``"data 'd': inputs"``.
        labels_are: What the labels are called.

    Raises:
        ModelspaceError: a part is no tensor, no array and no number.
    """
    if isinstance(source, Split):
        return source
    if type(source) in (tuple, list) and len(source) > 1:
        *inputs, labels = source
        form, inputs = ("pair", inputs[0]) if len(source) == 2 else ("flat", tuple(inputs))
    else:
        form, inputs, labels = "inputs", source, _NONE
        for key in LABELS if type(source) is dict and len(source) > 1 else ():
            if key in source:
                form, labels = f"dict:{key}", source[key]
                inputs = {name: part for name, part in source.items() if name != key}
                break
    made = converted(inputs, input_tensor, inputs_are)
    return Split(made, None if labels is _NONE else converted(labels, label_tensor, labels_are), form)


def converted(nest: Any, convert: Callable[[Any, str], Tensor], what: str) -> Nest:
    """Convert every part of a nest; ``what`` is what it is called in errors."""
    if isinstance(nest, Mapping):
        parts = {key: converted(part, convert, f"{what} '{key}'") for key, part in nest.items()}
        return parts if type(nest) is not OrderedDict else OrderedDict(parts)
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(converted(p, convert, f"{what} '{n}'") for n, p in nest._asdict().items()))  # pyright: ignore
    if isinstance(nest, tuple | list) and _parts(nest):
        return tuple(converted(part, convert, f"{what} {i}") for i, part in enumerate(nest))
    if is_dataclass(nest) and not isinstance(nest, type):
        own = {f.name: converted(getattr(nest, f.name), convert, f"{what} '{f.name}'") for f in fields(nest)}
        register(type(nest))
        return replace(nest, **own)
    return convert(nest, what)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, tuple | list):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, f.name) for f in fields(value)]
    return []
