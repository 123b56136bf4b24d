"""The curve of a loss: its value, slope and curvature along one line of outputs, as plain numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.binary import BinaryCrossEntropy
from modelspace.losses.loss import Loss
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.multiclass.base import MulticlassLoss
from modelspace.losses.regression.base import RegressionLoss
from modelspace.losses.resolve import resolve

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
    """Value, slope and curvature of a loss, by automatic differentiation in double precision.

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
        >>> found = curve("logistic", [0.0])
        >>> found.slope, found.curvature
        ((-0.5,), (0.25,))
    """
    given = resolve(loss)
    line, function = _line(given)
    axis, low, high = _LINES[line]
    x = np.linspace(low, high, _POINTS) if points is None else np.asarray(points, dtype=np.float64)
    value, slope, curvature = _derivatives(function, torch.from_numpy(x))
    # Adding 0 turns −0 into 0.
    numbers = (tuple((v + 0.0).tolist()) for v in (value, slope, curvature))
    return Curve(str(given), line, axis, tuple(x.tolist()), *numbers)


def curves(*losses: str | Loss) -> tuple[Curve, ...]:
    """The curves of several losses over the same points.

    Args:
        *losses: Names of the catalogue, or losses; at least one.

    Raises:
        ModelspaceError: none is given; a loss has no curve; or they are functions of different things.

    Example:
        >>> [each.line for each in curves("hinge", "logistic")]
        ['margin', 'margin']
    """
    if not losses:
        raise ModelspaceError("no loss to draw: give names, such as 'logistic', 'hinge'")
    found = tuple(curve(loss) for loss in losses)
    lines = {each.line: each for each in reversed(found)}
    if len(lines) > 1:
        each = "; ".join(f"{c.loss} over the {c.axis}" for c in reversed(lines.values()))
        raise ModelspaceError(f"these losses have no axis in common: {each}. Draw each kind by itself")
    return found


def has_curve(loss: Loss) -> bool:
    """Whether `curve` knows a line to follow the loss along."""
    known = MarginLoss | MulticlassLoss | RegressionLoss | BinaryCrossEntropy
    return isinstance(loss, known)


def _line(loss: Loss) -> tuple[str, Callable[[Tensor], Tensor]]:
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
        return "probability", lambda z: loss.each(z, torch.ones_like(z))
    raise ModelspaceError(
        f"'{loss.name}' has no curve: it is no function of one margin, one residual or one probability"
    )


def _derivatives(
    function: Callable[[Tensor], Tensor], x: Float64[Tensor, "point"]
) -> tuple[Tensor, Tensor, Tensor]:
    """f, f′ and f″ at each point; each value depends on its own point alone, so that a sum's gradient is f′."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        value = function(x)
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        curvature = torch.zeros_like(x)
        if slope.requires_grad:
            (curvature,) = torch.autograd.grad(slope.sum(), x, materialize_grads=True)
    return value.detach(), slope.detach(), curvature.detach()
