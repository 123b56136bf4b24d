"""One epoch's batches as a file, so that a peer needs nothing but NumPy to have them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[tuple[np.ndarray, np.ndarray]]


def keep(batches: Iterable[tuple[Any, Any]], path: Path) -> None:
    """Write batches of (inputs, labels)."""
    inputs, labels = zip(*batches, strict=True)
    np.savez(path, inputs=np.stack([*map(np.asarray, inputs)]), labels=np.stack([*map(np.asarray, labels)]))


def read(path: str) -> Arrays:
    """The batches that ``keep`` wrote."""
    with np.load(path) as file:
        return list(zip(file["inputs"], file["labels"], strict=True))
