"""What was recorded of members while they trained: held in memory, or read from the shards when it is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.memory import free_bytes
from modelspace.progress import notice
from modelspace.runs.folder import shard_file
from modelspace.runs.shards import Keys, read
from modelspace.show import bytes_text
from modelspace.tensorfile import DamagedError, held

_VALUES, _STEPS = "records.values.", "records.steps."


class Group(NamedTuple):
    """Members whose records stand together.

    Attributes:
        rows: Which members, of the run's.
        read: Gives theirs, in that order, by the names that a shard has; raises ``DamagedError``.
    """

    rows: np.ndarray
    read: Callable[[], Mapping[str, Tensor]]


class Records(Mapping[str, "Recorded"]):
    """What was recorded of a run's members, by name; nothing is read before it is asked for.

    Args:
        members: K.
        groups: The members of whom there is something.
    """

    def __init__(self, members: int, groups: Sequence[Group] = ()):
        self.members, self.groups = members, list(groups)
        self._group = np.full(members, -1)
        self._place = np.zeros(members, dtype=np.int64)
        for number, group in enumerate(self.groups):
            self._group[group.rows], self._place[group.rows] = number, np.arange(len(group.rows))
        self._last: tuple[int, Mapping[str, Tensor]] | None = None

    def __getitem__(self, name: str) -> "Recorded":
        if name not in self._names:
            raise unknown_name("record", name, self._names)
        return Recorded(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values())) or "nothing was recorded: fit(…, record='points')"

    @cached_property
    def _names(self) -> list[str]:
        for number in range(len(self.groups)):
            names = [n.removeprefix(_VALUES) for n in self.read(number) if n.startswith(_VALUES)]
            if names:
                return sorted(names)
        return []

    def read(self, number: int) -> Mapping[str, Tensor]:
        """Return a group's tensors; none of one that is damaged, which is said. The last group is remembered."""
        if self._last is None or self._last[0] != number:
            self._last = None  # before the next stands beside it
            try:
                self._last = number, self.groups[number].read()
            except DamagedError as error:
                notice(f"what was recorded of {len(self.groups[number].rows)} members is left out: {error}")
                self._last = number, {}
        return self._last[1]

    def of(self, member: int, name: str) -> Tensor | None:
        """Return one member's part of one of the tensors; None where it has none."""
        number = int(self._group[member])
        tensors = self.read(number) if number >= 0 else {}
        return tensors[name][int(self._place[member])] if name in tensors else None


class Recorded:
    """One quantity of all members over the times at which it was taken.

    ``recorded[k]`` is member k's, ``[T, …]``: of a run in a folder, its shard alone is read. ``recorded.values`` is
    that of all, ``[K, T, …]``, on the CPU. Where a member has none, since it diverged, stopped or is unfinished, or
    has fewer updates or times than others, values are NaN and steps −1.

    Attributes:
        name: What it is called.
    """

    def __init__(self, records: Records, name: str):
        self.name, self._records = name, records

    def __len__(self) -> int:
        return self._records.members

    def __getitem__(self, member: int) -> Tensor:
        values = self._records.of(self._member(member), _VALUES + self.name)
        return self.values[member] if values is None else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values, dtype)

    def of(self, member: int) -> tuple[Int64[Tensor, "time"], Tensor]:
        """Return the steps at which a value of one member was taken, ``[t]``, and the values, ``[t, …]``."""
        member = self._member(member)
        steps, values = (self._records.of(member, kind + self.name) for kind in (_STEPS, _VALUES))
        if steps is None or values is None:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        return steps[steps >= 0], values[steps >= 0]

    @cached_property
    def values(self) -> Tensor:
        """Of all members, ``[K, T, …]``.

        Raises:
            ModelspaceError: members have values of several shapes, or there is no room for them.
        """
        return self._all(_VALUES, torch.nan)

    @cached_property
    def steps(self) -> Int64[Tensor, "member time"]:
        """How many updates each member had made when a value was taken, ``[K, T]``; −1 where there is none."""
        return self._all(_STEPS, -1)

    def __repr__(self) -> str:
        groups = range(len(self._records.groups))
        known = (
            value for g in groups if (value := self._records.read(g).get(_VALUES + self.name)) is not None
        )
        first = next(known, torch.zeros(0, 0))
        kind = "×".join([*map(str, first.shape[2:]), str(first.dtype).removeprefix("torch.")])
        return f"{self.name}: {kind} of {len(self):,} members at {first.shape[1]:,} times"

    def _member(self, member: int) -> int:
        if not -len(self) <= member < len(self):
            raise IndexError(f"member {member} of {len(self)}")
        return int(member) % len(self)

    def _all(self, prefix: str, nothing: float) -> Tensor:
        """A tensor of all members, put together of its groups'; that of the only group where it has all."""
        records, found = self._records, None
        if len(records.groups) == 1 and np.array_equal(records.groups[0].rows, np.arange(len(self))):
            found = records.read(0).get(prefix + self.name)
            return torch.zeros(len(self), 0) if found is None else found
        for number, group in enumerate(records.groups):
            value = records.read(number).get(prefix + self.name)
            if value is None:
                continue
            if found is None:
                found = self._room(value, nothing, value.shape[1])
            if found.shape[2:] != value.shape[2:]:
                raise ModelspaceError(
                    f"{self.name} has other shapes from member to member: take one at a time, "
                    f"run.records['{self.name}'][k]"
                )
            if (more := value.shape[1] - found.shape[1]) > 0:
                found = torch.cat([found, self._room(value, nothing, more)], 1)
            found[torch.from_numpy(group.rows), : value.shape[1]] = value
        return torch.zeros(len(self), 0) if found is None else found

    def _room(self, like: Tensor, nothing: float, times: int) -> Tensor:
        size, free = len(self) * times * like[:1, :1].nbytes, free_bytes(torch.device("cpu"))
        if size > free:
            raise ModelspaceError(
                f"{self.name} of {len(self):,} members is {bytes_text(size)}, and {bytes_text(free)} are free: take "
                f"one at a time, run.records['{self.name}'][k]"
            )
        return torch.full((len(self), times, *like.shape[2:]), nothing, dtype=like.dtype)


class Held:
    """What is recorded in memory, where there is no folder: of each part of the members, tensors of their own.

    Args:
        parts: Rows, ascending, and room for theirs: ``values`` and ``steps`` by name.
    """

    def __init__(self, parts: Sequence[tuple[np.ndarray, Mapping[str, Mapping[str, Tensor]]]] = ()):
        self._parts = [
            (
                rows,
                {f"records.{kind}.{n}": value for kind, named in room.items() for n, value in named.items()},
            )
            for rows, room in parts
        ]

    def write(self, rows: np.ndarray, tensors: Mapping[str, Tensor]) -> None:
        """Take in what was recorded of a shard, all of whose members are of one part."""
        for own, room in self._parts:
            if np.isin(rows[:1], own).all():
                where = torch.from_numpy(np.searchsorted(own, rows))
                for name, value in room.items():
                    value[where] = tensors[name].cpu()

    def records(self, members: int) -> Records:
        """Return it as a run's."""
        return Records(members, [Group(rows, partial(dict, room)) for rows, room in self._parts])


def in_folder(
    folder: Path, shards: Sequence[tuple[str, np.ndarray]], keys: Keys, positions: np.ndarray
) -> Records:
    """Return what is recorded in a folder.

    Args:
        folder: The run's.
        shards: Of each finished one its name, and which members stand in it.
        keys: Of all members.
        positions: In which row of its shard each stands.
    """
    groups = [
        Group(rows, partial(_read, shard_file(folder, name), keys[rows], positions[rows]))
        for name, rows in shards
    ]
    return Records(len(keys), groups)


def _read(path: Path, keys: Keys, positions: np.ndarray) -> dict[str, Tensor]:
    """What a shard's file has recorded of some of its members."""
    file = read(path)
    if positions.max(initial=0) >= max(len(file.keys), 1) or not np.array_equal(file.keys[positions], keys):
        raise DamagedError("it holds other members")
    names = [name.removeprefix(_VALUES) for name in file.tensors if name.startswith(_VALUES)]
    found, where = {}, torch.from_numpy(positions)
    for name in names:
        steps = held(file.tensors, _STEPS + name, torch.int64, len(file.keys), -1)
        values = file.tensors[_VALUES + name]
        if values.shape[:2] != steps.shape:
            raise DamagedError(f"its record {name} is {tuple(values.shape)}")
        found[_VALUES + name], found[_STEPS + name] = values[where], steps[where]
    return found
