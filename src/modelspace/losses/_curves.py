"""The curve of a loss: its value, slope and curvature along one line of outputs, as plain numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Loss
from modelspace.losses._given import resolve
from modelspace.losses._margin import MarginLoss
from modelspace.losses._multiclass import MulticlassLoss
from modelspace.losses._regression import RegressionLoss
from modelspace.losses._sets import BinaryCrossEntropy

_POINTS = 401
_LINES = {
    "margin": ("margin v = y·z", -3.0, 3.0),
    "two classes": ("margin z_y − z_c, of two classes", -6.0, 6.0),
    "residual": ("residual z − y", -3.0, 3.0),
    "log of a mean": ("output z, for the label 1", -3.0, 3.0),
    "probability": ("probability z, for the label 1", 0.02, 0.98),
}


@dataclass(frozen=True)
class Curve:
    """A loss along one line of outputs.

    Attributes:
        loss: The loss, with the parameters that are not at their defaults.
        line: What the points are: ``margin``, ``two classes``, ``residual``, ``log of a mean`` or ``probability``.
        axis: The line in words, with its symbol.
        points: Where.
        value: The loss there.
        slope: Its first derivative, at a kink the subgradient that PyTorch takes.
        curvature: Its second derivative; what a kink holds (an infinite curvature at one point) is not in it.
    """

    loss: str
    line: str
    axis: str
    points: tuple[float, ...]
    value: tuple[float, ...]
    slope: tuple[float, ...]
    curvature: tuple[float, ...]


def curve(loss: str | Loss, points: Sequence[float] | None = None) -> Curve:
    """Compute value, slope and curvature of a loss, by automatic differentiation in double precision.

    Margin losses are followed over the margin v of a positive label, φ(v), φ′(v), φ″(v); losses of classes over the
    margin between two classes; losses of a residual over z − y; those of the logarithm of a mean over z for the
    label 1; those of a probability over z for the label 1.

    Args:
        loss: A name of the catalogue, or a loss.
        points: Where, ascending; 401 points from −3 to 3 where None (−6 to 6 for two classes).

    Returns:
        The curve.

    Raises:
        ModelspaceError: an unknown name, or a loss that is no function of one number.

    Example:
        >>> logistic = curve("logistic", [0.0])
        >>> logistic.slope, logistic.curvature
        ((-0.5,), (0.25,))
    """
    given = resolve(loss)
    line = _line(given)
    if line is None:
        raise ModelspaceError(
            f"'{given.name}' has no curve: it is no function of one margin, one residual or one probability"
        )
    name, function = line
    axis, low, high = _LINES[name]
    x = np.linspace(low, high, _POINTS) if points is None else np.asarray(points, dtype=np.float64)
    # Adding 0 turns −0 into 0.
    numbers = (tuple((v + 0.0).tolist()) for v in _derivatives(function, torch.from_numpy(x)))
    return Curve(str(given), name, axis, tuple(x.tolist()), *numbers)


def curves(*losses: str | Loss) -> tuple[Curve, ...]:
    """Compute the curves of several losses over the same points.

    Args:
        *losses: Names of the catalogue, or losses; at least one.

    Raises:
        ModelspaceError: none is given; a loss has no curve; or they are functions of different things.

    Example:
        >>> [drawn.line for drawn in curves("hinge", "logistic")]
        ['margin', 'margin']
    """
    if not losses:
        raise ModelspaceError("no loss to draw: give names, such as 'logistic', 'hinge'")
    drawn = tuple(curve(loss) for loss in losses)
    lines = {one.line: one for one in reversed(drawn)}
    if len(lines) > 1:
        kinds = "; ".join(f"{one.loss} over the {one.axis}" for one in reversed(lines.values()))
        raise ModelspaceError(f"these losses have no axis in common: {kinds}. Draw each kind by itself")
    return drawn


def plot(*losses: str | Loss) -> Any:
    """Draw losses: value, slope and curvature against the margin v, or the residual z − y for regression losses.

    Args:
        *losses: Names of the catalogue, or losses, all functions of the same thing; at least one.

    Returns:
        A plotly ``Figure``.

    Raises:
        ModelspaceError: an unknown name, a loss without a curve, or losses of different kinds.

    Example:
        >>> figure = plot("logistic", "hinge")
        >>> len(figure.data)
        6
    """
    return import_module("modelspace.report").curves_figure(curves(*losses))


def has_curve(loss: Loss) -> bool:
    """Tell whether `curve` knows a line to follow the loss along."""
    return _line(loss) is not None


def _line(loss: Loss) -> tuple[str, Callable[[Tensor], Tensor]] | None:
    if isinstance(loss, MarginLoss):
        return "margin", lambda v: loss.signed(v, torch.ones_like(v))
    if isinstance(loss, MulticlassLoss):
        own = torch.zeros(1, dtype=torch.long)
        return "two classes", lambda v: loss.value(torch.stack([v / 2, -v / 2], 1), own.expand(len(v)))
    if isinstance(loss, RegressionLoss) and loss.outputs == "log-rate":
        return "log of a mean", lambda z: loss.value(z, torch.ones_like(z))
    if isinstance(loss, RegressionLoss):
        return "residual", lambda z: loss.value(z, torch.zeros_like(z))
    if isinstance(loss, BinaryCrossEntropy):
        return "probability", lambda z: loss.per_label(z, torch.ones_like(z))
    return None


def _derivatives(
    function: Callable[[Tensor], Tensor], x: Float64[Tensor, "point"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute f, f′ and f″ at each point; each value depends on its own point alone: a sum's gradient is f′."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        value = function(x)
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        curvature = torch.zeros_like(x)
        if slope.requires_grad:
            (curvature,) = torch.autograd.grad(slope.sum(), x, materialize_grads=True)
    return value.detach(), slope.detach(), curvature.detach()
