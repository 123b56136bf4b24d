"""Shards: what training and recording tell each other of one, and its file.

    a member's key = hash(its row of the table, what its point is)
    a shard's name = hash(what the run is, epochs, its members' keys)

So a member that is finished is never trained again, whatever else is asked for beside it, and a checkpoint is
restored by whoever trains the same members for the same run. A file says of what run it is: from the shards alone the
catalogue can be made again.

A shard in training is *named tensors*, member axis first: ``states`` (codes of ``Status``), ``steps``,
``curves.NAME`` ``[c, epochs]``, ``points``, ``buffers.NAME``; ``best.points`` and ``best.buffers.NAME`` where the
result is another than the last point; ``records.values.NAME`` ``[c, T, …]``, what was recorded, and
``records.steps.NAME`` ``[c, T]``, at which update; and whatever else its next update depends on, which is stored and
given back as it was. A file holds such tensors, and ``keys``; where the points of some members alone are kept,
``kept`` says which rows they are of.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int8, Int64, UInt8
from torch import Tensor

from modelspace import tensorfile
from modelspace.plain import fits, parsed, plain
from modelspace.population import SEEDS, Population
from modelspace.runs.settings import Status
from modelspace.tensorfile import DamagedError, bytes_of, held

# What is read of a shard that has ended: its scores, the points too, or all that it could go on from.
Needs = Literal["scores", "points", "all"]
_SCORES = ("states", "steps", "curves.", "records.")
_POINTS = (*_SCORES, "points", "buffers.", "best.")
_FORMAT = "modelspace.shard/4"
_CELL = str | float | bool | list[float] | None
KEY_BYTES = 16
Keys = UInt8[np.ndarray, "member 16"]


class Result(NamedTuple):
    """What became of some members.

    Attributes:
        states: Codes of ``Status``.
        steps: Updates made.
        curves: By name, NaN where a member made no such epoch.
        kept: Positions of the members whose points it has.
        points: Theirs, after training.
        buffers: Theirs, by name.
    """

    states: Int8[Tensor, "member"]
    steps: Int64[Tensor, "member"]
    curves: dict[str, Float64[Tensor, "member epoch"]]
    kept: Int64[Tensor, "kept"]
    points: Float[Tensor, "kept parameter"]
    buffers: dict[str, Tensor]


class Shapes(NamedTuple):
    """What the tensors of a file are held against.

    Attributes:
        curves: Their names.
        epochs: The most that they have.
        dimension: n; None where points are not read.
        buffers: By name, one member's shape.
    """

    curves: Sequence[str]
    epochs: int
    dimension: int | None = None
    buffers: Mapping[str, tuple[int, ...]] = {}


class File(NamedTuple):
    """A shard's file.

    Attributes:
        name: Its own, without an ending.
        epochs: What its members were, or are to be, trained for.
        keys: Its members'.
        columns: Their part of the population's table.
        run: What the catalogue says of the run.
        tensors: By name.
    """

    name: str
    epochs: int
    keys: Keys
    columns: dict[str, list[Any]]
    run: dict[str, Any]
    tensors: dict[str, Tensor]


def keys_of(population: Population) -> Keys:
    """Return what tells each member apart: its row and, where its seed does not draw it, its point."""
    columns = columns_of(population.table)
    values: list[list[Tensor]] = [[] for _ in range(len(population))]
    for stack in () if population.is_drawn else population.stacks:
        for k, *own in zip(stack.rows, stack.points, *stack.buffers.values(), strict=True):
            values[k] = own
    found = np.zeros((len(population), KEY_BYTES), dtype=np.uint8)
    for k in range(len(population)):
        row = {name: column[k] for name, column in columns.items()}
        text = json.dumps(row, sort_keys=True, default=plain)
        digest = hashlib.blake2b(text.encode(), digest_size=KEY_BYTES)
        for value in values[k]:
            digest.update(bytes_of(value))
        found[k] = np.frombuffer(digest.digest(), dtype=np.uint8)
    return found


def as_keys(content: bytes) -> Keys:
    """Return keys from their bytes."""
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, KEY_BYTES)


def columns_of(members: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table as plain columns."""
    return {str(name): members[name].tolist() for name in members}


def check_columns(columns: Any, members: int) -> None:
    """Hold the columns that a file has against what a population's are.

    Raises:
        ValueError: they are others; in one line.
    """
    if not fits(columns, dict[str, list[_CELL]]) or any(len(v) != members for v in columns.values()):
        raise ValueError("its members' columns are none")
    if not all(type(v) is int and v >= 0 for name in SEEDS for v in columns.get(name, ())):
        raise ValueError("a member's seed is none")


def shard_name(spec: Mapping[str, Any], epochs: int, keys: Keys) -> str:
    """Return the name of the shard of these members, trained for so many epochs as what the run is says."""
    text = json.dumps(spec, sort_keys=True) + str(epochs)
    return hashlib.blake2b(text.encode() + keys.tobytes(), digest_size=12).hexdigest()


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    epochs: int,
    keys: Keys,
    members: pd.DataFrame,
    run: Mapping[str, Any],
) -> None:
    """Write a shard's file; see ``File``.

    Raises:
        ModelspaceError: the place can't be written to, or the disk is full.
    """
    name = path.name.removesuffix(".safetensors")
    about = {"name": name, "epochs": epochs, "columns": columns_of(members), "run": run}
    text = json.dumps(about, sort_keys=True, default=plain)
    named = {**tensors, "keys": torch.from_numpy(keys.copy())}
    tensorfile.write(path, named, {"format": _FORMAT, "about": text})


def read(path: Path) -> File:
    """Read a shard's file.

    Raises:
        DamagedError: it is cut short, a bit of it has changed, it is no shard, or it stands in another one's place.
    """
    tensors, words = tensorfile.read(path, _FORMAT)
    keys = held(tensors, "keys", torch.uint8, -1, KEY_BYTES).numpy()
    try:
        about = parsed(words.get("about"), dict[str, Any], "what it says of itself")
        if not (
            fits(about.get("name"), str) and fits(about.get("epochs"), int) and fits(about.get("run"), dict)
        ):
            raise ValueError("what it says of itself is not what a shard says")
        check_columns(about.get("columns"), len(keys))
    except ValueError as error:
        raise DamagedError(str(error)) from error
    if f"{about['name']}.safetensors" != path.name:
        raise DamagedError(f"it is the file of {about['name']!r}")
    return File(about["name"], about["epochs"], keys, about["columns"], about["run"], tensors)


def needed(tensors: Mapping[str, Tensor], needs: Needs) -> dict[str, Tensor]:
    """Return those of a shard's tensors that are read of it."""
    if needs == "all":
        return dict(tensors)
    return {n: v for n, v in tensors.items() if n.startswith(_SCORES if needs == "scores" else _POINTS)}


def result_of(tensors: Mapping[str, Tensor], rows: Sequence[int] | np.ndarray | None = None) -> Result:
    """Return what a shard's tensors say of its members.

    Args:
        tensors: The shard's.
        rows: The members that are asked for; all where None.
    """
    index = slice(None) if rows is None else torch.as_tensor(np.asarray(rows))
    parts = dict(_named(tensors, "best.")) or tensors
    if "points" not in parts:
        where = kept = torch.zeros(0, dtype=torch.int64)
    elif "kept" in tensors:
        place = torch.full((len(tensors["states"]),), -1)
        place[tensors["kept"]] = torch.arange(len(tensors["kept"]))
        kept = torch.nonzero(place[index] >= 0)[:, 0]
        where = place[index][kept]
    else:
        where, kept = index, torch.arange(len(tensors["states"][index]))
    return Result(
        tensors["states"][index].cpu(),
        tensors["steps"][index].cpu(),
        {name: values[index].cpu() for name, values in _named(tensors, "curves.")},
        kept,
        parts["points"][where] if "points" in parts else torch.zeros(0, 0),
        {name: values[where] for name, values in _named(parts, "buffers.")},
    )


def checked(tensors: Mapping[str, Tensor], shapes: Shapes) -> Mapping[str, Tensor]:
    """Hold the tensors of a finished shard against what they should be, and return them.

    Raises:
        DamagedError: one is missing, or another.
    """
    states = held(tensors, "states", torch.int8, -1)
    members = len(states)
    steps = held(tensors, "steps", torch.int64, members)
    held(tensors, "keys", torch.uint8, members, KEY_BYTES)
    if not bool(((states >= 0) & (states < len(Status))).all()) or not bool((steps >= 0).all()):
        raise DamagedError("its states are none")
    epochs = -1
    for name in shapes.curves:
        epochs = held(tensors, f"curves.{name}", torch.float64, members, epochs).shape[1]
    if epochs > shapes.epochs:
        raise DamagedError(f"it has {epochs} epochs")
    kept = tensors.get("kept")
    if kept is not None:
        held(tensors, "kept", torch.int64, -1)
        if len(set(kept.tolist())) < len(kept) or not bool(((kept >= 0) & (kept < members)).all()):
            raise DamagedError("its kept members are none of its members")
    if shapes.dimension is not None and (kept is not None or "points" in tensors):
        count, prefix = members if kept is None else len(kept), "best." if "best.points" in tensors else ""
        held(tensors, f"{prefix}points", None, count, shapes.dimension)
        for name, shape in shapes.buffers.items():
            held(tensors, f"{prefix}buffers.{name}", None, count, *shape)
    return tensors


def _named(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    return ((n.removeprefix(prefix), value) for n, value in tensors.items() if n.startswith(prefix))
