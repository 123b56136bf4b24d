"""Figures: functions from the record to pictures."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from modelspace.compare import Comparison
from modelspace.report._canvas import LIGHT, empty_figure, plain_text, score_ticks, stroke
from modelspace.report._record import Band, ReportRecord, Scores, Setting
from modelspace.show import percent_like, score

_MOST_DOTS = 400
_BINS = 28
_MINOR = {"ticks": "outside", "ticklen": 3, "tickcolor": LIGHT["grid"], "showgrid": False}


def response_figure(record: ReportRecord, column: int) -> go.Figure:
    """Draw the validation score against one column, the others at their chosen values."""
    metric, name = record.metric, plain_text(record.columns[column])
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
    low, high = _range([v for s in settings for v in (s.least, s.q1, s.median, s.q3, s.most)], metric)
    figure = empty_figure(360)
    faint, middle = LIGHT["main_faint"], LIGHT["main_band"]
    figure.add_trace(_band(x, [s.least for s in settings], [s.most for s in settings], faint, "range"))
    medians = [_finite(s.median) for s in settings]
    below, above = (
        [None if m is None else _inside(v, low, high) for m, v in zip(medians, ends, strict=True)]
        for ends in ([s.q1 for s in settings], [s.q3 for s in settings])
    )
    figure.add_trace(_band(x, below, above, middle, "quartiles"))
    hover = [
        f"{name} = {plain_text(s.values[column].text)}<br>median {score(s.median, metric)}"
        f"<br>quartiles {score(s.q1, metric)} – {score(s.q3, metric)}<br>{s.diverged} of {s.seeds} diverged"
        for s in settings
    ]
    style = {"line": stroke("main", 2), "marker": {"size": 6}}
    figure.add_scatter(
        x=x, y=medians, mode="lines+markers", name="median", **style, text=hover, hoverinfo="text"
    )
    failed = [i for i, s in enumerate(settings) if s.diverged]
    if failed:
        cross = {"symbol": "x-thin", "size": 8, "color": LIGHT["bad"], "line": stroke("bad", 2)}
        figure.add_scatter(
            x=[x[i] for i in failed],
            y=[low + 0.035 * (high - low)] * len(failed),
            mode="markers+text",
            name="diverged",
            marker=cross,
            text=[f"{settings[i].diverged}/{settings[i].seeds}" for i in failed],
            textposition="top center",
            textfont={"color": LIGHT["bad"], "size": 11},
            hovertext=[hover[i] for i in failed],
            hoverinfo="text",
            cliponaxis=False,
        )
    if record.best is not None and record.response[record.best] in settings:
        at = settings.index(record.response[record.best])
        ring = {"symbol": "circle-open", "size": 15, "color": LIGHT["other"], "line": {"width": 2.5}}
        place = {"x": [x[at]], "y": [settings[at].median]}
        figure.add_scatter(**place, mode="markers", name="chosen", marker=ring, hoverinfo="skip")
    figure.update_xaxes(title_text=name, **axis)
    title = f"validation {plain_text(metric.replace('_', ' '))}"
    return figure.update_yaxes(title_text=title, range=[low, high], **score_ticks(metric))


def response_map(record: ReportRecord, first: int, second: int) -> go.Figure:
    """Draw the median validation score over two columns, the others at their chosen values."""
    shown = record.slice(first, second)
    across, down = (_ordered([s.values[i] for s in shown]) for i in (first, second))
    names = [plain_text(record.columns[i]) for i in (first, second)]
    cells = {(s.values[first].text, s.values[second].text): s for s in shown}
    rows = [[cells.get((i, j)) for i in across] for j in down]
    bar = {"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11}, **score_ticks(record.metric)}
    figure = empty_figure(max(260, 110 + 40 * len(down)))
    figure.add_heatmap(
        x=[plain_text(t) for t in across],
        y=[plain_text(t) for t in down],
        z=[[s and _finite(s.median) for s in row] for row in rows],
        text=[[_cell(s, record.metric) for s in row] for row in rows],
        texttemplate="%{text}" if len(across) * len(down) <= 80 else None,
        textfont={"size": 11},
        hovertemplate=f"{names[0]} = %{{x}}<br>{names[1]} = %{{y}}<br>median %{{text}}<extra></extra>",
        colorscale="Cividis",
        reversescale=not record.higher_is_better,
        xgap=2,
        ygap=2,
        colorbar=bar,
    )
    if record.best is not None:
        best = record.response[record.best].values
        x, y = across.index(best[first].text) - 0.5, down.index(best[second].text) - 0.5
        figure.add_shape(type="rect", x0=x, x1=x + 1, y0=y, y1=y + 1, line=stroke("other", 3))
    figure.update_xaxes(title_text=names[0], type="category", showgrid=False)
    return figure.update_yaxes(title_text=names[1], type="category", showgrid=False)


def confusion_map(record: ReportRecord) -> go.Figure:
    """Draw the shares of wrong classes; the right ones are left blank."""
    names = [plain_text(each.name) for each in record.classes]
    wrong = [[None if i == j else s for j, s in enumerate(c.taken_for)] for i, c in enumerate(record.classes)]
    figure = empty_figure(max(280, 120 + 24 * len(names)))
    figure.add_heatmap(
        x=names,
        y=names,
        z=wrong,
        text=[
            [f"{100 * share:.1f}" if share >= 0.0005 else "" for share in c.taken_for] for c in record.classes
        ],
        texttemplate="%{text}" if len(names) <= 12 else None,
        textfont={"size": 10},
        hovertemplate="of %{y}, %{text} % are taken for %{x}<extra></extra>",
        colorscale=[[0, "rgba(196,64,28,0)"], [1, LIGHT["bad"]]],
        showscale=False,
        xgap=1,
        ygap=1,
    )
    every = {"type": "category", "showgrid": False, "nticks": len(names)}
    figure.update_xaxes(title_text="taken for", **every)
    return figure.update_yaxes(title_text="label", autorange="reversed", **every)


def scores_figure(scores: Scores) -> go.Figure:
    """Draw the headline score's distribution: a dot a member, with mean, SD and quartiles below."""
    summary = scores.summaries[0]
    metric = summary.metric
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
        size = max(4.0, min(11.0, 190 / tallest))
        dot = {"size": size, "color": LIGHT["main"], "line": stroke("paper", 1)}
        text = [f"seed {kept[k].seed}: {score(values[k], metric)}" for k in order]
        at = {"x": [place[k] for k in order], "y": y}
        figure.add_scatter(**at, mode="markers", name="one seed", marker=dot, text=text, hoverinfo="text")
    else:
        at, hover = {"x": list(counts), "y": list(counts.values())}, "%{y} seeds<extra></extra>"
        figure.add_bar(**at, name="seeds", marker={"color": LIGHT["main"]}, hovertemplate=hover)
    strip = -0.09 * max(tallest, 4)
    if summary.mean is not None and summary.sd is not None:
        error = {
            "type": "constant",
            "value": summary.sd,
            "color": LIGHT["other"],
            "thickness": 2,
            "width": 4,
        }
        figure.add_scatter(
            x=[summary.mean],
            y=[strip],
            mode="markers",
            name="mean ± SD",
            marker={"symbol": "diamond", "size": 9, "color": LIGHT["other"]},
            error_x=error,
            hovertext=f"mean {score(summary.mean, metric)}",
            hoverinfo="text",
        )
    quartiles = {"x": [summary.q1, summary.q3], "y": [2.2 * strip] * 2}
    bar = stroke("muted", 7)
    figure.add_scatter(**quartiles, mode="lines", name="quartiles", line=bar, hoverinfo="skip")
    figure.add_scatter(
        x=[summary.median],
        y=[2.2 * strip],
        mode="markers",
        name="median",
        marker={"symbol": "line-ns", "size": 9, "line": stroke("ink", 3)},
        hovertext=f"median {score(summary.median, metric)}",
        hoverinfo="text",
    )
    reach = (
        [summary.mean + side * (summary.sd or 0.0) for side in (-1, 1)] if summary.mean is not None else []
    )
    low, high = min(*values, *(reach or values)), max(*values, *(reach or values))
    pad = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    title = f"{scores.split} {plain_text(metric.replace('_', ' '))}"
    ends = [low - pad, high + pad]
    figure.update_xaxes(title_text=title, range=ends, showgrid=False, **score_ticks(metric))
    step = max(1, round(max(tallest, 4) / 4))
    ticks = list(range(0, max(tallest, 4) + 1, step))
    return figure.update_yaxes(
        title_text="seeds", range=[3.2 * strip, 1.12 * max(tallest, 4)], tickvals=ticks
    )


def curve_figure(name: str, band: Band, other: Band | None, titles: tuple[str, str]) -> go.Figure:
    """Draw one training curve: 5–95 % and 25–75 % bands with the median; another run's median dashed."""
    epochs = list(range(1, len(band.q50) + 1))
    figure = empty_figure(250)
    # The page has one legend for all panels.
    figure.update_layout(showlegend=False, margin={"t": 12})
    values = [*band.q05, *band.q95, *(other.q50 if other else ())]
    known = [v for v in values if v is not None and math.isfinite(v)]
    log = not percent_like(name) and bool(known) and min(known) > 0 and max(known) / min(known) > 20
    figure.add_trace(_band(epochs, band.q05, band.q95, LIGHT["main_faint"], "5–95 %"))
    figure.add_trace(_band(epochs, band.q25, band.q75, LIGHT["main_band"], "25–75 %"))
    medians = [(titles[0], band, stroke("main", 2), "epoch %{x}<br>")]
    if other is not None:
        medians.insert(0, (titles[1], other, stroke("other", 1.8, "dot"), ""))
    for title, of, line, lead in medians:
        figure.add_scatter(
            x=epochs,
            y=[_finite(v) for v in of.q50],
            mode="lines" if len(epochs) > 2 else "lines+markers",
            name=f"median, {title}",
            line=line,
            hovertemplate=f"{lead}{title} %{{y:.4g}}<extra></extra>",
        )
    step = max(1, math.ceil(len(epochs) / 5))
    ticks = [1, *range(step, len(epochs) + 1, step)] if step > 1 else epochs
    figure.update_xaxes(title_text="epoch", tickvals=ticks)
    figure.update_yaxes(nticks=6, **score_ticks(name))
    if log:
        figure.update_yaxes(type="log", dtick="D2" if max(known) / min(known) < 1e3 else 1)
    if len(epochs) == 1:
        figure.update_xaxes(range=[0.5, 1.5])
    return figure


def path_figure(pair: Comparison) -> go.Figure:
    """Draw the loss along the straight line between two points, against the chord of its ends."""
    figure = empty_figure(330)
    losses = [_finite(v) for v in pair.path_losses]
    names = [plain_text(name) for name in pair.names]
    start, end = losses[0], losses[-1]
    line = {"mode": "lines", "name": "straight between the ends", "line": stroke("muted", 1.5, "dash")}
    figure.add_scatter(x=[0, 1], y=[start, end], **line, hoverinfo="skip")
    line = {"mode": "lines", "name": "loss on the line", "line": stroke("main", 2.2)}
    hover = "α = %{x:.2f}<br>loss %{y:.4g}<extra></extra>"
    figure.add_scatter(x=list(pair.path), y=losses, **line, hovertemplate=hover)
    figure.add_scatter(
        x=[0, 1],
        y=[start, end],
        mode="markers+text",
        name="the two points",
        text=names,
        textposition=["bottom right", "bottom left"],
        marker={"size": 10, "color": LIGHT["main"], "line": stroke("paper", 1.5)},
        hoverinfo="skip",
        showlegend=False,
    )
    rises = [
        (v - ((1 - a) * start + a * end), a, v)
        for a, v in zip(pair.path, losses, strict=True)
        if v is not None and start is not None and end is not None
    ]
    if rises and pair.barrier and math.isfinite(pair.barrier):
        rise, a, v = max(rises)
        figure.add_scatter(
            x=[a, a],
            y=[v - rise, v],
            mode="lines+text",
            name="barrier",
            line=stroke("other", 2),
            text=["", f"barrier {pair.barrier:.3g}"],
            textposition="top center",
            textfont={"color": LIGHT["other"]},
            hoverinfo="skip",
        )
        least = min(x for _, _, x in rises)
        span = max(x for _, _, x in rises) - least
        figure.update_yaxes(range=[least - 0.16 * span, v + 0.2 * span])
    figure.update_xaxes(title_text=f"α: (1 − α) · {names[0]} + α · {names[1]}", range=[-0.03, 1.03])
    return figure.update_yaxes(title_text=plain_text((pair.loss or "loss").replace("_", " ")))


def _stacks(values: list[float]) -> list[float]:
    """Where each dot stands: at its value where values lie far enough apart, else in its bin's middle."""
    low, high = min(values), max(values)
    if low == high:
        return values
    # Accuracies of one count of right answers differ by rounding, and are one stack.
    grain = (high - low) / 2000
    merged = [round((v - low) / grain) * grain + low for v in values]
    if all(b - a >= (high - low) / (2 * _BINS) for a, b in pairwise(sorted(set(merged)))):
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
            gap = [None] if xs else []
            part = slice(start, stop)
            xs += [*gap, *x[part], *reversed(x[part]), x[start]]
            ys += [*gap, *low[part], *reversed(high[part]), low[start]]
        start = stop + 1
    # The outline is what remains of a band of one point.
    line = {"width": 0 if sum(known) > 1 else 8, "color": colour}
    style = {"fill": "toself", "fillcolor": colour, "line": line, "mode": "lines"}
    return go.Scatter(x=xs, y=ys, **style, name=name, hoverinfo="skip")


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
    return f"{100 * setting.median:.1f}" if percent_like(metric) else f"{setting.median:.3g}"
