"""The curves of losses drawn: value, slope and curvature side by side."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from modelspace.losses import Curve

_PANELS = (("value", "ℓ"), ("slope", "ℓ′"), ("curvature", "ℓ″"))


def curves_figure(curves: Sequence[Curve], height: int = 380, places: Sequence[int] | None = None) -> Any:
    """Three panels: value, slope and curvature of each loss over the same points.

    Args:
        curves: At least one, all of one line.
        height: In pixels.
        places: Which colour each has; in their order where None.

    Returns:
        A plotly ``Figure``.
    """
    # Here, because plotly takes longer to import than all the rest of this library.
    from modelspace.report import canvas

    figure = canvas.empty_figure(height)
    margin = curves[0].line in ("margin", "two classes")
    # Slope and curvature are drawn with gaps at jumps, which are no values of theirs.
    for panel, (name, symbol) in enumerate(_PANELS):
        axis = "" if not panel else str(panel + 1)
        for at, each in zip(places or range(len(curves)), curves, strict=True):
            values = getattr(each, name)
            figure.add_scatter(
                x=list(each.points),
                y=list(values) if name == "value" else _with_gaps(values),
                mode="lines",
                name=canvas.plain_text(each.loss),
                legendgroup=canvas.plain_text(each.loss),
                showlegend=not panel,
                line={"color": canvas.colour(at), "width": 2, "dash": canvas.dash(at), "simplify": False},
                xaxis=f"x{axis}",
                yaxis=f"y{axis}",
                hovertemplate=f"{canvas.plain_text(each.loss)}<br>%{{x:.2f}}: %{{y:.4g}}<extra></extra>",
            )
        low, high = _window([getattr(each, name) for each in curves])
        title = symbol.replace("ℓ", "φ") if curves[0].line == "margin" else symbol
        place = (panel * 0.365, panel * 0.365 + 0.27)
        axes = {
            f"xaxis{axis}": {
                **canvas.axis_style(grid=False),
                "domain": place,
                "anchor": f"y{axis}",
                "title": {"text": curves[0].axis, "font": {"size": 12, "color": canvas.LIGHT["muted"]}},
            },
            f"yaxis{axis}": {
                **canvas.axis_style(grid=True),
                "anchor": f"x{axis}",
                "range": [low, high],
                "title": {
                    "text": f"{name} {title}",
                    "font": {"size": 12, "color": canvas.LIGHT["muted"]},
                    "standoff": 4,
                },
                "zeroline": True,
                "zerolinecolor": canvas.LIGHT["muted"],
                "zerolinewidth": 1,
            },
        }
        figure.update_layout(axes)
        if margin:
            figure.add_shape(
                type="line",
                x0=0,
                x1=0,
                y0=low,
                y1=high,
                xref=f"x{axis}",
                yref=f"y{axis}",
                line={"color": canvas.LIGHT["muted"], "width": 1, "dash": "dot"},
            )
    return figure


def _window(columns: Sequence[Sequence[float]]) -> tuple[float, float]:
    """What an axis shows: everything, unless one loss would flatten the others."""
    lows, highs = [min(c) for c in columns], [max(c) for c in columns]
    middle = sorted(highs)[(len(highs) - 1) // 2], sorted(lows)[len(lows) // 2]
    high = min(max(highs), max(2.5 * middle[0], 1.0)) if len(columns) > 1 else max(highs)
    low = max(min(lows), min(2.5 * middle[1], 0.0)) if len(columns) > 1 else min(lows)
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
