"""The statistics of pairs: how often A beats B, by how much, and when that is known.

P(A > B) is the probability that A is better in a pair, a tie counted half. Two kinds of interval are made of pairs: a
*fixed* one, for a number of pairs that was chosen before any was seen, and a *sequential* one, which covers at all
numbers of pairs at once: it may be looked at after every pair, and drawing may stop whenever it says enough.
"""

from collections.abc import Sequence
from itertools import combinations
from math import ceil, log, prod
from statistics import NormalDist
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError

THRESHOLD = 0.75  # of a difference that matters: Bouthillier et al. 2021
_PRIOR = 0.5  # of the mixture over P: Jeffreys' Beta(½, ½), narrowest from about 10 to 200 pairs
_MOST = 10**7  # pairs


def pairs_needed(p: float, *, alpha: float = 0.05, power: float = 0.95) -> int:
    """Return how many pairs tell P(A > B) = p from ½, before any is drawn.

    N ≥ ((z₁₋α + z_power) / (√6 (p − ½)))², by Noether's normal approximation of one one-sided look at all pairs.

    Args:
        p: The probability that is to be found, in (0, 1), not ½.
        alpha: Of a wrong 'A is better' where they are equal.
        power: Of finding it.

    Raises:
        ModelspaceError: p is ½ or outside (0, 1), or another number is outside (0, 1).

    Example:
        >>> [pairs_needed(p) for p in (0.75, 0.65, 0.55)]
        [29, 81, 722]

    Source:
        Noether, "Sample size determination for some common nonparametric tests", JASA 82, 1987; Bouthillier et al.,
        "Accounting for variance in machine learning benchmarks", MLSys 2021.
    """
    if not (0 < p < 1 and p != 0.5 and 0 < alpha < 1 and 0 < power < 1):
        raise ModelspaceError(
            f"p is a probability other than ½, alpha and power are between 0 and 1; received {p}, {alpha}, {power}"
        )
    z = NormalDist().inv_cdf
    return ceil(((z(1 - alpha) + z(power)) / (6**0.5 * (p - 0.5))) ** 2)


def exact_interval(won: Any, pairs: Any, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return the fixed interval of P(A > B): the exact binomial one, conservative where there are ties.

    Args:
        won: Pairs that A won, a tie counted half.
        pairs: How many there are.
        alpha: One minus its level.

    Example:
        >>> [round(float(end), 3) for end in exact_interval(29, 29)]
        [0.881, 1.0]

    Source:
        Clopper & Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    """
    from scipy.special import betaincinv  # a second, which no other command waits for

    won, pairs = np.asarray(won, dtype=np.float64), np.asarray(pairs, dtype=np.float64)
    lost = pairs - won
    low = np.where(won > 0, betaincinv(np.maximum(won, 1e-9), lost + 1, alpha / 2), 0.0)
    high = np.where(lost > 0, betaincinv(won + 1, np.maximum(lost, 1e-9), 1 - alpha / 2), 1.0)
    return low, high


def evidence(won: Any, pairs: Any, p: Any) -> np.ndarray:
    """Return the logarithm of the evidence against P(A > B) = p: of an e-process, which begins at 0.

    log [B(½ + W, ½ + n − W) / B(½, ½)] − W log p − (n − W) log(1 − p), the likelihood under a Beta(½, ½) mixture over
    that under p. If p is true it ever passes log(1/α) with probability at most α, whenever one looks; with ties too,
    since it is convex in W.

    Args:
        won: W, pairs that A won, a tie counted half.
        pairs: n.
        p: In (0, 1).

    Source:
        Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Stat. 41, 1970;
        Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023.
    """
    from scipy.special import betaln, xlog1py, xlogy

    won, lost = np.asarray(won, dtype=np.float64), np.asarray(pairs, dtype=np.float64) - won
    mixed = betaln(_PRIOR + won, _PRIOR + lost) - betaln(_PRIOR, _PRIOR)
    return mixed - xlogy(won, p) - xlog1py(lost, -np.asarray(p))


def sequential_interval(won: Any, pairs: Any, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequential interval of P(A > B): every p against which the evidence is below 1/α.

    Args:
        won: Pairs that A won, a tie counted half.
        pairs: How many there are.
        alpha: The probability that it ever misses.

    Example:
        >>> [round(float(end), 3) for end in sequential_interval(29, 29)]
        [0.834, 1.0]
    """
    won, pairs = np.broadcast_arrays(np.asarray(won, dtype=np.float64), np.asarray(pairs, dtype=np.float64))
    best, bound = np.divide(won, pairs, out=np.full(won.shape, 0.5), where=pairs > 0), log(1 / alpha)

    def end(outside: float) -> np.ndarray:
        """Halve the way between the best p, which is in the interval, and an end that is not."""
        inner, outer = best, np.full(best.shape, outside)
        for _ in range(50):
            middle = (inner + outer) / 2
            within = evidence(won, pairs, middle) < bound
            inner, outer = np.where(within, middle, inner), np.where(within, outer, middle)
        return inner

    return np.where(won > 0, end(0.0), 0.0), np.where(won < pairs, end(1.0), 1.0)


def mean_reach(sd: float, pairs: int, alpha: float = 0.05, *, sequential: bool) -> float:
    """Return how far the interval of a mean of normal differences reaches to either side; infinite where unknown.

    Fixed, Student's t(n − 1) · SD/√n. Sequential, that of the t test mixed over effects of N(0, 1) standard
    deviations: x = (R − 1)/(1 − R/(1 + n)) with R = (√(1 + n)/α)^{2/n}, and √((n − 1) x) · SD/√n.

    Args:
        sd: Sample standard deviation of the differences.
        pairs: How many there are.
        alpha: One minus its level.
        sequential: Whether it covers at all numbers of pairs at once.

    Source:
        Lai, "On confidence sequences", Ann. Stat. 4, 1976; Wang & Ramdas, "Anytime-valid t-tests and confidence
        sequences for Gaussian means with unknown variance", 2023.
    """
    if pairs < 2:
        return float("inf")
    if not sequential:
        from scipy.special import stdtrit

        return float(stdtrit(pairs - 1, 1 - alpha / 2)) * sd / pairs**0.5
    ratio = ((1 + pairs) ** 0.5 / alpha) ** (2 / pairs)
    if ratio >= 1 + pairs:
        return float("inf")
    x = (ratio - 1) / (1 - ratio / (1 + pairs))
    return ((pairs - 1) * x) ** 0.5 * sd / pairs**0.5


def verdicts(low: Any, high: Any, threshold: float = THRESHOLD) -> np.ndarray:
    """Return what intervals of P(A > B) say: ``A``, ``B``, ``equal`` or ``not separable``.

    A is better where the interval lies above ½ and reaches above the threshold: the difference is real, and may
    matter. They are equal where it lies between 1 − threshold and the threshold: whichever is better, it wins less
    often than matters.

    Source:
        Bouthillier et al. 2021, section 5.
    """
    low, high = np.asarray(low), np.asarray(high)
    equal = (low >= 1 - threshold) & (high <= threshold)
    better = [equal, (low > 0.5) & (high > threshold), (high < 0.5) & (low < 1 - threshold)]
    return np.select(better, ["equal", "A", "B"], "not separable")


def more_pairs(won: float, pairs: int, threshold: float, alpha: float, *, sequential: bool) -> int | None:
    """Return how many more pairs a verdict takes if A goes on winning as often; None of no pair, or past 10⁷."""
    if not pairs:
        return None
    interval = sequential_interval if sequential else exact_interval

    def stands(n: int) -> bool:
        return str(verdicts(*interval(won / pairs * n, n, alpha), threshold)) != "not separable"

    least, most = pairs, 2 * pairs
    while not stands(most):
        least, most = most, 2 * most
        if most > _MOST:
            return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if stands(middle) else (middle, most)
    return most - pairs


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number, so that the least true one is below α with probability at most α.

    Source:
        Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.
    """
    order, adjusted, worst = np.argsort(p_values, kind="stable"), [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def variance_components(scores: np.ndarray, sources: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the variance that each source of randomness brings, and its standard error, from a crossed design.

    Scores are a sum of random effects, one for each source and each combination of them. With MS_S the mean square of
    combination S and n_i the levels of source i, σ̂²_S = Σ_{T ⊇ S} (−1)^{|T| − |S|} MS_T / Π_{i ∉ S} n_i, which is
    unbiased and so may be negative; its squared error is Σ_T 2 MS_T²/(df_T + 2) over the same product squared.

    Args:
        scores: ``[n₁, n₂, …]``, every level of each source with every one of the others, at least 2 each.
        sources: Their names.

    Returns:
        By source; and by ``interactions``, all combinations of several together.

    Source:
        Searle, Casella, McCulloch, "Variance Components", 1992, chapter 4.
    """
    sizes = scores.shape
    every = [c for size in range(1, len(sizes) + 1) for c in combinations(range(len(sizes)), size)]
    squares, freedom = {}, {}
    for some in every:
        # The effect of a combination: means over the others, less all effects of its parts.
        effect = scores
        for axis in range(len(sizes)):
            mean = effect.mean(axis, keepdims=True)
            effect = effect - mean if axis in some else mean
        freedom[some] = prod(sizes[i] - 1 for i in some)
        over = prod(sizes[i] for i in range(len(sizes)) if i not in some)
        squares[some] = float((effect**2).sum()) * over / freedom[some]
    # Each component is a sum of mean squares with weights: so are their sums.
    weights: dict[str, dict[tuple[int, ...], float]] = {name: {} for name in (*sources, "interactions")}
    for some in every:
        own = weights[sources[some[0]] if len(some) == 1 else "interactions"]
        over = prod(sizes[i] for i in range(len(sizes)) if i not in some)
        for more in every:
            if set(some) <= set(more):
                own[more] = own.get(more, 0.0) + (-1) ** (len(more) - len(some)) / over
    return {
        name: (
            sum(w * squares[s] for s, w in own.items()),
            sum(2 * (w * squares[s]) ** 2 / (freedom[s] + 2) for s, w in own.items()) ** 0.5,
        )
        for name, own in weights.items()
        if own
    }
