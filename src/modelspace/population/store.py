"""Populations as files (safetensors: plain arrays, never unpickled), and from existing networks."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from modelspace import tensorfile
from modelspace.errors import ModelspaceError
from modelspace.plain import fits, parsed, plain
from modelspace.space import SEEDS, ModelSpace, Population, Stack
from modelspace.tensorfile import DamagedError, held

_FORMAT = "modelspace.population/2"
_CELL = str | float | bool | None


class _Table(TypedDict):
    """A table's rows, as pandas calls it split."""

    columns: list[str]
    data: list[list[_CELL | list[_CELL]]]


def save(population: Population, path: str | os.PathLike[str]) -> None:
    """Write a population to one safetensors file, whole or not at all.

    It holds ``points`` ``[K, n]``, ``buffers.NAME`` ``[K, …]`` and ``frozen.NAME``; its metadata holds the
    table and the layouts as JSON. Any program that reads safetensors can open it. Of members of several spaces,
    those of the second have ``1/points`` and so on, in the order of the table.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    tensors, layouts = {}, []
    for number, ((_, space), stack) in enumerate(zip(population.spaces, population.stacks, strict=True)):
        own = {"points": stack.points} | {f"buffers.{n}": v for n, v in stack.buffers.items()}
        own |= {f"frozen.{n}": v.contiguous() for n, v in space.shared.items()}
        tensors |= {_numbered(number, name): value.cpu() for name, value in own.items()}
        layouts.append(_plain_layout(space))
    metadata = {
        "format": _FORMAT,
        "space": population.space.title,
        "layouts": json.dumps(layouts),
        # pandas' own JSON rounds numbers to 15 digits; Python's gives back every bit.
        "table": json.dumps(population.table.to_dict("split"), default=plain),
    }
    tensorfile.write(path, tensors, metadata)


def _plain_layout(space: ModelSpace) -> list[list[Any]]:
    return [[b.name, list(b.shape), b.start, b.stop] for b in space.layout]


def _numbered(number: int, name: str) -> str:
    return f"{number}/{name}" if number else name


def load(path: str | os.PathLike[str], space: ModelSpace) -> Population:
    """Read a population that ``save`` wrote.

    Args:
        path: The file.
        space: The space its rows are points of; the file's layout is held against it. Of members of several spaces,
            the one without the columns that change it.

    Raises:
        ModelspaceError: no such file, not a population, damaged, or a population of another space.
    """
    if not Path(path).is_file():
        raise ModelspaceError(f"no file '{path}'")
    try:
        tensors, words = tensorfile.read(Path(path), _FORMAT, sealed=False)
        table = _table(parsed(words.get("table"), _Table, "its table"))
        parts = Population.from_seeds(space, table).spaces
        if parsed(words.get("layouts"), list[list], "its layouts") != [
            _plain_layout(own) for _, own in parts
        ]:
            raise ModelspaceError(
                f"'{path}' holds points of {words.get('space')}, whose layout is not that of {space.title}"
            )
        stacks = []
        for number, (rows, own) in enumerate(parts):
            for name, value in own.shared.items():
                named = _numbered(number, f"frozen.{name}")
                if not torch.equal(held(tensors, named, value.dtype, *value.shape), value.cpu()):
                    raise ModelspaceError(f"'{path}' was made on another frozen {name} than {own.title} has")
            stacks.append(_stack(tensors, number, rows, own))
    except ModelspaceError:
        raise
    except DamagedError as error:
        raise ModelspaceError(
            f"'{path}' is not a safetensors file of a population, or damaged: {error}"
        ) from error
    except ValueError as error:
        raise ModelspaceError(f"'{path}' is not a population: {error}") from error
    return Population.from_stacks(space, stacks, table)


def _stack(tensors: Mapping[str, Tensor], number: int, rows: np.ndarray, space: ModelSpace) -> Stack:
    """The points and buffers of the members of one space."""
    points = held(tensors, _numbered(number, "points"), space.dtype, len(rows), space.dimension)
    types = {**dict(space.template.named_parameters()), **dict(space.template.named_buffers())}
    buffers = {
        name: held(tensors, _numbered(number, f"buffers.{name}"), types[name].dtype, len(rows), *shape)
        for name, shape in space.buffer_shapes.items()
    }
    return Stack(rows, points, buffers)


def _table(rows: _Table) -> pd.DataFrame:
    """The table that a file holds.

    Raises:
        ValueError: its rows are not of one length, or two columns have one name.
    """
    names = rows["columns"]
    if len(set(names)) < len(names) or any(len(row) != len(names) for row in rows["data"]):
        raise ValueError("its table has rows of several lengths, or a column twice")
    for number in [names.index(name) for name in SEEDS if name in names]:
        cells = [row[number] for row in rows["data"]]
        if not all(isinstance(cell, int) and fits(cell, int) and cell >= 0 for cell in cells):
            raise ValueError(f"its column {names[number]} has what is no seed")
    table = pd.DataFrame(rows["data"], columns=pd.Index(names))
    for name in table.columns:
        if any(isinstance(value, list) for value in table[name]):
            table[name] = table[name].map(tuple)
    return table


def population_of(
    members: Iterable[nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]],
    space: ModelSpace | None = None,
) -> Population:
    """A population of existing networks.

    Args:
        members: Modules, state dicts, or paths of safetensors checkpoints (state dicts).
        space: Their space; where None, the space of the first module.

    Returns:
        One row a member, in order, with a table column ``source``.

    Raises:
        ModelspaceError: no member, a member of another space, checkpoints without ``space``, or a checkpoint
            that is not safetensors (pickled ones are never opened).

    Example:
        >>> a, b = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> population_of([a, b]).points.shape
        torch.Size([2, 15])
    """
    given = list(members)
    if not given:
        raise ModelspaceError("a population needs at least one member")
    if space is None:
        first = given[0]
        if not isinstance(first, nn.Module):
            raise ModelspaceError("checkpoints alone do not say their architecture: give space=ModelSpace(…)")
        space = ModelSpace(first)
    readings = []
    sources = []
    for number, member in enumerate(given):
        if isinstance(member, str | os.PathLike):
            sources.append(str(member))
            member = read_checkpoint(member)
        else:
            sources.append(f"{type(member).__name__} {number}")
        readings.append(space.read(member))
    defaults = space.buffers_of(space.template)
    buffers = {
        name: torch.stack([reading.buffers.get(name, defaults[name]) for reading in readings])
        for name in space.buffer_shapes
    }
    points = torch.stack([reading.point for reading in readings])
    return Population(space, points, buffers, pd.DataFrame({"source": sources}))


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A state dict from a safetensors file.

    Raises:
        ModelspaceError: no such file, or not safetensors.
    """
    if not Path(path).is_file():
        raise ModelspaceError(f"no file '{path}'")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelspaceError(
            f"'{path}' is not a safetensors file. Pickled checkpoints are never opened, since opening one runs "
            "code: convert it once with safetensors.torch.save_file(model.state_dict(), …)"
        ) from error
