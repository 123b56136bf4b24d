"""Metrics of scores and probabilities: how they order the samples, and how far they can be believed.

Outputs are logits: [N, C, …] of C classes, whose probabilities are their softmax; or, of the labels' shape, of two
classes, whose probability of the label 1 is their sigmoid. Labels of −100 are left out.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.losses import LEFT_OUT, is_own, require_class_labels
from modelspace.metrics._classes import share
from modelspace.metrics._quantities import runs
from modelspace.widest import widest

Outputs = Float[Tensor, "..."]
Labels = Shaped[Tensor, "..."]
Scalar = Float[Tensor, ""]
_BINS = 15


def auroc(outputs: Outputs, labels: Labels) -> Scalar:
    """The area under the ROC curve: how often a sample of a class scores above one of another, equal ones half.

    Args:
        outputs: Logits [N, C]; or [N] of two classes.
        labels: Integer classes [N]; or, of two classes, ±1, or 0 and 1.

    Returns:
        A scalar in [0, 1], 1/2 by chance: of several classes the mean over those that the labels have, each against
        the rest. NaN where the labels are all of one class.

    Example:
        >>> import torch
        >>> auroc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
        tensor(0.7500, dtype=torch.float64)

    Source:
        Hanley & McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
        Radiology 143, 1982: it is the Mann–Whitney statistic.
    """
    scores, own, out = _one_against_rest("auroc", outputs, labels)
    positive, count = own.sum(-1), own.shape[-1] - out
    ordered, order = scores.sort(-1)
    below, upto = runs(ordered)
    above = ((below + upto + 1) / 2 * own.gather(-1, order)).sum(-1) - positive * (out + (positive + 1) / 2)
    areas = above / (positive * (count - positive))
    return areas.nanmean() + 0 * outputs.sum()  # NaN and Inf among the outputs have no rank


def average_precision(outputs: Outputs, labels: Labels) -> Scalar:
    """The area under the curve of precision and recall, Σ (Rₙ − Rₙ₋₁) Pₙ over the thresholds; as ``auroc``.

    Args:
        outputs: As for ``auroc``.
        labels: As for ``auroc``.

    Returns:
        A scalar in [0, 1], the share of positive labels by chance; of several classes the mean over those that the
        labels have.

    Example:
        >>> import torch
        >>> average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
        tensor(0.8333, dtype=torch.float64)
    """
    scores, own, _ = _one_against_rest("average_precision", outputs, labels)
    ordered, order = scores.sort(-1)
    own = own.gather(-1, order)
    # Of each sample, how many and how many positives score at least as much.
    below, _ = runs(ordered)
    positives = nn.functional.pad(own.cumsum(-1), (1, 0))
    at_least, hits = own.shape[-1] - below, positives[..., -1:] - positives.gather(-1, below)
    return ((hits / at_least * own).sum(-1) / own.sum(-1)).nanmean() + 0 * outputs.sum()


def ece(outputs: Outputs, labels: Labels) -> Scalar:
    """The expected calibration error: |accuracy − confidence|, the mean over 15 bins of equal width of confidence.

    Args:
        outputs: Logits, as this module says.
        labels: Integer classes, of which −100 are left out; or, of two classes, ±1, or 0 and 1.

    Returns:
        A scalar in [0, 1]. Biased upwards on few samples: a bin of n samples adds about 1/√n.

    Example:
        >>> import torch
        >>> ece(torch.tensor([[0.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 1]))
        tensor(0.2501, dtype=torch.float64)

    Source:
        Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    if outputs.shape == labels.shape:
        two = torch.where(labels == LEFT_OUT, LEFT_OUT, labels > 0).long()
        outputs, labels = torch.stack([-outputs / 2, outputs / 2], 1), two
    require_class_labels("ece", outputs, labels)
    confidence, found = outputs.to(widest(outputs.device)).softmax(1).max(1)
    counted = (labels != LEFT_OUT).to(confidence.dtype).flatten()
    gap = ((found == labels).to(confidence.dtype) - confidence).flatten() * counted
    place = (confidence * _BINS).nan_to_num(0).long().clamp(max=_BINS - 1).flatten()
    bins = torch.zeros(_BINS, dtype=confidence.dtype, device=outputs.device).scatter_add(0, place, gap)
    return bins.abs().sum() / counted.sum() + 0 * confidence.sum()


def brier(outputs: Outputs, labels: Labels) -> Scalar:
    """The Brier score: of several classes Σ_c (p_c − [c is the label])² in [0, 2], of two (p − y)² in [0, 1].

    Args:
        outputs: Logits, as this module says.
        labels: Integer classes; or, of two classes, ±1, or 0 and 1.

    Source:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """
    kind = widest(outputs.device)
    if outputs.shape == labels.shape:
        return share((outputs.to(kind).sigmoid() - (labels > 0).to(kind)).square(), labels)
    require_class_labels("brier", outputs, labels)
    own = is_own(outputs, labels).to(kind)
    return share((outputs.to(kind).softmax(1) - own).square().sum(1), labels)


def log_loss(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean of −log p of the label, the cross-entropy; labels of −100 are left out.

    Args:
        outputs: Logits, as this module says.
        labels: Integer classes; or, of two classes, ±1, or 0 and 1.
    """
    kind = widest(outputs.device)
    if outputs.shape == labels.shape:
        return share(nn.functional.softplus(torch.where(labels > 0, -outputs, outputs).to(kind)), labels)
    require_class_labels("log_loss", outputs, labels)
    return nn.functional.cross_entropy(outputs.to(kind), labels, ignore_index=LEFT_OUT)


def perplexity(outputs: Outputs, labels: Labels) -> Scalar:
    """The exponential of the mean of −log p of the label: among how many equally likely ones the model is undecided.

    Args:
        outputs: Logits [N, C, ...].
        labels: Integer classes [N, ...], such as tokens, of which −100 are left out.
    """
    return log_loss(outputs, labels).exp()


def _one_against_rest(name: str, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and whether a sample is of the class, [class, sample]; of two classes [sample]; how many are left out.

    Those come last: they are of no class, and score below all others.
    """
    out, kind = labels == LEFT_OUT, widest(outputs.device)
    if outputs.shape == labels.shape:
        scores, own = outputs.to(kind), (labels > 0).to(kind)
    else:
        require_class_labels(name, outputs, labels)
        scores, own = outputs.to(kind).softmax(1), is_own(outputs, labels).to(kind)
        scores, own = (x.movedim(1, 0).flatten(1) for x in (scores, own))
        out = out.flatten()
    return torch.where(out, -torch.inf, scores), own, out.sum(-1)
