"""A fit that is written down as it goes: finished shards, and where the others were put down.

    a shard's name = hash(what the run is, epochs, its members' keys)
    a member's key = hash(its row of the table, what its point is)

So a member that is finished is never trained again, whatever else is asked for beside it; and a shard that was put
down is taken up by whoever is to train the same members for the same run.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace.plain import plain
from modelspace.population import Population
from modelspace.progress import notice, progress
from modelspace.runs import shards as files
from modelspace.runs.catalogue import Member, Place, Store
from modelspace.runs.keep import last_values
from modelspace.runs.results import Results, Shapes
from modelspace.runs.settings import Status
from modelspace.runs.shards import InTraining, Needs, Outcome
from modelspace.tensorfile import DamagedError, bytes_of, held


def key_of(member: Mapping[str, Any], *parts: bytes) -> bytes:
    """What tells a member apart: its row of the table and, where that does not say it all, its point.

    Args:
        member: The row.
        *parts: The bytes of its point and buffers; none where its seed draws them.
    """
    digest = hashlib.blake2b(json.dumps(member, sort_keys=True, default=plain).encode(), digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def rows_of(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A table's rows as plain values, one after the other."""
    names = list(map(str, table.columns))
    return (
        dict(zip(names, row, strict=True)) for row in zip(*(table[n].tolist() for n in table), strict=True)
    )


def keys_of(population: Population) -> list[bytes]:
    """The key of every member."""
    rows = rows_of(population.table)
    if population.is_drawn:
        return [key_of(row) for row in rows]
    values = [population.points, *population.buffers.values()]
    return [key_of(row, *(bytes_of(value[k]) for value in values)) for k, row in enumerate(rows)]


class Logbook:
    """Writes a fit down in a store, and takes from there what is finished.

    Args:
        store: Opened for writing.
        spec: What the run is, but for its length: plain values.
        results: Where outcomes are held in memory.
        population: The members before training.
        epochs: The run's length.
        seconds: Between two puttings down of one shard.
        longer: Whether a member that was trained for fewer epochs may be trained on.
    """

    def __init__(
        self,
        store: Store,
        spec: Mapping[str, Any],
        results: Results,
        population: Population,
        epochs: int,
        seconds: float,
        longer: bool,
    ):
        self._store, self._results, self._table = store, results, population.table
        self._epochs, self._seconds = epochs, seconds
        # Only where all points are kept, a finished shard's file holds what going on depends on.
        self._goes_on = longer and results.keep.best is None
        self._keys = keys_of(population)
        self._spec = spec
        self._places = store.places()
        store.want(self._keys, rows_of(population.table))
        self._last = time.monotonic()

    def missing(self) -> list[list[int]]:
        """The members that are left to train, those together that were trained together; the others are read."""
        finished: dict[str, list[int]] = {}
        begun: dict[str, list[int]] = {}
        for row, key in enumerate(self._keys):
            place = self._places.get(key)
            if place is not None and place.epochs == self._epochs:
                finished.setdefault(place.shard, []).append(row)
            elif place is not None and place.epochs < self._epochs and self._goes_on:
                begun.setdefault(place.shard, []).append(row)
        title = f"reading {sum(map(len, finished.values())):,} finished members"
        with progress(title, len(finished), "shards") as advance:
            for name, rows in finished.items():
                self._take(name, rows)
                advance(1)
        groups = list(begun.values())
        going_on = {row for rows in groups for row in rows}
        anew = [row for row in self._results.undone(range(len(self._keys))) if row not in going_on]
        return [*groups, anew] if anew else groups

    @property
    def needs(self) -> Needs:
        """What it reads of a finished course."""
        return "course" if self._results.keep.best is None else self._results.needs

    def begun(self, rows: Sequence[int]) -> dict[str, Tensor] | None:
        """Where the course of these members was put down, or ended after fewer epochs."""
        part = self._store.part(self._name(rows))
        if part.is_file():
            try:
                return self._read(part, rows)
            except DamagedError as error:
                notice(f"{part.name} is damaged ({error}): that shard is trained from its start")
        if not self._goes_on:
            return None
        places = [self._places.get(self._keys[row]) for row in rows]
        first = places[0]
        if first is None or any(
            p is None or p.shard != first.shard or p.epochs == self._epochs for p in places
        ):
            return None
        try:
            tensors = self._read(self._store.file(first.shard), rows, self._places)
        except DamagedError as error:
            notice(f"shard {first.shard} is damaged ({error}): its members are trained from their start")
            return None
        index = torch.tensor([place.position for place in places if place is not None])
        return {name: value[index] for name, value in tensors.items()}

    def pause(self, rows: Sequence[int], course: InTraining) -> None:
        """Put the shard down, if it was not for a while."""
        if time.monotonic() - self._last >= self._seconds:
            self._write(self._store.part(self._name(rows)), course.tensors(len(rows)), rows)
            self._last = time.monotonic()

    def finished(self, rows: Sequence[int], course: InTraining) -> None:
        """Write a finished shard's file, then take it in."""
        real = len(rows)
        outcome = course.outcome(real)
        keep = self._results.keep
        positions = keep.chosen(self._results.groups[np.asarray(rows)], outcome)
        tensors = {"states": outcome.states, "steps": outcome.steps}
        tensors |= {f"curves.{name}": values for name, values in outcome.curves.items()}
        if keep.best is None:
            # All that going on for more epochs depends on.
            tensors = {**course.tensors(real), **tensors}
        if len(positions):
            held = {"points": outcome.points, **{f"buffers.{n}": v for n, v in outcome.buffers.items()}}
            tensors["kept.positions"] = torch.from_numpy(positions)
            tensors |= {f"kept.{name}": value[positions].cpu() for name, value in held.items()}
        if keep.best is None and self._same(tensors):
            tensors = {n: v for n, v in tensors.items() if not n.startswith("kept.")}
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        self._write(self._store.file(self._name(rows)), tensors, rows)
        self._results.write(rows, outcome)

    @staticmethod
    def _same(tensors: Mapping[str, Tensor]) -> bool:
        """Whether what is kept is what the course ended with."""
        kept = [n for n in tensors if n.startswith("kept.") and n != "kept.positions"]
        return all(
            torch.equal(tensors[name].nan_to_num(), tensors[name.removeprefix("kept.")].nan_to_num())
            for name in kept
        )

    def settle(self, rows: Sequence[int]) -> None:
        """Enter a finished shard into the catalogue."""
        results, index = self._results, np.asarray(rows)
        curves = {name: values.numpy()[index] for name, values in results.history.items()}
        keys = [self._keys[row] for row in rows]
        members = members_of(keys, results.states[index], results.steps[index], curves)
        self._store.record(self._name(rows), self._epochs, members)

    def undone(self, rows: Sequence[int]) -> list[int]:
        """Those of these members that are not finished."""
        return self._results.undone(rows)

    def _name(self, rows: Sequence[int]) -> str:
        return shard_name(self._spec, self._epochs, [self._keys[row] for row in rows])

    def _write(self, path: Path, tensors: Mapping[str, Tensor], rows: Sequence[int]) -> None:
        about = files.About(
            path.name.removesuffix(".safetensors"),
            self._epochs,
            [self._keys[row].hex() for row in rows],
            list(rows_of(self._table.iloc[np.asarray(rows)])),
            self._store.about(),
        )
        files.write(path, tensors, vars(about))

    def _read(
        self, path: Path, rows: Sequence[int], places: Mapping[bytes, Place] | None = None
    ) -> dict[str, Tensor]:
        """A shard's tensors, if its members are these: where the catalogue says, or all of them in their order."""
        tensors, about = files.read_shard(path)
        keys = [self._keys[row] for row in rows]
        check_members(about, keys, None if places is None else [places[key].position for key in keys])
        return tensors

    def _take(self, name: str, rows: list[int]) -> None:
        """Read some members of a finished shard; a damaged one is forgotten, and they stay undone."""
        positions = [self._places[self._keys[row]].position for row in rows]
        try:
            tensors = self._read(self._store.file(name), rows, self._places)
            self._results.write(rows, *outcome_of(tensors, positions, self._results.shapes))
        except DamagedError as error:
            notice(f"shard {name} is damaged ({error}): its members are trained again")
            self._store.forget(name)

    def adopted(self, rows: list[int]) -> bool:
        """Whether these members' file stands, though the catalogue does not know of it yet."""
        path = self._store.file(self._name(rows))
        if not path.is_file():
            return False
        try:
            tensors = self._read(path, rows)
            self._results.write(rows, *outcome_of(tensors, list(range(len(rows))), self._results.shapes))
        except DamagedError as error:
            notice(f"shard {path.stem} is damaged ({error}): its members are trained again")
            return False  # its file will be another's, whole
        self.settle(rows)
        return True


def shard_name(spec: Mapping[str, Any], epochs: int, keys: Sequence[bytes]) -> str:
    """The name of the shard of these members, trained for so many epochs as what the run is says."""
    text = json.dumps(spec, sort_keys=True) + str(epochs)
    return hashlib.blake2b(text.encode() + b"".join(keys), digest_size=12).hexdigest()


def members_of(
    keys: Sequence[bytes], states: Tensor, steps: Tensor, curves: Mapping[str, np.ndarray]
) -> list[Member]:
    """What the catalogue says of finished members.

    Args:
        keys: Theirs.
        states: Codes of ``Status``.
        steps: Updates made.
        curves: By name, ``[c, epochs]``.
    """
    words = [status.value for status in Status]
    last = {name: last_values(values) for name, values in curves.items()}
    return [
        Member(
            key,
            words[state],
            made,
            {name: float(values[i]) if np.isfinite(values[i]) else None for name, values in last.items()},
        )
        for i, (key, state, made) in enumerate(zip(keys, states.tolist(), steps.tolist(), strict=True))
    ]


def check_members(about: files.About, keys: Sequence[bytes], positions: Sequence[int] | None) -> None:
    """Hold a shard's members against those that the catalogue says stand there.

    Args:
        about: What the shard's file says of itself.
        keys: The members'.
        positions: Their rows of it; all of them in their order where None.

    Raises:
        DamagedError: they are others.
    """
    found = about.keys if positions is None else [about.keys[i] for i in positions if i < len(about.keys)]
    if found != [key.hex() for key in keys]:
        raise DamagedError("it holds other members")


def outcome_of(
    tensors: Mapping[str, Tensor], positions: list[int], shapes: Shapes
) -> tuple[Outcome, np.ndarray]:
    """Some members of a shard's file: their outcome, and which of them its points are about.

    Args:
        tensors: The file's.
        positions: Rows of it.
        shapes: What they are held against.

    Raises:
        DamagedError: something is missing, or of another shape.
    """
    members = _check_shapes(tensors, shapes)
    if max(positions, default=0) >= max(members, 1):
        raise DamagedError("it holds other members")
    index = torch.tensor(positions, dtype=torch.int64)
    kept = tensors.get("kept.positions")
    if kept is None:
        prefix, held = "", index
        about = np.arange(len(positions)) if "points" in tensors else np.zeros(0, dtype=np.int64)
    else:
        prefix = "kept."
        place = {int(position): i for i, position in enumerate(kept)}
        about = np.array([i for i, p in enumerate(positions) if p in place], dtype=np.int64)
        held = torch.tensor([place[positions[i]] for i in about], dtype=torch.int64)
    buffers = f"{prefix}buffers."
    outcome = Outcome(
        tensors[f"{prefix}points"][held] if f"{prefix}points" in tensors else torch.zeros(0, 0),
        {n.removeprefix(buffers): v[held] for n, v in tensors.items() if n.startswith(buffers)},
        {n.removeprefix("curves."): v[index] for n, v in tensors.items() if n.startswith("curves.")},
        tensors["states"][index],
        tensors["steps"][index],
    )
    return outcome, about


def _check_shapes(tensors: Mapping[str, Tensor], shapes: Shapes) -> int:
    """Hold a shard's tensors against what they should be; how many members they are of.

    Raises:
        DamagedError: one is missing, or another.
    """
    states = held(tensors, "states", torch.int8, -1)
    members = len(states)
    held(tensors, "steps", torch.int64, members)
    if not bool(((states >= 0) & (states < len(Status))).all()) or not bool((tensors["steps"] >= 0).all()):
        raise DamagedError("its states are none")
    epochs = None
    for name in shapes.curves:
        curve = held(tensors, f"curves.{name}", torch.float64, members, -1 if epochs is None else epochs)
        epochs = curve.shape[1]
    if (epochs or 0) > shapes.epochs:
        raise DamagedError(f"it has {epochs} epochs")
    kept = tensors.get("kept.positions")
    prefix, rows = "", members
    if kept is not None:
        held(tensors, "kept.positions", torch.int64, -1)
        prefix, rows = "kept.", len(kept)
        if len(set(kept.tolist())) < rows or not bool(((kept >= 0) & (kept < members)).all()):
            raise DamagedError("its kept members are none of its members")
    if shapes.dimension is not None and (kept is not None or f"{prefix}points" in tensors):
        held(tensors, f"{prefix}points", None, rows, shapes.dimension)
        for name, shape in shapes.buffers.items():
            held(tensors, f"{prefix}buffers.{name}", None, rows, *shape)
    return members
