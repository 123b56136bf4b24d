"""Losses φ(v) of the margin v = y z, of a score z and a label y = ±1."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace.losses._base import Labels, Properties, Reals, parameter
from modelspace.losses._checks import (
    by_class,
    class_labels,
    is_own,
    kept,
    plus_minus_one,
    require_class_labels,
    require_same_shape,
)
from modelspace.losses._classes import ClassLoss, Counted
from modelspace.losses._numerics import best_score, exponential, most_bent, scalar, softplus, steepest, wide


@dataclass(frozen=True, eq=False)
class MarginLoss(ClassLoss):
    """φ(v) of the margin v = y z: large and positive where the sign is right by far.

    Two forms, told apart by the shapes:

    * outputs z and labels y = ±1 of the same shape: φ(y z) of each;
    * outputs ``[N, C, …]``, C ≥ 2, and integer labels ``[N, …]`` of C classes: one against the rest, the sum over the
      classes c of φ(±z_c), + for the label's own (Rifkin & Klautau, "In defense of one-vs-all classification",
      JMLR 2004).

    Values of half-precision outputs are float32. ``weight`` is (w₋, w₊) of ±1, or a number for each of the C classes:
    see ``ClassLoss``.

    Example:
        >>> Hinge()(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0., 1., 2.])
    """

    kind = "margin"
    outputs = "score"
    labels = "sign"

    def phi(self, v: Reals) -> Reals:
        """Compute φ, element by element."""
        raise NotImplementedError

    def signed(self, z: Reals, y: Reals | float) -> Reals:
        """Compute the loss of scores z with signs y, element by element: φ(y z)."""
        return self.phi(y * z)

    def minimiser(self, p: Reals) -> Reals:
        """Find the score that minimises the conditional risk p φ(z) + (1 − p) φ(−z): the link.

        Args:
            p: The probability of +1, in (0, 1).

        Returns:
            The score; of losses without a formula to about 1e-9, and ±inf where the risk falls for ever.
        """
        return best_score(self.signed, p)

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        """Compute φ of every margin; with classes, the sum over the classes."""
        if by_class(outputs, labels):
            require_class_labels(self.name, outputs, labels)
            return wide(self.signed(outputs, 2 * is_own(outputs, labels).to(outputs.dtype) - 1)).sum(1)
        require_same_shape(self.name, outputs, labels)
        return wide(self.signed(outputs, labels.to(outputs.dtype)))

    def classes(self, outputs: Reals, labels: Labels) -> Int64[Tensor, "..."]:
        """Return the class of every label: of signs, 1 for +1."""
        return labels.long() if by_class(outputs, labels) else (labels > 0).long()

    def class_count(self, outputs: Reals, labels: Labels) -> int:
        """Return C, or 2 of signs."""
        return outputs.shape[1] if by_class(outputs, labels) else 2

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse labels that are neither ±1 nor, in the form of one against the rest, classes."""
        labels = kept(labels, self.ignore_index)
        (class_labels if by_class(outputs, labels) else plus_minus_one)(self.name, outputs, labels)


class _Sigmoid(MarginLoss):
    """A margin loss whose scores stand for log-odds."""

    def probability(self, outputs: Reals) -> Reals:
        return torch.sigmoid(outputs)


class _Line(MarginLoss):
    """A margin loss whose scores stand for the probability (z + 1) / 2, held between 0 and 1."""

    def minimiser(self, p: Reals) -> Reals:
        return 2 * p - 1

    def probability(self, outputs: Reals) -> Reals:
        return ((outputs + 1) / 2).clamp(0, 1)


@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """The logistic loss, computed as softplus(−v).

    It stays finite where ``torch.nn.functional.soft_margin_loss``, the same function, overflows (v = −89 in float32).
    Source: Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958.
    """

    properties = Properties(
        "log(1 + e^(−v))", convex=True, lipschitz=1, smooth=0.25, minimiser="log(p/(1−p))", proper=True
    )

    def phi(self, v: Reals) -> Reals:
        return softplus(-v)

    def minimiser(self, p: Reals) -> Reals:
        return torch.logit(p)


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """The hinge loss; its subgradient at the kink is −1.

    ``margin_ranking_loss(z, 0, y, margin=1)`` of PyTorch.
    Source: Cortes & Vapnik, "Support-vector networks", Machine Learning 20, 1995.
    """

    properties = Properties(
        "max(0, 1 − v)", convex=True, lipschitz=1, minimiser="sign(2p − 1)", calibrated=True
    )

    def phi(self, v: Reals) -> Reals:
        return (1 - v).clamp(min=0)

    def minimiser(self, p: Reals) -> Reals:
        return torch.sign(2 * p - 1)


@dataclass(frozen=True)
class SquaredHinge(_Line):
    """The squared hinge loss.

    Source: Chang, Hsieh, Lin, "Coordinate descent method for large-scale L2-loss linear support vector machines",
    JMLR 9, 2008; its link: Zhang, "Statistical behavior and consistency of classification methods", 2004.
    """

    properties = Properties("max(0, 1 − v)²", convex=True, smooth=2, minimiser="2p − 1", proper=True)

    def phi(self, v: Reals) -> Reals:
        return (1 - wide(v)).clamp(min=0).square()


@dataclass(frozen=True)
class ModifiedHuber(_Line):
    """The squared hinge loss near the margin, and a straight line from v = −1 on.

    Source: Zhang, "Solving large scale linear prediction problems using stochastic gradient descent algorithms",
    ICML 2004.
    """

    properties = Properties(
        "max(0, 1 − v)² if v ≥ −1; −4v if v < −1",
        convex=True,
        lipschitz=4,
        smooth=2,
        minimiser="2p − 1",
        proper=True,
    )

    def phi(self, v: Reals) -> Reals:
        missing = (1 - wide(v)).clamp(min=0)
        square = missing.clamp(max=2)
        return square * (2 * missing - square)


@dataclass(frozen=True)
class SquaredMargin(_Line):
    """The squared margin loss: least squares on labels ±1.

    Not where outliers are far on the right side: it punishes them too.
    Source: Suykens & Vandewalle, "Least squares support vector machine classifiers", Neural Processing Letters 9,
    1999.
    """

    properties = Properties("(1 − v)²", convex=True, smooth=2, minimiser="2p − 1", proper=True)

    def phi(self, v: Reals) -> Reals:
        return (1 - wide(v)).square()


@dataclass(frozen=True)
class Exponential(MarginLoss):
    """The exponential loss of boosting.

    Below v = −64 (−8 in float16, −512 in float64) it goes on along its tangent, so that neither the loss nor its
    gradient overflows. Not with mislabelled samples: one far on the wrong side outweighs all others.
    Source: Freund & Schapire, "A decision-theoretic generalization of on-line learning and an application to
    boosting", J. Comput. Syst. Sci. 55, 1997; the link: Friedman, Hastie, Tibshirani, Annals of Statistics 28,
    2000.
    """

    properties = Properties(
        "e^(−v)",
        convex=True,
        minimiser="½ log(p/(1−p))",
        proper=True,
        notes="goes on linearly below v = -64 (-8 in float16, -512 in float64)",
    )

    def phi(self, v: Reals) -> Reals:
        return exponential(-wide(v), v.dtype)

    def minimiser(self, p: Reals) -> Reals:
        return torch.logit(p) / 2

    def probability(self, outputs: Reals) -> Reals:
        return torch.sigmoid(2 * outputs)


@dataclass(frozen=True)
class Perceptron(MarginLoss):
    """The perceptron's loss; its subgradient at the kink is −1.

    Not calibrated: the score 0 minimises the risk whatever the probabilities are. ``hinge`` asks for a margin.
    Source: Rosenblatt, "The perceptron", Psychological Review 65, 1958.
    """

    properties = Properties("max(0, −v)", convex=True, lipschitz=1, minimiser="0", calibrated=False)

    def phi(self, v: Reals) -> Reals:
        return (0 - v).clamp(min=0)

    def minimiser(self, p: Reals) -> Reals:
        return torch.zeros_like(p)


@dataclass(frozen=True)
class Ramp(MarginLoss):
    """The ramp loss: the hinge loss cut off at 1, deaf to outliers.

    Its subgradient at both kinks is −1. Below v = 0 it has no slope: start from scores near 0.
    Source: Collobert, Sinz, Weston, Bottou, "Trading convexity for scalability", ICML 2006, with s = 0.
    """

    properties = Properties(
        "min(1, max(0, 1 − v))", convex=False, lipschitz=1, bound=1, minimiser="sign(2p − 1)", calibrated=True
    )

    def phi(self, v: Reals) -> Reals:
        return (1 - v).clamp(0, 1)

    def minimiser(self, p: Reals) -> Reals:
        return torch.sign(2 * p - 1)


_STEEP = (15 - 33**0.5) / 24  # the sigmoid where the Savage loss is most bent


@dataclass(frozen=True)
class Savage(_Sigmoid):
    """The Savage loss, the squared error of the sigmoid: bounded, so that no outlier outweighs the rest.

    Source: Masnadi-Shirazi & Vasconcelos, "On the design of loss functions for classification: theory, robustness
    to outliers, and SavageBoost", NeurIPS 2008 (there with 2v in place of v).
    """

    properties = Properties(
        "(1 + e^v)^(−2)",
        convex=False,
        lipschitz=8 / 27,
        smooth=2 * _STEEP**2 * (1 - _STEEP) * (2 - 3 * _STEEP),
        bound=1,
        minimiser="log(p/(1−p))",
        proper=True,
    )

    def phi(self, v: Reals) -> Reals:
        return torch.sigmoid(-wide(v)).square()

    def minimiser(self, p: Reals) -> Reals:
        return torch.logit(p)


@dataclass(frozen=True)
class Tangent(MarginLoss):
    """The tangent loss, bounded too: it also punishes what is too far on the right side.

    Source: Masnadi-Shirazi, Mahadevan, Vasconcelos, "On the design of robust classifiers for computer vision", CVPR
    2010.
    """

    properties = Properties(
        "(2 arctan v − 1)²",
        convex=False,
        lipschitz=lambda self: steepest(self.phi),
        smooth=lambda self: most_bent(self.phi),
        bound=(math.pi + 1) ** 2,
        minimiser="tan(p − ½)",
        proper=True,
    )

    def phi(self, v: Reals) -> Reals:
        return (2 * torch.atan(wide(v)) - 1).square()

    def minimiser(self, p: Reals) -> Reals:
        return torch.tan(p - 0.5)

    def probability(self, outputs: Reals) -> Reals:
        return (torch.atan(outputs) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class BinaryFocal(_Sigmoid):
    """The focal loss of two classes: logistic, but it turns away from what is learnt.

    Not where probabilities are wanted: the sigmoid at the minimiser is nearer to ½ than p.
    Source: Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; its minimiser:
    Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, CVPR 2021 (arXiv 2011.09172).
    """

    gamma: float = parameter(2.0, "focusing exponent", at_least=0)

    properties = Properties(
        "−(1 − σ(v))^γ log σ(v)",
        convex=lambda self: self.gamma == 0,
        lipschitz=lambda self: steepest(self.phi),
        smooth=lambda self: most_bent(self.phi),
        minimiser="z: p φ′(z) = (1 − p) φ′(−z)",
        calibrated=True,
        proper=lambda self: self.gamma == 0,
    )

    def phi(self, v: Reals) -> Reals:
        v = wide(v)
        missing = softplus(v)  # -log(1 - σ(v)): a power of 1 - σ(v) without a power
        return torch.exp(-self.gamma * missing) * softplus(-v)


@dataclass(frozen=True)
class BinaryPoly1(_Sigmoid):
    """The poly-1 loss of two classes: the logistic loss with more of its first term. Convex up to ε = 1.

    Source: Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov, "PolyLoss: a polynomial expansion perspective of
    classification loss functions", ICLR 2022.
    """

    epsilon: float = parameter(1.0, "loss parameter: what is added to the first term's weight", at_least=0)

    properties = Properties(
        "−log σ(v) + ε (1 − σ(v))",
        convex=lambda self: self.epsilon <= 1,
        lipschitz=lambda self: 1.0 if self.epsilon <= 1 else (1 + self.epsilon) ** 2 / (4 * self.epsilon),
        smooth=lambda self: self._most_bent(),
        minimiser="log(s/(1−s)), c s² − (1 + c) s + p = 0, c = ε (1 − 2p)",
        calibrated=True,
        proper=lambda self: self.epsilon == 0,
    )

    def _most_bent(self) -> float:
        t = self.epsilon / (1 + (1 + 3 * self.epsilon**2) ** 0.5)  # of v there, tanh(v / 2)
        return (1 - t**2) * (1 + self.epsilon * t) / 4

    def phi(self, v: Reals) -> Reals:
        v = wide(v)
        return softplus(-v) + self.epsilon * torch.sigmoid(-v)

    def minimiser(self, p: Reals) -> Reals:
        c = self.epsilon * (1 - 2 * p)
        return torch.logit(2 * p / (1 + c + ((1 + c).square() - 4 * c * p).sqrt()))


@dataclass(frozen=True)
class Asymmetric(_Sigmoid):
    """The asymmetric loss for labels of which few are positive; no function of the margin alone.

    Not where the threshold 0 is to be the best one: the two sides have different weights, and of negatives with
    q ≤ m nothing is asked.
    Source: Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor, "Asymmetric loss for multi-label
    classification", ICCV 2021.
    """

    gamma_positive: float = parameter(0.0, "focusing exponent: γ₊, of positives", at_least=0)
    gamma_negative: float = parameter(4.0, "focusing exponent: γ₋, of negatives", at_least=0)
    shift: float = parameter(
        0.05, "probability shift: m, below which a negative counts as learnt", at_least=0, below=1
    )

    properties = Properties(
        "−(1 − q)^γ₊ log q if y = +1; −r^γ₋ log(1 − r) if y = −1, q = σ(z), r = max(0, q − m)",
        convex=lambda self: self._symmetric and self.gamma_positive == 0,
        lipschitz=lambda self: max(steepest(self.phi), steepest(self._negative)),
        smooth=lambda self: (
            torch.inf if self._kinked else max(most_bent(self.phi), most_bent(self._negative))
        ),
        minimiser="z: p ℓ′(z, +1) = −(1 − p) ℓ′(z, −1)",
        calibrated=lambda self: self._symmetric,
        proper=lambda self: self._symmetric and self.gamma_positive == 0,
        notes="with m > 0 the minimiser is +inf for p near 1, where a negative's loss is bounded",
    )

    @property
    def _symmetric(self) -> bool:
        return self.gamma_positive == self.gamma_negative and self.shift == 0

    @property
    def _kinked(self) -> bool:
        return self.shift > 0 and self.gamma_negative < 1

    def phi(self, v: Reals) -> Reals:
        v = wide(v)
        return torch.exp(-self.gamma_positive * softplus(v)) * softplus(-v)

    def _negative(self, z: Reals) -> Reals:
        z = wide(z)
        shift = scalar(self.shift, z)
        excess = torch.sigmoid(z) - shift
        counts = excess > 0
        power = torch.where(counts, excess, 1) ** self.gamma_negative
        # log(1 - r) = log(σ(-z) + m): where σ(z) rounds to 1 and m is 0, only the left-hand side is infinite.
        return torch.where(counts, -power * torch.logaddexp(-softplus(z), torch.log(shift)), 0)

    def signed(self, z: Reals, y: Reals | float) -> Reals:
        if not isinstance(y, Tensor):
            return self.phi(z) if y > 0 else self._negative(z)
        return torch.where(y > 0, self.phi(z), self._negative(z))
