"""``Verdict``: which of some contestants is better, as frozen numbers with their n: for a terminal and a paper."""

import os
from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from modelspace.compare.evidence import aligned, html_table
from modelspace.compare.pairs import Pair
from modelspace.compare.superiority import exact_interval, sequential_interval
from modelspace.runs import Distribution
from modelspace.show import number, score, setting_text, spread

_SOURCES = {"seed": "initialisation", "data_seed": "data order", "split": "division of the data"}
_SIGNS = {"±": "$\\pm$", "–": "--", "−": "$-$", ">": "$>$", "<": "$<$", "×": "$\\times$"}
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | _SIGNS)


@dataclass(frozen=True)
class Contestant:
    """What was compared: a way to train, at the setting that was chosen for it.

    Attributes:
        name: What it is called.
        setting: The columns' values, chosen on validation.
        settings: How many they were chosen among.
        tuned: Members that were trained to choose; 0 where there was nothing to choose.
        scores: Of each pair's member; None of one that diverged.
        distribution: Of these.
        test_noise: The SD over seeds that the split's size alone predicts, of an accuracy: √(err (1 − err)/n) where
            each pair has samples of its own, √(err/(2n)) where all share them; None of another score.
        disagreement: The share of samples on which two seeds differ, to be held against the error, which it equals
            where the ensemble is calibrated; None where it was not measured.
        components: By source of randomness: the variance that it brings, and its standard error; empty where they
            were not measured.
    """

    name: str
    setting: dict[str, Any]
    settings: int
    tuned: int
    scores: tuple[float | None, ...]
    distribution: Distribution
    test_noise: float | None
    disagreement: float | None
    components: dict[str, tuple[float, float]]

    @property
    def at(self) -> str:
        """The setting in words: ``lr = 0.01``; a dash where there is none."""
        return setting_text(self.setting) or "–"


@dataclass(frozen=True, repr=False)
class Verdict:
    """Which of some contestants is better, and how sure that is.

    Attributes:
        data: The data's name.
        split: Which split the scores are of.
        samples: How many samples a member is scored on; None where it is not known.
        metric: The score.
        higher_is_better: Its direction.
        vary: What was drawn anew for each pair: ``seed``, ``data_seed``, ``split``; or a run's own columns.
        threshold: The P(A > B) from which a difference matters.
        equal_within: In the score's unit, the difference that counts as none; None where only P was asked for.
        level: Of intervals and tests.
        sequential: Whether drawing stopped when the verdict stood; intervals then cover whenever it stops.
        contestants: What was compared, in the order given.
        matches: Each against each later one; of more than two, p values are Holm's and intervals Bonferroni's.
        test_per_train: Samples scored on for each that is trained on, where the data were divided anew; else None.
        seconds: That it took.
    """

    data: str
    split: str
    samples: int | None
    metric: str
    higher_is_better: bool
    vary: tuple[str, ...]
    threshold: float
    equal_within: float | None
    level: float
    sequential: bool
    contestants: tuple[Contestant, ...]
    matches: tuple[Pair, ...]
    test_per_train: float | None
    seconds: float

    @property
    def match(self) -> Pair:
        """The two that matter most: of more than two contestants, the best two by the mean of their scores."""
        if len(self.matches) == 1:
            return self.matches[0]
        sign = -1 if self.higher_is_better else 1
        worst = float("inf")
        means = {
            c.name: worst if c.distribution.mean is None else sign * c.distribution.mean
            for c in self.contestants
        }
        best = set(sorted(means, key=lambda name: means[name])[:2])
        return next(m for m in self.matches if {m.a, m.b} == best)

    @property
    def verdict(self) -> str:
        """``A``, ``B``, ``equal`` or ``not separable``, of ``match``."""
        return self.match.verdict

    @property
    def p(self) -> float | None:
        """P(A > B) of ``match``, a tie counted half."""
        return self.match.probability

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``p``."""
        return self.match.interval

    @property
    def difference(self) -> float | None:
        """Mean of A − B, of ``match``."""
        return self.match.difference

    @property
    def pairs(self) -> int:
        """How many pairs were drawn."""
        return self.match.n

    @property
    def more_pairs(self) -> int | None:
        """About how many more a verdict takes; 0 where it stands."""
        return self.match.more_pairs

    @property
    def test_noise(self) -> float | None:
        """The SD over seeds that the split's size predicts, over all contestants."""
        return _rms([c.test_noise for c in self.contestants])

    @property
    def seed_noise(self) -> float | None:
        """The SD that was seen, over all contestants."""
        return _rms([c.distribution.sd for c in self.contestants])

    @property
    def new_data_error(self) -> float | None:
        """The standard error of ``difference`` for other data of this kind, where divisions overlap.

        SD · √(1/k + n_test/n_train), since k divisions of one data set are not k data sets; None where the data were
        not divided anew.

        Source:
            Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52, 2003.
        """
        if self.test_per_train is None or self.match.error is None:
            return None
        return self.match.error * (1 + self.match.finished * self.test_per_train) ** 0.5

    @property
    def table(self) -> pd.DataFrame:
        """A row a contestant: setting, members, diverged, mean, SD, quartiles, noises."""
        rows = [
            {
                "setting": c.at,
                "settings": c.settings,
                "tuned": c.tuned,
                "n": c.distribution.n,
                "diverged": c.distribution.diverged,
                **{name: getattr(c.distribution, name) for name in ("mean", "sd", "q1", "median", "q3")},
                "test_noise": c.test_noise,
                "disagreement": c.disagreement,
            }
            for c in self.contestants
        ]
        return pd.DataFrame(rows, index=pd.Index([c.name for c in self.contestants], name="contestant"))

    def said(self, match: Pair | None = None) -> str:
        """The verdict of a match, of the first where None, in a sentence."""
        m = match or self.match
        if m.interval is None or m.probability is None:
            return f"{m.a} and {m.b} have no pair in common"
        how = f"P(A > B) = {m.probability:.2f}, {m.interval[0]:.2f} to {m.interval[1]:.2f}, {m.n} pairs"
        if m.better:
            other = m.b if m.better == m.a else m.a
            return f"{m.better} is better than {other} ({how})"
        if m.verdict == "equal":
            within = f"neither wins {100 * self.threshold:.0f} % of pairs"
            low, high = m.interval
            if not (low >= 1 - self.threshold and high <= self.threshold):
                within = f"they differ by less than {spread(self.equal_within, self.metric)}"
            return f"{m.a} and {m.b} are equal: {within} ({how})"
        more = "more than 10⁷" if m.more_pairs is None else f"about {m.more_pairs:,}"
        return f"{m.a} and {m.b} are not separable: {more} more pairs would tell ({how})"

    def narrowing(self, match: Pair, points: int = 200) -> np.ndarray:
        """Return how a match's interval narrowed as pairs were drawn.

        Args:
            match: One of ``matches``.
            points: The most that are returned, evenly spaced.

        Returns:
            ``[points, 4]``: pairs, P(A > B), and the interval's ends.
        """
        sign = 1 if self.higher_is_better else -1
        by_name = {c.name: np.array(c.scores, dtype=np.float64) for c in self.contestants}
        a, b = (np.nan_to_num(sign * by_name[name], nan=-np.inf) for name in (match.a, match.b))
        a, b = a[: match.n], b[: match.n]
        won, n = np.cumsum((a > b) + 0.5 * (a == b)), np.arange(1, match.n + 1)
        shown = np.unique(np.linspace(0, match.n - 1, min(points, match.n)).astype(int))
        interval = sequential_interval if self.sequential else exact_interval
        ends = interval(won[shown], n[shown], (1 - self.level) / len(self.matches))
        return np.stack([n[shown], won[shown] / n[shown], *ends], 1)

    def summary(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a contestant, as text."""
        head = (
            "contestant",
            "setting",
            "tuned on",
            "n",
            "diverged",
            f"{self.split} {self.metric} ± SD",
            "test noise",
        )
        rows = [
            (
                c.name,
                c.at,
                f"{c.tuned} members, {c.settings} settings" if c.tuned else "–",
                str(c.distribution.n),
                str(c.distribution.diverged),
                f"{score(c.distribution.mean, self.metric)} ± {spread(c.distribution.sd, self.metric)}",
                spread(c.test_noise, self.metric),
            )
            for c in self.contestants
        ]
        return head, rows

    def duels(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a match, as text."""
        head = (
            "A",
            "B",
            "pairs",
            "wins",
            "ties",
            "losses",
            "P(A > B)",
            f"{self.percent} %",
            "A − B ± reach",
            "p",
            "verdict",
        )
        rows = [
            (
                *(m.a, m.b, str(m.n), str(m.wins), str(m.ties), str(m.losses)),
                "–" if m.probability is None else f"{m.probability:.2f}",
                "–" if m.interval is None else f"{m.interval[0]:.2f} – {m.interval[1]:.2f}",
                self._difference(m),
                f"{m.p_value:.2g}",
                m.better or m.verdict,
            )
            for m in self.matches
        ]
        return head, rows

    def variances(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heading and rows, one a contestant: the SD that each source brings; no rows where it was not measured."""
        names = list(dict.fromkeys(name for c in self.contestants for name in c.components))
        head = ("contestant", *(_SOURCES.get(name, name) for name in names))
        rows = [
            (
                c.name,
                *(self._component(*c.components[name]) if name in c.components else "–" for name in names),
            )
            for c in self.contestants
            if c.components
        ]
        return head, rows

    @property
    def percent(self) -> str:
        """The intervals' level in percent."""
        return f"{100 * self.level:g}"

    def notes(self) -> list[str]:
        """What the numbers are, in sentences."""
        drawn = ", ".join(_SOURCES.get(name, name) for name in self.vary)
        found = [f"Each pair shares {drawn}, drawn anew for every pair; a tie counts half."]
        if self.sequential:
            found.append("Intervals and p values hold at every number of pairs, so that one may stop at any.")
        if len(self.matches) > 1:
            found.append("p values are adjusted by Holm's method, intervals by Bonferroni's.")
        if self.test_noise is not None and self.seed_noise is not None:
            seen, noise = spread(self.seed_noise, self.metric), spread(self.test_noise, self.metric)
            found.append(
                f"SD over seeds: {seen} seen; {noise} is what {self.samples:,} samples would show of members that "
                "are equally good."
            )
        for c in self.contestants:
            if c.disagreement is not None and c.distribution.mean is not None:
                error = 100 * (1 - c.distribution.mean)
                found.append(
                    f"Two seeds of {c.name} disagree on {100 * c.disagreement:.1f} % of samples; its error is "
                    f"{error:.1f} %, which they equal where it is calibrated."
                )
        if self.new_data_error is not None:
            reach = spread(self.new_data_error, self.metric)
            found.append(f"For other data of this kind the difference's standard error is {reach}.")
        return found

    def methods(self) -> str:
        """Return a paragraph for a paper's methods section, every number with its n."""
        names = " and ".join(c.name for c in self.contestants)
        drawn = ", ".join(_SOURCES.get(name, name) for name in self.vary)
        settings = "; ".join(
            f"{c.name}: {c.at}"
            + (f", chosen among {c.settings} settings with {c.tuned} members" if c.tuned else "")
            for c in self.contestants
        )
        interval = (
            f"a {self.percent} % confidence sequence (Beta(½, ½) mixture, valid at every number of pairs)"
            if self.sequential
            else f"the exact binomial {self.percent} % interval"
        )
        of = f" ({self.samples:,} samples)" if self.samples else ""
        paragraphs = [
            f"{names} were compared on {self.data} by {self.split} {self.metric}{of}. Settings were chosen by the "
            f"median score on the validation split ({settings}). Then {self.pairs} pairs of fresh members were "
            f"trained, each pair with its own {drawn}, the same for all contestants. P(A > B), a tie counted half, "
            f"is given with {interval}; a difference was held to matter from P = {self.threshold:g} on (Bouthillier "
            "et al., 2021)."
        ]
        if len(self.matches) > 1:
            paragraphs.append("Tests were adjusted by Holm's method, intervals by Bonferroni's.")
        for m in self.matches:
            paragraphs.append(
                f"{self.said(m)}; A won {m.wins}, tied {m.ties} and lost {m.losses}, the mean difference was "
                f"{self._difference(m)} (n = {m.finished})."
            )
        return " ".join(paragraphs)

    def markdown(self) -> str:
        """Return both tables in Markdown."""
        tables = []
        for head, rows in (self.summary(), self.duels()):
            lines = ["|".join(["", *head, ""]), "|".join(["", *["---"] * len(head), ""])]
            lines += ["|".join(["", *(cell.replace("|", "\\|") for cell in row), ""]) for row in rows]
            tables.append("\n".join(lines))
        return "\n\n".join(tables)

    def latex(self) -> str:
        """Return both tables in LaTeX, for the package booktabs."""
        tables = []
        for head, rows in (self.summary(), self.duels()):
            cells = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (head, *rows)]
            body = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", cells[0], r"\midrule"]
            tables.append("\n".join([*body, *cells[1:], r"\bottomrule", r"\end{tabular}"]))
        return "\n\n".join(tables)

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    def __repr__(self) -> str:
        parts = [self.title, "", aligned(*self.summary()), "", aligned(*self.duels())]
        if (variances := self.variances())[1]:
            parts += ["", "SD by source of randomness ± error", aligned(*variances)]
        return "\n".join([*parts, "", *map(self.said, self.matches), *self.notes()])

    def _repr_html_(self) -> str:
        tables = [("Contestants", self.summary()), ("A against B", self.duels())]
        tables += [("SD by source of randomness", self.variances())]
        body = "".join(html_table(caption, *table) for caption, table in tables if table[1])
        lines = [*map(self.said, self.matches), *self.notes()]
        return f"<div><p>{escape(self.title)}</p>{body}{''.join(f'<p>{escape(line)}</p>' for line in lines)}</div>"

    @property
    def title(self) -> str:
        """What is compared on what, in one line."""
        size = f", {self.samples:,} samples" if self.samples is not None else ""
        names = " against ".join(c.name for c in self.contestants)
        return f"{names} on {self.data} ({self.split} {self.metric}{size})"

    def _difference(self, m: Pair) -> str:
        if m.difference is None:
            return "–"
        text = spread(m.difference, self.metric).removesuffix(" points")
        reach = (
            None
            if m.difference_interval is None
            else (m.difference_interval[1] - m.difference_interval[0]) / 2
        )
        return text.replace("-", "−") + (f" ± {spread(reach, self.metric)}" if reach is not None else "")

    def _component(self, variance: float, error: float) -> str:
        """A variance as an SD, and how far its error reaches; one below 0 is none."""
        sd = max(variance, 0.0) ** 0.5
        reach = (max(variance, 0.0) + error) ** 0.5 - sd
        unit = 100 if "accuracy" in self.metric else 1
        return f"{number(unit * sd, 2)} ± {number(unit * reach, 2)}"


def _rms(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return (sum(v * v for v in known) / len(known)) ** 0.5 if known else None
