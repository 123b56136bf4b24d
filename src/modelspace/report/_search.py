"""A search in figures, each by itself or all on one page: functions from its table to pictures."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.report._canvas import LIGHT, axis_style, empty_figure, plain_text, score_ticks, stroke
from modelspace.report._document import Page, Plot, Section, Table, write_figure
from modelspace.show import number

if TYPE_CHECKING:
    from modelspace.search import Search

_MOST_LINES = 200
_COSTS = {
    "parameters": "coordinates",
    "flops": "FLOP of a batch, forward and backward",
    "memory": "peak bytes",
}
_SAID = {
    "history": "The score of every setting, and the best until then, as they were asked for.",
    "slice": "The score against each parameter, all others as they came.",
    "parallel": "A line a setting across all parameters; its colour is the score.",
    "front": "Score against cost; the line joins the settings that no other beats in both.",
    "importance": "The share of the scores' variance that each parameter explains alone, and its bootstrap error.",
}
_QUICKLY = {"importance": {"resamples": 8}}
_STATES = {"finished": "main", "stopped": "muted"}
_GRID = 40


def plot_search(
    search: "Search", kind: str, path: str | os.PathLike[str] | None = None, **chosen: Any
) -> go.Figure:
    """Draw a search, and write it as one HTML page that needs no network, or as a picture.

    Args:
        search: The search.
        kind: One of ``history``, ``slice``, ``contour``, ``parallel``, ``front`` and ``importance``.
        path: Where it goes, by its ending .html, .png, .svg or .pdf; not written where None.
        **chosen: What the kind takes beside.

    Raises:
        ModelspaceError: an unknown kind or parameter, or the place can't be written to.
    """
    if kind not in _KINDS:
        raise unknown_name("plot", kind, _KINDS)
    figure = _KINDS[kind](search, **chosen)
    if path is not None:
        write_figure(figure, path)
    return figure


def search_page(search: "Search", *, command: str | None = None) -> Page:
    """Return the page of a search: what was found, its figures, and every setting.

    Args:
        search: The search.
        command: The command line to print for a reader who wants to do it again.
    """
    plots = []
    for kind, caption in _SAID.items():
        try:
            said = f"{caption} Its numbers are in the table."
            plots.append(Plot(kind, caption, said, _KINDS[kind](search)))
        except ModelspaceError:  # too few trials, or costs that are not known
            continue
    table = search.table.reset_index()
    rows = [tuple(_cell(value) for value in row) for row in table.itertuples(index=False)]
    facts = [("searched", ", ".join(map(str, search.parameters))), ("data", search.data)]
    facts += [("settings", f"{len(table):,}"), ("members", f"{len(search.members):,}")]
    every = Table("Every setting that was tried", tuple(map(str, table)), rows)
    sections = (
        Section("What was searched", facts=facts + ([("again", command)] if command else [])),
        Section("What it showed", plots=plots),
        Section("Every setting", tables=[every]),
    )
    lines = [line.strip() for line in search.lines()]
    return Page("A search", f"{search.title} on {search.data}", (), sections, highlights=lines)


def _history(search: "Search") -> go.Figure:
    table, figure = search.table, empty_figure(340)
    for state, colour in _STATES.items():
        own = table.loc[table["state"] == state]
        figure.add_scatter(
            x=own.index, y=own["score"], mode="markers", name=state, marker={"color": LIGHT[colour]}
        )
    finished = table["score"].where(table["state"] == "finished")
    best = finished.cummax() if search.higher_is_better else finished.cummin()
    figure.add_scatter(x=table.index, y=best.ffill(), mode="lines", name="best", line=stroke("other", 2))
    figure.update_xaxes(title_text="setting, in the order asked for")
    return _scored(figure, search)


def _slice(search: "Search") -> go.Figure:
    table, names = _finished(search), _varied(search)
    figure = make_subplots(rows=1, cols=max(1, len(names)), shared_yaxes=True)
    for column, name in enumerate(names, 1):
        own = table.loc[table[name].notna()]
        x, axis = _axis(search, name, own)
        dots = {"color": own.index, "colorscale": "Cividis", "size": 7}
        figure.add_scatter(
            x=x, y=own["score"], mode="markers", marker=dots, showlegend=False, row=1, col=column
        )
        figure.update_xaxes(**axis, gridcolor=LIGHT["grid"], row=1, col=column)
    base = empty_figure(320).to_plotly_json()["layout"]
    figure.update_layout({name: value for name, value in base.items() if "axis" not in name})
    for axes, how in ((figure.for_each_xaxis, False), (figure.for_each_yaxis, True)):
        axes(lambda axis, how=how: axis.update({**axis_style(grid=how), "nticks": 4}))
    return _scored(figure, search, row=1, col=1)


def _contour(search: "Search", x: str | None = None, y: str | None = None) -> go.Figure:
    from scipy.interpolate import griddata  # two seconds, which no other figure waits for

    names, asked = _varied(search), [name for name in (x, y) if name is not None]
    for name in asked:
        if name not in names:
            raise unknown_name("parameter", name, names)
    chosen = [*asked, *(name for name in names if name not in asked)][:2]
    table = _finished(search).dropna(subset=chosen)
    if len({*chosen}) < 2 or len(table) < 4:
        raise ModelspaceError("a contour is over two parameters, of at least four settings that have both")
    (across, x_axis), (up, y_axis) = (_axis(search, name, table) for name in chosen)
    lines = [np.linspace(min(values), max(values), _GRID) for values in (across, up)]
    z = griddata(np.stack([across, up], 1), table["score"], tuple(np.meshgrid(*lines)), method="nearest")
    figure = empty_figure(420).update_layout(showlegend=False)
    scale = {"colorscale": "Cividis", "reversescale": not search.higher_is_better}
    figure.add_contour(
        x=lines[0], y=lines[1], z=z, **scale, contours={"coloring": "heatmap"}, hoverinfo="skip"
    )
    hover = [f"setting {i}: {number(s)}" for i, s in zip(table.index, table["score"], strict=True)]
    dots = {"size": 6, "color": LIGHT["paper"], "line": stroke("ink", 1)}
    figure.add_scatter(x=across, y=up, mode="markers", marker=dots, text=hover, hoverinfo="text")
    return figure.update_xaxes(**x_axis).update_yaxes(**y_axis)


def _parallel(search: "Search") -> go.Figure:
    """Draw a line a setting across all parameters, its colour the rank of its score: in SVG, which needs no WebGL."""
    table = _finished(search).sort_values("score", ascending=search.higher_is_better).tail(_MOST_LINES)
    axes = [(*_axis(search, name, table), name) for name in _varied(search)]
    axes.append((table["score"].tolist(), {"title_text": plain_text(search.metric)}, search.metric))
    figure, heights = empty_figure(400), []
    for at, (values, axis, _) in enumerate(axes):
        known = [v for v in axis.get("tickvals", values) if np.isfinite(v)] or [0.0]
        low, high = min(known), max(known)
        heights.append([(v - low) / (high - low) if high > low else 0.5 for v in values])
        texts = axis.get("ticktext") or [number(low), number(high)]
        places = [0.5] if high == low else np.linspace(0, 1, len(texts)).tolist()
        for place, text in zip(places, texts, strict=False):
            figure.add_annotation(
                x=at, y=place, text=text, showarrow=False, xanchor="left", xshift=5, font_size=11
            )
        figure.add_vline(x=at, line=stroke("muted", 1))
    colours = sample_colorscale("Cividis", np.linspace(0, 1, max(2, len(table))))
    for i, (index, line) in enumerate(zip(table.index, zip(*heights, strict=True), strict=True)):
        y = [value if np.isfinite(value) else None for value in line]
        style = {"color": colours[i], "width": 1.5}
        figure.add_scatter(
            y=y, mode="lines", line=style, name=f"setting {index}", hoverinfo="name", showlegend=False
        )
    titles = {"tickvals": list(range(len(axes))), "ticktext": [axis["title_text"] for _, axis, _ in axes]}
    figure.update_xaxes(**titles, range=[-0.15, len(axes) - 0.6], showline=False, ticks="")
    return figure.update_yaxes(visible=False, range=[-0.06, 1.06])


def _front(search: "Search", cost: str = "parameters") -> go.Figure:
    front, table = search.front(cost), _finished(search)
    figure = empty_figure(360)
    hover = [f"setting {i}" for i in table.index]
    figure.add_scatter(
        x=table[cost],
        y=table["score"],
        mode="markers",
        name="settings",
        marker={"color": LIGHT["muted"]},
        text=hover,
    )
    line = {"line": {**stroke("main", 2), "shape": "hv"}, "marker": {"size": 8}}
    figure.add_scatter(x=front[cost], y=front["score"], mode="lines+markers", name="front", **line)
    figure.update_xaxes(title_text=_COSTS[cost], type="log")
    return _scored(figure, search)


def _importance(search: "Search", **how: Any) -> go.Figure:
    table = search.importance(**how).iloc[::-1]
    figure = empty_figure(110 + 34 * len(table))
    names = [plain_text(name) for name in table["parameter"]]
    errors = {"type": "data", "array": table["error"], "color": LIGHT["ink"]}
    figure.add_bar(
        x=table["importance"], y=names, orientation="h", error_x=errors, marker={"color": LIGHT["main"]}
    )
    return figure.update_xaxes(title_text="share of the variance", rangemode="tozero")


_KINDS = {
    "history": _history,
    "slice": _slice,
    "contour": _contour,
    "parallel": _parallel,
    "front": _front,
    "importance": _importance,
}


def _finished(search: "Search") -> pd.DataFrame:
    table = search.table
    return table.loc[table["state"] == "finished"]


def _varied(search: "Search") -> list[str]:
    """The parameters that have more than one value."""
    table = search.table.astype(str)
    return [n for n in dict.fromkeys(p.name for p in search.parameters) if len({*table[n]}) > 1]


def _axis(search: "Search", name: str, table: pd.DataFrame) -> tuple[list[float], dict[str, Any]]:
    """Where the values of a parameter lie, NaN where it was not chosen; and what the axis says."""
    own, values = [p for p in search.parameters if p.name == name], table[name].tolist()
    if all(p.ordered or not isinstance(p.values, tuple) for p in own):
        log = all(getattr(p.values, "log", False) for p in own)
        numbers = np.asarray(values, dtype=np.float64)
        title = plain_text(f"log₁₀ {name}" if log else name)
        return (np.log10(numbers) if log else numbers).tolist(), {"title_text": title}
    choices = list(dict.fromkeys(str(v) for p in own if isinstance(p.values, tuple) for v in p.values))
    places = [float(choices.index(str(v))) if str(v) in choices else np.nan for v in values]
    ticks = {"tickvals": list(range(len(choices))), "ticktext": [plain_text(v) for v in choices]}
    return places, {"title_text": plain_text(name), **ticks}


def _scored(figure: go.Figure, search: "Search", **where: Any) -> go.Figure:
    title = f"validation {plain_text(search.metric.replace('_', ' '))}"
    return figure.update_yaxes(title_text=title, **score_ticks(search.metric), **where)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.6g}"
    return "–" if value is None else str(value)
