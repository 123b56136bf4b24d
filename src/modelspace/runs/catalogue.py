"""The catalogue of a run: one SQLite file that says what the run is, its members, and which shards are finished.

    run      one row: what the run is, as JSON, and the seal: a checksum over it and every other row
    members  the members that the run is to have, some thousands a row: keys, and columns as JSON
    shards   a row for each finished shard: keys, states, steps and last scores of its members, as arrays

All of it is read and held against the seal when it is opened; from then on what it says stands in arrays. Rows are
numbered and there is no index: a page that is listed twice is noticed, since numbers must grow.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, get_type_hints
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int8, Int64

from modelspace.atomic import is_own
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError, first_line
from modelspace.memory import Memory
from modelspace.plain import fits, parsed, plain, shortened
from modelspace.runs.folder import CATALOGUE, OUTPUTS, check_own, is_run, is_shard, outputs_in, shard_files
from modelspace.runs.settings import Status
from modelspace.runs.shards import KEY_BYTES, Keys, as_keys, check_columns, columns_of

VERSION = 4
_MANY = 2**14  # members a row
_SCHEMA = """
CREATE TABLE run (number INTEGER PRIMARY KEY, about TEXT NOT NULL, seal BLOB NOT NULL);
CREATE TABLE members (number INTEGER PRIMARY KEY, keys BLOB NOT NULL, columns TEXT NOT NULL);
CREATE TABLE shards (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, epochs INTEGER NOT NULL, bytes INTEGER NOT NULL,
    keys BLOB NOT NULL, states BLOB NOT NULL, steps BLOB NOT NULL, scores BLOB NOT NULL
);
"""
_COLUMNS = {
    "members": "number, keys, columns",
    "shards": "number, name, epochs, bytes, keys, states, steps, scores",
}


class Spec(TypedDict):
    """What a run is, as far as reading it depends on: further entries tell it from others."""

    space: str
    architecture: str
    type: str
    data: str
    keep: str | int
    metrics: list[str]


class Settings(TypedDict):
    """The recipe, as far as reading a run depends on it."""

    epochs: int


class About(TypedDict):
    """What the catalogue says of a run."""

    spec: Spec
    code: dict[str, dict[str, str]]
    target: str | None
    source: str | None
    hyperparameters: dict[str, Any]
    input_shape: list[int] | None
    input_type: str
    environment: dict[str, str | int | None]
    settings: Settings
    higher_is_better: list[str]
    plans: list[Plan]
    memory: Memory | None
    trials: dict[str, float]
    foreign: list[str]
    seconds: NotRequired[float]


def checked_about(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of a run, if each value is of its kind and in its range.

    Raises:
        ValueError: one is not; in one line.
    """
    for name, kind in get_type_hints(About).items():
        if name not in values and name in About.__required_keys__:
            raise ValueError(f"it says nothing of {name}")
        if name in values and not fits(values[name], kind):
            raise ValueError(f"{name} is {shortened(values[name])}")
    types = [values["input_type"], values["spec"]["type"]]
    if not all(isinstance(getattr(torch, name.removeprefix("torch."), None), torch.dtype) for name in types):
        raise ValueError(f"a type is {shortened(types)}")
    counts = [
        values["settings"]["epochs"],
        *(plan.get(name, 1) for plan in values["plans"] for name in ("shard", "threads", "workers")),
    ]
    times = [values.get("seconds", 0.0), *values["trials"].values()]
    if min(counts) < 1 or not all(0 <= time < inf for time in times):
        raise ValueError("a number is out of its range")
    return dict(values)


def curves_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of a run's curves."""
    also = spec.get("also", ())
    measured = ("loss", *spec["metrics"], *also)
    return [f"train_{name}" for name in ("loss", *also)] + [f"validation_{name}" for name in measured]


class DamagedCatalogueError(ModelspaceError):
    """The catalogue is not what was written; what is in the shards is not touched by that."""


class Ends(NamedTuple):
    """How some members ended, one entry a member.

    Attributes:
        states: Codes of ``Status``.
        steps: Updates made.
        scores: Last values of the curves, ``[members, curves]``, NaN where there is none.
    """

    states: Int8[np.ndarray, "member"]
    steps: Int64[np.ndarray, "member"]
    scores: Float64[np.ndarray, "member curve"]

    @classmethod
    def read(cls, members: int, curves: int, *content: bytes) -> "Ends":
        """Return what bytes say; unfinished where there are none.

        Raises:
            ValueError: they are of another length.
        """
        kinds = (np.int8, (members,)), (np.int64, (members,)), (np.float64, (members, curves))
        if not content:
            states, steps, scores = (np.zeros(shape, dtype) for dtype, shape in kinds)
            return cls(states, steps, scores + np.nan)
        return cls(*(np.frombuffer(c, d).reshape(s) for c, (d, s) in zip(content, kinds, strict=True)))


class Shard(NamedTuple):
    """A finished shard.

    Attributes:
        name: Its own.
        epochs: What its members were trained for.
        bytes: Of its file.
        keys: Its members'.
        ends: How they ended.
    """

    name: str
    epochs: int
    bytes: int
    keys: Keys
    ends: Ends


class Places(NamedTuple):
    """Where members stand, and how they ended.

    Attributes:
        shard: The numbers of their shards; −1 for one that stands nowhere.
        position: Their rows there.
        epochs: What they were trained for; 0 for none.
        ends: How they ended.
    """

    shard: Int64[np.ndarray, "member"]
    position: Int64[np.ndarray, "member"]
    epochs: Int64[np.ndarray, "member"]
    ends: Ends


class Catalogue:
    """A run's catalogue, opened.

    Args:
        folder: The run's.
        write: Whether to write, and to make one where there is none. The folder's lock is the caller's.

    Attributes:
        about: What the run is; None where it has not begun.
        keys: Its members'.
        members: Their table.
        shards: The finished ones, by number.

    Raises:
        DamagedCatalogueError: the catalogue is not what was written; nothing is changed.
        ModelspaceError: there is no run, it can't be read or written, or another version of this library wrote it.
    """

    def __init__(self, folder: Path, *, write: bool = False):
        self.folder, self.path = folder, folder / CATALOGUE
        self.about: dict[str, Any] | None = None
        self.keys, self.members = as_keys(b""), pd.DataFrame()
        self.shards: dict[int, Shard] = {}
        self._live: dict[int, int] = {}  # for how many members a shard is the place where they stand
        self._digests: dict[str, dict[int, bytes]] = {"members": {}, "shards": {}}
        if not write and not is_run(folder):
            raise ModelspaceError(f"'{folder}' holds no run: it has no {CATALOGUE}")
        if write:
            check_own(folder, clearing=False)
        mode = "rwc" if write else "ro"
        # A reader makes files beside the catalogue. Where it may not, and no writer has, it stays as it is.
        if not write and not os.access(folder, os.W_OK) and not Path(f"{self.path}-wal").exists():
            mode = "ro&immutable=1"
        uri = f"file:{quote(os.path.abspath(self.path))}?mode={mode}"
        with _errors(self.path):
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            try:
                self._open(write)
            except BaseException:
                self.close()
                raise
        if not write:
            self.close()

    def _open(self, write: bool) -> None:
        execute = self._connection.execute
        execute("PRAGMA trusted_schema = OFF")
        execute("PRAGMA cell_size_check = ON")
        # What is verified is what is read: a reader stays at the moment at which it began.
        execute("BEGIN")
        version = execute("PRAGMA user_version").fetchone()[0]
        tables = set(execute("SELECT type, name, sql FROM sqlite_master LIMIT 99"))
        if tables or version:
            self._check_version(version, tables)
            self._load()
        elif not write:
            raise ModelspaceError(f"'{self.folder}' holds no run yet: its {CATALOGUE} is empty; fit it again")
        execute("COMMIT")
        if write:
            execute("PRAGMA journal_mode = WAL")
            execute("PRAGMA synchronous = FULL")
        if write and not tables:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def _check_version(self, version: int, tables: set[tuple[str, str, str | None]]) -> None:
        """Hold version and tables against what they should be: a view or a trigger would be executed."""
        if version == VERSION:
            if tables != _tables():
                raise _damaged(self.path, "its tables are not those of a run")
            return
        if 0 < version < VERSION + 100 and {name for _, name, _ in tables} >= {"members", "shards"}:
            kind = "a newer" if version > VERSION else "an older"
            does = "upgrade" if version > VERSION else "give another folder, or fit it with that version"
            raise ModelspaceError(
                f"{self.path} was written by {kind} modelspace (format {version}; this one reads {VERSION}): {does}"
            )
        raise _damaged(self.path, f"its format is {version}")

    def _load(self) -> None:
        """Read all of it.

        Raises:
            DamagedCatalogueError: the seal differs, or a value is of another kind than it should be.
        """
        rows = {table: list(self._rows(table)) for table in _COLUMNS}
        found = self._connection.execute("SELECT about, seal FROM run WHERE number = 0").fetchone()
        if found is None and not any(rows.values()):
            return
        text, seal = found or ("", b"")
        if seal != seal_of(str(text), self._digests):
            raise _damaged(self.path, "its seal differs")
        try:
            self.about = checked_about(parsed(text, dict[str, Any], "what it says of the run"))
            curves = len(curves_of(self.about["spec"]))
            self.keys = np.concatenate([as_keys(b""), *(as_keys(keys) for _, keys, _ in rows["members"])])
            self.members = table_of(
                (len(as_keys(keys)), parsed(columns, dict[str, Any], "a part of its members"))
                for _, keys, columns in rows["members"]
            )
            for number, name, epochs, size, keys, *content in rows["shards"]:
                if not (isinstance(name, str) and is_shard(name) and fits([epochs, size], list[int])):
                    raise ValueError("a shard's name is no hash, or a number none")
                ends = Ends.read(len(as_keys(keys)), curves, *content)
                if not ((ends.states > 0) & (ends.states < len(Status)) & (ends.steps >= 0)).all():
                    raise ValueError("a shard's members are not what was written")
                self.shards[number] = Shard(name, epochs, size, as_keys(keys), ends)
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, first_line(error)) from error
        numbers, _, part, _ = self._latest()
        self._live = (
            dict(zip(*np.unique(numbers[part], return_counts=True), strict=True)) if len(part) else {}
        )

    def _rows(self, table: str) -> Iterator[Any]:
        """The rows of a table, in the order of their numbers; their digests are noted."""
        last = -1
        for row in self._connection.execute(f"SELECT {_COLUMNS[table]} FROM {table} ORDER BY number"):
            if row[0] <= last:
                raise sqlite3.DatabaseError("malformed: a row is listed twice")
            last = row[0]
            self._digests[table][last] = _digest(row)
            yield row

    def _latest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The shards' numbers, the fewest epochs first; all keys, sorted, and of each the last shard and its row."""
        numbers = sorted(self.shards, key=lambda number: self.shards[number].epochs)
        return np.array(numbers, dtype=np.int64), *latest([self.shards[number].keys for number in numbers])

    def find(self, keys: Keys) -> Places:
        """Return where members stand: in the shard of the most epochs, of equals in the last."""
        assert self.about is not None
        numbers, known, part, position = self._latest()
        ends = Ends.read(len(keys), len(curves_of(self.about["spec"])))
        nowhere, none = np.full(len(keys), -1), np.zeros(len(keys), dtype=np.int64)
        places = Places(nowhere, none, none.copy(), ends)
        if not len(known):
            return places
        at = np.minimum(np.searchsorted(known, comparable(keys)), len(known) - 1)
        rows = np.flatnonzero(known[at] == comparable(keys))
        part, position = part[at[rows]], position[at[rows]]
        shards = [self.shards[number] for number in numbers]
        places.shard[rows], places.position[rows] = numbers[part], position
        places.epochs[rows] = np.array([shard.epochs for shard in shards])[part]
        index = np.cumsum([0, *(len(shard.keys) for shard in shards)])[part] + position
        for i, values in enumerate(ends):
            values[rows] = np.concatenate([shard.ends[i] for shard in shards])[index]
        return places

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def begin(self, about: Mapping[str, Any], keys: Keys, members: pd.DataFrame) -> None:
        """Note what the run is, and the members that it is to have."""
        with self.changing():
            self._connection.execute("DELETE FROM members")
            self._digests["members"] = {}
            for first in range(0, len(keys), _MANY):
                part = slice(first, first + _MANY)
                text = json.dumps(columns_of(members.iloc[part]), default=plain)
                self._write("members", (first, keys[part].tobytes(), text))
            self.keys, self.members = keys, members
            self.note(**about)

    def note(self, **values: Any) -> None:
        """Note further values about the run."""
        with self.changing():
            self.about = {**(self.about or {}), **json.loads(json.dumps(values, default=plain))}

    def record(self, shard: Shard, before: np.ndarray | None = None) -> list[str]:
        """Note a finished shard, whose file stands.

        Args:
            shard: The shard.
            before: The numbers of those in which its members stood, −1 for none; none did where None.

        Returns:
            The names of the shards in which no member stands any longer: they are forgotten, and their files are to
            be removed.
        """
        unused = [number for number, known in self.shards.items() if known.name == shard.name]
        stood, counts = np.unique([] if before is None else before[before >= 0], return_counts=True)
        for number, count in zip(stood.tolist(), counts.tolist(), strict=True):
            self._live[number] = self._live.get(number, 0) - count
            if number in self.shards and self._live[number] <= 0 and number not in unused:
                unused.append(number)
        names = [self.shards[number].name for number in unused]
        with self.changing():
            self._drop(unused)
            number = max(self.shards, default=-1) + 1
            content = (values.tobytes() for values in (shard.keys, *shard.ends))
            self._write("shards", (number, shard.name, shard.epochs, shard.bytes, *content))
            self.shards[number], self._live[number] = shard, len(shard.keys)
        return [name for name in names if name != shard.name]

    def forget(self, number: int) -> None:
        """Forget a shard whose file is missing or damaged."""
        with self.changing():
            self._drop([number])

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._connection.execute("DELETE FROM shards WHERE number = ?", (number,))
            del self._digests["shards"][number], self.shards[number]

    def _write(self, table: str, row: tuple[Any, ...]) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO {table} ({_COLUMNS[table]}) VALUES ({marks})", row)
        self._digests[table][row[0]] = _digest(row)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Within the block whatever is noted is noted at one stroke, sealed."""
        if self._connection.in_transaction:
            yield
            return
        with _errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                text = json.dumps(self.about)
                self._connection.execute(
                    "INSERT OR REPLACE INTO run VALUES (0, ?, ?)", (text, seal_of(text, self._digests))
                )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise


def table_of(parts: Iterable[tuple[int, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return the members' table from its parts: how many members each has, and their columns.

    Raises:
        ValueError: they are not what a population's are; in one line.
    """
    frames = []
    for members, columns in parts:
        check_columns(columns, members)
        frames.append(pd.DataFrame(columns, index=range(members)))
        if list(columns) != list(frames[0]):
            raise ValueError("members have other columns than the first")
    table = pd.concat(frames or [pd.DataFrame()], ignore_index=True)
    for name in table.columns:
        if any(isinstance(value, list) for value in table[name]):
            table[name] = table[name].map(tuple)
    return table


def latest(parts: Sequence[Keys]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all keys of some parts, sorted, and of each the last part that has it, and its row there."""
    keys = comparable(np.concatenate([as_keys(b""), *parts]))
    part = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    row = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(len(each)) for each in parts)])
    order = np.argsort(keys, kind="stable")
    last = order[np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]]
    return keys[last], part[last], row[last]


def comparable(keys: Keys) -> np.ndarray:
    """Return keys as values that can be sorted."""
    return np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").ravel()


def check_outputs(folder: Path, run: Path) -> None:
    """Hold what the command line is to write against what stands there.

    Args:
        folder: Where.
        run: The folder of the run that it is written about.

    Raises:
        ModelspaceError: something of that name stands there that no such run wrote.
    """
    foreign: Sequence[str] = OUTPUTS
    if is_run(run) or shard_files(run):
        try:
            foreign = (Catalogue(run).about or {}).get("foreign", OUTPUTS)
        except ModelspaceError:
            foreign = ()  # what is wrong with it is said when it is fitted
    for name in outputs_in(folder):
        if name in foreign or not is_own(folder / name):
            raise ModelspaceError(
                f"{folder / name} was not written by a run, and would be overwritten: move it away, or give another "
                "folder"
            )


def seal_of(about: str, digests: Mapping[str, Mapping[int, bytes]]) -> bytes:
    """Return the checksum over what is said of the run, and the rows of each table."""
    digest = hashlib.blake2b(about.encode(errors="surrogatepass"), digest_size=16)
    for table, rows in digests.items():
        digest.update(table.encode() + b"".join(rows[number] for number in sorted(rows)))
    return digest.digest()


def _digest(row: tuple[Any, ...]) -> bytes:
    """The checksum of a row."""
    digest = hashlib.blake2b(digest_size=16)
    for value in row:
        content = value if isinstance(value, bytes) else repr(value).encode(errors="surrogatepass")
        digest.update(f"{type(value).__name__} {len(content)} ".encode() + content)
    return digest.digest()


@cache
def _tables() -> set[tuple[str, str, str | None]]:
    """What a catalogue's own list of its tables says."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))


def _damaged(path: Path, why: str) -> DamagedCatalogueError:
    return DamagedCatalogueError(
        f"{path}: the file is damaged ({why}): fit the run again, which makes it anew from its shards"
    )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as one message."""
    try:
        yield
    except sqlite3.Error as error:
        text = first_line(error)
        # What SQLite says of reading or writing the file, and not about what it holds.
        other = ("locked", "disk", "full", "readonly", "unable to open", "I/O", "authori", "interrupted")
        if not isinstance(error, sqlite3.OperationalError) or not any(word in text for word in other):
            raise _damaged(path, text.removeprefix("malformed: ")) from error
        raise ModelspaceError(f"{path}: {text}; what was finished is kept") from error
    except (OverflowError, UnicodeError, RecursionError) as error:
        raise _damaged(path, first_line(error)) from error
    except OSError as error:
        raise ModelspaceError(f"can't write {path}: {error.strerror or error}") from error
