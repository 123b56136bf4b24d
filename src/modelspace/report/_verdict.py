"""The page of a verdict: what was compared, pair by pair, and how the interval narrowed."""

import numpy as np
import plotly.graph_objects as go

from modelspace.compare import Pair, Verdict
from modelspace.report._canvas import LIGHT, colour, empty_figure, plain_text, score_ticks, stroke
from modelspace.report._document import Page, Plot, Section, Table
from modelspace.show import score, spread

_ROWS = 200
_POINTS = 200  # of a curve


def verdict_page(verdict: Verdict) -> Page:
    """Return the page of a verdict."""
    variances = verdict.variances()
    by_name = {c.name: c.scores for c in verdict.contestants}
    sections = [
        Section(
            "The contestants",
            verdict.notes(),
            [
                Plot(
                    "scores",
                    f"The {verdict.split} {verdict.metric} of every fresh member, a dot each; a diamond is the mean.",
                    "Dots: the scores of the members of each contestant. Their summary is in the table.",
                    scores_figure(verdict),
                )
            ],
            [Table("Each contestant at its chosen setting", *verdict.summary(), 3)],
        ),
        Section(
            "A against B",
            (),
            [_narrowing(verdict, m, i) for i, m in enumerate(verdict.matches) if m.n],
            [Table("In pairs; intervals and p values as the notes above say", *verdict.duels(), 2)],
        ),
    ]
    if variances[1]:
        words = "In percentage points." if verdict.metric == "accuracy" else "In the score's own unit."
        table = Table("SD that each source of randomness brings, ± its standard error", *variances, 1)
        sections.append(
            Section("What varies", [f"From a crossed design of further members. {words}"], (), [table])
        )
    head = ("pair", *by_name)
    rows = [
        (str(i), *(score(value, verdict.metric) for value in each))
        for i, each in enumerate(list(zip(*by_name.values(), strict=False))[:_ROWS])
    ]
    sections.append(Section("For a paper", [verdict.methods()]))
    sections.append(Section("Every pair", (), (), [Table(f"The first {len(rows)} pairs", head, rows, 0)]))
    said = [verdict.said(match) for match in verdict.matches]
    return Page(f"A verdict on {verdict.data}", " against ".join(by_name), said, sections)


def scores_figure(verdict: Verdict) -> go.Figure:
    """Draw a dot a member for each contestant, and the mean."""
    names = [plain_text(c.name) for c in verdict.contestants]
    figure = empty_figure(90 + 60 * len(names))
    generator = np.random.default_rng(0)  # the dots' places across, so that they don't hide each other
    for i, c in enumerate(verdict.contestants):
        known = [value for value in c.scores if value is not None]
        figure.add_scatter(
            x=known,
            y=i + generator.uniform(-0.25, 0.25, len(known)),
            mode="markers",
            marker={"size": 7, "color": colour(i), "opacity": 0.5},
            text=[f"{names[i]}: {score(value, verdict.metric)}" for value in known],
            hoverinfo="text",
            showlegend=False,
        )
        if c.distribution.mean is not None:
            figure.add_scatter(
                x=[c.distribution.mean],
                y=[i],
                mode="markers",
                marker={"symbol": "diamond", "size": 12, "color": LIGHT["ink"]},
                text=[f"{names[i]}: mean {score(c.distribution.mean, verdict.metric)}"],
                hoverinfo="text",
                showlegend=False,
            )
    figure.update_xaxes(title_text=f"{verdict.split} {verdict.metric}", **score_ticks(verdict.metric))
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    return figure.update_yaxes(**ticks, showgrid=False)


def _narrowing(verdict: Verdict, match: Pair, number: int) -> Plot:
    values = verdict.narrowing(match, _POINTS)
    n, p, low, high = values.T
    figure = empty_figure(320)
    figure.add_scatter(
        x=n, y=high, mode="lines", line=stroke("main_faint", 0), hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=n, y=low, mode="lines", line=stroke("main_faint", 0), fill="tonexty", fillcolor=LIGHT["main_band"],
        name=f"{verdict.percent} % interval", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(x=n, y=p, mode="lines", line=stroke("main", 2), name="P(A > B)")
    for level, words in ((0.5, "as often"), (verdict.threshold, "matters"), (1 - verdict.threshold, "")):
        figure.add_hline(
            y=level,
            line=stroke("muted", 1, "dot"),
            annotation_text=words,
            annotation_font_color=LIGHT["muted"],
        )
    figure.update_xaxes(title_text="pairs").update_yaxes(range=[0, 1])
    kind = "holds at every number of pairs" if verdict.sequential else "is for one look at all pairs"
    caption = (
        f"{match.a} (A) against {match.b} (B): how often A wins, as pairs are drawn. The interval {kind}."
    )
    rows = [(f"{int(r[0])}", *(f"{value:.3f}" for value in r[1:])) for r in values]
    alternative = f"{verdict.said(match)}; A − B is {spread(match.difference, verdict.metric)}."
    table = Table("P(A > B) by the number of pairs", ("pairs", "P(A > B)", "low", "high"), rows, 0)
    return Plot(f"match-{number}", caption, alternative, figure, (table,))
