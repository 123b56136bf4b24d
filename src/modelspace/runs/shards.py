"""Shards as files: what is trained, and of what run it is: from the shards alone the catalogue can be made again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from jaxtyping import Float, Float64, Int8, Int64
from torch import Tensor

from modelspace import tensorfile
from modelspace.plain import fits, parsed, plain
from modelspace.tensorfile import DamagedError

_FORMAT = "modelspace.shard/2"
# What the recorder reads of a shard that has ended: its scores, the points too, or all that it could go on from.
Needs = Literal["scores", "points", "course"]


class Outcome(NamedTuple):
    """What became of some members.

    Attributes:
        points: After training, ``[c, n]``.
        buffers: ``[c, …]`` each.
        curves: By name, ``[c, epochs]``, NaN where a member made no such epoch.
        states: Codes of ``Status``.
        steps: Updates made.
    """

    points: Float[Tensor, "member parameter"]
    buffers: dict[str, Tensor]
    curves: dict[str, Float64[Tensor, "member epoch"]]
    states: Int8[Tensor, "member"]
    steps: Int64[Tensor, "member"]


class InTraining(Protocol):
    """A shard in training, between two updates, as far as a recorder knows it.

    Its members come first; what fills a shard up stands behind them.
    """

    def tensors(self, real: int) -> dict[str, Tensor]:
        """All that its next update depends on, of the first members: named, member axis first, on the CPU."""
        ...

    def outcome(self, real: int) -> Outcome:
        """What became of the first members."""
        ...


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
