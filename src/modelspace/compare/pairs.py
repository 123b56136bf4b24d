"""Two ways to train held against each other over the same seeds."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from modelspace.compare.superiority import (
    THRESHOLD,
    evidence,
    exact_interval,
    mean_reach,
    more_pairs,
    sequential_interval,
    verdicts,
)
from modelspace.runs import LEVEL


@dataclass(frozen=True)
class Pair:
    """A against B, seed by seed.

    In wins and losses a member that diverged is worse than any that did not, and as good as another that did; it has
    no score, so that the difference is over the seeds at which both finished.

    Attributes:
        a: One.
        b: The other.
        n: Seeds that both have.
        finished: Seeds at which neither diverged.
        difference: Mean of a − b over these; None of none.
        error: Its standard error, SD/√n of the differences; None below 2 seeds.
        difference_interval: The interval of the difference; None where it is not known.
        wins: Seeds at which a is better.
        losses: Seeds at which b is better.
        ties: Seeds at which they are equal.
        probability: P(A > B), a tie counted half; None of no seeds.
        interval: Its 95 % interval; None of no seeds.
        p_value: Against P(A > B) = ½, two-sided.
        verdict: ``A``, ``B``, ``equal`` or ``not separable``: see ``modelspace.compare.superiority.verdicts``.
        more_pairs: About how many more seeds a verdict takes; 0 where there is one, None where more than 10⁷.
        sequential: Whether the intervals cover at every number of seeds, so that one may look as often as one likes.
    """

    a: str
    b: str
    n: int
    finished: int
    difference: float | None
    error: float | None
    difference_interval: tuple[float, float] | None
    wins: int
    losses: int
    ties: int
    probability: float | None
    interval: tuple[float, float] | None
    p_value: float
    verdict: str
    more_pairs: int | None
    sequential: bool = False

    @property
    def better(self) -> str | None:
        """The name of the better one; None where neither is."""
        return {"A": self.a, "B": self.b}.get(self.verdict)

    def adjusted(self, p_value: float, alpha: float, threshold: float) -> "Pair":
        """Return the same with a p value that is adjusted for other pairs; one that is below alpha is a verdict."""
        verdict = self.verdict
        if verdict == "not separable" and p_value <= alpha and self.interval and self.probability is not None:
            low, high = self.interval
            if self.probability > 1 - self.probability and high > threshold:
                verdict = "A"
            elif self.probability < 1 - self.probability and low < 1 - threshold:
                verdict = "B"
        return replace(
            self,
            p_value=p_value,
            verdict=verdict,
            more_pairs=0 if verdict != self.verdict else self.more_pairs,
        )


def paired(
    names: tuple[str, str],
    first: Mapping[Hashable, float | None],
    second: Mapping[Hashable, float | None],
    *,
    higher_is_better: bool = True,
    sequential: bool = False,
    threshold: float = THRESHOLD,
    equal_within: float | None = None,
    alpha: float = 1 - LEVEL,
) -> Pair:
    """Compare two sets of scores in pairs.

    Args:
        names: What the two are called.
        first: Score by seed; None of a member that diverged.
        second: The other's.
        higher_is_better: Of the scores.
        sequential: Whether intervals cover at every number of seeds.
        threshold: The P(A > B) from which a difference matters, in (½, 1).
        equal_within: The two are equal too where the difference's interval is within ± this, in the score's own unit.
        alpha: One minus the intervals' level.

    Example:
        >>> found = paired(("a", "b"), {0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.6, 2: 0.7})
        >>> found.wins, found.ties, round(found.difference, 3), found.verdict
        (2, 1, 0.1, 'not separable')

    Source:
        Bouthillier et al., "Accounting for variance in machine learning benchmarks", MLSys 2021.
    """
    both = [(first[seed], second[seed]) for seed in first if seed in second]
    sign = 1 if higher_is_better else -1
    ranks = [tuple(-np.inf if v is None else sign * v for v in pair) for pair in both]
    n, wins, losses = len(both), sum(a > b for a, b in ranks), sum(a < b for a, b in ranks)
    known = np.array([a - b for a, b in both if a is not None and b is not None], dtype=np.float64)
    difference = float(known.mean()) if len(known) else None
    sd, reach = float(known.std(ddof=1)) if len(known) > 1 else None, float("inf")
    if sd is not None:
        reach = mean_reach(sd, len(known), alpha, sequential=sequential)
    within = None
    if difference is not None and np.isfinite(reach):
        within = difference - reach, difference + reach
    won, probability, interval, p_value, verdict, more = (
        wins + (n - wins - losses) / 2,
        None,
        None,
        1.0,
        None,
        None,
    )
    if n:
        probability = won / n
        ends = (sequential_interval if sequential else exact_interval)(won, n, alpha)
        interval = float(ends[0]), float(ends[1])
        verdict = str(verdicts(*interval, threshold))
        p_value = min(1.0, exp(-float(evidence(won, n, 0.5))) if sequential else _two_sided(won, n))
    if verdict == "not separable" and equal_within is not None and within:
        verdict = "equal" if max(map(abs, within)) < equal_within else verdict
    if verdict == "not separable":
        more = more_pairs(won, n, threshold, alpha, sequential=sequential)
    return Pair(
        *names,
        n=n,
        finished=len(known),
        difference=difference,
        error=None if sd is None else sd / len(known) ** 0.5,
        difference_interval=within,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        probability=probability,
        interval=interval,
        p_value=p_value,
        verdict=verdict or "not separable",
        more_pairs=more if verdict in (None, "not separable") else 0,
        sequential=sequential,
    )


def _two_sided(won: float, n: int) -> float:
    """The exact binomial p value against ½, twice the smaller tail."""
    from scipy.special import betainc  # P(at least w of n) = I_½(w, n − w + 1)

    most = max(won, n - won)
    return float(min(1.0, 2 * betainc(most, n - most + 1, 0.5)))
