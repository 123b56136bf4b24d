"""Reading ``.npz`` files; never their pickles."""

import zipfile
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import ModelspaceError, first_line

_PAIRS = (("inputs", "labels"), ("x", "y"), ("X", "y"), ("X", "Y"))
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

_LARGE = 2**30
_MOST_PACKED = 100  # times: pixels pack to a tenth, zeros to a thousandth

Parts = dict[str, tuple[NDArray, NDArray]]


def read_npz(path: Path) -> Parts:
    """The arrays of a ``.npz`` file, by split.

    Args:
        path: A file written by ``numpy.savez``: ``inputs`` and ``labels`` (or ``x`` and ``y``, ``X`` and
            ``y``, ``X`` and ``Y``), or already split as ``x_train``, ``y_train``, and so on for
            ``val`` (``valid``, ``validation``) and ``test``. Only these arrays are read.

    Returns:
        ``(inputs, labels)`` under ``"train"`` (all the data where it isn't split), and under
        ``"validation"`` and ``"test"`` where the file has them.

    Raises:
        ModelspaceError: the file is missing, no ``.npz``, damaged, lacks the arrays, or holds them pickled.
    """
    check_npz(path)
    with _opened(path) as archive:
        keys = _keys(archive.files, path)
        _check_size(archive, [key for pair in keys.values() for key in pair], path)
        return {
            part: (_array(archive, inputs, path), _array(archive, labels, path))
            for part, (inputs, labels) in keys.items()
        }


def read_whole(path: Path) -> tuple[NDArray, NDArray | None]:
    """The inputs of a ``.npz`` file that is not split, in its order, and the labels where it has some.

    Args:
        path: A file written by ``numpy.savez``: ``inputs``, ``x`` or ``X``; and perhaps ``labels``, ``y`` or ``Y``.

    Raises:
        ModelspaceError: as for ``read_npz``.
    """
    check_npz(path)
    with _opened(path) as archive:
        inputs, labels = (
            next((key for key in names if key in archive.files), None) for names in zip(*_PAIRS, strict=True)
        )
        if inputs is None:
            held = ", ".join(sorted(archive.files)) or "nothing"
            raise ModelspaceError(
                f"'{path}' holds {held}: expected inputs, or x, of samples that are not split"
            )
        keys = [key for key in (inputs, labels) if key is not None]
        _check_size(archive, keys, path)
        arrays = [_array(archive, key, path) for key in keys]
    return arrays[0], arrays[1] if labels is not None else None


def check_npz(path: Path) -> None:
    """Refuse what is no ``.npz`` file.

    Raises:
        ModelspaceError: it is none, or not there.
    """
    if not path.is_file():
        raise ModelspaceError(f"no file '{path}' (looked in {Path.cwd()})")
    if not zipfile.is_zipfile(path):
        raise ModelspaceError(
            f"'{path}' is not a .npz file: write one with numpy.savez(path, inputs=…, labels=…)"
        )


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ModelspaceError(f"'{path}' is damaged: {first_line(error)}") from error


def _check_size(archive: np.lib.npyio.NpzFile, keys: Iterable[str], path: Path) -> None:
    """Hold what the arrays unpack to against the file's own size, before any of it is unpacked.

    Raises:
        ModelspaceError: no data pack so well; or an array's header claims more than there is of it.
    """
    assert archive.zip is not None
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.zip.infolist()}
    found = [entries[key] for key in keys]
    size, packed = sum(entry.file_size for entry in found), path.stat().st_size
    if size > _LARGE and size > _MOST_PACKED * packed:
        raise ModelspaceError(
            f"'{path}' has {packed:,} bytes and unpacks to {size:,}: is it what it should be? Arrays that pack so "
            "well are read when they are saved uncompressed, by numpy.savez"
        )
    for entry in found:
        claimed = _claimed(archive, entry)
        if claimed > entry.file_size:
            raise ModelspaceError(
                f"'{path}': array '{entry.filename}' is damaged: it claims {claimed:,} bytes, not {entry.file_size:,}"
            )


def _claimed(archive: np.lib.npyio.NpzFile, entry: zipfile.ZipInfo) -> int:
    """The bytes that an array has by its own header; 0 where that can't be read, which reading it says."""
    assert archive.zip is not None
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with archive.zip.open(entry) as stream:
            shape, _, dtype = headers[np.lib.format.read_magic(stream)](stream)
    except Exception:
        return 0
    return 0 if dtype.hasobject else prod(shape) * dtype.itemsize


def _keys(files: Iterable[str], path: Path) -> dict[str, tuple[str, str]]:
    held = set(files)
    for pair in _PAIRS:
        if held.issuperset(pair):
            return {"train": pair}
    for inputs, labels in _PAIRS:
        found = {
            part: (f"{inputs}_{name}", f"{labels}_{name}")
            for part, names in _SPLITS.items()
            for name in names
            if {f"{inputs}_{name}", f"{labels}_{name}"} <= held
        }
        if "train" in found:
            return found
    raise ModelspaceError(
        f"'{path}' holds {', '.join(sorted(held)) or 'nothing'}: "
        "expected inputs and labels, or x and y, or x_train, y_train, x_val, y_val, x_test, y_test"
    )


def _array(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> NDArray:
    try:
        array = archive[key]
    except ValueError as error:
        if "pickle" not in str(error):
            raise ModelspaceError(f"'{path}': array '{key}' is damaged: {error}") from error
        raise ModelspaceError(
            f"'{path}': array '{key}' holds Python objects, which only unpickling could read, and that can "
            "run any code: save it as an array of numbers"
        ) from None
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise ModelspaceError(f"'{path}': array '{key}' is damaged: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ModelspaceError(f"'{path}': '{key}' is no NumPy array: write the file with numpy.savez")
    return array
