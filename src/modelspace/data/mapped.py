"""Arrays that stay in their files: ``.safetensors``, and directories of ``.npy``, mapped into memory.

What is read of a mapped tensor is paged in and may be dropped again, so data may be larger than memory. Pages are
private: whatever is written into such a tensor, the file stays as it is.
"""

import mmap
import os
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modelspace.data.dataset import Split
from modelspace.errors import ModelspaceError, first_line
from modelspace.nest import Nest

_SPLITS = {"val": "validation", "valid": "validation"}
_NAME = re.compile(r"(inputs|x|X|(labels|y|Y))(?:_(train|val|valid|validation|test))?(?:\.(.+))?")


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie in a file that is mapped, itself or the tensor that it is a part of.

    >>> is_mapped(torch.zeros(3))
    False
    """
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and hasattr(tensor.untyped_storage(), "of_file")
    )


def mapped_file(path: str | os.PathLike[str], dtype: np.dtype, shape: tuple[int, ...], offset: int) -> Tensor:
    """Map an array that lies in a file, in C's order and the machine's bytes, from an offset on."""
    size = offset + prod(shape) * dtype.itemsize
    if os.path.getsize(path) < size:
        raise ValueError(f"it has {os.path.getsize(path):,} bytes and claims {size:,}")
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if offset % dtype.itemsize or not prod(shape):
        return torch.from_numpy(np.fromfile(path, dtype, prod(shape), offset=offset).reshape(shape))
    storage: Any = torch.UntypedStorage.from_file(os.fspath(path), False, size)
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
    return _marked(torch.empty(0, dtype=kind).set_(storage, offset // dtype.itemsize, shape, strides))


def of_memmap(array: Any) -> Tensor | None:
    """Return a ``numpy.memmap`` mapped anew, so that writing into it leaves the file alone; None where it can't be.

    A part of one is none: its place in the file is not known.
    """
    if not (isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous):
        return None
    if not array.filename or not array.dtype.isnative or array.dtype.kind not in "biufc":
        return None
    try:
        return mapped_file(array.filename, array.dtype, array.shape, array.offset)
    except (OSError, ValueError, TypeError):
        return None


def read_mapped(path: Path) -> dict[str, Any]:
    """The tensors of a file or a directory, by split, none of them read yet.

    Args:
        path: A ``.safetensors`` file, or a directory of ``.npy`` files, with tensors ``inputs`` and ``labels`` (or
            ``x`` and ``y``), or already split, ``x_train``, ``y_train``, and so on for ``val`` (``valid``,
            ``validation``) and ``test``. ``inputs.NAME`` is a part of inputs that are a dict, and so of labels. No
            labels at all are all right; other tensors are passed over.

    Raises:
        ModelspaceError: it is missing or damaged, lacks the tensors, or holds Python objects.
    """
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.npy"))}
        return _by_split({name: lambda f=file: _npy(f) for name, file in files.items()}, path)
    if not path.is_file():
        raise ModelspaceError(f"no file '{path}' (looked in {Path.cwd()})")
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            return _by_split({n: lambda n=n: _marked(opened.get_tensor(n)) for n in names}, path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelspaceError):
            raise
        raise ModelspaceError(f"'{path}' is damaged, or no .safetensors file: {first_line(error)}") from error


def _by_split(read: Mapping[str, Callable[[], Tensor]], path: Path) -> dict[str, Any]:
    found: dict[str, dict[str, Nest]] = {}
    for name in read:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        kind, split, part = "labels" if match[2] else "inputs", match[3] or "train", match[4]
        held = found.setdefault(_SPLITS.get(split, split), {})
        if part is None and kind not in held:
            held[kind] = read[name]()
        elif part is not None and isinstance(held.setdefault(kind, {}), dict):
            held[kind][part] = read[name]()
        else:
            raise ModelspaceError(
                f"'{path}' holds '{name}' beside another that would be the {kind}: leave one out"
            )
    if not found or "train" not in found or not all("inputs" in held for held in found.values()):
        raise ModelspaceError(
            f"'{path}' holds {', '.join(sorted(read)) or 'nothing'}: expected inputs and labels, or x and y, or "
            "x_train, y_train, x_val, y_val, x_test, y_test"
        )
    return {
        split: (held["inputs"], held["labels"]) if "labels" in held else Split(held["inputs"], None, "inputs")
        for split, held in found.items()
    }


def _npy(path: Path) -> Tensor:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "object" in str(error).lower():
            raise ModelspaceError(
                f"'{path}' holds Python objects, which only unpickling could read, and that can run any code: save "
                "it as an array of numbers"
            ) from None
        raise ModelspaceError(f"'{path}' is damaged: {first_line(error)}") from error
    tensor = of_memmap(array)
    if tensor is None:
        order = "C" if array.flags.c_contiguous else "Fortran"
        raise ModelspaceError(
            f"'{path}' is an array of {array.dtype}, in {order}'s order: only "
            "numbers in C's order and this machine's bytes can be mapped; save it again with "
            "numpy.save(path, numpy.ascontiguousarray(array))"
        )
    return tensor


def _marked(tensor: Tensor) -> Tensor:
    """Say of a tensor that it is mapped: what PyTorch keeps of its storage is one object for all of its parts."""
    storage: Any = tensor.untyped_storage()
    storage.of_file = True
    return tensor
