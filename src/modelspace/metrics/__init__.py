"""Metrics: how good the outputs of a split are for its labels, for reading rather than for training."""

from modelspace.metrics._catalogue import METRICS, resolve, usual
from modelspace.metrics._classes import (
    accuracy,
    balanced_accuracy,
    confusion,
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

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "confusion",
    "dice",
    "ece",
    "error",
    "iou",
    "log_loss",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "mae",
    "mape",
    "mse",
    "pearson",
    "per_class",
    "perplexity",
    "r2",
    "resolve",
    "rmse",
    "smape",
    "spearman",
    "top_accuracy",
    "usual",
]
