"""Shards as files: what is trained, and of what run it is: from the shards alone the catalogue can be made again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from modelspace.plain import fits, parsed, plain
from modelspace.population import tensorfile
from modelspace.population.tensorfile import DamagedError

_FORMAT = "modelspace.shard/2"


@dataclass(frozen=True)
class About:
    """What a shard's file says of itself.

    Attributes:
        name: The file's own, without its ending: one in another's place is noticed.
        epochs: What its members were, or are to be, trained for.
        keys: Its members', as hexadecimal digits, in the order of its rows.
        members: Their rows of the population's table.
        run: What the catalogue says of the run.
    """

    name: str
    epochs: int
    keys: list[str]
    members: list[dict[str, Any]]
    run: dict[str, Any]


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
    tensorfile.write(path, tensors, {"format": _FORMAT, "about": text})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a shard, and what is said about them.

    Raises:
        DamagedError: it is cut short, or a bit of it has changed, or it is no shard.
    """
    tensors, words = tensorfile.read(path)
    if words.get("format") != _FORMAT:
        raise DamagedError(f"its format is {words.get('format')!r}")
    try:
        return tensors, parsed(words.get("about"), dict[str, Any], "what it says of itself")
    except ValueError as error:
        raise DamagedError(str(error)) from error


def read_shard(path: Path) -> tuple[dict[str, Tensor], About]:
    """The tensors of a shard of a run, and what it says of itself.

    Raises:
        DamagedError: as ``read``, or it stands in another one's place.
    """
    tensors, values = read(path)
    if not fits(values, About) or len(values["keys"]) != len(values["members"]):
        raise DamagedError("what it says of itself is not what a shard says")
    about = About(**{field.name: values[field.name] for field in fields(About)})
    if f"{about.name}.safetensors" != path.name:
        raise DamagedError(f"it is the file of {about.name!r}")
    return tensors, about
