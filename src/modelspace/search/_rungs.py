"""Who goes on: after a part of the epochs, and when seeds are added. Pure functions of scores.

A score is always larger the better here: ``search`` turns those around of which less is better. Whoever diverged has
−∞.

Sources:
    Jamieson & Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016
    (successive halving); Li et al., "Hyperband", JMLR 18, 2018; Golovin et al., "Google Vizier", KDD 2017 (median
    stopping); Maron & Moore, "Hoeffding races", NIPS 1994; Birattari et al., "A racing algorithm for configuring
    metaheuristics", GECCO 2002 (races by paired differences).
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

import numpy as np

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.runs import LEVEL

STOPS = ("halving", "median")


def lengths(epochs: int, stop: str | None, reduction: int, rungs: int) -> list[int]:
    """Return the epochs after which it is decided who goes on, and at last those of the whole fit.

    Args:
        epochs: Of the whole fit.
        stop: How it is decided; None where all go on.
        reduction: Each rung is so many times as long as the one before.
        rungs: How many there are, the whole fit included.

    Example:
        >>> lengths(27, "halving", 3, 3), lengths(2, "halving", 3, 3), lengths(20, None, 3, 3)
        ([3, 9, 27], [1, 2], [20])
    """
    if stop is None:
        return [epochs]
    if stop not in STOPS:
        raise unknown_name("way of stopping", stop, STOPS)
    if reduction < 2 or rungs < 2:
        raise ModelspaceError(
            f"stopping needs reduction ≥ 2 and rungs ≥ 2; received reduction={reduction}, rungs={rungs}"
        )
    return sorted({max(1, round(epochs / reduction**k)) for k in range(rungs)})


def survivors(scores: Sequence[float], before: Sequence[float], stop: str, reduction: int) -> list[int]:
    """Return the positions of those who go on from a rung.

    Halving keeps the best ⌈n/reduction⌉ of those who came here together, the first of equals; median stopping whoever
    is no worse than the median of all who were ever here. Nobody who diverged.

    Args:
        scores: Of those who are here now.
        before: Of those who were here earlier.
        stop: ``"halving"`` or ``"median"``.
        reduction: Of halving.

    Example:
        >>> survivors([0.1, 0.9, 0.5, 0.7], [], "halving", 2), survivors([0.1, 0.6], [0.5, 0.7], "median", 2)
        ([1, 3], [1])
    """
    alive = [i for i, score in enumerate(scores) if score > -np.inf]
    if stop == "halving":
        best = sorted(alive, key=lambda i: (-scores[i], i))[: ceil(len(scores) / reduction)]
        return sorted(best)
    # Of an even number the lower one: with it at least half go on.
    middle = np.quantile([*scores, *before], 0.5, method="lower")
    return [i for i in alive if scores[i] >= middle]


def contenders(scores: Mapping[int, Mapping[int, float]], most: int) -> list[int]:
    """Return the settings among which the scores don't decide, the best first.

    Of the best by mean score those whose mean difference from the first, paired by seed, has a 95 % interval that
    reaches zero: Student's, with one variance for all of them, since two seeds each say little of each one's. One
    seed decides nothing. Looked at again and again it is no test at that level: it says where seeds are worth most,
    and the verdict is on fresh ones.

    Args:
        scores: Of each setting, by seed.
        most: How many there are at most.

    Example:
        >>> contenders({0: {0: 0.9, 1: 0.91}, 1: {0: 0.5, 1: 0.52}, 2: {0: 0.89, 1: 0.93}}, 8)
        [2, 0]
    """
    ranked = sorted(scores, key=lambda i: (-mean(scores[i]), i))[:most]
    ranked = [i for i in ranked if mean(scores[i]) > -np.inf]
    if len(ranked) < 2:
        return ranked
    first = scores[ranked[0]]
    apart = {}
    for i in ranked[1:]:
        apart[i] = np.array([first[seed] - scores[i][seed] for seed in first if seed in scores[i]])
    freedom = sum(len(d) - 1 for d in apart.values())
    if freedom < 1:
        return ranked
    from scipy import stats  # two seconds, which no other command waits for

    variance = sum(((d - d.mean()) ** 2).sum() for d in apart.values()) / freedom
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * sqrt(variance)
    return [ranked[0], *(i for i, d in apart.items() if abs(d.mean()) <= reach / sqrt(len(d)))]


def mean(scores: Mapping[int, float]) -> float:
    """Return the mean over seeds; −∞ where there is none."""
    return float(np.mean([*scores.values()])) if scores else -np.inf
