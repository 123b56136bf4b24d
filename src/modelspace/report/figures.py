"""Figures: functions from the record to pictures."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from modelspace.report.canvas import DARK, LIGHT, empty_figure, plain_text, score_ticks
from modelspace.report.record import Band, PairRecord, ReportRecord, Scores, Setting
from modelspace.show import percent_like, score

__all__ = [
    "DARK",
    "LIGHT",
    "curve_figure",
    "path_figure",
    "response_figure",
    "response_map",
    "scores_figure",
]
_C = LIGHT
_MOST_DOTS = 400
_BINS = 28


def response_figure(record: ReportRecord, column: int) -> go.Figure:
    """The validation score against one column, the others at their chosen values."""
    settings = record.slice(column)
    numbers = [s.values[column].number for s in settings]
    log = _logarithmic(record.columns[column], numbers)
    if all(n is not None for n in numbers) and (log or 0 not in numbers):
        settings = sorted(settings, key=lambda s: s.values[column].number or 0.0)
        x: list[Any] = [s.values[column].number for s in settings]
        axis: dict[str, Any] = {"type": "log", "dtick": 1, "minor": _MINOR} if log else {"type": "linear"}
        if log:
            axis |= {"exponentformat": "power", "showexponent": "all"}
    else:
        x = [plain_text(s.values[column].text) for s in settings]
        axis = {"type": "category"}
    low, high = _range([v for s in settings for v in (s.least, s.q1, s.median, s.q3, s.most)], record.metric)
    figure = empty_figure(360)
    rank = [
        (_inside(s.q1, low, high), _inside(s.median, low, high), _inside(s.q3, low, high)) for s in settings
    ]
    figure.add_trace(
        _band(x, [s.least for s in settings], [s.most for s in settings], _C["main_faint"], "range")
    )
    shown = [s.median is not None and math.isfinite(s.median) for s in settings]
    figure.add_trace(
        _band(
            x,
            [r[0] if ok else None for r, ok in zip(rank, shown, strict=True)],
            [r[2] if ok else None for r, ok in zip(rank, shown, strict=True)],
            _C["main_band"],
            "quartiles",
        )
    )
    medians = [s.median if ok else None for s, ok in zip(settings, shown, strict=True)]
    hover = [
        f"{plain_text(record.columns[column])} = {plain_text(s.values[column].text)}"
        f"<br>median {score(s.median, record.metric)}"
        f"<br>quartiles {score(s.q1, record.metric)} – {score(s.q3, record.metric)}"
        f"<br>{s.diverged} of {s.seeds} diverged"
        for s in settings
    ]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=medians,
            mode="lines+markers",
            name="median",
            line={"color": _C["main"], "width": 2},
            marker={"size": 6},
            text=hover,
            hoverinfo="text",
        )
    )
    failed = [i for i, s in enumerate(settings) if s.diverged]
    if failed:
        figure.add_trace(
            go.Scatter(
                x=[x[i] for i in failed],
                y=[low + 0.035 * (high - low)] * len(failed),
                mode="markers+text",
                name="diverged",
                marker={
                    "symbol": "x-thin",
                    "size": 8,
                    "color": _C["bad"],
                    "line": {"width": 2, "color": _C["bad"]},
                },
                text=[f"{settings[i].diverged}/{settings[i].seeds}" for i in failed],
                textposition="top center",
                textfont={"color": _C["bad"], "size": 11},
                hovertext=[hover[i] for i in failed],
                hoverinfo="text",
                cliponaxis=False,
            )
        )
    if record.best is not None and record.response[record.best] in settings:
        at = settings.index(record.response[record.best])
        figure.add_trace(
            go.Scatter(
                x=[x[at]],
                y=[settings[at].median],
                mode="markers",
                name="chosen",
                marker={"symbol": "circle-open", "size": 15, "color": _C["other"], "line": {"width": 2.5}},
                hoverinfo="skip",
            )
        )
    figure.update_xaxes(title_text=plain_text(record.columns[column]), **axis)
    figure.update_yaxes(
        title_text=f"validation {plain_text(record.metric.replace('_', ' '))}",
        range=[low, high],
        **score_ticks(record.metric),
    )
    return figure


def response_map(record: ReportRecord, first: int, second: int) -> go.Figure:
    """The median validation score over two columns, the others at their chosen values."""
    shown = record.slice(first, second)
    across = _ordered([s.values[first] for s in shown])
    down = _ordered([s.values[second] for s in shown])
    cells = {(s.values[first].text, s.values[second].text): s for s in shown}

    def at(i: str, j: str) -> Setting | None:
        return cells.get((i, j))

    z = [[_finite(s.median) if (s := at(i, j)) else None for i in across] for j in down]
    few = len(across) * len(down) <= 80
    text = [[_cell(at(i, j), record.metric) for i in across] for j in down]
    figure = empty_figure(max(260, 110 + 40 * len(down)))
    figure.add_trace(
        go.Heatmap(
            x=[plain_text(t) for t in across],
            y=[plain_text(t) for t in down],
            z=z,
            text=text,
            texttemplate="%{text}" if few else None,
            textfont={"size": 11},
            hovertemplate=f"{plain_text(record.columns[first])} = %{{x}}"
            f"<br>{plain_text(record.columns[second])} = %{{y}}<br>median %{{text}}<extra></extra>",
            colorscale="Cividis",
            reversescale=not record.higher_is_better,
            xgap=2,
            ygap=2,
            colorbar={
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
                **score_ticks(record.metric),
            },
        )
    )
    best = record.response[record.best] if record.best is not None else None
    if best is not None:
        column, row = across.index(best.values[first].text), down.index(best.values[second].text)
        figure.add_shape(
            type="rect",
            x0=column - 0.5,
            x1=column + 0.5,
            y0=row - 0.5,
            y1=row + 0.5,
            line={"color": _C["other"], "width": 3},
        )
    figure.update_xaxes(title_text=plain_text(record.columns[first]), type="category", showgrid=False)
    figure.update_yaxes(title_text=plain_text(record.columns[second]), type="category", showgrid=False)
    return figure


def scores_figure(scores: Scores) -> go.Figure:
    """The headline score's distribution: a dot a member, with mean, SD and quartiles below."""
    summary = scores.summaries[0]
    kept = [m for m in scores.members if m.status != "diverged" and _finite(m.scores[0]) is not None]
    values = [float(m.scores[0] or 0.0) for m in kept]
    figure = empty_figure(330)
    place = _stacks(values)
    counts = Counter(place)
    tallest = max(counts.values())
    if len(values) <= _MOST_DOTS:
        height: Counter[float] = Counter()
        y = []
        order = sorted(range(len(values)), key=lambda k: (place[k], kept[k].seed or 0))
        for k in order:
            y.append(height[place[k]] + 0.5)
            height[place[k]] += 1
        figure.add_trace(
            go.Scatter(
                x=[place[k] for k in order],
                y=y,
                mode="markers",
                name="one seed",
                marker={
                    "size": max(4.0, min(11.0, 190 / tallest)),
                    "color": _C["main"],
                    "line": {"width": 1, "color": _C["paper"]},
                },
                text=[f"seed {kept[k].seed}: {score(values[k], summary.metric)}" for k in order],
                hoverinfo="text",
            )
        )
    else:
        figure.add_trace(
            go.Bar(
                x=list(counts),
                y=list(counts.values()),
                name="seeds",
                marker={"color": _C["main"]},
                hovertemplate="%{y} seeds<extra></extra>",
            )
        )
    strip = -0.09 * max(tallest, 4)
    if summary.mean is not None and summary.sd is not None:
        figure.add_trace(
            go.Scatter(
                x=[summary.mean],
                y=[strip],
                mode="markers",
                name="mean ± SD",
                marker={"symbol": "diamond", "size": 9, "color": _C["other"]},
                error_x={
                    "type": "constant",
                    "value": summary.sd,
                    "color": _C["other"],
                    "thickness": 2,
                    "width": 4,
                },
                hovertext=f"mean {score(summary.mean, summary.metric)}",
                hoverinfo="text",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[summary.q1, summary.q3],
            y=[2.2 * strip] * 2,
            mode="lines",
            name="quartiles",
            line={"color": _C["muted"], "width": 7},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[summary.median],
            y=[2.2 * strip],
            mode="markers",
            name="median",
            marker={"symbol": "line-ns", "size": 9, "line": {"width": 3, "color": _C["ink"]}},
            hovertext=f"median {score(summary.median, summary.metric)}",
            hoverinfo="text",
        )
    )
    reach = [
        values[0] if summary.mean is None else summary.mean + side * (summary.sd or 0.0) for side in (-1, 1)
    ]
    low, high = min(*values, *reach), max(*values, *reach)
    pad = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    figure.update_xaxes(
        title_text=f"{scores.split} {plain_text(summary.metric.replace('_', ' '))}",
        range=[low - pad, high + pad],
        showgrid=False,
        **score_ticks(summary.metric),
    )
    figure.update_yaxes(
        title_text="seeds", range=[3.2 * strip, 1.12 * max(tallest, 4)], tickvals=_counts(tallest)
    )
    return figure


def curve_figure(name: str, band: Band, other: Band | None, titles: tuple[str, str]) -> go.Figure:
    """One training curve: 5–95 % and 25–75 % bands with the median; another run's median dashed."""
    epochs = list(range(1, len(band.q50) + 1))
    figure = empty_figure(250)
    # The page has one legend for all panels.
    figure.update_layout(showlegend=False, margin={"t": 12})
    known = [
        v for v in [*band.q05, *band.q95, *(other.q50 if other else ())] if v is not None and math.isfinite(v)
    ]
    log = not percent_like(name) and bool(known) and min(known) > 0 and max(known) / min(known) > 20
    figure.add_trace(_band(epochs, band.q05, band.q95, _C["main_faint"], "5–95 %"))
    figure.add_trace(_band(epochs, band.q25, band.q75, _C["main_band"], "25–75 %"))
    mode = "lines" if len(epochs) > 2 else "lines+markers"
    if other is not None:
        figure.add_trace(
            go.Scatter(
                x=epochs,
                y=[_finite(v) for v in other.q50],
                mode=mode,
                name=f"median, {titles[1]}",
                line={"color": _C["other"], "width": 1.8, "dash": "dot"},
                hovertemplate=f"{titles[1]} %{{y:.4g}}<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=epochs,
            y=[_finite(v) for v in band.q50],
            mode=mode,
            name=f"median, {titles[0]}",
            line={"color": _C["main"], "width": 2},
            hovertemplate=f"epoch %{{x}}<br>{titles[0]} %{{y:.4g}}<extra></extra>",
        )
    )
    step = max(1, math.ceil(len(epochs) / 5))
    figure.update_xaxes(
        title_text="epoch", tickvals=[1, *range(step, len(epochs) + 1, step)] if step > 1 else epochs
    )
    figure.update_yaxes(nticks=6, **score_ticks(name))
    if log:
        figure.update_yaxes(type="log", dtick="D2" if max(known) / min(known) < 1e3 else 1)
    if len(epochs) == 1:
        figure.update_xaxes(range=[0.5, 1.5])
    return figure


def path_figure(pair: PairRecord) -> go.Figure:
    """The loss along the straight line between two points, against the chord of its ends."""
    figure = empty_figure(330)
    losses = [_finite(v) for v in pair.path_losses]
    ends = [losses[0], losses[-1]]
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=ends,
            mode="lines",
            name="straight between the ends",
            line={"color": _C["muted"], "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=list(pair.path),
            y=losses,
            mode="lines",
            name="loss on the line",
            line={"color": _C["main"], "width": 2.2},
            hovertemplate="α = %{x:.2f}<br>loss %{y:.4g}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=ends,
            mode="markers+text",
            name="the two points",
            text=[plain_text(n) for n in pair.names],
            textposition=["bottom right", "bottom left"],
            marker={"size": 10, "color": _C["main"], "line": {"width": 1.5, "color": _C["paper"]}},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    rises = [
        (v - ((1 - a) * ends[0] + a * ends[1]), a, v)
        for a, v in zip(pair.path, losses, strict=True)
        if v is not None and ends[0] is not None and ends[1] is not None
    ]
    if rises and pair.barrier and math.isfinite(pair.barrier):
        rise, a, v = max(rises)
        figure.add_trace(
            go.Scatter(
                x=[a, a],
                y=[v - rise, v],
                mode="lines+text",
                name="barrier",
                line={"color": _C["other"], "width": 2},
                text=["", f"barrier {pair.barrier:.3g}"],
                textposition="top center",
                textfont={"color": _C["other"]},
                hoverinfo="skip",
            )
        )
        span = max(x for _, _, x in rises) - min(x for _, _, x in rises)
        figure.update_yaxes(range=[min(x for _, _, x in rises) - 0.16 * span, v + 0.2 * span])
    figure.update_xaxes(
        title_text=f"α: (1 − α) · {plain_text(pair.names[0])} + α · {plain_text(pair.names[1])}",
        range=[-0.03, 1.03],
    )
    figure.update_yaxes(title_text=plain_text((pair.loss or "loss").replace("_", " ")))
    return figure


_MINOR = {"ticks": "outside", "ticklen": 3, "tickcolor": _C["grid"], "showgrid": False}


def _stacks(values: list[float]) -> list[float]:
    """Where each dot stands: at its value where values lie far enough apart, else in its bin's middle."""
    low, high = min(values), max(values)
    if low == high:
        return values
    # Accuracies of one count of right answers differ by rounding, and are one stack.
    grain = (high - low) / 2000
    merged = [round((v - low) / grain) * grain + low for v in values]
    distinct = sorted(set(merged))
    if all(b - a >= (high - low) / (2 * _BINS) for a, b in pairwise(distinct)):
        return merged
    width = (high - low) / _BINS
    return [low + (min(int((v - low) / width), _BINS - 1) + 0.5) * width for v in values]


def _band(
    x: Sequence[Any], low: Sequence[float | None], high: Sequence[float | None], colour: str, name: str
) -> go.Scatter:
    """The area between two curves; where either does not exist, a gap."""
    xs: list[Any] = []
    ys: list[float | None] = []
    start = 0
    known = [_finite(a) is not None and _finite(b) is not None for a, b in zip(low, high, strict=True)]
    while start < len(x):
        stop = start
        while stop < len(x) and known[stop]:
            stop += 1
        if stop > start:
            if xs:
                xs.append(None)
                ys.append(None)
            part = slice(start, stop)
            xs += [*x[part], *reversed(x[part]), x[start]]
            ys += [*low[part], *reversed(high[part]), low[start]]
        start = stop + 1
    # The outline is what remains of a band of one point.
    return go.Scatter(
        x=xs,
        y=ys,
        fill="toself",
        fillcolor=colour,
        line={"width": 0 if sum(known) > 1 else 8, "color": colour},
        mode="lines",
        name=name,
        hoverinfo="skip",
    )


def _range(values: Sequence[float | None], metric: str) -> tuple[float, float]:
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if not percent_like(metric):
        # A setting that learnt nothing, or is about to diverge, must not flatten all others.
        middle = sorted(known)[len(known) // 2]
        high = min(high, max(middle + 6 * (middle - low), middle * 1.5))
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - 1.5 * pad, high + pad


def _inside(value: float | None, low: float, high: float) -> float | None:
    return None if value is None else min(max(value, low), high)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _logarithmic(name: str, numbers: Sequence[float | None]) -> bool:
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers) or not known or min(known) <= 0:
        return False
    return name == "lr" or max(known) / min(known) >= 20


def _ordered(values: list[Any]) -> list[str]:
    unique = {v.text: v for v in values}
    if all(v.number is not None for v in unique.values()):
        return sorted(unique, key=lambda t: unique[t].number)
    return list(unique)


def _cell(setting: Setting | None, metric: str) -> str:
    if setting is None or setting.median is None:
        return ""
    if not math.isfinite(setting.median):
        return f"diverged {setting.diverged}/{setting.seeds}"
    if percent_like(metric):
        return f"{100 * setting.median:.1f}"
    return f"{setting.median:.3g}"


def _counts(tallest: int) -> list[int]:
    step = max(1, round(max(tallest, 4) / 4))
    return list(range(0, max(tallest, 4) + 1, step))
