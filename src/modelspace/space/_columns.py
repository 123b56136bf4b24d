"""Columns: one value of a hyper-parameter for each member."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from modelspace.errors import ModelspaceError

LARGEST_SEED = 2**63 - 1
SEEDS = ("seed", "data_seed")  # the columns of random numbers: of the start, and of the order of the data
# What the training and the data own, by its usual names: a Lightning module, say, takes them too, but its network is
# the same.
TRAINING = (
    *SEEDS, "source", "phase", "fold", "bootstrap", "samples", "task", "loss", "label_noise",
    "objective", "lr", "weight_decay", "betas", "momentum", "batch_size", "optimizer", "schedule", "accumulate",
)  # fmt: skip
_MOST = 10**8  # members: their table alone takes gigabytes


def logspace(low: float, high: float, count: int) -> list[float]:
    """``count`` values from ``low`` to ``high``, equally spaced on a logarithmic axis, both ends included.

    Args:
        low: Positive.
        high: Positive.
        count: At least 1.

    Raises:
        ModelspaceError: an end is not positive, or the count is less than 1 or more than 10⁸.

    Example:
        >>> logspace(1e-3, 1e-1, 3)
        [0.001, 0.01, 0.1]
    """
    if not (low > 0 and high > 0 and count >= 1):
        raise ModelspaceError(
            f"a logarithmic range needs two positive ends and a count of at least 1; "
            f"received {low}:{high}:{count}"
        )
    check_number(count)
    return [float(f"{v:.12g}") for v in np.geomspace(low, high, count)]


def product_table(seeds: Iterable[int] | int, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The members' table: the product of columns and seeds, seeds varying fastest.

    Raises:
        ModelspaceError: no seeds, a seed twice or outside 0 … 2⁶³−1, a column without values or with one twice, or
            more than 10⁸ members.
    """
    values = _seeds(seeds)
    named = {name: _as_values(name, value) for name, value in columns.items()}
    check_number(prod([len(values), *map(len, named.values())]))
    settings = pd.DataFrame(list(product(*named.values())), columns=pd.Index(list(named)))
    table = settings.iloc[np.repeat(np.arange(len(settings)), len(values))].reset_index(drop=True)
    table.insert(0, "seed", np.tile(values, len(settings)))
    return table


def _seeds(seeds: Iterable[int] | int) -> np.ndarray:
    """The seeds, of which those of a range are never Python's numbers: there may be a great many."""
    if isinstance(seeds, int):
        seeds = range(seeds)
    if isinstance(seeds, range):
        for end in seeds[:1], seeds[-1:]:
            [_as_seed(seed) for seed in end]
        check_number(_length(seeds))
        values = np.arange(seeds.start, seeds.stop, seeds.step, dtype=np.int64)
    else:
        values = np.array([_as_seed(s) for s in seeds], dtype=np.int64)
    if not len(values):
        raise ModelspaceError("no seeds: give seeds=range(16), or their number")
    found, counts = np.unique(values, return_counts=True)
    if counts.max() > 1:
        raise ModelspaceError(
            f"seed {found[counts > 1][0]} is given more than once: its rows would be identical"
        )
    return values


def _length(values: range) -> int:
    """A range's length, which len() may not count."""
    return max(0, -((values.start - values.stop) // values.step))


def check_number(members: int) -> None:
    """Hold a number of members against what a table can have.

    Raises:
        ModelspaceError: it is more than 10⁸.
    """
    if members > _MOST:
        raise ModelspaceError(
            f"{members:,} members are more than the {_MOST:,} of a table: give fewer seeds or values"
        )


def _repeated(values: Iterable[Any]) -> list[Any]:
    """Those that are there more than once, each time after the first."""
    seen: set[Any] = set()
    found = []
    for value in values:
        plain = tuple(value) if isinstance(value, list) else value
        try:
            known = plain in seen
        except TypeError:  # it has no hash: a function's defaults, an object of the user's
            plain = id(value)
            known = plain in seen
        if known:
            found.append(value)
        seen.add(plain)
    return found


def _as_seed(seed: Any) -> int:
    try:
        value = int(seed)
    except (TypeError, ValueError):
        raise ModelspaceError(f"a seed is an integer; received {seed!r}") from None
    if value != seed or not 0 <= value <= LARGEST_SEED:
        raise ModelspaceError(f"a seed is an integer from 0 to 2⁶³−1; received {seed!r}")
    return value


def _as_values(name: str, value: Any) -> Sequence[Any]:
    if name == "seed":
        raise ModelspaceError("the column 'seed' is made from seeds=…")
    if name == "betas" and isinstance(value, tuple):
        return [value]
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    if isinstance(value, range):
        check_number(_length(value))
    values = [
        each.item() if isinstance(each, np.generic | Tensor) and each.ndim == 0 else each for each in value
    ]
    if not values:
        raise ModelspaceError(f"the column '{name}' has no values")
    if again := _repeated(values):
        raise ModelspaceError(
            f"column {name} has {again[0]!r} more than once: its members would be identical, and counted as several"
        )
    return values
