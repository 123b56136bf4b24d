"""Two ways to train held against each other over the same seeds."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from modelspace.runs import LEVEL


@dataclass(frozen=True)
class Pair:
    """A against B, seed by seed.

    In wins and losses a member that diverged is worse than any that did not, and as good as another that did; it has
    no accuracy, so that the difference is over the seeds at which both finished.

    Attributes:
        a: One.
        b: The other.
        n: Seeds that both have.
        finished: Seeds at which neither diverged.
        difference: Mean of a − b over these; None of none.
        error: Its standard error, SD/√n of the differences; None below 2 seeds.
        wins: Seeds at which a is better.
        losses: Seeds at which b is better.
        ties: Seeds at which they are equal.
        probability: P(A > B) where they differ, wins/(wins + losses); None where they never do.
        low: Lower end of its exact 95 % binomial interval.
        high: Its upper end.
    """

    a: str
    b: str
    n: int
    finished: int
    difference: float | None
    error: float | None
    wins: int
    losses: int
    ties: int
    probability: float | None
    low: float | None
    high: float | None


def paired(
    names: tuple[str, str],
    first: Mapping[Hashable, float | None],
    second: Mapping[Hashable, float | None],
) -> Pair:
    """The paired comparison of two sets of scores, of which more is better.

    Args:
        names: What the two are called.
        first: Score by seed; None of a member that diverged.
        second: The other's.

    Example:
        >>> found = paired(("a", "b"), {0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.6, 2: 0.7})
        >>> found.wins, found.ties, round(found.difference, 3)
        (2, 1, 0.1)

    Source:
        Bouthillier et al., "Accounting for variance in machine learning benchmarks", MLSys 2021 (P(A > B));
        Clopper & Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934 (the interval).
    """
    both = [(first[seed], second[seed]) for seed in first if seed in second]
    ranks = [tuple(-np.inf if v is None else v for v in pair) for pair in both]
    wins, losses = sum(a > b for a, b in ranks), sum(a < b for a, b in ranks)
    known = np.array([a - b for a, b in both if a is not None and b is not None], dtype=np.float64)
    probability = low = high = None
    if wins + losses:
        from scipy import stats  # two seconds, which no other command waits for

        test = stats.binomtest(wins, wins + losses)
        interval = test.proportion_ci(LEVEL, method="exact")
        probability, low, high = wins / (wins + losses), float(interval.low), float(interval.high)
    return Pair(
        *names,
        n=len(both),
        finished=len(known),
        difference=float(known.mean()) if len(known) else None,
        error=float(known.std(ddof=1)) / len(known) ** 0.5 if len(known) > 1 else None,
        wins=wins,
        losses=losses,
        ties=len(both) - wins - losses,
        probability=probability,
        low=low,
        high=high,
    )
