"""Losses on equal terms: figures of accuracy, margins, reliability and robustness, their tables, and the terms."""

import math
from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go

from modelspace.compare import LossComparison
from modelspace.losses import Curve
from modelspace.report._canvas import (
    LIGHT,
    axis_style,
    colour,
    dash,
    empty_figure,
    plain_text,
    score_ticks,
    stroke,
)
from modelspace.report._curves import curves_figure
from modelspace.report._document import Plot, Table
from modelspace.report._record import LossesRecord
from modelspace.show import number, score

_ACROSS = 3
_CURVE_ROWS = 13


def terms(record: LossesRecord | None) -> list[str]:
    """Say on which terms the losses are compared, in sentences."""
    if record is None:
        return []
    if record.comparison is None:
        return [f"The losses can't be compared: {record.problem}."]
    found = record.comparison
    size = f" ({found.samples:,} samples)" if found.samples is not None else ""
    noise = f" at label noise {found.label_noise:g}" if found.label_noise is not None else ""
    line = (
        f"{len(found.results)} losses, the same seeds, data and yardsticks, on the {found.split} split{size}{noise}."
        " Values of different losses are of different units and are not compared."
    )
    return [line, " ".join(found.notes())]


def tables(record: LossesRecord | None) -> list[Table]:
    """Make the tables of the losses, and of each against each other over the same seeds."""
    if record is None or record.comparison is None:
        return []
    found = record.comparison
    shown = [Table(f"Each loss, on the {found.split} split", *found.summary(), 2)]
    if found.pairs:
        caption = (
            "A against B over the same seeds: the mean difference in percentage points with its standard error, and "
            "how often A is better, a tie counted half"
        )
        shown.append(Table(caption, *found.differences(), 2))
    return shown


def plots(record: LossesRecord | None) -> list[Plot]:
    """Draw the section's figures, those that need data first."""
    if record is None:
        return []
    sections = (_accuracy, _margins, _reliability, _noise)
    drawn = [] if record.comparison is None else [p for make in sections for p in make(record.comparison)]
    lines = dict.fromkeys(each.line for each in record.curves)
    return [*drawn, *(_curves(record.curves, line) for line in lines)]


def accuracy_figure(found: LossComparison) -> go.Figure:
    """Draw a dot a seed for each loss, with the mean and its 95 % interval."""
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
    at = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
    return figure.update_yaxes(**at, showgrid=True)


def _accuracy(found: LossComparison) -> list[Plot]:
    if not any(each.accuracy.n for each in found.results):
        return []
    seeds = list(dict.fromkeys(seed for each in found.results for seed in each.seeds))[:200]
    by_seed = [dict(zip(each.seeds, each.accuracies, strict=True)) for each in found.results]
    rows = [(seed, *(score(own.get(seed), "accuracy") for own in by_seed)) for seed in seeds]
    means = "; ".join(f"{e.loss} {score(e.accuracy.mean, 'accuracy')}" for e in found.results)
    return [
        Plot(
            "losses-accuracy",
            f"The {found.split} accuracy of each loss, a dot a seed; above the dots the mean with the 95 % interval "
            "of the mean over seeds.",
            f"Dot plot of the {found.split} accuracy by loss: {means}.",
            accuracy_figure(found),
            (Table("Accuracy by seed and loss", ("seed", *(e.loss for e in found.results)), rows, 1),),
        )
    ]


def margins_figure(found: LossComparison) -> go.Figure:
    """Draw the margins' histograms, a panel a loss, each on its own scale."""
    shown = [(each.loss, each.margins) for each in found.results if each.margins is not None]
    rows, across = math.ceil(len(shown) / _ACROSS), min(_ACROSS, len(shown))
    figure = empty_figure(70 + 180 * rows)
    figure.update_layout(showlegend=False, bargap=0, margin={"t": 30})
    for i, (loss, margins) in enumerate(shown):
        suffix = "" if not i else str(i + 1)
        total, edges = sum(margins.counts), margins.edges
        colours = [LIGHT["main"] if e >= -1e-12 else LIGHT["bad"] for e in edges[:-1]]
        figure.add_bar(
            x=[(a + b) / 2 for a, b in pairwise(edges)],
            y=[c / total for c in margins.counts],
            width=[b - a for a, b in pairwise(edges)],
            marker={"color": colours, "line": {"width": 0}},
            xaxis=f"x{suffix}",
            yaxis=f"y{suffix}",
            hovertemplate="margin %{x:.3g}: %{y:.1%}<extra></extra>",
        )
        row, column = divmod(i, _ACROSS)
        gap = 0.28 / rows  # for the ticks below a panel and the title of the next
        width, height = 1 / across, (1 - (rows - 1) * gap) / rows
        left, top = column * width + 0.06 * (column > 0), 1 - row * (height + gap)
        wide = {"domain": [left, (column + 1) * width - 0.02], "anchor": f"y{suffix}", "nticks": 6}
        high = {"domain": [max(0.0, top - height), top], "anchor": f"x{suffix}", "nticks": 4}
        figure.layout[f"xaxis{suffix}"] = {**axis_style(grid=False), **wide}
        figure.layout[f"yaxis{suffix}"] = {**axis_style(grid=True), **high, "tickformat": ",.0%"}
        figure.add_annotation(
            text=f"{plain_text(loss)} · {100 * margins.below_zero:.1f} % below 0",
            x=left,
            y=top,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12.5, "color": LIGHT["ink"]},
        )
    return figure


def _margins(found: LossComparison) -> list[Plot]:
    known = [(each.loss, each.margins) for each in found.results if each.margins is not None]
    if not known:
        return []
    rows = [(name, *(number(q, 3) for q in m.quantiles), score(m.below_zero, "error")) for name, m in known]
    head = ("loss", "5 %", "25 %", "median", "75 %", "95 %", "below 0")
    shares = "; ".join(f"{name} {100 * m.below_zero:.1f} % below 0" for name, m in known)
    return [
        Plot(
            "losses-margins",
            "Margins: the score of the true class minus the largest other (y·z for labels ±1), all members together; "
            "what is below 0 is wrong. Scores have each loss's own scale: compare shapes and shares, not widths.",
            f"Histograms of the margins, a panel a loss: {shares}.",
            margins_figure(found),
            (Table("Quantiles of the margin, averaged over members", head, rows),),
        )
    ]


def reliability_figure(found: LossComparison) -> go.Figure:
    """Draw how often predictions of a confidence are right; on the diagonal, perfect calibration."""
    figure = empty_figure(430)
    diagonal = stroke("muted", 1.2, "dash")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="perfect", line=diagonal, hoverinfo="skip")
    lowest = 1.0
    for i, each in enumerate(found.results):
        if each.calibration is None:
            continue
        columns = (each.calibration.confidence, each.calibration.frequency, each.calibration.counts)
        known = [(c, f, n) for c, f, n in zip(*columns, strict=True) if c is not None and f is not None]
        lowest = min([lowest, *(min(c, f) for c, f, _ in known)])
        most, name = max(n for _, _, n in known), plain_text(each.loss)
        # The area is the count, so that a bin of three predictions does not look like one of a thousand.
        sizes = [4 + 12 * math.sqrt(n / most) for _, _, n in known]
        figure.add_scatter(
            x=[c for c, _, _ in known],
            y=[f for _, f, _ in known],
            mode="lines+markers",
            name=name,
            line={"color": colour(i), "width": 1.8, "dash": dash(i)},
            marker={"color": colour(i), "size": sizes},
            text=[f"{name}: {n:,} predictions" for _, _, n in known],
            hovertemplate="%{text}<br>confidence %{x:.3f}, happened %{y:.3f}<extra></extra>",
        )
    low = max(0.0, math.floor(10 * lowest - 0.3) / 10)
    figure.update_xaxes(title_text="confidence", range=[low, 1.02], tickformat=",.0%")
    return figure.update_yaxes(title_text="how often it happened", range=[low, 1.03], tickformat=",.0%")


def _reliability(found: LossComparison) -> list[Plot]:
    known = [(each.loss, each.calibration) for each in found.results if each.calibration is not None]
    if not known:
        return []
    share = "accuracy"
    errors = [
        (name, *(score(v, share) for v in (c.ece, c.ece_error, c.ece_sd, c.ece_floor))) for name, c in known
    ]
    bins = [
        (
            name,
            f"{b / found.bins:.2f} – {(b + 1) / found.bins:.2f}",
            score(p, share),
            score(f, share),
            f"{n:,}",
        )
        for name, c in known
        for b, (p, f, n) in enumerate(zip(c.confidence, c.frequency, c.counts, strict=True))
        if n
    ]
    head = ("loss", "ECE", "error over samples", "SD over seeds", "if perfectly calibrated")
    said = "; ".join(f"{name}, calibration error {score(c.ece, share)}" for name, c in known)
    return [
        Plot(
            "losses-reliability",
            "Reliability through each loss's own inverse link: how often predictions of a confidence are right (for "
            "labels ±1: how often a predicted probability of +1 is +1), by bins of the confidence; a dot's area is "
            "the number of predictions. Among classes, a loss below the diagonal is too sure of itself.",
            f"Reliability curves: {said}.",
            reliability_figure(found),
            (
                Table(
                    "Expected calibration error (ECE), and what finitely many samples alone make",
                    head,
                    errors,
                ),
                Table("The bins", ("loss", "confidence in", "mean", "happened", "predictions"), bins, 2),
            ),
        )
    ]


def noise_figure(found: LossComparison) -> go.Figure:
    """Draw accuracy against label noise, mean and SD over seeds, a curve a loss."""
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
    return figure.update_yaxes(title_text=f"{found.split} accuracy", **score_ticks("accuracy"))


def _noise(found: LossComparison) -> list[Plot]:
    if not any(each.accuracy.n for each in found.noise):
        return []
    rows = [
        (
            *(e.loss, e.setting or "–", f"{e.label_noise:g}"),
            *(score(v, "accuracy") for v in (e.accuracy.mean, e.accuracy.sd)),
            *(str(e.accuracy.n), str(e.diverged)),
        )
        for e in found.noise
    ]
    head = ("loss", "setting", "label noise", "mean", "SD", "n", "diverged")
    return [
        Plot(
            "losses-noise",
            f"The {found.split} accuracy against label noise: training labels are wrong, those measured on are right."
            " Mean and standard deviation over seeds, at the setting that is best on validation at that noise.",
            "Line plot of the accuracy against label noise, a line a loss.",
            noise_figure(found),
            (Table("Accuracy against label noise", head, rows, 2),),
        )
    ]


def _curves(everything: Sequence[Curve], line: str) -> Plot:
    # A loss has the colour of its place among all, as in the other figures.
    places = [i for i, each in enumerate(everything) if each.line == line]
    curves = [everything[i] for i in places]
    first, names = curves[0], [each.loss for each in curves]
    step = max(1, (len(first.points) - 1) // (_CURVE_ROWS - 1))
    shown = tuple(
        Table(
            f"{quantity.capitalize()} over the {first.axis}",
            (first.axis.split(",")[0], *names),
            [
                (number(x, 3), *(number(getattr(each, quantity)[i]) for each in curves))
                for i, x in enumerate(first.points)
                if i % step == 0
            ],
            0,
        )
        for quantity in ("value", "slope", "curvature")
    )
    kinds = "φ, φ′, φ″" if first.line == "margin" else "ℓ, ℓ′, ℓ″"
    return Plot(
        f"losses-curves-{first.line.replace(' ', '-')}",
        f"What is minimised, how hard it pulls, how it bends: {kinds} over the {first.axis}. A panel is cut off "
        "where one loss would flatten the others.",
        f"Value, slope and curvature of {', '.join(names)} over the {first.axis}.",
        curves_figure(curves, places=places),
        shown,
    )
