"""Metrics of decisions: which class the outputs are largest for, counted against the labels."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses import LEFT_OUT, is_own, require_class_labels, require_same_shape, that_count
from modelspace.widest import widest

Outputs = Float[Tensor, "..."]
Labels = Shaped[Tensor, "..."]
Scalar = Float[Tensor, ""]


def accuracy(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The fraction of labels that the outputs get right.

    Args:
        outputs: Scores [N, C, ...], whose class is the largest over dimension 1; or [N], whose class is the
            sign (an output of exactly 0 is wrong for both).
        labels: Integer classes [N, ...]; or ±1 [N]. Those of −100 are left out.

    Returns:
        A scalar in [0, 1].

    Raises:
        ModelspaceError: If the shapes or the labels' dtype fit neither form.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor(0.5000, dtype=torch.float64)
    """
    if outputs.ndim == 1:
        require_same_shape("accuracy", outputs, labels)
        right = outputs * labels.to(outputs.dtype) > 0
    else:
        require_class_labels("accuracy", outputs, labels)
        right = outputs.argmax(1) == labels
    return share(right, labels)


def share(values: Shaped[Tensor, "..."], labels: Labels) -> Scalar:
    """Return the mean of values, one a label, over the labels that are not left out; NaN where all are.

    In double, so that equal counts of hits are equal shares however the samples were split into batches.
    """
    values = values.to(widest(values.device))
    counted = that_count(labels, LEFT_OUT)
    return values.mean() if counted is None else (values * counted).sum() / counted.sum()


def error(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The fraction of labels that the outputs get wrong, 1 − accuracy.

    Args:
        outputs: As for ``accuracy``.
        labels: As for ``accuracy``.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import torch
        >>> error(torch.tensor([0.3, -0.1, 2.0, 1.0]), torch.tensor([1, 1, 1, 1]))
        tensor(0.2500, dtype=torch.float64)
    """
    return 1 - accuracy(outputs, labels)


def confusion(outputs: Outputs, labels: Labels) -> Float64[Tensor, "class class"]:
    """Count how many labels of each class (row) the outputs take for each class (column).

    Args:
        outputs: Scores [N, C, ...], whose class is the largest over dimension 1; or, of the labels' shape, scores of
            two classes, whose class is the sign.
        labels: Integer classes [N, ...]; or, of two classes, ±1, or 0 and 1. Those of −100 are left out.

    Returns:
        Counts, [C, C].

    Example:
        >>> import torch
        >>> confusion(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 1, 0])).tolist()
        [[0.0, 1.0], [1.0, 1.0]]
    """
    kind = widest(outputs.device)
    if outputs.shape == labels.shape:
        classes, found, own = 2, outputs > 0, labels > 0
        counted = labels != LEFT_OUT
    else:
        require_class_labels("confusion", outputs, labels)
        classes, found, counted = outputs.shape[1], outputs.argmax(1), labels != LEFT_OUT
        own = torch.where(counted, labels, 0)
    places = (own.long() * classes + found.long()).flatten()
    counts = torch.zeros(classes * classes, dtype=kind, device=outputs.device)
    return counts.scatter_add(0, places, counted.flatten().to(kind)).view(classes, classes)


def per_class(outputs: Outputs, labels: Labels, kind: str) -> Float64[Tensor, "class"]:
    """Score each class by itself, one against the rest; NaN where a class is in neither outputs nor labels.

    Args:
        outputs: As for ``confusion``.
        labels: As for ``confusion``.
        kind: ``precision``, TP / (TP + FP); ``recall``, TP / (TP + FN); ``f1``, also called ``dice``,
            2 TP / (2 TP + FP + FN); or ``iou``, TP / (TP + FP + FN). What would be 0 / 0 is 0.

    Example:
        >>> import torch
        >>> per_class(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 1, 0]), "recall")
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    counts = confusion(outputs, labels)
    right, found, own = counts.diagonal(), counts.sum(0), counts.sum(1)
    below = {
        "precision": found,
        "recall": own,
        "f1": (found + own) / 2,
        "dice": (found + own) / 2,
        "iou": found + own - right,
    }[kind]
    scores = torch.where(below > 0, right / below.clamp(min=0.5), 0)
    return torch.where(found + own > 0, scores, torch.nan)


def macro_f1(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean F1 score, 2 TP / (2 TP + FP + FN), over the classes that outputs or labels have.

    Args:
        outputs: As for ``confusion``.
        labels: As for ``confusion``.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import torch
        >>> macro_f1(torch.tensor([2.0, -1.0, 3.0, 1.0]), torch.tensor([1, -1, -1, 1]))
        tensor(0.7333, dtype=torch.float64)
    """
    return per_class(outputs, labels, "f1").nanmean()


def macro_precision(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean precision, TP / (TP + FP), over the classes that outputs or labels have; as ``macro_f1``."""
    return per_class(outputs, labels, "precision").nanmean()


def macro_recall(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean recall, TP / (TP + FN), over the classes that outputs or labels have; as ``macro_f1``."""
    return per_class(outputs, labels, "recall").nanmean()


def balanced_accuracy(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean recall over the classes that the labels have, each as if it were as frequent as the others."""
    counts = confusion(outputs, labels)
    own = counts.sum(1)
    return (counts.diagonal() / own).nanmean()  # 0 / 0 where a class has no labels


def iou(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean intersection over union, TP / (TP + FP + FN), over the classes that outputs or labels have."""
    return per_class(outputs, labels, "iou").nanmean()


def dice(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean Dice coefficient over the classes of a segmentation: ``macro_f1`` over its pixels."""
    return per_class(outputs, labels, "dice").nanmean()


def top_accuracy(outputs: Outputs, labels: Labels, k: int = 5) -> Scalar:
    """The fraction of labels that are among the k largest of the outputs; ``top_5_accuracy`` by name.

    Args:
        outputs: Scores [N, C, ...].
        labels: Integer classes [N, ...], of which −100 are left out.
        k: How many outputs count.
    """
    require_class_labels("top_accuracy", outputs, labels)
    if k >= outputs.shape[1]:
        raise ModelspaceError(
            f"top_{k}_accuracy is 1 for {outputs.shape[1]} classes whatever the model does: lower k"
        )
    own = torch.where(is_own(outputs, labels), outputs, 0).sum(1, keepdim=True)
    return share((outputs > own).sum(1) < k, labels)
