"""``ms.losses.plot``: losses drawn; the drawing is the report's."""

from importlib import import_module
from typing import Any

from modelspace.losses.curves import curves
from modelspace.losses.loss import Loss


def plot(*losses: str | Loss) -> Any:
    """Three panels, value, slope and curvature, against the margin v, or the residual z − y for regression losses.

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
