"""Losses: functions of outputs and labels, with a contract on both."""

from modelspace.losses.lecture import cross_entropy, hinge, least_squares, logistic
from modelspace.losses.loss import Loss
from modelspace.losses.resolve import resolve

__all__ = ["Loss", "cross_entropy", "hinge", "least_squares", "logistic", "resolve"]
