"""``Association``: whether two quantities of a population's members go together, with its interval."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from modelspace.errors import ModelspaceError
from modelspace.show import number

_LEAST = 4  # members beyond what is taken out: with fewer, Fisher's z has no standard error
_PER_GROUP = 3  # members to a value from which a column is a division into groups


@dataclass(frozen=True)
class Association:
    """The correlation of two quantities over the members of a population.

    Attributes:
        of: The one.
        score: The other.
        given: The columns whose influence on both was taken out; empty of a plain correlation.
        n: Members that have both.
        r: Pearson's correlation; NaN where one of both does not vary.
        interval: Of it, by Fisher's z.
        rank: Spearman's correlation.
        rank_interval: Of it, with Bonett and Wright's standard error.
        level: Of both intervals.
    """

    of: str
    score: str
    given: tuple[str, ...]
    n: int
    r: float
    interval: tuple[float, float]
    rank: float
    rank_interval: tuple[float, float]
    level: float

    def __str__(self) -> str:
        found = (("r", self.r, self.interval), ("rank r", self.rank, self.rank_interval))
        said = [f"{n} = {number(r, 2)} ({number(a, 2)} to {number(b, 2)})" for n, r, (a, b) in found]
        at = f" at equal {', '.join(self.given)}" if self.given else ""
        return (
            f"{self.of} and {self.score}{at}: {', '.join(said)}, {100 * self.level:g} %, {self.n:,} members"
        )


def association(x: pd.Series, y: pd.Series, given: pd.DataFrame, level: float = 0.95) -> Association:
    """Correlate two quantities, one value a member; where one is not finite, the member is left out.

    With q degrees of freedom taken by ``given``, z has the standard error 1/√(n − q − 3), of ranks √(1 + r²/2) times
    that. A column with three members or more to a value is a division into groups, each of which has means of its
    own. Of any other its linear part is taken out; of ranks, that of its ranks. Members count as independent, which
    one network at several moments is not.

    Args:
        x: The one; its name is what it is called.
        y: The other.
        given: Columns that both may follow, such as the learning rate.
        level: Of the intervals.

    Raises:
        ModelspaceError: fewer than 4 members are left beyond what ``given`` takes.

    Example:
        >>> sharp = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], name="top")
        >>> print(association(sharp, pd.Series([6.0, 5.0, 4.0, 3.0, 1.0, 2.0], name="accuracy"), pd.DataFrame()))
        top and accuracy: r = −0.94 (−0.99 to −0.56), rank r = −0.94 (−1 to −0.38), 95 %, 6 members

    Source:
        Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
        Psychometrika 65, 2000.
    """
    both = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], 1)
    finite = np.asarray(np.isfinite(both).all(axis=1))
    both, columns = both[finite], given.reset_index(drop=True).loc[finite[: len(given)]]
    n, designs = len(both), [_design(columns, len(both), ranks=ranks) for ranks in (False, True)]
    taken = int(np.linalg.matrix_rank(designs[0])) - 1 if n else 0
    if n - taken < _LEAST:
        at = f" at equal {', '.join(given)}" if len(given.columns) else ""
        raise ModelspaceError(
            f"a correlation of {x.name} and {y.name}{at} needs {taken + _LEAST} members that have both; received {n}"
        )
    reach = NormalDist().inv_cdf((1 + level) / 2) * (n - taken - 3) ** -0.5
    r, rank = (
        _correlation(v, design)
        for v, design in zip((both, pd.DataFrame(both).rank().to_numpy()), designs, strict=True)
    )
    ends = _ends(r, reach), _ends(rank, reach * (1 + rank**2 / 2) ** 0.5)
    return Association(str(x.name), str(y.name), tuple(given), n, r, ends[0], rank, ends[1], level)


def _design(columns: pd.DataFrame, n: int, *, ranks: bool) -> np.ndarray:
    """What is regressed on: a constant, groups, and the numbers of columns that are no groups."""
    parts = [np.ones((n, 1))]
    for _, column in columns.items():
        if column.nunique() * _PER_GROUP <= n or not pd.api.types.is_numeric_dtype(column):
            parts.append(pd.get_dummies(column.astype(str)).to_numpy(np.float64))
        else:
            values = (column.rank() if ranks else column).to_numpy(np.float64)
            parts.append(((values - values.mean()) / (values.std() or 1))[:, None])
    return np.concatenate(parts, 1)


def _correlation(both: np.ndarray, design: np.ndarray) -> float:
    values = both - both.mean(0)
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    before, after = np.linalg.norm(both, axis=0), np.linalg.norm(rest, axis=0)
    constant = (after <= 1e-12 * before).any()
    return float("nan") if constant else float(np.clip(rest[:, 0] @ rest[:, 1] / after.prod(), -1, 1))


def _ends(r: float, reach: float) -> tuple[float, float]:
    middle = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    return float(np.tanh(middle - reach)), float(np.tanh(middle + reach))
