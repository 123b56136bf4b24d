"""Arrays and tensors as the tensors that a model and a loss take.

Inputs keep their dtype (integers are token indices for an embedding), except that a float64 NumPy array
becomes ``torch.get_default_dtype()``: float64 is what NumPy makes by itself, whereas a float64 tensor was
asked for. Integer and boolean labels become int64; float labels, ``torch.get_default_dtype()``.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError


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


def tensor_pair(
    inputs: Any, labels: Any, name: str
) -> tuple[Shaped[Tensor, "row *shape"], Shaped[Tensor, "label *target"]]:
    """Inputs and labels of the data set ``name`` as tensors with a first dimension that counts samples."""
    pair = input_tensor(inputs, f"data '{name}': inputs"), label_tensor(labels, f"data '{name}': labels")
    for kind, tensor in zip(("inputs", "labels"), pair, strict=True):
        if tensor.ndim == 0:
            raise ModelspaceError(f"data '{name}': {kind} is one number: the first dimension counts samples")
    return pair
