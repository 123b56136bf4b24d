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
from modelspace.data.mapped import of_memmap
from modelspace.errors import ModelspaceError
from modelspace.nest import Nest, register

LABELS = ("labels", "label")
ARRAYS = (Tensor, np.ndarray)
_NONE = object()


def is_array(value: Any) -> bool:
    """Whether it is a tensor or a NumPy array."""
    return isinstance(value, ARRAYS)


def input_tensor(value: Any, what: str) -> Shaped[Tensor, "..."]:
    """``value`` as an input.

    Args:
        value: A tensor, a NumPy array, or a number.
        what: What it is, for the error.

    Returns:
        A tensor outside autograd; of an array a copy, but of a whole ``numpy.memmap`` the file, mapped.

    Raises:
        ModelspaceError: it is none of these, an array of strings or objects, or a sparse or a nested tensor.
    """
    if isinstance(value, Tensor):
        if value.is_nested or value.layout != torch.strided:
            kind, fix = ("nested", "to_padded_tensor(0)") if value.is_nested else ("sparse", "to_dense()")
            raise ModelspaceError(f"{what} is a {kind} tensor: rows are taken of plain ones; use .{fix}")
        return value.detach()
    if not isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        raise ModelspaceError(
            f"{what} is a {type(value).__name__}: expected a tensor, a NumPy array or a number"
        )
    if (mapped := of_memmap(value)) is not None:
        return mapped
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        return torch.tensor(value)
    # A copy in the machine's byte order: torch takes no foreign bytes, negative strides or read-only memory.
    array = np.array(value, dtype=np.asarray(value).dtype.newbyteorder("="), order="C")
    try:
        tensor = torch.from_numpy(array)
    except TypeError:
        raise ModelspaceError(f"{what} is an array of {array.dtype}: expected numbers") from None
    return _of_default(tensor) if tensor.dtype in (torch.float64, torch.complex128) else tensor


def label_tensor(value: Any, what: str) -> Shaped[Tensor, "..."]:
    """``value`` as a label; as ``input_tensor``, with labels' dtypes.

    Args:
        value: A tensor, a NumPy array, or a number.
        what: What it is, for the error.

    Returns:
        A tensor of int64, or of the default dtype or its complex form.

    Raises:
        ModelspaceError: it is none of these.
    """
    tensor = input_tensor(value, what)
    fractional = tensor.is_floating_point() or tensor.is_complex()
    return _of_default(tensor) if fractional else tensor.to(torch.int64)


def _label_part(value: Any, what: str) -> Tensor:
    """``value`` as a part of a nest of labels, where booleans are a mask."""
    tensor = input_tensor(value, what)
    return tensor if tensor.dtype == torch.bool else label_tensor(tensor, what)


def _of_default(tensor: Tensor) -> Tensor:
    kind = torch.get_default_dtype()
    return tensor.to(kind.to_complex() if tensor.is_complex() else kind)


def is_nest(value: Any) -> bool:
    """Whether it is a tensor, an array, or a nest of them."""
    if is_array(value):
        return True
    parts = _parts(value)
    return bool(parts) and all(is_nest(part) for part in parts)


def has_arrays(value: Any) -> bool:
    """Whether some part of a nest is a tensor or an array."""
    return is_array(value) or any(map(has_arrays, _parts(value)))


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
    convert = _label_part if _parts(labels) else label_tensor
    return Split(made, None if labels is _NONE else converted(labels, convert, labels_are), form)


def converted(nest: Any, convert: Callable[[Any, str], Tensor], what: str, path: str = "") -> Nest:
    """Convert every part of a nest; ``what`` is what it is called in errors, ``path`` where in it a part is."""

    def part(name: Any, value: Any) -> Nest:
        return converted(value, convert, what, f"{path}.{name}" if path else str(name))

    if isinstance(nest, Mapping):
        parts = {name: part(name, value) for name, value in nest.items()}
        return parts if type(nest) is not OrderedDict else OrderedDict(parts)
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(part(name, value) for name, value in nest._asdict().items()))  # pyright: ignore
    if isinstance(nest, tuple | list) and _parts(nest):
        return tuple(part(i, value) for i, value in enumerate(nest))
    if is_dataclass(nest) and not isinstance(nest, type):
        register(type(nest))
        return replace(nest, **{f.name: part(f.name, getattr(nest, f.name)) for f in fields(nest)})
    return convert(nest, f"{what} '{path}'" if path else what)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, tuple | list):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, f.name) for f in fields(value)]
    return []
