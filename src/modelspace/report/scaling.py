"""Scaling plots of a family: how n, FLOP and memory grow with each hyper-parameter.

`curves_of` takes the numbers from the family's table, `scaling_figure` draws them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modelspace.family import Family

LABELS = {
    "n": "n, coordinates",
    "forward_flops": "FLOP forward",
    "backward_flops": "FLOP backward",
    "peak_bytes": "peak bytes of training",
}
# Okabe and Ito's palette, which readers with any colour vision can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#22272d")


@dataclass(frozen=True)
class Curve:
    """One quantity against one hyper-parameter, the others fixed.

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


def curves_of(family: "Family") -> tuple[Curve, ...]:
    """Every curve of a family's table; members that can't be built are left out.

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
    table = family.table
    found = []
    for quantity in family.quantities:
        rows = table.loc[table[quantity].notna()].to_dict("records")
        for axis in family.axes.integers:
            lines: dict[str, dict[int, int]] = {}
            for row in rows:
                others = ", ".join(f"{name}={row[name]}" for name in family.axes.listed if name != axis)
                lines.setdefault(others, {})[int(row[axis])] = int(row[quantity])
            for others, line in lines.items():
                x = tuple(sorted(line))
                found.append(Curve(quantity, axis, others, x, tuple(line[v] for v in x)))
    return tuple(found)


def scaling_figure(curves: Sequence[Curve], title: str) -> "go.Figure":
    """A panel for each quantity and hyper-parameter, both axes logarithmic; a line for each choice of the others.

    Args:
        curves: What is drawn.
        title: The figure's title, shown as plain text.
    """
    # Here, because plotly takes longer to import than all the rest of this library.
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    quantities = list(dict.fromkeys(c.quantity for c in curves))
    axes = list(dict.fromkeys(c.axis for c in curves))
    figure = make_subplots(rows=len(quantities), cols=len(axes), shared_xaxes=True, shared_yaxes=True)
    for column, axis in enumerate(axes, 1):
        own = [c for c in curves if c.axis == axis]
        names = dict.fromkeys(c.others for c in own)
        colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
        for curve in own:
            row = quantities.index(curve.quantity) + 1
            figure.add_trace(
                go.Scatter(
                    x=[*curve.x],
                    y=[*curve.y],
                    mode="lines+markers",
                    name=escape(curve.others, quote=False) or escape(axis, quote=False),
                    legendgroup=f"{column} {curve.others}",
                    legendgrouptitle={"text": f"against {escape(axis, quote=False)}"},
                    showlegend=row == 1,
                    line={"color": colours[curve.others], "width": 2},
                    hovertemplate=f"{escape(axis, quote=False)} = %{{x}}<br>%{{y:,}}",
                ),
                row=row,
                col=column,
            )
        figure.update_xaxes(title_text=escape(axis, quote=False), row=len(quantities), col=column)
    for row, quantity in enumerate(quantities, 1):
        figure.update_yaxes(title_text=LABELS[quantity], row=row, col=1)
    figure.update_xaxes(type="log", gridcolor="#e4e7eb")
    figure.update_yaxes(type="log", gridcolor="#e4e7eb", exponentformat="power")
    figure.update_layout(
        title_text=escape(title, quote=False), height=120 + 260 * len(quantities), plot_bgcolor="#fffffe"
    )
    return figure


def plot_family(family: "Family", path: str | os.PathLike[str] | None = None) -> "go.Figure":
    """Draw a family's scaling plots, and write them as one HTML page that needs no network.

    Args:
        family: The family.
        path: Where the page goes, whole or not at all; not written where None.

    Returns:
        The figure.

    Raises:
        ModelspaceError: nothing can be drawn, or the place can't be written to.
    """
    figure = scaling_figure(curves_of(family), family.title)
    if path is not None:
        text = figure.to_html(include_plotlyjs=True, full_html=True)
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return figure
