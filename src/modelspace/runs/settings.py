"""Seeds and settings: how members ended, and what their scores say.

A *setting* is what members share that differ in nothing but randomness. Two things are said of its scores:

- the *response*, by which settings are chosen among: quartiles by rank over the members that have ended; one that
  diverged, or ended without a score, is the worst. A member that has not ended yet says nothing: it is left out, and
  ``ended`` tells how many are in.
- the *distribution*, which is reported: of the members that ended without diverging and have a score; the diverged
  are counted beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from modelspace.population import SEEDS

# Columns that say where a member begins or which random numbers it draws: they tell members of one setting apart.
RANDOM = (*SEEDS, "source")
LEVEL = 0.95
_DIGITS = 12  # medians that agree so far are equal, and the first of them is the best


class Status(StrEnum):
    """How a member ended."""

    UNFINISHED = "unfinished"
    FINISHED = "finished"
    DIVERGED = "diverged"
    STOPPED = "stopped early"

    @property
    def code(self) -> int:
        """Its number, in tensors and files."""
        return list(Status).index(self)


def words(codes: np.ndarray) -> np.ndarray:
    """Return how members ended in words, from their codes."""
    return np.array([status.value for status in Status], dtype=object)[codes]


class Setting(NamedTuple):
    """Members that differ in nothing but randomness.

    Attributes:
        columns: What they share, as plain values.
        rows: Their positions in the table.
    """

    columns: dict[str, Any]
    rows: np.ndarray


def setting_numbers(members: pd.DataFrame) -> np.ndarray:
    """Return the number of each member's setting, counted in the order in which settings appear."""
    names = [name for name in members.columns if name not in RANDOM]
    if not names:
        return np.zeros(len(members), dtype=np.int64)
    return members.groupby(names, sort=False, dropna=False).ngroup().to_numpy()


def settings_of(members: pd.DataFrame) -> list[Setting]:
    """Return the settings of a table, in the order in which they appear.

    Example:
        >>> table = pd.DataFrame({"seed": [0, 1, 0, 1], "lr": [0.1, 0.1, 0.2, 0.2]})
        >>> [(setting.columns, setting.rows.tolist()) for setting in settings_of(table)]
        [({'lr': 0.1}, [0, 1]), ({'lr': 0.2}, [2, 3])]
    """
    numbers = setting_numbers(members)
    if not len(numbers):
        return []
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    first = members.iloc[[rows[0] for rows in groups]]
    columns = {str(name): first[name].tolist() for name in first.columns if name not in RANDOM}
    return [
        Setting({name: values[i] for name, values in columns.items()}, rows) for i, rows in enumerate(groups)
    ]


class Response(NamedTuple):
    """The score of a setting over its members, by rank, one that diverged being the worst.

    Attributes:
        q1: Lower quartile; infinite where it is a diverged member's, NaN where no member has ended.
        median: The middle.
        q3: Upper quartile.
        members: How many there are.
        ended: How many of them have ended, however.
        diverged: How many of these diverged.
    """

    q1: float
    median: float
    q3: float
    members: int
    ended: int
    diverged: int


def response(scores: np.ndarray, status: np.ndarray, *, higher_is_better: bool) -> Response:
    """Return the response of one setting.

    Args:
        scores: Of each of its members; NaN where it has none.
        status: How each ended, in words.
        higher_is_better: Of the score.

    Example:
        >>> response(np.array([0.5, 0.9, 0.7]), np.array(["finished", "diverged", "finished"]), higher_is_better=True)
        Response(q1=-inf, median=0.5, q3=0.7, members=3, ended=3, diverged=1)
    """
    ended, diverged = status != Status.UNFINISHED, status == Status.DIVERGED
    worst = -np.inf if higher_is_better else np.inf
    counted = np.where(diverged | np.isnan(scores), worst, scores)[ended]
    # By rank: an infinite score must not turn its neighbour into NaN.
    quartiles = np.quantile(counted, [0.25, 0.5, 0.75], method="nearest") if len(counted) else [np.nan] * 3
    q1, median, q3 = map(float, quartiles)
    return Response(q1, median, q3, len(scores), int(ended.sum()), int(diverged.sum()))


def responses_of(
    members: pd.DataFrame, scores: np.ndarray, status: np.ndarray, *, higher_is_better: bool
) -> tuple[list[Setting], list[Response]]:
    """Return the settings of a table, and the response of each."""
    settings = settings_of(members)
    found = [response(scores[s.rows], status[s.rows], higher_is_better=higher_is_better) for s in settings]
    return settings, found


def best_of(responses: Sequence[Response], *, higher_is_better: bool) -> int | None:
    """Return the position of the best median, the first of equals; None where no median is finite."""
    sign = -1 if higher_is_better else 1
    ranked = [
        (round(sign * each.median, _DIGITS), i)
        for i, each in enumerate(responses)
        if np.isfinite(each.median)
    ]
    return min(ranked, default=(0.0, None))[1]


@dataclass(frozen=True)
class Distribution:
    """A score over members that ended without diverging: its distribution, not its best value.

    What does not exist is None: the SD of one member, anything of none. An infinite score counts: the mean is
    infinite with it, there is no SD, and quartiles are taken by rank.

    Attributes:
        n: Members counted.
        diverged: Members that diverged, which are not among them.
        mean: Over members.
        sd: Sample standard deviation (n − 1).
        min: The least.
        q1: Lower quartile.
        median: The middle.
        q3: Upper quartile.
        max: The largest.
    """

    n: int
    diverged: int
    mean: float | None = None
    sd: float | None = None
    min: float | None = None
    q1: float | None = None
    median: float | None = None
    q3: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, scores: Any, status: np.ndarray | None = None) -> "Distribution":
        """Return the distribution of some scores.

        Args:
            scores: Of each member; NaN where it has none.
            status: How each ended, in words; all without diverging where None.

        Example:
            >>> print(Distribution.of([0.7, 0.8, 0.9]))
            0.8000 ± 0.1000 (mean ± SD of 3 seeds), median 0.8000, quartiles 0.7500–0.8500, range 0.7000–0.9000
        """
        x, diverged = np.asarray(scores, dtype=np.float64), 0
        if status is not None:
            x, diverged = x[ended_well(status)], int((status == Status.DIVERGED).sum())
        x = x[~np.isnan(x)]
        if not len(x):
            return cls(0, diverged)
        sd = float(x.std(ddof=1)) if len(x) > 1 and np.isfinite(x).all() else None
        return cls(len(x), diverged, float(x.mean()), sd, *map(float, quantiles(x, [0, 0.25, 0.5, 0.75, 1])))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean of normal scores, mean ± t(n − 1) · SD/√n; None below two members.

        Source:
            Student, "The probable error of a mean", Biometrika 6, 1908.
        """
        if self.mean is None or self.sd is None:
            return None
        from scipy import stats  # two seconds, which no other command waits for

        reach = float(stats.t.ppf((1 + LEVEL) / 2, self.n - 1)) * self.sd / self.n**0.5
        return self.mean - reach, self.mean + reach

    def __str__(self) -> str:
        mean, sd, low, q1, median, q3, high = (
            "–" if value is None else f"{value:.4f}"
            for value in (self.mean, self.sd, self.min, self.q1, self.median, self.q3, self.max)
        )
        spread = f"{mean} ± {sd} (mean ± SD of {self.n} seeds)"
        return f"{spread}, median {median}, quartiles {q1}–{q3}, range {low}–{high}"


def ended_well(status: np.ndarray) -> np.ndarray:
    """Return a mask of the members that ended without diverging, from how each ended in words."""
    return (status == Status.FINISHED) | (status == Status.STOPPED)


def quantiles(
    values: Float64[np.ndarray, "member *rest"], levels: Sequence[float]
) -> Float64[np.ndarray, "level *rest"]:
    """Return quantiles over members, of those that are not NaN; NaN where there are none.

    Interpolated; by rank where infinities are among them, which would turn their neighbours into NaN.
    """
    found = np.full((len(levels), *values.shape[1:]), np.nan)
    infinite, some = np.isinf(values).any(axis=0), ~np.isnan(values).all(axis=0)
    if (where := some & ~infinite).any():
        found[:, where] = np.nanquantile(values[:, where], levels, axis=0)
    if infinite.any():
        found[:, infinite] = np.nanquantile(values[:, infinite], levels, axis=0, method="nearest")
    return found
