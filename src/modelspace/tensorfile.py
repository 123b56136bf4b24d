"""Files of tensors: safetensors with a checksum over every number and every word, whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError, first_line


class DamagedError(Exception):
    """A file that is not what was written; the message says how it differs."""


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
    """Write tensors, and words about them.

    Args:
        path: Where.
        tensors: By name.
        words: By name, what they are as ``format`` among them; ``checksum`` is added.

    Raises:
        ModelspaceError: the place can't be written to, or the disk is full.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path) as temporary:
        try:
            save_file(plain, temporary, {**words, "checksum": _checksum(plain, words)})
        except SafetensorError as error:
            raise ModelspaceError(
                f"can't write {path}: {first_line(error)}; what was finished is kept"
            ) from error


def read(path: Path, form: str, *, sealed: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a file, and the words about them.

    Args:
        path: The file.
        form: What its ``format`` has to be.
        sealed: Whether it must have a checksum; other programs write none.

    Raises:
        DamagedError: it is cut short, or a bit of it has changed, or it is no such file.
    """
    if not path.is_file():  # a pipe would be waited for
        raise DamagedError("there is no such file")
    try:
        with safe_open(path, framework="pt") as opened:
            words = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(first_line(error)) from error
    written = words.pop("checksum", None)
    if (sealed or written is not None) and written != _checksum(tensors, words):
        raise DamagedError("its checksum differs")
    if words.get("format") != form:
        raise DamagedError(f"its format is {words.get('format')!r}")
    return tensors, words


def held(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype | None, *shape: int) -> Tensor:
    """Return the tensor of a file that has to be there, of a type (any where None) and a shape; −1 is any length.

    Raises:
        DamagedError: it is not.
    """
    found = tensors.get(name)
    if found is None:
        raise DamagedError(f"it has no {name}")
    fits = len(found.shape) == len(shape) and all(
        wanted in (-1, length) for wanted, length in zip(shape, found.shape, strict=True)
    )
    if not fits or (dtype is not None and found.dtype != dtype):
        raise DamagedError(f"its {name} is {found.dtype} {tuple(found.shape)}")
    return found


def bytes_of(tensor: Tensor) -> bytes:
    """Return a tensor's numbers as they lie in memory."""
    return _bytes(tensor).tobytes()


def _bytes(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu().contiguous()
    # Of a single number the stride may be anything, and a view as bytes wants 1.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy()


def _checksum(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(words):
        digest.update(repr((name, words[name])).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(repr((name, value.dtype, tuple(value.shape))).encode())
        digest.update(_bytes(value).data)  # without a copy: a shard's points over time are large
    return digest.hexdigest()
