"""Losses on equal terms, drawn: accuracies, margins, reliability, robustness."""

import math
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from modelspace.compare import LossComparison, LossResult
from modelspace.report.canvas import LIGHT, axis_style, colour, dash, empty_figure, plain_text, score_ticks
from modelspace.show import score

_ACROSS = 3


def accuracy_figure(found: LossComparison) -> go.Figure:
    """A dot a seed for each loss, with the mean and its 95 % interval."""
    figure = empty_figure(90 + 46 * len(found.results))
    names = [plain_text(each.loss) for each in found.results]
    for i, each in enumerate(found.results):
        known = [(s, a) for s, a in zip(each.seeds, each.accuracies, strict=True) if a is not None]
        figure.add_scatter(
            x=[a for _, a in known],
            y=[i + 0.14 for _ in known],
            mode="markers",
            name="one seed",
            showlegend=not i,
            legendgroup="seed",
            marker={"size": 8, "color": LIGHT["main"], "opacity": 0.55},
            text=[f"{names[i]}, seed {plain_text(s)}: {score(a, 'accuracy')}" for s, a in known],
            hoverinfo="text",
        )
        mean = each.accuracy.mean
        if mean is None:
            continue
        low, high = each.accuracy.interval or (mean, mean)
        reach = (high - low) / 2
        figure.add_scatter(
            x=[mean],
            y=[i - 0.2],
            mode="markers",
            name="mean and its 95 % interval",
            showlegend=not i,
            legendgroup="mean",
            marker={"symbol": "diamond", "size": 9, "color": LIGHT["other"]},
            error_x={"type": "constant", "value": reach, "color": LIGHT["other"], "thickness": 2, "width": 4},
            text=[f"{names[i]}: mean {score(mean, 'accuracy')}"],
            hoverinfo="text",
        )
    figure.update_xaxes(title_text=f"{found.split} accuracy", **score_ticks("accuracy"))
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6], showgrid=True
    )
    return figure


def margins_figure(found: LossComparison) -> go.Figure:
    """The margins' histograms, a panel a loss, each on its own scale."""
    shown = [each for each in found.results if each.margins is not None]
    rows = math.ceil(len(shown) / _ACROSS)
    figure = empty_figure(70 + 180 * rows)
    figure.update_layout(showlegend=False, bargap=0, margin={"t": 30})
    across = min(_ACROSS, len(shown))
    axes: dict[str, Any] = {}
    for i, each in enumerate(shown):
        margins, suffix = each.margins, "" if not i else str(i + 1)
        assert margins is not None
        total = sum(margins.counts)
        edges = margins.edges
        right = [e >= -1e-12 for e in edges[:-1]]
        figure.add_bar(
            x=[(a + b) / 2 for a, b in pairwise(edges)],
            y=[c / total for c in margins.counts],
            width=[b - a for a, b in pairwise(edges)],
            marker={"color": [LIGHT["main"] if r else LIGHT["bad"] for r in right], "line": {"width": 0}},
            xaxis=f"x{suffix}",
            yaxis=f"y{suffix}",
            hovertemplate="margin %{x:.3g}: %{y:.1%}<extra></extra>",
        )
        row, column = divmod(i, _ACROSS)
        gap = 0.28 / rows  # for the ticks below a panel and the title of the next
        width, height = 1 / across, (1 - (rows - 1) * gap) / rows
        left, top = column * width, 1 - row * (height + gap)
        place = {"domain": [left + 0.06 * (column > 0), left + width - 0.02], "anchor": f"y{suffix}"}
        axes[f"xaxis{suffix}"] = {**axis_style(grid=False), **place, "nticks": 6}
        axes[f"yaxis{suffix}"] = {
            **axis_style(grid=True),
            "domain": [max(0.0, top - height), top],
            "anchor": f"x{suffix}",
            "nticks": 4,
            "tickformat": ",.0%",
        }
        figure.add_annotation(
            text=f"{plain_text(each.loss)} · {100 * margins.below_zero:.1f} % below 0",
            x=left + 0.06 * (column > 0),
            y=top,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12.5, "color": LIGHT["ink"]},
        )
    figure.update_layout(axes)
    return figure


def reliability_figure(found: LossComparison) -> go.Figure:
    """How often predictions of a confidence are right, a curve a loss; on the diagonal, perfect calibration."""
    figure = empty_figure(430)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfect",
        line={"color": LIGHT["muted"], "width": 1.2, "dash": "dash"},
        hoverinfo="skip",
    )
    lowest = 1.0
    for i, each in enumerate(found.results):
        if each.calibration is None:
            continue
        known = _bins(each)
        lowest = min([lowest, *(min(c, f) for c, f, _ in known)])
        most = max(n for _, _, n in known)
        figure.add_scatter(
            x=[c for c, _, _ in known],
            y=[f for _, f, _ in known],
            mode="lines+markers",
            name=plain_text(each.loss),
            line={"color": colour(i), "width": 1.8, "dash": dash(i)},
            # The area is the count, so that a bin of three predictions does not look like one of a thousand.
            marker={"color": colour(i), "size": [4 + 12 * math.sqrt(n / most) for _, _, n in known]},
            text=[f"{plain_text(each.loss)}: {n:,} predictions" for _, _, n in known],
            hovertemplate="%{text}<br>confidence %{x:.3f}, happened %{y:.3f}<extra></extra>",
        )
    low = max(0.0, math.floor(10 * lowest - 0.3) / 10)
    figure.update_xaxes(title_text="confidence", range=[low, 1.02], tickformat=",.0%")
    figure.update_yaxes(title_text="how often it happened", range=[low, 1.03], tickformat=",.0%")
    return figure


def noise_figure(found: LossComparison) -> go.Figure:
    """Accuracy against label noise, mean and SD over seeds, a curve a loss."""
    figure = empty_figure(380)
    names = list(dict.fromkeys(each.loss for each in found.noise))
    place = {each.loss: i for i, each in enumerate(found.results)}
    levels = sorted({each.label_noise for each in found.noise})
    step = 0.012 * (levels[-1] - levels[0])
    for k, name in enumerate(names):
        own = [e for e in found.noise if e.loss == name and e.accuracy.mean is not None]
        i = place.get(name, k)
        # Side by side, or the bars of one hide those of another.
        shift = (k - (len(names) - 1) / 2) * step
        figure.add_scatter(
            x=[e.label_noise + shift for e in own],
            y=[e.accuracy.mean for e in own],
            mode="lines+markers",
            name=plain_text(name),
            line={"color": colour(i), "width": 1.8, "dash": dash(i)},
            marker={"size": 7, "color": colour(i)},
            error_y={"array": [e.accuracy.sd or 0.0 for e in own], "thickness": 1.4, "width": 3},
            text=[f"{plain_text(name)} at noise {e.label_noise:g}" for e in own],
            hovertemplate="%{text}: %{y:.2%}<extra></extra>",
        )
    figure.update_xaxes(title_text="label noise: share of training labels replaced", tickvals=levels)
    figure.update_yaxes(title_text=f"{found.split} accuracy", **score_ticks("accuracy"))
    return figure


def _bins(result: LossResult) -> list[tuple[float, float, int]]:
    assert result.calibration is not None
    columns = (result.calibration.confidence, result.calibration.frequency, result.calibration.counts)
    return [(c, f, n) for c, f, n in zip(*columns, strict=True) if c is not None and f is not None]
