"""Shards as files: safetensors with a checksum over every number and every word of them, whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError
from modelspace.plain import plain

_FORMAT = "modelspace.shard/1"


class DamagedError(Exception):
    """A file that is not what was written; the message says how it differs."""


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a shard.

    Args:
        path: Where.
        tensors: Contiguous, on the CPU.
        about: Plain values about them.

    Raises:
        ModelspaceError: the place can't be written to, or the disk is full.
    """
    text = json.dumps(about, sort_keys=True, default=plain)
    metadata = {"format": _FORMAT, "about": text, "checksum": _checksum(tensors, text)}
    with whole_file(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:
            raise ModelspaceError(f"can't write {path}: {error}; what was finished is kept") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a shard, and what is said about them.

    Raises:
        DamagedError: it is cut short, or a bit of it has changed, or it is no shard.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DamagedError(str(error).splitlines()[0]) from error
    if metadata.get("format") != _FORMAT:
        raise DamagedError(f"its format is {metadata.get('format')!r}")
    if metadata.get("checksum") != _checksum(tensors, metadata.get("about", "")):
        raise DamagedError("its checksum differs")
    return tensors, json.loads(metadata["about"])


def remove_remains(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(bytes_of(value))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """A tensor's numbers as they lie in memory."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()
