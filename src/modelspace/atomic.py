"""Files that are written whole or not at all."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelspace.errors import ModelspaceError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path``; on success it is synced and takes ``path``'s place in one step.

    Args:
        path: Where the finished file is to stand; its folder is made if it is missing.

    Yields:
        The temporary path to write to. If the block raises, nothing is left and ``path`` is as it was.

    Raises:
        ModelspaceError: the folder can't be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ModelspaceError(f"can't write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise ModelspaceError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def is_own(path: Path) -> bool:
    """Whether a path is a regular file itself, and no link: what may be removed or taken the place of."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def remove_remains(folder: Path, names: str) -> None:
    """Remove what a process that was killed within ``whole_file`` left, and nothing else.

    Args:
        folder: Where; nothing is removed through a link.
        names: A regular expression of the names of the files that were to stand there.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if re.fullmatch(rf"\.({names})\.[a-z0-9_]+", path.name) and is_own(path):
            path.unlink(missing_ok=True)
