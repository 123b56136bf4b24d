"""A run's folder: which files in it are the run's own; nothing else is removed, overwritten or gone through.

    run.sqlite                     the catalogue
    run.lock                       held by the process that is at the run
    shards/NAME.safetensors        a finished shard
    shards/NAME.part.safetensors   the last checkpoint of one in training

A shard's file is whole before the catalogue speaks of it, so a process may be killed between any two instructions.
"""

import os
import re
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from modelspace.atomic import is_own
from modelspace.errors import ModelspaceError

CATALOGUE, LOCK = "run.sqlite", "run.lock"
# What the command line writes beside a run; what stood there under these names before it began is not the run's.
OUTPUTS = ("summary.json", "members.csv", "points.safetensors", "report.html")
REMAINS = r"[0-9a-f]+(\.part)?\.safetensors"  # of files in shards/, written halfway
_PATIENCE_SECONDS = 3.0  # a killed process's workers take a moment to end
_FILES = ("", "-wal", "-shm", "-journal")  # of one catalogue, after its name
_NAME = re.compile(r"[0-9a-f]{24}")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / CATALOGUE).is_file()


def is_shard(name: str) -> bool:
    """Whether a name is a shard's: a hash, never a path."""
    return _NAME.fullmatch(name) is not None


def shard_file(folder: Path, name: str, *, part: bool = False) -> Path:
    """Return the file of a finished shard, or of the last checkpoint of one in training."""
    assert is_shard(name)
    return folder / "shards" / f"{name}{'.part' if part else ''}.safetensors"


def shard_files(folder: Path) -> list[Path]:
    """Return the files of a folder's shards by name, checkpoints too; none that is a link."""
    found = sorted((folder / "shards").glob("*.safetensors"))
    names = (path.name.removesuffix(".safetensors").removesuffix(".part") for path in found)
    return [path for path, name in zip(found, names, strict=True) if is_shard(name) and is_own(path)]


def remove(path: Path) -> None:
    """Remove a shard's file: none through a link, and nothing but a file."""
    if is_own(path) and not path.parent.is_symlink():
        path.unlink(missing_ok=True)


def remove_run(folder: Path) -> None:
    """Remove what a run wrote: its catalogue and its shards."""
    for ending in _FILES:
        (folder / f"{CATALOGUE}{ending}").unlink(missing_ok=True)
    for path in shard_files(folder):
        remove(path)


def set_aside(folder: Path) -> Path | None:
    """Rename a catalogue that can't be read; None where there is none."""
    numbers = (f"run.damaged{n or ''}.sqlite" for n in count())
    name = next(name for name in numbers if not os.path.lexists(folder / name))
    for ending in _FILES:
        path = folder / f"{CATALOGUE}{ending}"
        if os.path.lexists(path):
            path.rename(folder / f"{name}{ending}")
    return folder / name if os.path.lexists(folder / name) else None


def check_own(folder: Path, *, clearing: bool) -> None:
    """Hold what would be written into, or removed, against what a run wrote.

    Raises:
        ModelspaceError: a link, or something that is no file, stands there.
    """
    for path in (folder / f"{CATALOGUE}{ending}" for ending in _FILES):
        if os.path.lexists(path) and not is_own(path):
            raise ModelspaceError(f"{path} is a link, or no file, which no run wrote: give another folder")
    shards = folder / "shards"
    if os.path.lexists(shards) and not shards.is_dir():
        raise ModelspaceError(f"{shards} is no folder, which no run wrote: give another folder")
    if clearing and shards.is_symlink():
        raise ModelspaceError(
            f"{shards} is a link, through which nothing is removed: give another folder, or remove it"
        )


def outputs_in(folder: Path) -> list[str]:
    """Return those of the command line's outputs whose names are taken in a folder."""
    return [name for name in OUTPUTS if os.path.lexists(folder / name)]


def lock(folder: Path) -> FileLock:
    """Take a folder for this process, made where there is none.

    Raises:
        ModelspaceError: another process has it, or it can't be written to.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The lock's file is opened for writing, and emptied.
        if os.path.lexists(path) and not (is_own(path) and path.stat().st_size == 0):
            raise ModelspaceError(f"{path} is not the lock of a run: give another folder, or move it away")
        taken = FileLock(path, timeout=_PATIENCE_SECONDS)
        taken.acquire()
    except Timeout:
        raise ModelspaceError(
            f"another process is at the run in '{folder}': wait until it has ended, or give another folder"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelspaceError(
            f"can't write to '{folder}': {getattr(error, 'strerror', None) or error}"
        ) from error
    return taken
