"""``Search``: what a search found, its tables, what mattered, and where they can be taken."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from modelspace.compare import Comparison
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.runs import Distribution, Run, ended_well
from modelspace.search._over import Parameter
from modelspace.search._suggest import Told, export, importances
from modelspace.show import score, seconds_text, spread

COSTS = ("parameters", "flops", "memory")
_SHOWN = 10  # rows


@dataclass
class Trial:
    """One setting, and what is known of it.

    Attributes:
        number: Its own, from 0.
        batch: That in which it was asked for.
        setting: What was chosen, by name; what depends on other choices is there where it was chosen.
        costs: Coordinates, FLOP of forward and backward, peak bytes; those that are known.
        scores: Of each seed after ``epochs``; NaN where it diverged.
        epochs: Passes that it made.
        stopped: Whether it was stopped before the last epoch.
    """

    number: int
    batch: int
    setting: dict[str, Any]
    costs: dict[str, float]
    scores: dict[int, float] = field(default_factory=dict)
    epochs: int = 0
    stopped: bool = False

    def worths(self, higher: bool) -> dict[int, float]:
        """Return its seeds' scores, larger the better, −∞ for one that diverged."""
        sign = 1 if higher else -1
        return {seed: -np.inf if np.isnan(s) else sign * s for seed, s in self.scores.items()}

    @property
    def score(self) -> float:
        """The mean over seeds; NaN where one diverged."""
        return float(np.mean([*self.scores.values()])) if self.scores else np.nan

    @property
    def state(self) -> str:
        """``finished``, ``stopped`` or ``diverged``."""
        return "diverged" if np.isnan(self.score) else "stopped" if self.stopped else "finished"


@dataclass(frozen=True, repr=False)
class Search:
    """What a search found.

    Attributes:
        title: The architecture's.
        data: The data's name.
        parameters: What was chosen.
        trials: Every setting that was tried, in the order in which they were asked for.
        contenders: The numbers of the best, the winner, and of those that its scores can't be told from.
        metric: The headline score: accuracy for classes, otherwise the loss.
        goals: What was searched for: ``score``, and costs.
        fresh: The run of fresh seeds at the winner's setting.
        test: Their test scores, one row a member.
        distribution: Of their headline test score.
        pair: The first two of them that finished, positions in ``fresh.population``.
        comparison: Of these two, as points and as functions.
        refused: How many suggestions were over budget or could not be built, and were never trained.
        seconds: Of all fits, the fresh ones too.
    """

    title: str
    data: str
    parameters: Sequence[Parameter]
    trials: Sequence[Trial]
    contenders: Sequence[int]
    metric: str
    goals: tuple[str, ...]
    fresh: Run
    test: pd.DataFrame
    distribution: Distribution
    pair: tuple[int, int]
    comparison: Comparison | None
    refused: int
    seconds: float

    @property
    def higher_is_better(self) -> bool:
        """Of the score."""
        return self.metric != "loss"

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit of the fresh seeds."""
        return self.fresh.interrupted

    @property
    def best(self) -> dict[str, Any]:
        """The winner's setting."""
        return dict(self.trials[self.contenders[0]].setting)

    @property
    def validation(self) -> float:
        """The score by which the winner was chosen: the mean of its seeds on the validation split."""
        return self.trials[self.contenders[0]].score

    @property
    def curse(self) -> dict[str, float | None]:
        """How much better the choice looked than fresh seeds are, on validation and on test: the winner's curse.

        A score by which the largest of many was taken is too good, the more so the more there were and the noisier
        they are. ``error`` is the standard error of the fresh seeds' mean on validation.
        """
        finished = ended_well(self.fresh.status)
        seen = Distribution.of(self.fresh.table[f"validation_{self.metric}"].to_numpy()[finished])
        sign = 1 if self.higher_is_better else -1
        gaps = {"validation": seen.mean, "test": self.distribution.mean}
        found = {n: None if m is None else sign * (self.validation - m) for n, m in gaps.items()}
        return {**found, "error": None if seen.sd is None else seen.sd / seen.n**0.5}

    @property
    def table(self) -> pd.DataFrame:
        """One row a setting: what was chosen, its score's mean and SD over seeds, how far it got, what it costs."""
        names = list(dict.fromkeys(parameter.name for parameter in self.parameters))
        rows = []
        for trial in self.trials:
            scores = np.array([*trial.scores.values()])
            spread = float(scores.std(ddof=1)) if len(scores) > 1 and not np.isnan(scores).any() else np.nan
            told = {
                "score": trial.score,
                "sd": spread,
                "seeds": len(scores),
                "diverged": int(np.isnan(scores).sum()),
                "epochs": trial.epochs,
                "state": trial.state,
                "batch": trial.batch,
            }
            rows.append({n: trial.setting.get(n) for n in names} | told | trial.costs)
        return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="trial"))

    @property
    def members(self) -> pd.DataFrame:
        """One row a member that was trained to choose: its setting's number, seed, columns, epochs and score."""
        rows = [
            {"trial": t.number, "seed": seed, **t.setting, "epochs": t.epochs, "score": score}
            for t in self.trials
            for seed, score in t.scores.items()
        ]
        return pd.DataFrame(rows)

    def front(self, cost: str = "parameters") -> pd.DataFrame:
        """Return the settings that no other one beats in both score and cost, the cheapest first.

        Args:
            cost: ``parameters``, ``flops`` (of forward and backward over a batch) or ``memory``.

        Raises:
            ModelspaceError: the cost is not known of these settings.
        """
        table = self.table
        if cost not in COSTS:
            raise unknown_name("cost", cost, COSTS)
        if cost not in table:
            raise ModelspaceError(
                f"the {cost} of these settings are not known: give the space input_shape=(…)"
            )
        table = table.loc[table["state"] == "finished"].assign(_worth=lambda t: t["score"] * self._sign)
        table = table.sort_values([cost, "_worth"], ascending=[True, False], kind="stable")
        best = table["_worth"].cummax().shift(fill_value=-np.inf)
        return table.loc[table["_worth"] > best].drop(columns="_worth")

    def importance(self, kind: str = "fanova", *, resamples: int = 20, seed: int = 0) -> pd.DataFrame:
        """Return how much each parameter mattered, with its error.

        Args:
            kind: ``fanova``, the share of the scores' variance that a random forest attributes to a parameter alone;
                or ``ped-anova``, what it takes to be among the best tenth.
            resamples: Of the trials with replacement; ``error`` is the standard deviation over them.
            seed: Of these.

        Returns:
            A row a parameter, the most important first; one that depends on another is judged among the ``trials``
            that have it, and its share is of theirs.

        Raises:
            ModelspaceError: an unknown kind, or fewer than 8 finished trials.
        """
        return importances(self.parameters, self._told, self._higher, kind, resamples, seed)

    def to_optuna(self, storage: str, name: str = "modelspace") -> None:
        """Write the trials into an Optuna storage as a study, which optuna-dashboard opens.

        Args:
            storage: Its URL: ``sqlite:///search.db``.
            name: The study's.

        Raises:
            ModelspaceError: it can't be written to, or has a study of this name.
        """
        export(self.parameters, self._told, self._higher, storage, name)

    def plot(self, kind: str = "history", path: str | os.PathLike[str] | None = None, **chosen: Any) -> Any:
        """Draw the search.

        Args:
            kind: ``history``, ``slice`` (score against each parameter), ``contour`` (over two), ``parallel``,
                ``front`` (score against cost) or ``importance``.
            path: Where it goes, by its ending .html, .png, .svg or .pdf; not written where None.
            **chosen: ``x`` and ``y``, the parameters of a contour; ``cost`` of a front; ``importance``'s arguments.

        Returns:
            The plotly figure.

        Raises:
            ModelspaceError: an unknown kind or parameter, or the place can't be written to.
        """
        return import_module("modelspace.report").plot_search(self, kind, path, **chosen)

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page: what was found, its figures, every setting.

        Its figures go as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    @property
    def _sign(self) -> int:
        return 1 if self.higher_is_better else -1

    @property
    def _higher(self) -> list[bool]:
        return [self.higher_is_better if goal == "score" else False for goal in self.goals]

    @property
    def _told(self) -> list[Told]:
        """The trials as a study has them."""
        return [told(trial, self.trials, self.goals, self.higher_is_better) for trial in self.trials]

    def lines(self) -> list[str]:
        """What was found, in a few lines for a reader."""
        table, metric, curse = self.table, self.metric, self.curse
        counts = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
        refused = f"; {self.refused} more were never trained (over budget)" if self.refused else ""
        at = ", ".join(
            f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in self.best.items()
        )
        seeds = len(self.trials[self.contenders[0]].scores)
        close = len(self.contenders) - 1
        d = self.distribution
        return [
            f"search of {self.title} on {self.data}: {len(table)} settings ({counts}) of {table['seeds'].sum():,} "
            f"members, {seconds_text(self.seconds)}{refused}",
            f"  best          {at or 'the defaults'}",
            f"  validation    {score(self.validation, metric)}, the mean of the {seeds} seeds it was chosen by",
            f"  test          {score(d.mean, metric)} ± {spread(d.sd, metric)} over {d.n} fresh seeds "
            f"({d.diverged} diverged)",
            f"  the choice looked better than fresh seeds are by {spread(curse['validation'], metric)} "
            f"(± {spread(curse['error'], metric)}) on validation, {spread(curse['test'], metric)} on test",
            f"  {close} other settings can't be told from it by these scores"
            if close
            else "  no other setting is close",
        ]

    @property
    def _top(self) -> pd.DataFrame:
        table = self.table
        return table.sort_values("score", ascending=not self.higher_is_better, kind="stable").head(_SHOWN)

    def __repr__(self) -> str:
        return "\n".join([*self.lines(), self._top.to_string()])

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(line.strip())}</li>" for line in self.lines())
        return f"<div><ul>{lines}</ul>{self._top.to_html(escape=True)}</div>"


def told(trial: Trial, among: Sequence[Trial], goals: Sequence[str], higher: bool) -> Told:
    """Return what a study is told of a setting: one that diverged has the worst score there is, if there is one."""
    value = trial.score
    if np.isnan(value):
        seen = [other.score for other in among if not np.isnan(other.score)]
        if not seen:
            return Told(trial.setting, None)
        value = min(seen) if higher else max(seen)
    about: Mapping[str, Any] = {"seeds": len(trial.scores), "state": trial.state, **trial.costs}
    values = [value if goal == "score" else float(trial.costs[goal]) for goal in goals]
    return Told(trial.setting, values, trial.epochs if trial.state == "stopped" else None, about)
