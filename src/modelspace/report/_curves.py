"""Curves of losses (value, slope, curvature) and of families (n, FLOP, memory), drawn, and written to files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from modelspace.errors import ModelspaceError
from modelspace.losses import Curve
from modelspace.report._canvas import LIGHT, axis_style, colour, dash, empty_figure, plain_text, stroke
from modelspace.report._document import write_figure

if TYPE_CHECKING:
    from modelspace.family import Family

_PANELS = (("value", "ℓ"), ("slope", "ℓ′"), ("curvature", "ℓ″"))
_QUANTITIES = {
    "n": "n, coordinates",
    "forward_flops": "FLOP forward",
    "backward_flops": "FLOP backward",
    "peak_bytes": "peak bytes of training",
}
# Okabe and Ito's palette, which readers with any colour vision can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#22272d")


def curves_figure(curves: Sequence[Curve], height: int = 380, places: Sequence[int] | None = None) -> Any:
    """Draw three panels: value, slope and curvature of each loss over the same points.

    Args:
        curves: At least one, all of one line.
        height: In pixels.
        places: Which colour each has; in their order where None.

    Returns:
        A plotly ``Figure``.
    """
    figure = empty_figure(height)
    first, small = curves[0], {"size": 12, "color": LIGHT["muted"]}
    # Slope and curvature are drawn with gaps at jumps, which are no values of theirs.
    for panel, (name, symbol) in enumerate(_PANELS):
        axis = "" if not panel else str(panel + 1)
        for at, each in zip(places or range(len(curves)), curves, strict=True):
            values = getattr(each, name)
            figure.add_scatter(
                x=list(each.points),
                y=list(values) if name == "value" else _with_gaps(values),
                mode="lines",
                name=plain_text(each.loss),
                legendgroup=plain_text(each.loss),
                showlegend=not panel,
                line={"color": colour(at), "width": 2, "dash": dash(at), "simplify": False},
                xaxis=f"x{axis}",
                yaxis=f"y{axis}",
                hovertemplate=f"{plain_text(each.loss)}<br>%{{x:.2f}}: %{{y:.4g}}<extra></extra>",
            )
        low, high = _window([getattr(each, name) for each in curves])
        title = f"{name} {symbol.replace('ℓ', 'φ') if first.line == 'margin' else symbol}"
        across = {"domain": (panel * 0.365, panel * 0.365 + 0.27), "anchor": f"y{axis}"}
        figure.layout[f"xaxis{axis}"] = {
            **axis_style(grid=False),
            **across,
            "title": {"text": first.axis, "font": small, "standoff": 10},
        }
        figure.layout[f"yaxis{axis}"] = {
            **axis_style(grid=True),
            "anchor": f"x{axis}",
            "range": [low, high],
            "title": {"text": title, "font": small, "standoff": 4},
            "zeroline": True,
            "zerolinecolor": LIGHT["muted"],
            "zerolinewidth": 1,
        }
        if first.line in ("margin", "two classes"):
            upright = {"x0": 0, "x1": 0, "y0": low, "y1": high, "xref": f"x{axis}", "yref": f"y{axis}"}
            figure.add_shape(type="line", **upright, line=stroke("muted", 1, "dot"))
    return figure


@dataclass(frozen=True)
class ScalingCurve:
    """One quantity of a family against one hyper-parameter, the others fixed.

    Attributes:
        quantity: The table's column.
        axis: The hyper-parameter.
        others: The others with their values, ``depth=2``; empty where there are none.
        x: The hyper-parameter's values, ascending.
        y: The quantity's.
    """

    quantity: str
    axis: str
    others: str
    x: tuple[int, ...]
    y: tuple[int, ...]


def curves_of(family: "Family") -> tuple[ScalingCurve, ...]:
    """Return every curve of a family's table; members that can't be built are left out.

    Args:
        family: The family, whose table is made for it.

    Raises:
        ModelspaceError: no hyper-parameter is an integer.
    """
    if not family.axes.integers:
        raise ModelspaceError(
            f"no hyper-parameter of {family.name} is an integer ({', '.join(family.axes.listed)}): "
            "there is nothing to plot its size against"
        )
    found = []
    for quantity in family.quantities:
        rows = family.table.loc[family.table[quantity].notna()].to_dict("records")
        for axis in family.axes.integers:
            lines: dict[str, dict[int, int]] = {}
            for row in rows:
                others = ", ".join(f"{name}={row[name]}" for name in family.axes.listed if name != axis)
                lines.setdefault(others, {})[int(row[axis])] = int(row[quantity])
            for others, line in lines.items():
                x = tuple(sorted(line))
                found.append(ScalingCurve(quantity, axis, others, x, tuple(line[v] for v in x)))
    return tuple(found)


def scaling_figure(curves: Sequence[ScalingCurve], title: str) -> go.Figure:
    """Draw a panel a quantity and hyper-parameter, both axes logarithmic; a line for each choice of the others.

    Args:
        curves: What is drawn.
        title: The figure's title, shown as plain text.
    """
    quantities = list(dict.fromkeys(c.quantity for c in curves))
    axes = list(dict.fromkeys(c.axis for c in curves))
    figure = make_subplots(rows=len(quantities), cols=len(axes), shared_xaxes=True, shared_yaxes=True)
    for column, axis in enumerate(axes, 1):
        own, name = [c for c in curves if c.axis == axis], plain_text(axis)
        colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(dict.fromkeys(c.others for c in own))}
        for curve in own:
            row = quantities.index(curve.quantity) + 1
            line = go.Scatter(
                x=[*curve.x],
                y=[*curve.y],
                mode="lines+markers",
                name=plain_text(curve.others) or name,
                legendgroup=f"{column} {curve.others}",
                legendgrouptitle={"text": f"against {name}"},
                showlegend=row == 1,
                line={"color": colours[curve.others], "width": 2},
                hovertemplate=f"{name} = %{{x}}<br>%{{y:,}}",
            )
            figure.add_trace(line, row=row, col=column)
        figure.update_xaxes(title_text=name, row=len(quantities), col=column)
    for row, quantity in enumerate(quantities, 1):
        figure.update_yaxes(title_text=_QUANTITIES[quantity], row=row, col=1)
    figure.update_xaxes(type="log", gridcolor=LIGHT["grid"])
    figure.update_yaxes(type="log", gridcolor=LIGHT["grid"], exponentformat="power")
    height = 120 + 260 * len(quantities)
    return figure.update_layout(title_text=plain_text(title), height=height, plot_bgcolor=LIGHT["paper"])


def plot_family(family: "Family", path: str | os.PathLike[str] | None = None) -> go.Figure:
    """Draw a family's scaling plots, and write them as one HTML page that needs no network, or as a picture.

    Args:
        family: The family.
        path: Where it goes, by its ending .html, .png, .svg or .pdf; not written where None.

    Returns:
        The figure.

    Raises:
        ModelspaceError: nothing can be drawn, or the place can't be written to.
    """
    figure = scaling_figure(curves_of(family), family.title)
    if path is not None:
        write_figure(figure, path)
    return figure


def _window(columns: Sequence[Sequence[float]]) -> tuple[float, float]:
    """What an axis shows: everything, unless one loss would flatten the others."""
    lows, highs = [min(c) for c in columns], [max(c) for c in columns]
    low, high = min(lows), max(highs)
    if len(columns) > 1:
        high = min(high, max(2.5 * sorted(highs)[(len(highs) - 1) // 2], 1.0))
        low = max(low, min(2.5 * sorted(lows)[len(lows) // 2], 0.0))
    pad = 0.06 * (high - low) or 0.5
    return low - pad, high + pad


def _with_gaps(values: Sequence[float]) -> list[float | None]:
    """The values, with a gap where they jump: the line between two sides of a kink is no slope of the loss's."""
    span = max(values) - min(values)
    found: list[float | None] = list(values)
    steps = [abs(b - a) for a, b in pairwise(values)]
    for i in range(1, len(steps) - 1):
        around = max(steps[i - 1], steps[i + 1])
        if span and steps[i] > 0.05 * span and steps[i] > 8 * around:
            found[i + 1] = None
    return found
