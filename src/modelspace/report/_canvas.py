"""What every figure is drawn on: the palette, an empty figure in the page's style, axes of a score, text as it is.

Every colour is one of ``LIGHT``; the page's script swaps each for its counterpart in ``DARK``. Both are of
Okabe and Ito's palette, which readers with any colour vision can tell apart.
"""

from html import escape
from typing import Any

import plotly.graph_objects as go

from modelspace.show import percent_like

LIGHT = {
    "ink": "#22272d",
    "muted": "#646c76",
    "grid": "#e4e7eb",
    "paper": "#fffffe",
    "main": "#0072b2",
    "main_band": "rgba(0,114,178,0.26)",
    "main_faint": "rgba(0,114,178,0.11)",
    "other": "#b8630b",
    "bad": "#c4401c",
    "series0": "#0072b3",
    "series1": "#b8630c",
    "series2": "#00805c",
    "series3": "#b0508a",
    "series4": "#3d8fc2",
    "series5": "#8a7a00",
    "series6": "#5a626c",
}
DARK = {
    "ink": "#e6e8eb",
    "muted": "#9aa3ad",
    "grid": "#2b3138",
    "paper": "#14171a",
    "main": "#56b4e9",
    "main_band": "rgba(86,180,233,0.30)",
    "main_faint": "rgba(86,180,233,0.13)",
    "other": "#e8a33d",
    "bad": "#ff8562",
    "series0": "#57b4e9",
    "series1": "#e8a33e",
    "series2": "#2fbf94",
    "series3": "#e39ac4",
    "series4": "#9ad2f2",
    "series5": "#e6d94a",
    "series6": "#aab3bd",
}
_C = LIGHT
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_DASHES = ("solid", "dash", "dot")
_SERIES = [name for name in LIGHT if name.startswith("series")]


def colour(i: int) -> str:
    """The colour of the i-th of several series; they come round again after the last."""
    return LIGHT[_SERIES[i % len(_SERIES)]]


def dash(i: int) -> str:
    """The stroke of the i-th of several series: another one each time the colours come round."""
    return _DASHES[i // len(_SERIES) % len(_DASHES)]


def stroke(name: str, width: float, dash: str | None = None) -> dict[str, Any]:
    """A line of one of the palette's colours; its width in pixels."""
    return {"color": LIGHT[name], "width": width, **({"dash": dash} if dash else {})}


def axis_style(*, grid: bool) -> dict[str, Any]:
    """How an axis looks: with grid lines as a rule upright, with a line and ticks as a rule across."""
    axis = {
        "gridcolor": _C["grid"],
        "linecolor": _C["muted"],
        "tickcolor": _C["muted"],
        "zeroline": False,
        "nticks": 7,
        "automargin": True,
        "title": {"font": {"size": 13, "color": _C["muted"]}, "standoff": 10},
        "tickfont": {"size": 12, "color": _C["muted"]},
        "fixedrange": True,
    }
    if grid:
        return axis
    return {**axis, "showgrid": False, "showline": True, "ticks": "outside", "ticklen": 4}


def empty_figure(height: int) -> go.Figure:
    """A figure in the page's style with nothing on it yet; its height in pixels."""
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 56, "r": 14, "t": 34, "b": 46},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": _FONT, "size": 12.5, "color": _C["ink"]},
            "hoverlabel": {"bgcolor": _C["paper"], "bordercolor": _C["muted"], "font": {"color": _C["ink"]}},
            "hovermode": "closest",
            "dragmode": False,
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "xanchor": "left",
                "yanchor": "bottom",
                "font": {"size": 12, "color": _C["muted"]},
                "itemclick": False,
                "itemdoubleclick": False,
            },
            "xaxis": axis_style(grid=False),
            "yaxis": axis_style(grid=True),
        }
    )


def score_ticks(metric: str) -> dict[str, Any]:
    """Axis settings of a score: a share's ticks are percentages."""
    return {"tickformat": ",.1~%"} if percent_like(metric) else {}


def plain_text(text: str) -> str:
    """Text that plotly shows as it is: it reads a few HTML tags, and no user's string may be one."""
    return escape(text, quote=False)
