"""Reading ``.npz`` files; never their pickles."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelspace.errors import ModelspaceError

_PAIRS = (("inputs", "labels"), ("x", "y"), ("X", "y"), ("X", "Y"))
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

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
    if not path.is_file():
        raise ModelspaceError(f"no file '{path}' (looked in {Path.cwd()})")
    if not zipfile.is_zipfile(path):
        raise ModelspaceError(
            f"'{path}' is not a .npz file: write one with numpy.savez(path, inputs=…, labels=…)"
        )
    with np.load(path, allow_pickle=False) as archive:
        keys = _keys(archive.files, path)
        return {
            part: (_array(archive, inputs, path), _array(archive, labels, path))
            for part, (inputs, labels) in keys.items()
        }


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
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelspaceError(f"'{path}': array '{key}' is damaged: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ModelspaceError(f"'{path}': '{key}' is no NumPy array: write the file with numpy.savez")
    return array
