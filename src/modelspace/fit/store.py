"""The catalogue of a run: one SQLite file that says what the run is and which members are finished.

    run.sqlite            meta: what the run is; wanted: its members; shards; members: their final scores
    run.lock              held by the process that is at it
    shards/NAME.safetensors        one finished shard
    shards/NAME.part.safetensors   one that was put down between two updates

A shard's file is whole before the catalogue speaks of it, so a process may be killed between any two instructions.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from modelspace.errors import ModelspaceError
from modelspace.fit import files
from modelspace.plain import plain

VERSION = 1
_PATIENCE_SECONDS = 3.0  # a killed process's workers take a moment to end
_NAME = "run.sqlite"
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
"""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
        fresh: Whether to remove first what was trained there.

    Raises:
        ModelspaceError: there is no run, it can't be read or written, another process is at it, or a newer version
            of this library has written it.
    """

    def __init__(self, folder: Path, *, create: bool = False, fresh: bool = False):
        self.folder = folder
        self.shards = folder / "shards"
        self._lock = _locked(folder) if create else None
        try:
            if fresh:
                with _told(folder / _NAME):
                    for path in (*folder.glob(f"{_NAME}*"), *self.shards.glob("*.safetensors")):
                        path.unlink()
            self._open(create)
        except BaseException:
            self.close()
            raise

    def _open(self, create: bool) -> None:
        path = self.folder / _NAME
        if not create and not path.is_file():
            raise ModelspaceError(f"'{self.folder}' holds no run: it has no {_NAME}")
        self._connection: sqlite3.Connection | None = None
        with _told(path):
            # Committed by hand: a transaction is what stands in one `with self._changing()`.
            mode = "rwc" if create else "ro"
            # A reader makes files beside the catalogue. Where it may not, and no writer has, it stays as it is.
            if not create and not os.access(self.folder, os.W_OK) and not Path(f"{path}-wal").exists():
                mode = "ro&immutable=1"
            self._connection = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}", uri=True, isolation_level=None
            )
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise ModelspaceError(
                    f"{path} was written by a newer modelspace (format {version}; this one reads {VERSION}): upgrade"
                )
            if create:
                self.shards.mkdir(exist_ok=True)
                files.remove_remains(self.shards)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            if version == 0 and not create:
                raise ModelspaceError(f"'{self.folder}' holds no run yet: its {_NAME} is empty; fit it again")
            if version == 0:
                self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Let go of the folder."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def get(self, key: str) -> Any:
        """A plain value about the run; None where there is none."""
        found = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(found[0][0]) if found else None

    def put(self, **values: Any) -> None:
        """Note plain values about the run."""
        with self._changing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [(key, json.dumps(value, default=str)) for key, value in values.items()],
            )

    def places(self) -> dict[bytes, Place]:
        """Where each finished member stands, by its key."""
        rows = self._rows("SELECT key, shard, position, epochs FROM members")
        return {key: Place(*rest) for key, *rest in rows}

    def want(self, keys: Sequence[bytes], rows: Iterable[Mapping[str, Any]]) -> None:
        """Note the members that the run is to have, in their order."""
        values = (
            (i, key, json.dumps(row, default=plain))
            for i, (key, row) in enumerate(zip(keys, rows, strict=True))
        )
        with self._changing() as connection:
            connection.execute("DELETE FROM wanted")
            connection.executemany("INSERT INTO wanted VALUES (?, ?, ?)", values)

    def wanted(self) -> list[tuple[bytes, dict[str, Any]]]:
        """The members that the run is to have: key, and row of the population's table."""
        rows = self._rows("SELECT key, columns FROM wanted ORDER BY number")
        return [(key, json.loads(columns)) for key, columns in rows]

    def ends(self) -> Iterator[tuple[dict[str, Any], str | None, int | None, dict[str, float | None]]]:
        """Of each wanted member: columns, status, steps and last scores; without these where it is not finished."""
        query = """SELECT columns, status, steps, scores FROM wanted LEFT JOIN members USING (key) ORDER BY number"""
        for columns, status, steps, scores in self._rows(query):
            yield json.loads(columns), status, steps, json.loads(scores or "{}")

    def counts(self) -> dict[str, int]:
        """How many of the wanted members ended how; those that did not, under ``unfinished``."""
        query = """SELECT COALESCE(status, 'unfinished'), COUNT(*) FROM wanted LEFT JOIN members USING (key)
            GROUP BY status"""
        return dict(self._rows(query))

    def record(self, name: str, epochs: int, members: Sequence[Member]) -> None:
        """Note a finished shard, whose file stands; files that no member needs any longer are removed."""
        size = self.file(name).stat().st_size
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
        with self._changing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO shards (name, members, epochs, bytes) VALUES (?, ?, ?, ?)",
                (name, len(members), epochs, size),
            )
            connection.executemany("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            left = "SELECT name FROM shards WHERE name NOT IN (SELECT shard FROM members)"
            unused = [found for (found,) in connection.execute(left)]
            connection.executemany("DELETE FROM shards WHERE name = ?", [(found,) for found in unused])
        self.part(name).unlink(missing_ok=True)
        for found in unused:
            self.file(found).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Forget a shard whose file is missing or damaged."""
        with self._changing() as connection:
            connection.execute("DELETE FROM members WHERE shard = ?", (name,))
            connection.execute("DELETE FROM shards WHERE name = ?", (name,))
        self.file(name).unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """Of a finished shard."""
        return self.shards / f"{name}.safetensors"

    def part(self, name: str) -> Path:
        """Of a shard that was put down."""
        return self.shards / f"{name}.part.safetensors"

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


def _locked(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "run.lock", timeout=_PATIENCE_SECONDS)
        lock.acquire()
    except Timeout:
        raise ModelspaceError(
            f"another process is at the run in '{folder}': wait until it has ended, or give another folder"
        ) from None
    except OSError as error:
        raise ModelspaceError(f"can't write to '{folder}': {error.strerror or error}") from error
    return lock


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as one message."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            text = f"{text}: the file is damaged; with fresh=True (--fresh) the run starts anew"
        raise ModelspaceError(f"{path}: {text}; what was finished is kept") from error
    except OSError as error:
        raise ModelspaceError(f"can't write {path}: {error.strerror or error}") from error


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
