"""The catalogue of a run: one SQLite file that says what the run is and which members are finished.

    run.sqlite            meta: what the run is; wanted: its members; shards; members: their final scores;
                          checksums: of the rows of each, a shard's with its members'
    run.lock              held by the process that is at it
    shards/NAME.safetensors        one finished shard
    shards/NAME.part.safetensors   one that was put down between two updates

A shard's file is whole before the catalogue speaks of it, so a process may be killed between any two instructions.
"""

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, TypedDict

import torch
from filelock import FileLock, Timeout

from modelspace.atomic import is_own, remove_remains
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError, first_line
from modelspace.memory import Memory
from modelspace.plain import fits, parsed, plain, shortened
from modelspace.runs.settings import Status

VERSION = 2
_PATIENCE_SECONDS = 3.0  # a killed process's workers take a moment to end
_NAME, _LOCK = "run.sqlite", "run.lock"
# What the command line writes beside a run; what stood there under these names before it began is not the run's.
OUTPUTS = ("summary.json", "members.csv", "points.safetensors", "report.html")
_FILES = ("", "-wal", "-shm", "-journal")  # of one catalogue, after its name
_SHARD = re.compile(r"[0-9a-f]{24}")
_KEY_BYTES = 16

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE wanted (number INTEGER PRIMARY KEY, key BLOB NOT NULL, columns TEXT NOT NULL);
CREATE TABLE shards (
    name TEXT PRIMARY KEY, members INTEGER NOT NULL, epochs INTEGER NOT NULL, bytes INTEGER NOT NULL,
    finished TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE members (
    key BLOB PRIMARY KEY, shard TEXT NOT NULL REFERENCES shards (name), position INTEGER NOT NULL,
    epochs INTEGER NOT NULL, status TEXT NOT NULL, steps INTEGER NOT NULL, scores TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX members_of_shard ON members (shard);
CREATE TABLE checksums (rows TEXT PRIMARY KEY, checksum TEXT NOT NULL);
"""
_MEMBERS = "SELECT key, shard, position, epochs, status, steps, scores FROM members"
# Rows under one checksum: those of a table, or a shard's with its members'.
_GROUPS = {"meta": ("SELECT * FROM meta ORDER BY key",), "wanted": ("SELECT * FROM wanted ORDER BY number",)}
_OF_SHARD = ("SELECT * FROM shards WHERE name = ?", f"{_MEMBERS} WHERE shard = ? ORDER BY key")


class Spec(TypedDict):
    """What a run is, as far as reading it depends on: further entries tell it from others."""

    space: str
    architecture: str
    type: str
    data: str
    keep: str | int
    metrics: list[str]


# What the catalogue may say of a run, and of which kind each value is.
_KINDS: dict[str, Any] = {
    "spec": Spec,
    "code": dict[str, dict[str, str]],
    "target": str | None,
    "source": str | None,
    "hyperparameters": dict[str, Any],
    "input_shape": list[int] | None,
    "input_type": str,
    "samples": list[int],
    "epochs": int,
    "environment": dict[str, str | int | None],
    "plan": Plan | None,
    "memory": Memory | None,
    "trials": dict[str, float],
    "settings": dict[str, Any],
    "higher_is_better": list[str],
    "seconds": float,
    "foreign": list[str],
}
# What is noted at one stroke: the first has the others beside it.
_TOGETHER = {
    "spec": {
        "code",
        "target",
        "source",
        "hyperparameters",
        "input_shape",
        "input_type",
        "epochs",
        "environment",
    },
    "settings": {"plan", "higher_is_better"},
}
_COLUMNS = dict[str, str | float | bool | list[float] | None]
_SCORES = dict[str, float | None]


def checked_about(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of a run, if each value is of its kind and in its range.

    Raises:
        ValueError: one is not; in one line.
    """
    for name, value in values.items():
        if not fits(value, _KINDS.get(name, Any)):
            raise ValueError(f"{name} is {shortened(value)}")
    for first, others in _TOGETHER.items():
        missing = others.difference(values)
        if first in values and missing:
            raise ValueError(f"it says nothing of {', '.join(sorted(missing))}")
    types = [values.get("input_type", "float32"), *([values["spec"]["type"]] if "spec" in values else [])]
    if not all(isinstance(getattr(torch, name.removeprefix("torch."), None), torch.dtype) for name in types):
        raise ValueError(f"a type is {shortened(types)}")
    plan = values.get("plan") or {}
    counts = [values.get("epochs", 1), *(plan.get(name, 1) for name in ("shard", "threads", "workers"))]
    seconds = values.get("seconds", 0.0)
    if (
        min(counts) < 1
        or not 0 <= seconds < inf
        or not all(0 < v < inf for v in values.get("trials", {}).values())
    ):
        raise ValueError("a number is out of its range")
    return dict(values)


def curves_of(spec: Mapping[str, Any]) -> list[str]:
    """The names of a run's curves."""
    return ["train_loss", "validation_loss", *(f"validation_{name}" for name in spec["metrics"])]


class DamagedCatalogueError(ModelspaceError):
    """The catalogue is not what was written; what is in the shards is not touched by that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finished member stands.

    Attributes:
        shard: The name of its shard.
        position: Its row there.
        epochs: What it was trained for.
    """

    shard: str
    position: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Member:
    """A finished member, for the catalogue.

    Attributes:
        key: What tells it apart.
        status: How it ended.
        steps: Updates made.
        scores: Its last ones, by name.
    """

    key: bytes
    status: str
    steps: int
    scores: Mapping[str, float | None]


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / _NAME).is_file()


class Store:
    """A run's folder, opened.

    Args:
        folder: The folder.
        create: Whether to make one where there is none, and to write; the lock is then held until ``close``.
        fresh: Whether what is there is to be removed, unread, by ``clear``.

    Raises:
        DamagedCatalogueError: the catalogue is not what was written; nothing is changed.
        ModelspaceError: there is no run, it can't be read or written, another process is at it, or another version of
            this library has written it.
    """

    def __init__(self, folder: Path, *, create: bool = False, fresh: bool = False):
        self.folder = folder
        self.shards = folder / "shards"
        self._meta: dict[str, Any] = {}
        self._connection: sqlite3.Connection | None = None
        self._lock = _locked(folder) if create else None
        try:
            if fresh:
                _check_clearable(folder)
            else:
                self._open(create)
        except BaseException:
            self.close()
            raise

    def _open(self, create: bool) -> None:
        path = self.folder / _NAME
        if not create and not path.is_file():
            raise ModelspaceError(f"'{self.folder}' holds no run: it has no {_NAME}")
        if create:
            _check_own(self.folder, _FILES)
        with _told(path):
            # Committed by hand: a transaction is what stands in one `with self._changing()`.
            mode = "rwc" if create else "ro"
            # A reader makes files beside the catalogue. Where it may not, and no writer has, it stays as it is.
            if not create and not os.access(self.folder, os.W_OK) and not Path(f"{path}-wal").exists():
                mode = "ro&immutable=1"
            self._connection = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}", uri=True, isolation_level=None
            )
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA cell_size_check = ON")
            # What is verified is what is read: a reader stays at the moment at which it began.
            self._connection.execute("BEGIN")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            empty = not self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            if version == 0 and empty and not create:
                raise ModelspaceError(f"'{self.folder}' holds no run yet: its {_NAME} is empty; fit it again")
            if not (version == 0 and empty):
                self._verify(version)
            if create:
                self._connection.execute("COMMIT")
                self.shards.mkdir(exist_ok=True)
                remove_remains(self.shards, r"[0-9a-f]+(\.part)?\.safetensors")
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                if empty:
                    self._connection.executescript(
                        f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"
                    )
                    with self._changing() as connection:
                        for group in _GROUPS:
                            _seal(connection, group)

    def _verify(self, version: int) -> None:
        """Hold tables, checksums and kinds against what they should be.

        Raises:
            DamagedCatalogueError: they are not.
            ModelspaceError: another version of this library has written it.
        """
        assert self._connection is not None
        tables = set(self._connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 99"))
        # A view or a trigger would be executed, and may have no end.
        if version == VERSION and tables != _tables():
            raise _damaged(self.folder, "its tables are not those of a run")
        if version != VERSION and {name for _, name, _ in tables} >= {"meta", "wanted", "shards", "members"}:
            kind = "a newer" if version > VERSION else "an older"
            does = "upgrade" if version > VERSION else "give another folder, or fit it with that version"
            if 0 < version < VERSION + 100:
                raise ModelspaceError(
                    f"{self.folder / _NAME} was written by {kind} modelspace (format {version}; this one reads "
                    f"{VERSION}): {does}"
                )
        if version != VERSION:
            raise _damaged(self.folder, f"its format is {version}")
        # A page that is listed twice would be read twice, and so on: no file has more rows than bytes.
        most = (self.folder / _NAME).stat().st_size
        written = dict(self._connection.execute("SELECT * FROM checksums LIMIT ?", (most,)))
        names = [name for (name,) in self._connection.execute("SELECT name FROM shards LIMIT ?", (most,))]
        count = self._connection.execute("SELECT COUNT(*) FROM members NOT INDEXED").fetchone()[0]
        if set(written) != {*_GROUPS, *names}:
            raise _damaged(self.folder, "checksums are missing")
        for group in written:
            found, rows = _digest(self._connection, group)
            if found != written[group]:
                raise _damaged(
                    self.folder, f"the checksum of {group if group in _GROUPS else 'a shard'} differs"
                )
            count -= rows if group not in _GROUPS else 0
        if count:
            raise _damaged(self.folder, "members are of no shard")
        self._read_meta()

    def _read_meta(self) -> None:
        assert self._connection is not None
        found = self._connection.execute("SELECT key, value FROM meta")
        values = {key: self._parsed(value, Any, str(key)) for key, value in found}
        try:
            self._meta = checked_about(values)
        except ValueError as error:
            raise _damaged(self.folder, str(error)) from error

    def _parsed(self, text: Any, kind: Any, what: str) -> Any:
        try:
            return parsed(text, kind, what)
        except ValueError as error:
            raise _damaged(self.folder, str(error)) from error

    def clear(self) -> None:
        """Remove what is there, of what a run wrote only, and begin anew."""
        foreign: list[str] | None = []
        with _told(self.folder / _NAME):
            try:
                with closing(Store(self.folder)) as before:
                    foreign = before.get("foreign")
            except ModelspaceError:  # damaged, or no catalogue of a run's, or none
                foreign = [] if set_aside(self.folder) and shard_files(self.folder) else None
            for name in _FILES:
                (self.folder / f"{_NAME}{name}").unlink(missing_ok=True)
            for path in self.shards.glob("*.safetensors"):
                if _is_shard(path):
                    _remove(path)
        self._meta = {}
        self._open(create=True)
        if foreign is not None:
            self.put(foreign=foreign)

    def close(self) -> None:
        """Let go of the folder."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def get(self, key: str) -> Any:
        """A plain value about the run; None where there is none."""
        return self._meta.get(key)

    def about(self) -> dict[str, Any]:
        """All plain values about the run."""
        return dict(self._meta)

    def put(self, **values: Any) -> None:
        """Note plain values about the run."""
        with self._changing() as connection:
            self._put(connection, values)

    def _put(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
        texts = {key: json.dumps(value, default=str) for key, value in values.items()}
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", texts.items())
        _seal(connection, "meta")
        self._meta |= {key: json.loads(text) for key, text in texts.items()}

    def places(self) -> dict[bytes, Place]:
        """Where each finished member stands, by its key."""
        rows = self._rows("SELECT key, shard, position, epochs FROM members")
        return {key: Place(*rest) for key, *rest in rows}

    def want(self, keys: Sequence[bytes], rows: Iterable[Mapping[str, Any]]) -> None:
        """Note the members that the run is to have, in their order."""
        with self._changing() as connection:
            _want(connection, keys, rows)

    def wanted(self) -> list[tuple[bytes, dict[str, Any]]]:
        """The members that the run is to have: key, and row of the population's table."""
        rows = self._rows("SELECT key, columns FROM wanted ORDER BY number")
        first: list[str] = []
        return [(key, self._columns(columns, first)) for key, columns in rows]

    def ends(self) -> Iterator[tuple[dict[str, Any], str | None, int | None, dict[str, float | None]]]:
        """Of each wanted member: columns, status, steps and last scores; without these where it is not finished."""
        query = """SELECT columns, status, steps, scores FROM wanted LEFT JOIN members USING (key) ORDER BY number"""
        first: list[str] = []
        for columns, status, steps, scores in self._rows(query):
            yield (
                self._columns(columns, first),
                status,
                steps,
                self._parsed(scores or "{}", _SCORES, "a member's scores"),
            )

    def _columns(self, text: Any, first: list[str]) -> dict[str, Any]:
        row = self._parsed(text, _COLUMNS, "a member's row")
        first[:] = first or list(row)
        if list(row) != first:
            raise _damaged(self.folder, "members have other columns than the first")
        if any(type(row.get(name, 0)) is not int or row.get(name, 0) < 0 for name in ("seed", "data_seed")):
            raise _damaged(self.folder, "a member's seed is none")
        return row

    def counts(self) -> dict[str, int]:
        """How many of the wanted members ended how; those that did not, under ``unfinished``."""
        query = """SELECT COALESCE(status, 'unfinished'), COUNT(*) FROM wanted LEFT JOIN members USING (key)
            GROUP BY status"""
        return dict(self._rows(query))

    def record(self, name: str, epochs: int, members: Sequence[Member]) -> None:
        """Note a finished shard, whose file stands; files that no member needs any longer are removed."""
        with self._changing() as connection:
            unused = self._record(connection, name, epochs, members)
        _remove(self.part(name))
        for found in unused:
            _remove(self.file(found))

    def _record(
        self, connection: sqlite3.Connection, name: str, epochs: int, members: Sequence[Member]
    ) -> list[str]:
        """Note a shard; the names of those that no member needs any longer."""
        rows = [
            (
                each.key,
                name,
                position,
                epochs,
                each.status,
                each.steps,
                json.dumps(each.scores),
            )
            for position, each in enumerate(members)
        ]
        before = "SELECT shard FROM members WHERE key = ?"
        others = {shard for each in members for (shard,) in connection.execute(before, (each.key,))} - {name}
        connection.execute("DELETE FROM members WHERE shard = ?", (name,))
        connection.execute(
            "INSERT OR REPLACE INTO shards (name, members, epochs, bytes) VALUES (?, ?, ?, ?)",
            (name, len(members), epochs, self.file(name).stat().st_size),
        )
        connection.executemany("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        left = "SELECT name FROM shards WHERE name NOT IN (SELECT shard FROM members)"
        unused = [found for (found,) in connection.execute(left)]
        _drop(connection, unused)
        for found in {name, *others}.difference(unused):
            _seal(connection, found)
        return unused

    def forget(self, name: str) -> None:
        """Forget a shard whose file is missing or damaged."""
        with self._changing() as connection:
            connection.execute("DELETE FROM members WHERE shard = ?", (name,))
            _drop(connection, [name])
        _remove(self.file(name))

    def restore(
        self,
        about: Mapping[str, Any],
        wanted: Mapping[bytes, Mapping[str, Any]],
        shards: Iterable[tuple[str, int, Sequence[Member]]],
    ) -> None:
        """Make the catalogue again, at one stroke.

        Args:
            about: Plain values about the run.
            wanted: The members that it is to have.
            shards: Of each that is finished: its name, epochs and members.
        """
        with self._changing() as connection:
            self._put(connection, about)
            _want(connection, wanted, wanted.values())
            unused = {one for shard in shards for one in self._record(connection, *shard)}
        for name in unused:
            _remove(self.file(name))

    def file(self, name: str) -> Path:
        """Of a finished shard."""
        return self._path(name, "")

    def part(self, name: str) -> Path:
        """Of a shard that was put down."""
        return self._path(name, ".part")

    def _path(self, name: str, ending: str) -> Path:
        if not _SHARD.fullmatch(name):
            raise _damaged(self.folder, "a shard's name is no hash")
        return self.shards / f"{name}{ending}.safetensors"

    def bytes(self) -> int:
        """Of all finished shards."""
        return self._rows("SELECT COALESCE(SUM(bytes), 0) FROM shards")[0][0]

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        assert self._connection is not None
        with _told(self.folder / _NAME):
            return self._connection.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        assert self._connection is not None
        with _told(self.folder / _NAME):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise


def shard_files(folder: Path) -> list[Path]:
    """The files of a folder's shards, finished or put down, by name: those of them that are no links."""
    found = sorted((folder / "shards").glob("*.safetensors"))
    return [path for path in found if _is_shard(path) and is_own(path)]


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
            with closing(Store(run)) as store:
                foreign = store.get("foreign") or ()
        except ModelspaceError:
            foreign = ()  # what is wrong with it is said when it is fitted
    for name in OUTPUTS:
        path = folder / name
        if os.path.lexists(path) and (name in foreign or not is_own(path)):
            raise ModelspaceError(
                f"{path} was not written by a run, and would be overwritten: move it away, or give another folder"
            )


def set_aside(folder: Path) -> Path | None:
    """Rename a catalogue that can't be read; None where there is none."""
    numbers = (f"run.damaged{n or ''}.sqlite" for n in count())
    name = next(name for name in numbers if not os.path.lexists(folder / name))
    with _told(folder / _NAME):
        for ending in _FILES:
            path = folder / f"{_NAME}{ending}"
            if os.path.lexists(path):
                path.rename(folder / f"{name}{ending}")
    return folder / name if os.path.lexists(folder / name) else None


def _is_shard(path: Path) -> bool:
    return _SHARD.fullmatch(path.name.removesuffix(".safetensors").removesuffix(".part")) is not None


def _remove(path: Path) -> None:
    """Remove a shard's file: none through a link, and nothing but a file."""
    if is_own(path) and not path.parent.is_symlink():
        path.unlink(missing_ok=True)


def _want(connection: sqlite3.Connection, keys: Iterable[bytes], rows: Iterable[Mapping[str, Any]]) -> None:
    values = (
        (i, key, json.dumps(row, default=plain)) for i, (key, row) in enumerate(zip(keys, rows, strict=True))
    )
    connection.execute("DELETE FROM wanted")
    connection.executemany("INSERT INTO wanted VALUES (?, ?, ?)", values)
    _seal(connection, "wanted")


def _drop(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    for name in names:
        connection.execute("DELETE FROM shards WHERE name = ?", (name,))
        connection.execute("DELETE FROM checksums WHERE rows = ?", (name,))


def _seal(connection: sqlite3.Connection, group: str) -> None:
    """Note the checksum of some rows."""
    connection.execute(
        "INSERT OR REPLACE INTO checksums VALUES (?, ?)", (group, _digest(connection, group)[0])
    )


def _digest(connection: sqlite3.Connection, group: str) -> tuple[str, int]:
    """The checksum of some rows, and how many members of a shard are among them.

    Raises:
        sqlite3.DatabaseError: a value is of another kind than it should be.
    """
    digest, rows = hashlib.blake2b(digest_size=16), 0
    if group in _GROUPS:
        for row in connection.execute(*_GROUPS[group]):
            digest.update(repr(row).encode(errors="surrogatepass"))
        return digest.hexdigest(), 0
    of_shard, of_members = _OF_SHARD
    shard = connection.execute(of_shard, (group,)).fetchone()
    if shard is None:
        raise sqlite3.DatabaseError("malformed: a shard's row is not found")
    digest.update(repr(shard).encode(errors="surrogatepass"))
    name, members, epochs, size, _ = shard
    if not (
        isinstance(name, str)
        and _SHARD.fullmatch(name)
        and all(type(n) is int for n in (members, epochs, size))
    ):
        raise sqlite3.DatabaseError("malformed: a shard's name is no hash, or a number none")
    for row in connection.execute(of_members, (group,)):
        key, _, position, epochs, status, steps, scores = row
        rows += 1
        if not (
            isinstance(key, bytes)
            and len(key) == _KEY_BYTES
            and type(position) is int
            and 0 <= position < members
            and type(epochs) is int
            and status in list(Status)
            and type(steps) is int
            and steps >= 0
            and isinstance(scores, str)
        ):
            raise sqlite3.DatabaseError("malformed: a member's row is not what was written")
        digest.update(repr(row).encode())
    return digest.hexdigest(), rows


@cache
def _tables() -> set[tuple[str, str, str | None]]:
    """What a catalogue's own list of its tables says."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))


def _damaged(folder: Path, why: str) -> DamagedCatalogueError:
    return DamagedCatalogueError(
        f"{folder / _NAME}: the file is damaged ({why}): fit the run again, which makes it anew from its shards"
    )


def _check_own(folder: Path, endings: Iterable[str]) -> None:
    """Hold what would be written into against what a run wrote.

    Raises:
        ModelspaceError: a link, or something that is no file, stands there.
    """
    for path in (folder / f"{_NAME}{ending}" for ending in endings):
        if os.path.lexists(path) and not is_own(path):
            raise ModelspaceError(f"{path} is a link, or no file, which no run wrote: give another folder")
    shards = folder / "shards"
    if os.path.lexists(shards) and not shards.is_dir():
        raise ModelspaceError(f"{shards} is no folder, which no run wrote: give another folder")


def _check_clearable(folder: Path) -> None:
    """Hold what ``clear`` would remove against what a run wrote.

    Raises:
        ModelspaceError: it would have to go through a link.
    """
    _check_own(folder, _FILES)
    if (folder / "shards").is_symlink():
        raise ModelspaceError(
            f"{folder / 'shards'} is a link, through which nothing is removed: give another folder, or remove it"
        )


def _locked(folder: Path) -> FileLock:
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The lock's file is opened for writing, and emptied.
        if os.path.lexists(path) and not (is_own(path) and path.stat().st_size == 0):
            raise ModelspaceError(f"{path} is not the lock of a run: give another folder, or move it away")
        lock = FileLock(path, timeout=_PATIENCE_SECONDS)
        lock.acquire()
    except Timeout:
        raise ModelspaceError(
            f"another process is at the run in '{folder}': wait until it has ended, or give another folder"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelspaceError(
            f"can't write to '{folder}': {getattr(error, 'strerror', None) or error}"
        ) from error
    return lock


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as one message."""
    try:
        yield
    except sqlite3.Error as error:
        text = first_line(error)
        if _means_damage(error, text):
            raise _damaged(path.parent, text.removeprefix("malformed: ")) from error
        raise ModelspaceError(f"{path}: {text}; what was finished is kept") from error
    except (OverflowError, UnicodeError, RecursionError) as error:
        raise _damaged(path.parent, first_line(error)) from error
    except OSError as error:
        raise ModelspaceError(f"can't write {path}: {error.strerror or error}") from error


def _means_damage(error: sqlite3.Error, text: str) -> bool:
    """Whether a message of SQLite's is about what the file holds, and not about reading or writing it."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    other = ("locked", "disk", "full", "readonly", "unable to open", "I/O", "authori", "interrupted")
    return not any(word in text for word in other)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
