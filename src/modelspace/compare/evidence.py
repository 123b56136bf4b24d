"""``LossComparison``: what the losses of a run are worth on equal terms, as frozen numbers."""

from dataclasses import dataclass
from html import escape

import pandas as pd

from modelspace.compare.calibration import RESAMPLES, Calibration
from modelspace.compare.margins import Margins
from modelspace.compare.pairs import Pair
from modelspace.runs import Distribution


@dataclass(frozen=True)
class LossResult:
    """One loss at its chosen setting, at the least label noise.

    Attributes:
        loss: Its name.
        setting: The other columns' values, chosen on validation; empty where there are none.
        settings: How many it was chosen among.
        seeds: The members' seeds.
        accuracies: The members' accuracies; None of one that diverged.
        diverged: How many did.
        accuracy: Over the seeds that did not diverge.
        margins: Of these; None where there was no data to evaluate on.
        calibration: Of these; None where the loss has no probabilities, or there was no data.
    """

    loss: str
    setting: str
    settings: int
    seeds: tuple[str, ...]
    accuracies: tuple[float | None, ...]
    diverged: int
    accuracy: Distribution
    margins: Margins | None
    calibration: Calibration | None


@dataclass(frozen=True)
class NoiseResult:
    """One loss trained with a share of wrong labels, measured on right ones.

    Attributes:
        loss: Its name.
        label_noise: The share of training labels that were replaced.
        setting: Chosen on validation at this label noise.
        diverged: Members that diverged.
        accuracy: Over the seeds that did not.
    """

    loss: str
    label_noise: float
    setting: str
    diverged: int
    accuracy: Distribution


@dataclass(frozen=True, repr=False)
class LossComparison:
    """The losses of a run on equal terms.

    Attributes:
        data: The data's name.
        split: Which split of it.
        samples: How many samples that has; None where it is not known.
        label_noise: The label noise that ``results`` and ``pairs`` are at; None where it is no column.
        bins: Of the reliability curves.
        seed: Of the bootstrap over samples.
        results: One a loss, in the run's order.
        pairs: Each loss against each later one.
        noise: Each loss at each label noise; empty where it has fewer than two values.
    """

    data: str
    split: str
    samples: int | None
    label_noise: float | None
    bins: int
    seed: int
    results: tuple[LossResult, ...]
    pairs: tuple[Pair, ...]
    noise: tuple[NoiseResult, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row a loss: setting, accuracy with its spread, margins, calibration; NaN where there is none."""
        rows = []
        for each in self.results:
            margins, calibration = each.margins, each.calibration
            low, high = each.accuracy.interval or (None, None)
            rows.append(
                {
                    "setting": each.setting,
                    "members": len(each.seeds),
                    "diverged": each.diverged,
                    "accuracy": each.accuracy.mean,
                    "sd": each.accuracy.sd,
                    "low": low,
                    "high": high,
                    "margin_median": margins and margins.quantiles[2],
                    "below_zero": margins and margins.below_zero,
                    "ece": calibration and calibration.ece,
                    "ece_sd": calibration and calibration.ece_sd,
                    "ece_error": calibration and calibration.ece_error,
                    "ece_floor": calibration and calibration.ece_floor,
                }
            )
        index = pd.Index([each.loss for each in self.results], name="loss")
        found = pd.DataFrame(rows, index=index)
        numbers = [name for name in found.columns if name not in ("setting", "members", "diverged")]
        return found.astype(dict.fromkeys(numbers, float))

    def __repr__(self) -> str:
        parts = [self.title, aligned(*self.summary())]
        if self.pairs:
            parts += ["", "over the same seeds, A − B", aligned(*self.differences())]
        if self.noise:
            parts += ["", f"{self.split} accuracy against label noise", aligned(*self.robustness())]
        return "\n".join([*parts, "", *self.notes()])

    def _repr_html_(self) -> str:
        tables = [("Losses", self.summary()), ("Over the same seeds, A − B", self.differences())]
        tables += [("Accuracy against label noise", self.robustness())] if self.noise else []
        body = "".join(html_table(caption, *table) for caption, table in tables if table[1])
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes())
        return f"<div><p>{escape(self.title)}</p>{body}{notes}</div>"

    @property
    def title(self) -> str:
        """What is compared on what, in one line."""
        size = f", {self.samples:,} samples" if self.samples is not None else ""
        noise = f", label noise {self.label_noise:g}" if self.label_noise is not None else ""
        return f"{len(self.results)} losses on {self.data} ({self.split}{size}{noise})"

    def summary(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a loss, as text."""
        head = (
            "loss",
            "setting",
            "n",
            "diverged",
            "accuracy ± SD",
            "95 % of the mean",
            "margin < 0",
            "ECE ± error",
        )
        rows = [
            (
                each.loss,
                each.setting or "–",
                str(len(each.seeds)),
                str(each.diverged),
                plus_minus(each.accuracy.mean, each.accuracy.sd),
                interval(*(each.accuracy.interval or (None, None))),
                "–" if each.margins is None else percent(each.margins.below_zero),
                "–"
                if each.calibration is None
                else plus_minus(each.calibration.ece, each.calibration.ece_error),
            )
            for each in self.results
        ]
        return head, rows

    def differences(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a pair of losses, as text."""
        head = ("A", "B", "seeds", "points ± error", "wins", "ties", "losses", "P(A > B)", "95 % interval")
        rows = [
            (
                *(p.a, p.b, str(p.n), points(p.difference, p.error)),
                *(str(p.wins), str(p.ties), str(p.losses)),
                "–" if p.probability is None else f"{p.probability:.2f}",
                "–" if p.interval is None else "{:.2f} – {:.2f}".format(*p.interval),
            )
            for p in self.pairs
        ]
        return head, rows

    def robustness(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a loss, a column a label noise, as text."""
        levels = sorted({each.label_noise for each in self.noise})
        found = {(each.loss, each.label_noise): each.accuracy for each in self.noise}
        head = ("loss", *(f"noise {level:g}" for level in levels))
        rows = []
        for name in dict.fromkeys(each.loss for each in self.noise):
            known = [found.get((name, level)) for level in levels]
            rows.append((name, *("–" if k is None else plus_minus(k.mean, k.sd) for k in known)))
        return head, rows

    def notes(self) -> list[str]:
        """What the numbers are, in sentences."""
        found = ["± SD and the interval of the mean are over seeds, all on the same samples."]
        if any(each.calibration for each in self.results):
            found.append(
                f"ECE ± error: the mean over seeds, and its standard error over test samples ({RESAMPLES} bootstrap "
                "resamples)."
            )
        silent = [
            each.loss for each in self.results if each.margins and not each.calibration and each.accuracy.n
        ]
        if silent:
            found.append(f"No calibration, since they have no probabilities: {', '.join(silent)}.")
        if any(each.settings > 1 for each in self.results):
            found.append("Settings are the best of each loss by median validation accuracy.")
        if self.split == "validation":
            found.append(
                "These are validation accuracies: where a setting was chosen by them, they flatter it."
            )
        return found


def percent(value: float | None) -> str:
    """A share: ``12.3 %``."""
    return "–" if value is None else f"{100 * value:.1f} %"


def plus_minus(value: float | None, error: float | None) -> str:
    """A share with its error, both in percent: ``97.12 ± 0.31 %``."""
    if value is None:
        return "–"
    return f"{100 * value:.2f}" + (" %" if error is None else f" ± {100 * error:.2f} %")


def points(value: float | None, error: float | None) -> str:
    """A difference of shares with its error, in percentage points: ``−0.80 ± 0.12``."""
    if value is None:
        return "–"
    text = f"{100 * value:+.2f}" + ("" if error is None else f" ± {100 * error:.2f}")
    return text.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """An interval of shares, in percent: ``96.8 – 97.4 %``."""
    return "–" if low is None or high is None else f"{100 * low:.1f} – {100 * high:.1f} %"


def aligned(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as text: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    texts = {0, 1} if head[1] in ("setting", "B") else {0}
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in texts else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )


def html_table(caption: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as HTML."""
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{heading}</tr>{body}</table>"
