"""A number over seeds: its mean, its standard deviation, an interval of the mean."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A number over members that differ in their seeds.

    Attributes:
        n: Members counted.
        mean: Their mean; None of none.
        sd: Sample standard deviation (n − 1); None below 2 members.
        low: Lower end of the 95 % interval of the mean, mean − t(n − 1) · SD/√n; None below 2 members.
        high: Its upper end.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


def spread(values: Iterable[float]) -> Spread:
    """Mean, standard deviation and Student's interval of the mean.

    Args:
        values: Finite numbers, one a member.

    Example:
        >>> spread([0.8, 0.9]).mean
        0.8500000000000001
        >>> spread([]).mean is None
        True

    Source:
        Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    x = np.fromiter(values, dtype=np.float64)
    if not len(x):
        return Spread(0, None, None, None, None)
    mean = float(x.mean())
    if len(x) < 2:
        return Spread(1, mean, None, None, None)
    sd = float(x.std(ddof=1))
    from scipy import stats  # two seconds, which no other command waits for

    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)) * sd / len(x) ** 0.5
    return Spread(len(x), mean, sd, mean - reach, mean + reach)
