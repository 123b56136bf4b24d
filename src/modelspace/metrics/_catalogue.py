"""Every metric by name, and what a name, a loss or a function stands for."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import (
    LEFT_OUT,
    Contract,
    Loss,
    Objective,
    anything,
    class_maps,
    kept,
    plus_minus_one,
    zero_one,
)
from modelspace.metrics._classes import (
    accuracy,
    balanced_accuracy,
    dice,
    error,
    iou,
    macro_f1,
    macro_precision,
    macro_recall,
    per_class,
    top_accuracy,
)
from modelspace.metrics._metric import Metric
from modelspace.metrics._probabilities import auroc, average_precision, brier, ece, log_loss, perplexity
from modelspace.metrics._quantities import mae, mape, mse, pearson, r2, rmse, smape, spearman

_OF_A_CLASS = re.compile(r"(f1|precision|recall|iou|dice)_(\d+)")
_TOP = re.compile(r"top_([1-9]\d*)_accuracy")
_PATTERNS = ("f1_2", "precision_2", "recall_2", "iou_2", "dice_2", "top_5_accuracy")  # 2 is the class


def _classes_or_signs(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    (plus_minus_one if outputs.ndim == 1 else class_maps)(name, outputs, kept(labels, LEFT_OUT))


def _classes_or_two(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    labels = kept(labels, LEFT_OUT)
    if outputs.shape == labels.shape:
        (plus_minus_one if bool((labels < 0).any()) else zero_one)(name, outputs, labels)
    else:
        class_maps(name, outputs, labels)


def _of(
    function: Callable[..., Any], contract: Contract = _classes_or_two, *, up: bool = True, mean: bool = False
):
    return Metric(function.__name__, function, up, contract, mean, traceable=True)


METRICS = {
    metric.name: metric
    for metric in (
        _of(accuracy, _classes_or_signs, mean=True),
        _of(error, _classes_or_signs, up=False, mean=True),
        _of(mse, anything, up=False, mean=True),
        _of(mae, anything, up=False, mean=True),
        *map(
            _of,
            (macro_f1, macro_precision, macro_recall, balanced_accuracy, iou, dice, auroc, average_precision),
        ),
        *(_of(function, up=False) for function in (ece, log_loss, perplexity)),
        _of(brier, up=False, mean=True),
        *(_of(function, anything) for function in (r2, pearson, spearman)),
        _of(rmse, anything, up=False),
        _of(mape, anything, up=False, mean=True),
        _of(smape, anything, up=False, mean=True),
    )
}


def named(name: str) -> Metric:
    """Return the metric of a name; of one class, ``f1_2``, or of the k largest outputs, ``top_5_accuracy``.

    Raises:
        ModelspaceError: it is not known.
    """
    if name in METRICS:
        return METRICS[name]
    if match := _OF_A_CLASS.fullmatch(name):
        return Metric(
            name,
            partial(_of_a_class, kind=match[1], index=int(match[2])),
            True,
            _classes_or_two,
            traceable=True,
        )
    if match := _TOP.fullmatch(name):
        return Metric(name, partial(top_accuracy, k=int(match[1])), True, class_maps, True, traceable=True)
    raise unknown_name("metric", name, (*METRICS, *_PATTERNS))


def _of_a_class(outputs: Tensor, labels: Tensor, *, kind: str, index: int) -> Tensor:
    scores = per_class(outputs, labels, kind)
    if index >= len(scores):
        raise ModelspaceError(
            f"metric {kind}_{index} is of class {index}, but the model has {len(scores)}: 0 to "
            f"{len(scores) - 1}"
        )
    return scores[index]


def usual(loss: Loss, classes: int | None) -> list[str]:
    """What is measured beside the loss where nothing else is asked for: the accuracy, where outputs score classes.

    Args:
        loss: The loss; embeddings, ranks and the outputs of regression are no scores of classes.
        classes: How many classes the labels have; None where they are none.

    Example:
        >>> from modelspace import losses
        >>> usual(losses.resolve("hinge"), 10), usual(losses.resolve("triplet"), 10)
        (['accuracy'], [])
    """
    if isinstance(loss, Objective):
        return []
    scored = loss.outputs in (None, "logits", "score", "probability", "log-probability")
    return ["accuracy"] if classes is not None and scored and loss.labels in (None, "class", "sign") else []


def resolve(
    metric: str | Metric | Loss | Callable[[Tensor, Tensor], Tensor],
    *,
    higher_is_better: bool = False,
    left_out: int | None = None,
) -> Metric:
    """The metric that a name, a loss or a callable stands for.

    Args:
        metric: A name of ``METRICS``, ``"f1_2"`` and its like for class 2, or ``"top_5_accuracy"``; a loss; or a
            callable of all outputs and all labels of a split that returns a number. ``"loss"`` is the caller's to
            resolve.
        higher_is_better: The direction of a callable; the others know theirs.
        left_out: The class label that the loss beside it leaves out, so that a metric of this library does too.

    Returns:
        The metric.

    Raises:
        ModelspaceError: If the name is not known, or ``metric`` is neither a name nor a callable.

    Example:
        >>> resolve("accuracy").higher_is_better
        True
    """
    found = _resolved(metric, higher_is_better)
    return found if left_out is None else replace(found, left_out=left_out)


def _resolved(metric: Any, higher_is_better: bool) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, Loss):
        return Metric(metric.name, metric, higher_is_better=False)
    if isinstance(metric, str):
        return named(metric)
    for known in METRICS.values():
        if metric is known.function:
            return known
    if callable(metric):
        return Metric(getattr(metric, "__name__", type(metric).__name__), metric, higher_is_better)
    raise ModelspaceError(
        f"metric is a {type(metric).__name__}: give a name such as 'accuracy', "
        "or a function of outputs and labels"
    )
