"""The page's section on losses on equal terms: its figures, its tables, its terms in words."""

from collections.abc import Sequence

from modelspace.compare import LossComparison
from modelspace.losses import Curve
from modelspace.report import losses_figures as drawing
from modelspace.report.losses_curves import curves_figure
from modelspace.report.parts import Plot, Table
from modelspace.report.record import LossesRecord
from modelspace.show import number, score

_CURVE_ROWS = 13
_QUANTITIES = (("value", "Value"), ("slope", "Slope"), ("curvature", "Curvature"))


def terms(record: LossesRecord | None) -> list[str]:
    """On which terms the losses are compared, in sentences."""
    if record is None:
        return []
    if record.comparison is None:
        return [f"The losses can't be compared: {record.problem}."]
    found = record.comparison
    size = f" ({found.samples:,} samples)" if found.samples is not None else ""
    noise = f" at label noise {found.label_noise:g}" if found.label_noise is not None else ""
    lines = [
        f"{len(found.results)} losses, the same seeds, data and yardsticks, on the {found.split} split{size}{noise}."
        " Values of different losses are of different units and are not compared."
    ]
    return [*lines, " ".join(found.notes())]


def tables(record: LossesRecord | None) -> list[Table]:
    """The losses, and each against each other over the same seeds."""
    if record is None or record.comparison is None:
        return []
    found = record.comparison
    head, rows = found.summary()
    shown = [Table(f"Each loss, on the {found.split} split", head, rows, 2)]
    if found.pairs:
        head, rows = found.differences()
        caption = (
            "A against B over the same seeds: the mean difference in percentage points with its standard error, and "
            "how often A is better where they differ"
        )
        shown.append(Table(caption, head, rows, 2))
    return shown


def plots(record: LossesRecord | None) -> list[Plot]:
    """The section's figures, those first that need no data."""
    if record is None:
        return []
    found = record.comparison
    drawn = (
        [] if found is None else [*_accuracy(found), *_margins(found), *_reliability(found), *_noise(found)]
    )
    lines = dict.fromkeys(each.line for each in record.curves)
    return [*drawn, *(_curves(record.curves, line) for line in lines)]


def _accuracy(found: LossComparison) -> list[Plot]:
    if not any(each.accuracy.n for each in found.results):
        return []
    seeds = list(dict.fromkeys(seed for each in found.results for seed in each.seeds))[:200]
    by_seed = [dict(zip(each.seeds, each.accuracies, strict=True)) for each in found.results]
    rows = [(seed, *(score(own.get(seed), "accuracy") for own in by_seed)) for seed in seeds]
    return [
        Plot(
            "losses-accuracy",
            f"The {found.split} accuracy of each loss, a dot a seed; above the dots the mean with the 95 % interval "
            "of the mean over seeds.",
            f"Dot plot of the {found.split} accuracy by loss: "
            + "; ".join(f"{e.loss} {score(e.accuracy.mean, 'accuracy')}" for e in found.results)
            + ".",
            drawing.accuracy_figure(found),
            (Table("Accuracy by seed and loss", ("seed", *(e.loss for e in found.results)), rows, 1),),
        )
    ]


def _margins(found: LossComparison) -> list[Plot]:
    known = [(each.loss, each.margins) for each in found.results if each.margins is not None]
    if not known:
        return []
    rows = [
        (name, *(number(q, 3) for q in margins.quantiles), score(margins.below_zero, "error"))
        for name, margins in known
    ]
    head = ("loss", "5 %", "25 %", "median", "75 %", "95 %", "below 0")
    return [
        Plot(
            "losses-margins",
            "Margins: the score of the true class minus the largest other (y·z for labels ±1), all members together; "
            "what is below 0 is wrong. Scores have each loss's own scale: compare shapes and shares, not widths.",
            "Histograms of the margins, a panel a loss: "
            + "; ".join(f"{name} {100 * m.below_zero:.1f} % below 0" for name, m in known)
            + ".",
            drawing.margins_figure(found),
            (Table("Quantiles of the margin, averaged over members", head, rows),),
        )
    ]


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
    return [
        Plot(
            "losses-reliability",
            "Reliability through each loss's own inverse link: how often predictions of a confidence are right (for "
            "labels ±1: how often a predicted probability of +1 is +1), by bins of the confidence; a dot's area is "
            "the number of predictions. Among classes, a loss below the diagonal is too sure of itself.",
            "Reliability curves: "
            + "; ".join(f"{name}, calibration error {score(c.ece, share)}" for name, c in known)
            + ".",
            drawing.reliability_figure(found),
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


def _noise(found: LossComparison) -> list[Plot]:
    if not any(each.accuracy.n for each in found.noise):
        return []
    rows = [
        (
            each.loss,
            each.setting or "–",
            f"{each.label_noise:g}",
            *(score(v, "accuracy") for v in (each.accuracy.mean, each.accuracy.sd)),
            str(each.accuracy.n),
            str(each.diverged),
        )
        for each in found.noise
    ]
    head = ("loss", "setting", "label noise", "mean", "SD", "n", "diverged")
    return [
        Plot(
            "losses-noise",
            f"The {found.split} accuracy against label noise: training labels are wrong, those measured on are right."
            " Mean and standard deviation over seeds, at the setting that is best on validation at that noise.",
            "Line plot of the accuracy against label noise, a line a loss.",
            drawing.noise_figure(found),
            (Table("Accuracy against label noise", head, rows, 2),),
        )
    ]


def _curves(everything: Sequence[Curve], line: str) -> Plot:
    # A loss has the colour of its place among all, as in the other figures.
    places = [i for i, each in enumerate(everything) if each.line == line]
    curves = [everything[i] for i in places]
    first = curves[0]
    step = max(1, (len(first.points) - 1) // (_CURVE_ROWS - 1))
    names = [each.loss for each in curves]
    shown = tuple(
        Table(
            f"{title} over the {first.axis}",
            (first.axis.split(",")[0], *names),
            [
                (number(x, 3), *(number(getattr(each, name)[i], 4) for each in curves))
                for i, x in enumerate(first.points)
                if i % step == 0
            ],
            0,
        )
        for name, title in _QUANTITIES
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
