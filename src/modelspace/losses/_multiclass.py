"""Losses of C logits and one of C classes."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Properties, Reals, parameter
from modelspace.losses._checks import (
    LEFT_OUT,
    class_labels,
    is_own,
    require_class_labels,
    require_columns,
    within_unit,
)
from modelspace.losses._classes import ClassLoss, Counted
from modelspace.losses._numerics import most_bent, steepest, wide

Logits = Float[Tensor, "sample class *place"]
Classes = Int[Tensor, "sample *place"]
Each = Float[Tensor, "sample *place"]
Distribution = Float[Tensor, "... class"]

_HALVINGS = 48  # of 1400: to 5e-12
_LARGEST = 700.0  # the surprisal of the smallest probability that float64 has


@dataclass(frozen=True, eq=False)
class MulticlassLoss(ClassLoss):
    """ℓ(z, y) of logits z ``[N, C, …]``, C ≥ 2, and labels y ``[N, …]`` in [0, C); in formulas p is softmax(z).

    A label of −100, or of another ``ignore_index``, is left out; ``weight`` has a number for each of the C classes:
    see ``ClassLoss``.

    Example:
        >>> CrammerSinger()(torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([0]))
        tensor(0.5000)
    """

    kind = "multiclass"
    outputs = "logits"
    labels = "class"

    ignore_index: int | None = field(default=LEFT_OUT, kw_only=True)

    def value(self, z: Logits, y: Classes) -> Each:
        """Compute ℓ of every label, all of which are in [0, C)."""
        raise NotImplementedError

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        """Compute ℓ of every label, ``[N, …]``."""
        require_class_labels(self.name, outputs, labels)
        return self.value(outputs, labels.long())

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse anything but class labels in [0, C), or the one that is left out."""
        class_labels(self.name, outputs, labels, self.ignore_index)

    def probability(self, outputs: Reals) -> Reals | None:
        """Compute the softmax over the classes."""
        return torch.softmax(outputs, 1)

    def minimiser(self, p: Distribution) -> Distribution | None:
        """Find the logits that minimise the conditional risk Σ_y p_y ℓ(z, y); None where no formula is known.

        Args:
            p: The classes' probabilities, which sum to 1 over the last dimension.

        Returns:
            One minimiser; where there are several, another is as good.
        """
        return None


def _own(values: Logits, labels: Classes) -> Each:
    """Take of the values of all classes the label's own."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class CrossEntropy(MulticlassLoss):
    """Cross-entropy of the softmax: ``torch.nn.functional.cross_entropy``.

    Labels may also be class probabilities q, floating and of the outputs' shape: −Σ_c w_c q_c log p_c, of which as in
    PyTorch the plain mean is taken.
    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    """

    properties = Properties(
        "−log p_y, p = softmax(z)",
        convex=True,
        lipschitz=2**0.5,
        smooth=0.5,
        minimiser="log p_c + const",
        proper=True,
    )

    def value(self, z: Logits, y: Classes) -> Each:
        return F.cross_entropy(z, y, reduction="none")

    def sums(self, outputs: Reals, labels: Labels) -> tuple[Reals, Labels]:
        """Compute Σ w_y ℓ and Σ w_y; over class labels the former is one operation."""
        if self._are_probabilities(outputs, labels):
            return super().sums(outputs, labels)
        # What `super` computes in ten operations, each with its backward: a tenth of a small network's step.
        require_class_labels(self.name, outputs, labels)
        counted, y = self.counted(labels), labels.long()
        weight = None if self.weight is None else self.table(outputs, outputs.shape[1])
        left_out = LEFT_OUT if self.ignore_index is None else self.ignore_index
        total = F.cross_entropy(outputs, y, weight, ignore_index=left_out, reduction="sum")
        if weight is None:
            return total, total.new_tensor(labels.numel()) if counted is None else counted.sum()
        own = weight[y if counted is None else y.masked_fill(~counted, 0)]
        return total, (own if counted is None else own * counted).sum()

    def _are_probabilities(self, outputs: Labels, labels: Labels) -> bool:
        return labels.dtype.is_floating_point and labels.shape == outputs.shape and outputs.ndim > 1

    def weighed(self, outputs: Reals, labels: Labels) -> tuple[Reals, Reals | None]:
        """Compute ℓ of every label, ``[N, …]``; labels are classes, or class probabilities, which all count alike."""
        if not self._are_probabilities(outputs, labels):
            return super().weighed(outputs, labels)
        require_columns(self.name, outputs)
        weight = None if self.weight is None else self.table(outputs, outputs.shape[1])
        return F.cross_entropy(outputs, labels.to(outputs.dtype), weight, reduction="none"), None

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse anything but class labels in [0, C) and probabilities that sum to 1."""
        if not self._are_probabilities(outputs, labels):
            super().check_values(outputs, labels)
            return
        within_unit(self.name, "labels", labels, "class probabilities lie between 0 and 1")
        sums = labels.sum(1)
        if bool(((sums - 1).abs() > 1e-3).any()):
            worst = sums.flatten()[(sums - 1).abs().argmax()].item()
            raise ModelspaceError(
                f"{self.name} expects class probabilities that sum to 1 over dimension 1, "
                f"and one sum is {worst:g}: divide the labels by their sum, or give integer class labels"
            )

    def minimiser(self, p: Distribution) -> Distribution:
        return torch.log(p)


@dataclass(frozen=True)
class LabelSmoothing(MulticlassLoss):
    """Cross-entropy against the label mixed with the uniform distribution.

    ``torch.nn.functional.cross_entropy(…, label_smoothing=s)``; but with ``weight`` a class's weighs all that its
    samples lose, where PyTorch's weighs the terms of the sum. Not where the probabilities themselves are wanted:
    the softmax at the minimiser is (1 − s) p + s/C.
    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception architecture for computer vision",
    CVPR 2016.
    """

    smoothing: float = parameter(
        0.1, "label smoothing: s, the share of the uniform distribution", at_least=0, below=1
    )

    properties = Properties(
        "−(1 − s) log p_y − (s/C) Σ_c log p_c",
        convex=True,
        lipschitz=lambda self: (1 + (1 - self.smoothing) ** 2) ** 0.5,
        smooth=0.5,
        minimiser="log((1 − s) p_c + s/C) + const",
        calibrated=True,
        proper=lambda self: self.smoothing == 0,
        notes="with C classes the Lipschitz constant is sqrt(1 + (1 - s)^2 - s^2 / C), below its limit",
    )

    def value(self, z: Logits, y: Classes) -> Each:
        logs = F.log_softmax(z, 1)
        return -(1 - self.smoothing) * _own(logs, y) - self.smoothing * logs.mean(1)

    def minimiser(self, p: Distribution) -> Distribution:
        return torch.log((1 - self.smoothing) * p + self.smoothing / p.shape[-1])


class SurprisalLoss(MulticlassLoss):
    """ℓ(z, y) = F(u) of the surprisal u = −log p_y, with p = softmax(z), F increasing and F′(u) eᵘ too.

    With two classes the surprisal is log(1 + e^{−v}) of the margin v, and φ(v) = F(log(1 + e^{−v})) has the slope −b
    and the curvature a. With more, the Hessian in z is a w wᵀ + b (diag r − r rᵀ), where r is how the other classes
    share what the label's own leaves, and w is r at these and −1 at the label. Its norm is greatest where r is one
    class, 2|a|, or where two share alike, b/2; the gradient's norm is at most √2 b.
    """

    def of_surprisal(self, u: Reals) -> Reals:
        """Compute F, element by element, of u ≥ 0."""
        raise NotImplementedError

    def value(self, z: Logits, y: Classes) -> Each:
        return self.of_surprisal(F.cross_entropy(z, y, reduction="none"))

    def _phi(self, v: Tensor) -> Tensor:
        return self.of_surprisal(F.softplus(-v, threshold=_LARGEST))

    def steepest(self) -> float:
        """Find the least Lipschitz constant for any number of classes, √2 max b."""
        return 2**0.5 * steepest(self._phi)

    def most_bent(self) -> float:
        """Find that of the gradient for any number of classes ≥ 3, max(2|a|, b/2)."""
        return max(2 * most_bent(self._phi), steepest(self._phi) / 2)

    def minimiser(self, p: Distribution) -> Distribution:
        """Find the logarithms of the q that minimise Σ_c p_c F(−log q_c) over the simplex, by nested bisection.

        There log p_c + log F′(u_c) + u_c, with u_c = −log q_c, is one number for all classes c.

        Args:
            p: The classes' probabilities, which sum to 1 over the last dimension.
        """
        logs = torch.log(p.double())
        low = torch.full_like(logs[..., :1], -_LARGEST)
        high = torch.full_like(low, _LARGEST)
        for _ in range(_HALVINGS):
            level = (low + high) / 2
            u = self._surprisals(logs, level)
            crowded = torch.exp(-u).sum(-1, keepdim=True) > 1
            low, high = torch.where(crowded, level, low), torch.where(crowded, high, level)
        return -self._surprisals(logs, (low + high) / 2).to(p.dtype)

    def _surprisals(
        self, logs: Float64[Tensor, "... class"], level: Float64[Tensor, "... 1"]
    ) -> Float64[Tensor, "... class"]:
        low, high = torch.zeros_like(logs), torch.full_like(logs, _LARGEST)
        for _ in range(_HALVINGS):
            u = ((low + high) / 2).requires_grad_()
            (slope,) = torch.autograd.grad(self.of_surprisal(u).sum(), u)
            u = u.detach()
            below = logs + torch.log(slope) + u < level
            low, high = torch.where(below, u, low), torch.where(below, high, u)
        return (low + high) / 2


@dataclass(frozen=True)
class Focal(SurprisalLoss):
    """The focal loss: cross-entropy that turns away from what is learnt.

    Not where the probabilities themselves are wanted: the softmax at the minimiser is less sure than p.
    Source: Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; what its minimiser
    is: Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, CVPR 2021 (arXiv 2011.09172).
    """

    gamma: float = parameter(2.0, "focusing exponent", at_least=0)

    properties = Properties(
        "−(1 − p_y)^γ log p_y",
        convex=lambda self: self.gamma == 0,
        lipschitz=SurprisalLoss.steepest,
        smooth=SurprisalLoss.most_bent,
        minimiser="log q_c, p_c ∝ q_c / [(1 − q_c)^γ − γ (1 − q_c)^(γ−1) q_c log q_c]",
        calibrated=True,
        proper=lambda self: self.gamma == 0,
    )

    def of_surprisal(self, u: Reals) -> Reals:
        # 0 with the slope 0 at u = 0, where a power has none.
        certain = u <= 0
        missing = torch.where(certain, 1.0, -torch.expm1(-u))
        return torch.where(certain, 0, missing**self.gamma * u)


@dataclass(frozen=True)
class Poly1(SurprisalLoss):
    """Cross-entropy with its first polynomial term changed: of the logarithm's series it weighs 1 + ε.

    Source: Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov, "PolyLoss: a polynomial expansion perspective of
    classification loss functions", ICLR 2022.
    """

    epsilon: float = parameter(1.0, "loss parameter: what is added to the first term's weight", at_least=0)

    properties = Properties(
        "−log p_y + ε (1 − p_y)",
        convex=lambda self: self.epsilon <= 1,
        lipschitz=SurprisalLoss.steepest,
        smooth=SurprisalLoss.most_bent,
        minimiser="log(p_c/(λ − ε p_c)), λ: Σ_c q_c = 1",
        calibrated=True,
        proper=lambda self: self.epsilon == 0,
    )

    def of_surprisal(self, u: Reals) -> Reals:
        return u - self.epsilon * torch.expm1(-u)


@dataclass(frozen=True)
class GeneralisedCrossEntropy(SurprisalLoss):
    """Between cross-entropy (q → 0) and half the absolute error of p (q = 1), for labels that may be wrong.

    Bounded, so a wrong label costs no more than 1/q. The gradient vanishes where p_y does: slow from a bad start.
    Source: Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
    NeurIPS 2018.
    """

    q: float = parameter(0.7, "exponent", above=0, at_most=1)

    properties = Properties(
        "(1 − p_y^q)/q",
        convex=False,
        lipschitz=SurprisalLoss.steepest,
        smooth=SurprisalLoss.most_bent,
        bound=lambda self: 1 / self.q,
        minimiser="log p_c / (1 − q) + const",
        calibrated=True,
        proper=False,
        notes="at q = 1 the risk has an infimum only: certainty of the likeliest class",
    )

    def of_surprisal(self, u: Reals) -> Reals:
        return -torch.expm1(-self.q * u) / self.q

    def minimiser(self, p: Distribution) -> Distribution:
        # Less the greatest: at q = 1, 0 for the likeliest classes and -inf for the others.
        behind = torch.log(p) - torch.log(p.amax(-1, keepdim=True))
        return torch.where(behind == 0, 0, behind / (1 - torch.as_tensor(self.q, dtype=p.dtype)))


_LOG_ZERO = -4.0  # what the paper takes for log 0 in its experiments


@dataclass(frozen=True)
class SymmetricCrossEntropy(SurprisalLoss):
    """Cross-entropy both ways round, for labels that may be wrong: of the reverse one, log 0 is −4.

    The reverse is 4 (1 − p_y), so the sum is α times ``Poly1`` with ε = 4β/α.
    Source: Wang, Ma, Chen, Luo, Yi, Bailey, "Symmetric cross entropy for robust learning with noisy labels", ICCV
    2019.
    """

    forward_weight: float = parameter(0.1, "weight of the cross-entropy: α", above=0)
    reverse_weight: float = parameter(1.0, "weight of the reverse cross-entropy: β", at_least=0)

    properties = Properties(
        "−α log p_y + 4 β (1 − p_y)",
        convex=lambda self: -_LOG_ZERO * self.reverse_weight <= self.forward_weight,
        lipschitz=SurprisalLoss.steepest,
        smooth=SurprisalLoss.most_bent,
        minimiser="log(p_c/(λ − 4 β p_c / α)), λ: Σ_c q_c = 1",
        calibrated=True,
        proper=lambda self: self.reverse_weight == 0,
    )

    def of_surprisal(self, u: Reals) -> Reals:
        return self.forward_weight * u + _LOG_ZERO * self.reverse_weight * torch.expm1(-u)


# Brier's constants are reached in the limit of two classes: with p = p_y the slope is -4 p (1 - p)^2 in the margin,
# steepest at p = 1/3, and the curvature 4 p (1 - p)^2 (3p - 1), greatest at the root of 12 p^2 - 9 p + 1; the norms
# in z are sqrt(2) and 2 times as large.
_BENT = (9 + 33**0.5) / 24


@dataclass(frozen=True)
class Brier(MulticlassLoss):
    """The Brier score of the softmax, the squared error of the probabilities; from 0 to 2.

    With two classes, twice the binary Brier score (1 − p_y)².
    Source: Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """

    properties = Properties(
        "Σ_c (p_c − [c = y])²",
        convex=False,
        lipschitz=2**0.5 * 16 / 27,
        smooth=8 * _BENT * (1 - _BENT) ** 2 * (3 * _BENT - 1),
        bound=2,
        minimiser="log p_c + const",
        proper=True,
    )

    def value(self, z: Logits, y: Classes) -> Each:
        return (torch.softmax(z, 1) - is_own(z, y).to(z.dtype)).square().sum(1)

    def minimiser(self, p: Distribution) -> Distribution:
        return torch.log(p)


class _Hinges(MulticlassLoss):
    """A hinge loss of several classes, whose scores are no probabilities."""

    def probability(self, outputs: Reals) -> None:
        return


@dataclass(frozen=True)
class CrammerSinger(_Hinges):
    """The hinge loss of the lead over the strongest rival.

    Not where no class may have a probability above ½: there all scores alike minimise the risk, whatever the classes'
    probabilities.
    Source: Crammer & Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR
    2001; what it is calibrated for: Liu, "Fisher consistency of multicategory support vector machines", AISTATS 2007.
    """

    properties = Properties(
        "max(0, 1 + max_(c ≠ y) z_c − z_y)",
        convex=True,
        lipschitz=2**0.5,
        minimiser="[p_c > ½]",
        calibrated=False,
        notes="calibrated where one class has a probability above 1/2",
    )

    def value(self, z: Logits, y: Classes) -> Each:
        rival = z.masked_fill(is_own(z, y), -torch.inf).amax(1)
        return (1 + rival - _own(z, y)).clamp(min=0)

    def minimiser(self, p: Distribution) -> Distribution:
        return (p > 0.5).to(p.dtype)


@dataclass(frozen=True)
class WestonWatkins(_Hinges):
    """The hinge losses of the leads over all rivals.

    C times ``torch.nn.functional.multi_margin_loss``, which is often taken for the loss of Crammer and Singer.
    Source: Weston & Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999; what it is
    calibrated for: Wang & Scott, "Weston-Watkins hinge loss and ordered partitions", NeurIPS 2020.
    """

    properties = Properties(
        "Σ_(c ≠ y) max(0, 1 + z_c − z_y)",
        convex=True,
        minimiser="whole numbers, in the order of the probabilities but with ties",
        calibrated=False,
        notes="with C classes the Lipschitz constant is sqrt(C (C - 1)); "
        "at the class probabilities (.4, .35, .25) the two likeliest tie",
    )

    def value(self, z: Logits, y: Classes) -> Each:
        z = wide(z)
        short = (1 + z - _own(z, y).unsqueeze(1)).clamp(min=0)
        return short.masked_fill(is_own(z, y), 0).sum(1)


@dataclass(frozen=True)
class LeeLinWahba(_Hinges):
    """The hinge loss of the rivals' scores above −1/(C − 1), of scores less their mean: calibrated.

    The paper constrains the scores to sum to 0; here their mean is taken away, which comes to the same.
    Source: Lee, Lin, Wahba, "Multicategory support vector machines", J. Am. Stat. Assoc. 99, 2004.
    """

    properties = Properties(
        "Σ_(c ≠ y) max(0, z_c − z̄ + 1/(C − 1))",
        convex=True,
        minimiser="[c = arg max p] · C/(C − 1) + const",
        calibrated=True,
        notes="with C classes the Lipschitz constant is the greatest sqrt(k (C - k) / C) of whole k",
    )

    def value(self, z: Logits, y: Classes) -> Each:
        z = wide(z)
        above = (z - z.mean(1, keepdim=True) + 1 / (z.shape[1] - 1)).clamp(min=0)
        return above.masked_fill(is_own(z, y), 0).sum(1)

    def minimiser(self, p: Distribution) -> Distribution:
        # 1 for the likeliest class, or the first of several, and -1/(C - 1) for the others.
        classes = p.shape[-1]
        best = F.one_hot(p.argmax(-1), classes).to(p.dtype)
        return (best * classes - 1) / (classes - 1)
