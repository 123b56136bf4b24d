"""Losses of labels that are more than a number or a class: a probability, a set, a rank, a teacher's logits."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Loss, Properties, Reals, parameter
from modelspace.losses._checks import (
    kept,
    probabilities,
    received,
    refuse,
    require_columns,
    require_same_shape,
    zero_one,
)
from modelspace.losses._classes import ClassLoss, Counted
from modelspace.losses._numerics import softplus, wide


@dataclass(frozen=True)
class BinaryCrossEntropy(ClassLoss):
    """Cross-entropy of a probability z in [0, 1], with y in {0, 1} or between.

    The logarithms are clamped at −100, as in ``torch.nn.BCELoss``. Prefer ``logistic`` on scores: it needs no clamp.
    With ``weight``, (w₀, w₁), labels are 0 and 1 alone.

    Example:
        >>> BinaryCrossEntropy()(torch.tensor([0.5, 0.0]), torch.tensor([1, 1]), reduction="none")
        tensor([  0.6931, 100.0000])

    Source: Good, "Rational decisions", J. R. Stat. Soc. B 14, 1952 (the logarithmic score).
    """

    outputs = "probability"
    labels = "unit"

    properties = Properties(
        "−[y log z + (1 − y) log(1 − z)]",
        convex=True,
        minimiser="p",
        bound=100,
        proper=True,
        notes="the logarithms are clamped at -100",
    )

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        require_same_shape(self.name, outputs, labels)
        return F.binary_cross_entropy(outputs, labels.to(outputs.dtype), reduction="none")

    def class_count(self, outputs: Reals, labels: Labels) -> int:
        return 2

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        labels = kept(labels, self.ignore_index)
        probabilities(self.name, outputs, labels)
        if self.weight is not None:
            zero_one(self.name, outputs, labels)

    def probability(self, outputs: Reals) -> Reals:
        return outputs

    def minimiser(self, p: Reals) -> Reals:
        """Return p, the probability of 1, itself."""
        return p


def _require_sets(name: str, outputs: Labels, labels: Labels) -> None:
    """Refuse anything but scores [N, C] and multi-hot labels [N, C]."""
    if outputs.ndim == 2 and labels.ndim == 1 and not labels.dtype.is_floating_point:
        raise ModelspaceError(
            f"{name} received labels of shape {list(labels.shape)}: it expects multi-hot labels "
            f"{list(outputs.shape)}, 1 for every class a sample has; one class each becomes that with "
            f"one_hot(labels, {outputs.shape[1]}), or use 'cross_entropy'"
        )
    require_same_shape(name, outputs, labels)
    if outputs.ndim != 2:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)}: it expects [N, C], a score for each class"
        )


@dataclass(frozen=True, eq=False)
class MultilabelLoss(ClassLoss):
    """A loss of scores ``[N, C]`` and the set of classes that each sample has, as 0 and 1 ``[N, C]``.

    With an ``ignore_index`` it may be open whether a sample has a class.

    Example:
        >>> MultilabelLogistic()(torch.tensor([[0.0, 5.0]]), torch.tensor([[1, 0]]), reduction="none")
        tensor([[0.6931, 5.0067]])
    """

    outputs = "score"
    labels = "multi-hot"

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse anything but labels [N, C] of 0 and 1."""
        _require_sets(self.name, outputs, labels)
        zero_one(self.name, outputs, kept(labels, self.ignore_index))


@dataclass(frozen=True)
class MultilabelLogistic(MultilabelLoss):
    """The logistic loss of each of C yes-or-no labels.

    Outputs and labels are ``[N, C]``, and so are the values, one a sample and class. Its mean is
    ``torch.nn.functional.multilabel_soft_margin_loss``; with ``weight`` its sum is that of
    ``torch.nn.BCEWithLogitsLoss`` with ``pos_weight``.
    Source: Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958; of label sets: Boutell,
    Luo, Shen, Brown, "Learning multi-label scene classification", Pattern Recognition 37, 2004 (binary relevance).
    """

    properties = Properties(
        "log(1 + e^(−(2y − 1) z))",
        convex=True,
        lipschitz=1,
        smooth=0.25,
        minimiser="log(p/(1 − p))",
        proper=True,
        notes="of each label by itself: it sees no dependence between the labels of a sample",
    )

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        _require_sets(self.name, outputs, labels)
        return softplus((1 - 2 * labels.to(outputs.dtype)) * outputs)

    def weights(self, values: Reals, outputs: Reals, labels: Labels) -> Reals | None:
        """Return w_c where a sample has the class c, and 1 where not."""
        return (
            None if self.weight is None else torch.where(labels == 1, self.table(values, outputs.shape[1]), 1)
        )

    def probability(self, outputs: Reals) -> Reals:
        """Compute the sigmoid of each score: the probability that a sample has the class."""
        return torch.sigmoid(outputs)

    def minimiser(self, p: Reals) -> Reals:
        """Compute the log-odds of each class."""
        return torch.logit(p)


@dataclass(frozen=True)
class MultilabelRanking(MultilabelLoss):
    """Log-sum-exp of all wrongly ordered pairs of classes; one value a sample.

    Outputs and labels are ``[N, C]``. A sample with no class, or with all, has no pair and a loss of 0. Not where a
    number of classes is to be told: it orders them and sets no threshold.
    Source: Li, Song, Luo, "Improving pairwise ranking for multi-label image classification", CVPR 2017.
    """

    properties = Properties(
        "log(1 + Σ_(a ∉ y) Σ_(b ∈ y) e^(z_a − z_b))",
        convex=True,
        lipschitz=2**0.5,
        smooth=0.5,
        notes="the classes of a sample are coupled, samples are not",
    )

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        _require_sets(self.name, outputs, labels)
        z, has = wide(outputs), labels == 1
        hasnt = ~has
        if counted is not None:
            has, hasnt = has & counted, hasnt & counted
        # The double sum is a product of two. A sum over nothing would be -inf, whose gradient is NaN: 0 stands in.
        none, every = ~has.any(1), ~hasnt.any(1)
        others = torch.logsumexp(z.masked_fill(~hasnt & ~every.unsqueeze(1), -torch.inf), 1)
        own = torch.logsumexp((-z).masked_fill(~has & ~none.unsqueeze(1), -torch.inf), 1)
        return softplus(others + own).masked_fill(none | every, 0)

    def weights(self, values: Reals, outputs: Reals, labels: Labels) -> None:
        if self.weight is not None:
            raise ModelspaceError(
                f"{self.name} has weights, and its values are of pairs of classes: leave weight= out, or use "
                "'multilabel_logistic'"
            )


@dataclass(frozen=True)
class Coral(ClassLoss):
    """The logistic losses of "the rank is above k", summed over k; one value a sample.

    Outputs ``[N, K − 1]``, z_k the log-odds of a rank above k, and ranks ``[N]`` from 0 to K − 1.
    The paper's head gives all z_k one weight vector and a bias each, so that they fall in k; the loss takes any.

    Example:
        >>> Coral()(torch.zeros(1, 4), torch.tensor([2]))
        tensor(2.7726)

    Source: Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural networks with application to age
    estimation", Pattern Recognition Letters 140, 2020.
    """

    outputs = "logits"
    labels = "rank"

    properties = Properties(
        "Σ_(k = 0)^(K−2) log(1 + e^(−(2 [y > k] − 1) z_k))",
        convex=True,
        smooth=0.25,
        minimiser="log(P(y > k)/P(y ≤ k))",
        proper=True,
        notes="with K ranks the Lipschitz constant is sqrt(K - 1)",
    )

    def _require_ranks(self, outputs: Labels, labels: Labels) -> None:
        if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or labels.dtype.is_floating_point:
            raise ModelspaceError(
                f"{received(self.name, outputs, labels)} ({labels.dtype}): it expects cumulative logits [N, K - 1] "
                "and integer ranks [N]"
            )

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        self._require_ranks(outputs, labels)
        above = labels.unsqueeze(1) > torch.arange(outputs.shape[1], device=labels.device)
        z = wide(outputs)
        return softplus(torch.where(above, -z, z)).sum(1)

    def class_count(self, outputs: Reals, labels: Labels) -> int:
        return outputs.shape[1] + 1

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        self._require_ranks(outputs, labels)
        labels = kept(labels, self.ignore_index)
        highest = outputs.shape[1]
        wrong = (labels < 0) | (labels > highest)
        most = max(int(labels.max()), 1)
        expected = f"ranks from 0 to {highest}, one more than its {highest} outputs"
        fix = f"give the model {most} outputs for ranks up to {most}, or number the ranks from 0"
        refuse(self.name, expected, labels, wrong, "labels are others", fix)

    def probability(self, outputs: Reals) -> Reals:
        """Compute the probabilities of the K ranks, ``[N, K]``: what the sigmoids fall by from one k to the next.

        Where they rise instead, the logits contradict each other, and the lower of the two is taken for both.
        """
        above = torch.sigmoid(outputs).cummin(1).values
        ends = above.new_ones(len(above), 1)
        return torch.cat([ends, above], 1) - torch.cat([above, 0 * ends], 1)

    def minimiser(self, p: Float[Tensor, "... rank"]) -> Float[Tensor, "... threshold"]:
        """Compute the log-odds of a rank above k, from the probabilities of the K ranks."""
        return torch.logit(1 - p.cumsum(-1)[..., :-1])


@dataclass(frozen=True)
class Distillation(Loss):
    """The divergence of a student from a teacher, whose logits are the labels.

    Outputs are the student's logits z ``[N, C, …]``, labels the teacher's t of the same shape; one value a sample, or
    a place. T² keeps the gradient's size as T grows; in the limit ℓ is half the mean squared error of the logits,
    each side less its own mean.

    Example:
        >>> Distillation(temperature=1.0)(torch.zeros(1, 2), torch.tensor([[3.0, 0.0]]))
        tensor(0.5023)

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531, 2015.
    """

    outputs = "logits"
    labels = "real"

    temperature: float = parameter(2.0, "temperature", above=0)

    properties = Properties(
        "T² Σ_c q_c log(q_c/p_c), q_c ∝ e^(t_c/T), p_c ∝ e^(z_c/T)",
        convex=True,
        lipschitz=lambda self: 2**0.5 * self.temperature,
        smooth=0.5,
        minimiser="T log E q + const",
    )

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        require_same_shape(self.name, outputs, labels)
        require_columns(self.name, outputs)
        z = wide(outputs)
        student = F.log_softmax(z / self.temperature, 1)
        taught = F.log_softmax(labels.to(z.dtype) / self.temperature, 1)
        return self.temperature**2 * (torch.exp(taught) * (taught - student)).sum(1)

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        if not labels.dtype.is_floating_point:
            raise ModelspaceError(
                f"{self.name} received labels of dtype {labels.dtype}: it expects a teacher's logits, "
                f"{list(outputs.shape)}; use 'cross_entropy' for class labels"
            )
        if not bool(labels.isfinite().all()):
            raise ModelspaceError(
                f"{self.name} expects finite logits of the teacher: {int((~labels.isfinite()).sum())} are not"
            )
        sums = labels.sum(1) if labels.ndim > 1 else labels
        if bool((labels >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
            raise ModelspaceError(
                f"{self.name} expects a teacher's logits, and the labels are probabilities that sum to 1: give "
                "labels.log(), or use 'cross_entropy', which takes probabilities"
            )

    def probability(self, outputs: Reals) -> Reals:
        """Compute the softmax over the classes, at temperature 1."""
        return torch.softmax(outputs, 1)

    def minimiser(self, teachers: Float[Tensor, "teacher class"]) -> Float[Tensor, "class"]:
        """Find the logits that minimise the mean over equally likely teachers: T log of their mean, softened."""
        return self.temperature * torch.log(torch.softmax(teachers / self.temperature, -1).mean(0))
