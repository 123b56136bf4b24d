"""How far a prediction can be believed: its calibration, conformal sets and intervals, foreign inputs."""

from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from modelspace.compare import Calibration, CalibrationTally
from modelspace.data import Data, Split
from modelspace.ensemble._combine import foreignness, kind_of, uncertainty_of
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import LEFT_OUT
from modelspace.metrics import auroc
from modelspace.show import percent

Method = Literal["lac", "aps", "residual", "normalised"]
_OF_CLASSES, _OF_VALUES = ("lac", "aps"), ("normalised", "residual")
_CALIBRATION, _NEW = 0, 1  # seeds of what ``aps`` draws


def calibration(ensemble: Ensemble, data: Any, *, split: str = "test", bins: int = 15) -> Calibration:
    """Hold the combined prediction's probabilities against what happens: the calibration error, beside its floor.

    The error of a perfectly calibrated prediction is not 0: √(2/π) Σ_b √(Σ_{i ∈ b} p_i (1 − p_i)) / N on average,
    0.035 where 360 samples of p = 0.95 fill 15 bins alike, and 0.007 of 10,000. An error near its floor says nothing
    against the prediction.

    Args:
        ensemble: Of classes; its temperature is applied.
        data: A ``Split`` that was neither trained on nor calibrated on, or what ``modelspace.data.load`` takes.
        split: Which part of it.
        bins: Of equal width, over the confidence.

    Raises:
        ModelspaceError: the prediction has no probabilities.
    """
    outputs, labels = ensemble.on_split(data, split)
    p = _probabilities(ensemble, outputs)
    if kind_of(ensemble.loss) == "classes":
        confidence, found = p.max(1)
        counted = labels != LEFT_OUT
        confidence, happened = confidence[counted], (found == labels)[counted]
    else:  # the probability of +1 is what is held against how often it happens
        confidence, happened = p[:, 1], labels > 0
    tally = CalibrationTally(bins, confidence.numel(), seed=0)
    tally.add(*(x.double().reshape(1, -1) for x in (confidence, happened)))
    result = tally.result()
    assert result is not None
    return result


def _probabilities(ensemble: Ensemble, outputs: Tensor) -> Float[Tensor, "sample class *place"]:
    """The combined probabilities of the classes; of scores, of −1 and +1."""
    kind = kind_of(ensemble.loss)
    if kind not in ("classes", "binary"):
        raise ModelspaceError(
            f"there are no probabilities of classes: the loss is {ensemble.loss or 'not known'}"
        )
    p = ensemble.combined(outputs.double())
    return p if kind == "classes" else torch.stack([1 - p, p], 1)


@dataclass(frozen=True, eq=False, repr=False)
class Conformal:
    """Sets or intervals that hold the label with probability 1 − α at least, whatever the ensemble is worth.

    Over calibration samples and a new one that are exchangeable. Given n calibration samples the coverage is one draw
    of Beta(k, n + 1 − k), k = ⌈(n + 1)(1 − α)⌉, for scores without ties.

    Attributes:
        ensemble: What predicts.
        method: ``lac``, ``aps``, ``residual`` or ``normalised``.
        alpha: The probability that is allowed to be missed.
        threshold: q, the k-th smallest score of the calibration samples; inf where k > n.
        samples: n.
    """

    ensemble: Ensemble
    method: Method
    alpha: float
    threshold: float
    samples: int

    def sets(self, inputs: Any) -> Bool[Tensor, "sample class"]:
        """Return which classes are in each sample's set; of scores, whether −1 and +1 are."""
        p = _probabilities(self.ensemble, self.ensemble.over(inputs))
        return class_scores(p, self.method, _NEW) <= self.threshold

    def intervals(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the ends of each sample's interval, ``[N, …]`` each; of several values at once, of their box."""
        centre, spread = _located(self.ensemble, self.ensemble.over(inputs), self.method)
        return centre - self.threshold * spread, centre + self.threshold * spread

    def coverage(self, data: Any, split: str = "test") -> float:
        """Return how often the sets or intervals hold the label, on samples that were not calibrated on."""
        scores = _scores(self.ensemble, data, split, self.method, _NEW)
        return float((scores <= self.threshold).double().mean())

    def band(self, samples: int | None = None, level: float = 0.95) -> tuple[float, float]:
        """Return the interval in which the coverage lies with this probability.

        Args:
            samples: On how many it is counted: a beta-binomial count; of ever more where None.
            level: The probability.
        """
        k, n, ends = rank_of(self.samples, self.alpha), self.samples, [(1 - level) / 2, (1 + level) / 2]
        if k > n:
            return 1.0, 1.0
        if samples is None:
            low, high = stats.beta(k, n + 1 - k).ppf(ends)
        else:
            low, high = stats.betabinom(samples, k, n + 1 - k).ppf(ends) / samples
        return float(low), float(high)

    def __repr__(self) -> str:
        low, high = self.band()
        return (
            f"Conformal {'sets' if self.method in _OF_CLASSES else 'intervals'} by {self.method} at "
            f"{percent(1 - self.alpha, 1)}: threshold {self.threshold:.4g} of {self.samples:,} samples; coverage "
            f"between {low:.3f} and {high:.3f} (95 %)"
        )


def conformal(
    ensemble: Ensemble,
    data: Any,
    alpha: float = 0.1,
    *,
    method: Method | None = None,
    split: str = "validation",
) -> Conformal:
    """Calibrate sets of classes or intervals of values on samples that were not trained on.

    A score says how badly a label fits; q is the ⌈(n + 1)(1 − α)⌉-th smallest score of n calibration samples, and a
    set holds every label whose score is at most q. ``lac``, 1 − p̄_y: the smallest sets on average, empty ones among
    them. ``aps``, Σ p̄_c over the classes likelier than y, and u p̄_y with u uniform in [0, 1], drawn anew for each
    sample: large where the prediction is unsure.
    ``residual``, |y − ȳ|: intervals of one width. ``normalised``, |y − ȳ| / s with s the standard deviation of the
    mixture, or of the members' predictions: wide where members disagree. Of several values a sample the largest.

    A temperature is fitted on other samples than these, or the coverage is not exact.

    Args:
        ensemble: The members.
        data: A ``Split``, or what ``modelspace.data.load`` takes.
        alpha: How often a label may be missed, between 0 and 1.
        method: ``lac`` or ``aps`` of classes, ``normalised`` or ``residual`` of values; the first where None.
        split: Which part of the data.

    Raises:
        ModelspaceError: an unknown method, one that is not of such outputs, or α out of range.

    Source:
        Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005; Sadinle, Lei & Wasserman, "Least
        ambiguous set-valued classifiers with bounded error levels", JASA 114, 2019 (LAC); Romano, Sesia & Candès,
        "Classification with valid and adaptive coverage", NeurIPS 2020 (APS); Lei, G'Sell, Rinaldo, Tibshirani &
        Wasserman, "Distribution-free predictive inference for regression", JASA 113, 2018.
    """
    known = _OF_CLASSES if kind_of(ensemble.loss) in ("classes", "binary") else _OF_VALUES
    chosen: Any = method or known[0]
    if not 0 < alpha < 1:
        raise ModelspaceError(f"alpha is a share of samples between 0 and 1; received {alpha}")
    if chosen not in (*_OF_CLASSES, *_OF_VALUES):
        raise unknown_name("conformal method", chosen, (*_OF_CLASSES, *_OF_VALUES))
    if chosen not in known:
        raise ModelspaceError(
            f"method '{chosen}' is not of outputs that are {kind_of(ensemble.loss)}: {' or '.join(known)}"
        )
    scores = _scores(ensemble, data, split, chosen, _CALIBRATION)
    return Conformal(ensemble, chosen, alpha, quantile(scores, alpha), len(scores))


def rank_of(samples: int, alpha: float) -> int:
    """Return ⌈(n + 1)(1 − α)⌉; what rounding adds to the product is not counted."""
    return ceil(round((samples + 1) * (1 - alpha), 9))


def quantile(scores: Float[Tensor, "sample"], alpha: float) -> float:
    """Return the ⌈(n + 1)(1 − α)⌉-th smallest of n scores; inf where there are not so many."""
    k = rank_of(len(scores), alpha)
    return inf if k > len(scores) else float(scores.sort().values[k - 1])


def class_scores(p: Float[Tensor, "sample class"], method: str, seed: int) -> Float[Tensor, "sample class"]:
    """Return how badly each class would fit, from the classes' probabilities."""
    if method == "lac":
        return 1 - p
    ordered, order = p.sort(dim=1, descending=True, stable=True)
    u = torch.rand(len(p), 1, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
    return torch.zeros_like(p).scatter(1, order, ordered.cumsum(1) - (1 - u) * ordered)


def _scores(ensemble: Ensemble, data: Any, split: str, method: str, seed: int) -> Float[Tensor, "sample"]:
    """How badly each label fits."""
    outputs, labels = ensemble.on_split(data, split)
    if method in _OF_CLASSES:
        if labels.ndim != 1:
            raise ModelspaceError(
                f"conformal sets are of one label a sample; received labels {list(labels.shape)}"
            )
        classes = labels.long() if kind_of(ensemble.loss) == "classes" else (labels > 0).long()
        return class_scores(_probabilities(ensemble, outputs), method, seed).gather(1, classes[:, None])[:, 0]
    centre, spread = _located(ensemble, outputs, method)
    scores = (labels.double().reshape(centre.shape) - centre).abs() / spread
    return scores.flatten(1).amax(1) if scores.ndim > 1 else scores


def _located(ensemble: Ensemble, outputs: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """The middle of each interval, and what a threshold of 1 is wide to either side."""
    if method not in _OF_VALUES:
        raise ModelspaceError(f"'{method}' makes sets of classes, and no intervals of values")
    outputs = outputs.double()
    centre = ensemble.combined(outputs)
    centre = centre[:, 0] if ensemble.combine == "mixture" else centre
    if method == "residual":
        return centre, torch.ones_like(centre)
    sure = uncertainty_of(ensemble.loss, outputs, ensemble.weights)
    if len(ensemble) < 2 and sure.total is None:
        raise ModelspaceError("one member has no spread to be normalised by: method='residual'")
    variance = sure.epistemic if sure.total is None else sure.total
    return centre, variance.sqrt().clamp(min=torch.finfo(torch.float64).tiny)


def separation(ensemble: Ensemble, inside: Any, outside: Any, *, split: str = "test") -> pd.DataFrame:
    """Tell how well scores of foreignness tell foreign inputs from familiar ones: the area under the ROC curve.

    Args:
        ensemble: The members.
        inside: Familiar samples, not trained on: a tensor, a ``Split``, or a ``Data``.
        outside: Foreign ones.
        split: Which part, of a ``Data``.

    Returns:
        A row a score: ``auroc``, 0.5 by chance, and ``error``, its standard error by Hanley and McNeil. Of classes
        the scores are ``max_probability`` (1 − max p̄), ``entropy`` H(p̄), ``mutual_information``, and of logits
        and scores ``energy``, −Σ w_k log Σ_c e^(z_kc); of values ``variance``, of the members' predictions.

    Source:
        Hendrycks & Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017; Liu,
        Wang, Owens & Li, "Energy-based out-of-distribution detection", NeurIPS 2020; Hanley & McNeil, "The meaning
        and use of the area under a receiver operating characteristic (ROC) curve", Radiology 143, 1982.
    """
    parts = [given.part(split) if isinstance(given, Data) else given for given in (inside, outside)]
    samples = [part.inputs if isinstance(part, Split) else part for part in parts]
    near, far = (foreignness(ensemble.loss, ensemble.over(x), ensemble.weights) for x in samples)
    rows = {}
    for name, familiar in near.items():
        n, m = len(familiar), len(far[name])
        a = float(auroc(torch.cat([familiar, far[name]]), torch.tensor([0] * n + [1] * m)))
        spread = a * (1 - a) + (m - 1) * (a / (2 - a) - a**2) + (n - 1) * (2 * a**2 / (1 + a) - a**2)
        rows[name] = a, max(spread / (n * m), 0.0) ** 0.5
    return pd.DataFrame.from_dict(rows, orient="index", columns=["auroc", "error"]).rename_axis("score")
