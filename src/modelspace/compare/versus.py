"""``versus``: which of some ways to train is better, by fresh pairs that are drawn until the verdict stands."""

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelspace import data as datasets
from modelspace import metrics
from modelspace.compare.pairs import paired
from modelspace.compare.superiority import THRESHOLD, holm, pairs_needed, variance_components
from modelspace.compare.verdict import Contestant, Verdict
from modelspace.data import Data, check_divisible, resplit
from modelspace.engine import evaluate, goal_of, predict
from modelspace.errors import ModelspaceError, the_users_told, unknown_name
from modelspace.fit import fit
from modelspace.losses import Choice
from modelspace.metrics import usual
from modelspace.population import Population
from modelspace.progress import notice
from modelspace.runs import LEVEL, RANDOM, Distribution, Run, Status, best_of, responses_of
from modelspace.space import ModelSpace

SOURCES = ("seed", "data_seed", "split")
_FIRST_LOOK = 32  # pairs; each look after it is at twice as many
# Columns of a run that say which samples a member saw: like seeds, they pair it with another setting's.
_PAIRING = (*RANDOM, "fold", "bootstrap", "task")
_OWN = (
    "fold",
    "bootstrap",
    "task",
    "data_seed",
    "source",
)  # columns that versus draws itself, or that are no setting
_DISAGREEING = 16  # members
_HALF = 0.5


@dataclass
class _Arm:
    """A contestant as it is compared: the setting that was chosen, and the score of each pair."""

    name: str
    population: Population | None  # of one member, at the setting; None after the fact
    setting: dict[str, Any]
    settings: int
    tuned: int
    scores: dict[Hashable, float | None] = field(default_factory=dict)
    status: list[Status] = field(default_factory=list)
    disagreement: float | None = None
    components: dict[str, tuple[float, float]] = field(default_factory=dict)


@the_users_told()
def versus(
    *contestants: ModelSpace | Population | Run,
    data: Any,
    by: str | None = None,
    columns: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    metric: str | None = None,
    vary: Sequence[str] = SOURCES,
    pairs: int = 256,
    sequential: bool = True,
    tuning: int = 64,
    components: int = 4,
    threshold: float = THRESHOLD,
    equal_within: float | None = None,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Verdict:
    """Tell which of two or more ways to train is better, and how sure that is.

    Each contestant is tuned with the same number of members on the validation split. Then pairs of fresh members are
    trained, one for each contestant, that share what is drawn anew for every pair: initialisation, order of the data,
    and the division into training, validation and test samples. Pairs are drawn until an interval of P(A > B) that
    holds at every number of pairs says ``A``, ``B`` or ``equal``, or the budget ends: ``not separable``, and about
    how many more pairs it takes.

    Args:
        *contestants: Spaces; or populations, whose settings (rows that differ in more than seeds) are what is chosen
            among: ``family.sample(1, lr=…)``, ``space.sample(1, optimizer="sgd", lr=[…])``. Or runs, of which what
            they hold is compared, and nothing is trained.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        by: A column: of one contestant, its values are the contestants.
        columns: Hyper-parameters to choose among, for every contestant that is a space: ``{"lr": [1e-3, 1e-2]}``.
        names: What the contestants are called.
        metric: The score; the accuracy where labels are classes, otherwise the loss.
        vary: What is drawn anew for every pair: ``seed``, ``data_seed`` and ``split``. Without ``split`` the data's
            own test samples serve for all pairs: for a given test set, or a series.
        pairs: The most that are drawn; all of them where not ``sequential``.
        sequential: Whether to look at 32, 64, 128, … pairs and to stop when the verdict stands.
        tuning: Members that each contestant is tuned with, in equal parts on its settings, one seed each at least.
        components: Levels of each source of randomness in a crossed design of further members, by which the variance
            that each brings is estimated: 4 × 4 × 4 for three; 0 for none.
        threshold: The P(A > B) from which a difference matters, in (½, 1).
        equal_within: Contestants are equal too where the interval of their difference is within ± this, in the
            score's unit.
        level: Of the intervals: one minus the probability of a wrong 'A' or 'B' where neither is better, however
            often one looks.
        device: Where to compute.
        out: A folder in which every run is written down as it goes, so that the same call continues it.
        **settings: Further arguments of ``fit``: ``loss``, ``optimizer``, ``epochs``, …

    Returns:
        The verdict, with a table, a paragraph for a methods section, LaTeX and Markdown.

    Raises:
        ModelspaceError: fewer than two contestants, runs beside spaces, losses that differ without another metric, an
            empty validation or test split, all members of a contestant diverged, or what ``fit`` raises.

    Example:
        >>> data = ms.data.load((torch.randn(200, 4), torch.arange(200) % 2))
        >>> space = ms.ModelSpace(nn.Linear, in_features=4, out_features=2)
        >>> found = ms.versus(space, data=data, by="optimizer", columns={"optimizer": ["sgd", "adam"]},
        ...                   epochs=1, pairs=32, components=0)
        >>> found.pairs, found.verdict in ("A", "B", "equal", "not separable")
        (32, True)

    Source:
        Bouthillier et al., "Accounting for variance in machine learning benchmarks", MLSys 2021 (sources of
        variation, P(A > B) and its threshold).
    """
    began = time.perf_counter()
    known = _HALF < threshold < 1 and 0 < level < 1 and pairs > 1 and tuning > 0
    if not known or components < 0 or components == 1:
        raise ModelspaceError(
            "versus takes a threshold in (½, 1), a level in (0, 1), at least 2 pairs, tuning of at least 1 and "
            f"components of 0 or at least 2; received {threshold}, {level}, {pairs}, {tuning}, {components}"
        )
    for source in vary:
        if source not in SOURCES:
            raise unknown_name("source of randomness", source, SOURCES)
    loaded = datasets.load(data)
    runs = [each for each in contestants if isinstance(each, Run)]
    if runs and len(runs) < len(contestants):
        raise ModelspaceError(
            "runs are compared with runs: fit the spaces first, or give spaces and populations alone"
        )
    given = {
        "names": names,
        "threshold": threshold,
        "equal_within": equal_within,
        "level": level,
        "metric": metric,
    }
    if runs:
        return versus_runs(runs, by, loaded, **given)
    goal = {name: settings.get(name) for name in ("loss", "objective")}
    populations = _populations(contestants, by, dict(columns or {}))
    titles = _titles(populations, names, by)
    metric = _headline(populations, loaded, goal) if metric is None else metric
    higher = metric != "loss" and metrics.resolve(metric).higher_is_better
    vary = _possible(tuple(vary), loaded)
    scoring = _Scoring(
        loaded, metric, higher, goal, torch.device(device), None if out is None else Path(out), settings
    )
    known = ", ".join(f"{p:g}: {pairs_needed(p):,}" for p in (0.9, threshold, 0.65))
    notice(f"pairs that one look at all of them takes, by P(A > B): {known}")
    arms = [
        scoring.tuned(p, name, tuning, i) for i, (p, name) in enumerate(zip(populations, titles, strict=True))
    ]
    first = 1 + max(int(p.table["seed"].to_numpy().max()) for p in populations) + tuning
    done, look = 0, _FIRST_LOOK if sequential else pairs
    matches: list[Any] = []
    while done < pairs:
        count = min(look, pairs) - done
        seeds = np.arange(first + done, first + done + count)
        table = pd.DataFrame({s: seeds if s in vary else first for s in SOURCES})
        divided = scoring.divided(table)
        drawn = [scoring.drawn(arm, table, divided, f"pairs-{i}-{done}") for i, arm in enumerate(arms)]
        if not all(drawn):
            break  # Ctrl-C: what was finished before is judged
        done, look = done + count, 2 * look
        matches = _matches(arms, higher, sequential, threshold, equal_within, level)
        if sequential and all(m.verdict != "not separable" for m in matches):
            break
    if not done:
        raise KeyboardInterrupt
    sources = [s for s in SOURCES if s in vary]
    if components and sources:
        levels = [range(first + pairs, first + pairs + components) if s in vary else [first] for s in SOURCES]
        table = pd.DataFrame(list(product(*levels)), columns=pd.Index(SOURCES))
        divided = scoring.divided(table)
        for i, arm in enumerate(arms):
            scoring.crossed(arm, table, divided, sources, components, f"crossed-{i}")
    test = loaded.test
    share = len(test) / len(loaded.train) if "split" in vary else None
    return _verdict(
        arms,
        matches,
        loaded.name,
        (metric, higher, "test"),
        len(test),
        tuple(sources),
        (threshold, equal_within, level, sequential),
        share,
        began,
    )


@dataclass
class _Scoring:
    """How members are trained and scored."""

    data: Data
    metric: str
    higher: bool
    goal: dict[str, Any]
    device: torch.device
    out: Path | None
    settings: dict[str, Any]

    def fitted(self, population: Population, data: Data, name: str) -> Run:
        folder = None if self.out is None else self.out / name
        return fit(population.to(self.device), data, **{**self.settings, "keep": "all"}, out=folder)

    def scores(self, run: Run, data: Data, split: str) -> np.ndarray:
        """The score of each member, NaN of one that has none."""
        found = np.full(len(run.members), np.nan)
        table = evaluate(run.population, data, [self.metric], split=split, **self.goal)
        name = self.metric if self.metric not in run.population.table else f"{split}_{self.metric}"
        found[run.kept] = table[name]
        return found

    def tuned(self, population: Population, name: str, tuning: int, number: int) -> _Arm:
        """Choose the setting of a contestant on the validation split."""
        random = [column for column in population.table if column in RANDOM]
        table = population.table.drop(columns=random).drop_duplicates().reset_index(drop=True)
        if len(table.columns) == 0 or len(table) == 1:
            setting = {str(n): v[0] for n, v in table.to_dict("list").items()}
            one = Population.from_seeds(population.space, population.table.iloc[:1])
            return _Arm(name, one, setting, 1, 0)
        if not len(self.data.validation):
            raise ModelspaceError(
                f"{name} has {len(table)} settings, and {self.data.name} has no validation split to choose one by"
            )
        seeds = max(1, tuning // len(table))
        rows = table.loc[table.index.repeat(seeds)].reset_index(drop=True)
        rows.insert(0, "seed", np.tile(np.arange(seeds), len(table)))
        run = self.fitted(Population.from_seeds(population.space, rows), self.data, f"tuning-{number}")
        if run.interrupted:
            raise KeyboardInterrupt
        scores = self.scores(run, self.data, "validation")
        tried, responses = responses_of(run.members, scores, run.status, higher_is_better=self.higher)
        best = best_of(responses, higher_is_better=self.higher)
        if best is None:
            raise ModelspaceError(f"all {len(rows)} members of {name} diverged: give smaller learning rates")
        chosen = rows.iloc[tried[best].rows[:1]]
        return _Arm(
            name, Population.from_seeds(population.space, chosen), tried[best].columns, len(table), len(rows)
        )

    def divided(self, table: pd.DataFrame) -> Data:
        """The data, divided anew for each value of ``split`` in ascending order, where there are several."""
        splits = np.unique(table["split"])
        return resplit(self.data, splits.tolist()) if len(splits) > 1 else self.data

    def drawn(self, arm: _Arm, table: pd.DataFrame, data: Data, name: str) -> bool:
        """Train and score a contestant's member of each pair; False where that was interrupted."""
        run = self.at(arm, table, data, name)
        if run.interrupted:
            return False
        scores = self.scores(run, data, "test")
        diverged = run.status == Status.DIVERGED
        keys = list(table.itertuples(index=False, name=None))
        arm.scores |= {
            key: None if failed or np.isnan(value) else float(value)
            for key, value, failed in zip(keys, scores, diverged, strict=True)
        }
        arm.status += [Status.DIVERGED if failed else Status.FINISHED for failed in diverged]
        if arm.disagreement is None and data is self.data and self.metric == "accuracy":
            arm.disagreement = _disagreement(run, data)
        return True

    def at(self, arm: _Arm, table: pd.DataFrame, data: Data, name: str) -> Run:
        """Train a contestant at the rows of (seed, data_seed, split) of a table, on its divided data."""
        assert arm.population is not None
        rows = arm.population.table.loc[np.zeros(len(table), dtype=int)].reset_index(drop=True)
        rows = rows.assign(seed=table["seed"].to_numpy(), data_seed=table["data_seed"].to_numpy())
        if data is not self.data:
            rows = rows.assign(task=np.unique(table["split"], return_inverse=True)[1])
        return self.fitted(Population.from_seeds(arm.population.space, rows), data, name)

    def crossed(
        self, arm: _Arm, table: pd.DataFrame, data: Data, sources: Sequence[str], levels: int, name: str
    ) -> None:
        """Estimate what each source of randomness brings, by a crossed design."""
        run = self.at(arm, table, data, name)
        scores = self.scores(run, data, "test")
        if run.interrupted or (run.status == Status.DIVERGED).any() or not np.isfinite(scores).all():
            notice(
                f"{arm.name}: no variance components, since not all members of the crossed design finished"
            )
            return
        arm.components = variance_components(scores.reshape([levels] * len(sources)), sources)


def versus_runs(
    runs: Sequence[Run],
    by: str | None,
    data: Any = None,
    *,
    names: Sequence[str] | None = None,
    metric: str | None = None,
    threshold: float = THRESHOLD,
    equal_within: float | None = None,
    level: float = LEVEL,
) -> Verdict:
    """Compare what runs hold: see ``Run.versus``.

    Raises:
        ModelspaceError: one run without ``by``, a column that it has not or of one value, or no seeds in common.
    """
    began = time.perf_counter()
    loaded = None if data is None else datasets.load(data)
    score = metric or ("accuracy" if "validation_accuracy" in runs[0].table else runs[0].monitor)
    score = score.removeprefix("validation_")
    higher = score != "loss" and metrics.resolve(score).higher_is_better
    goal = {"loss": runs[0].settings.get("loss") if score == "loss" else None, "objective": None}
    scoring = _Scoring(loaded, score, higher, goal, torch.device("cpu"), None, {}) if loaded else None
    split = "test" if loaded is not None and len(loaded.test) else "validation"
    arms: list[_Arm] = []
    for run in runs:
        chosen_by = run.table.get(f"validation_{score}")
        if chosen_by is None and scoring is None:
            raise ModelspaceError(
                f"the run has no validation {score}: it has {', '.join(run.scores)}; give data= to measure it"
            )
        validation = (
            np.full(len(run.members), np.nan) if chosen_by is None else chosen_by.to_numpy(np.float64)
        )
        scores = validation if scoring is None else scoring.scores(run, scoring.data, split)
        for name, rows in _groups(run, by).items():
            arms.append(_held(name, run, rows, validation, scores, higher, by))
    if len(arms) < 2:
        raise ModelspaceError(
            "a verdict is between two: give by= with a column of the run that has several values, or another run"
        )
    titles = _unique([arm.name for arm in arms]) if names is None else list(names)
    if len(titles) != len(arms):
        raise ModelspaceError(f"{len(arms)} contestants and {len(titles)} names: {', '.join(titles)}")
    for arm, title in zip(arms, titles, strict=True):
        arm.name = title
    common = [key for key in arms[0].scores if all(key in arm.scores for arm in arms)]
    if not common:
        raise ModelspaceError(f"{' and '.join(titles)} have no seed in common, by which members are paired")
    for arm in arms:
        of = dict(zip(arm.scores, arm.status, strict=True))
        arm.scores, arm.status = {key: arm.scores[key] for key in common}, [of[key] for key in common]
    matches = _matches(arms, higher, False, threshold, equal_within, level)
    shared = [c for c in _PAIRING if all(c in run.members for run in runs)] or ["seed"]
    samples = len(loaded.splits[split]) if loaded is not None else None
    return _verdict(
        arms,
        matches,
        runs[0].data,
        (score, higher, split),
        samples,
        tuple(shared),
        (threshold, equal_within, level, False),
        None,
        began,
    )


def _groups(run: Run, by: str | None) -> dict[str, np.ndarray]:
    """The rows of each contestant of a run: of each value of a column; of no column, all."""
    if by is None:
        return {run.title: np.arange(len(run.members))}
    if by not in run.members:
        raise unknown_name("column", by, [str(c) for c in run.members.columns])
    values = run.members[by]
    return {
        f"{by}={v:g}" if isinstance(v, float) else f"{by}={v}": np.flatnonzero(values == v)
        for v in values.unique()
    }


def _held(
    name: str,
    run: Run,
    rows: np.ndarray,
    validation: np.ndarray,
    scores: np.ndarray,
    higher: bool,
    by: str | None,
) -> _Arm:
    """A contestant of a finished run: its best setting by validation, and that one's scores by what pairs them."""
    rows = rows[run.status[rows] != Status.UNFINISHED]
    own = run.members.iloc[rows].reset_index(drop=True)
    pairing = [c for c in _PAIRING if c in own and c != by]
    settings = own.drop(columns=[c for c in pairing if c not in RANDOM])
    tried, responses = responses_of(settings, validation[rows], run.status[rows], higher_is_better=higher)
    best = best_of(responses, higher_is_better=higher) if len(tried) > 1 else 0
    if best is None or not tried:
        raise ModelspaceError(f"{name} has no member that finished with a validation score")
    chosen = tried[best].rows
    keys = own[pairing].iloc[chosen].itertuples(index=False, name=None) if pairing else chosen.tolist()
    failed = run.status[rows][chosen] == Status.DIVERGED
    values = scores[rows][chosen]
    found = {k: None if f or np.isnan(v) else float(v) for k, v, f in zip(keys, values, failed, strict=True)}
    status = [Status.DIVERGED if each else Status.FINISHED for each in failed]
    setting = {n: v for n, v in tried[best].columns.items() if n != by}
    return _Arm(name, None, setting, len(tried), len(rows) if len(tried) > 1 else 0, found, status)


def _populations(
    contestants: Sequence[ModelSpace | Population | Run], by: str | None, columns: dict[str, Any]
) -> list[Population]:
    """The contestants as populations, of which the settings are the candidates."""
    found = []
    for each in contestants:
        if not isinstance(each, ModelSpace | Population):
            raise ModelspaceError(
                f"a contestant is a {type(each).__name__}: give a ModelSpace, a population of its settings, or a run"
            )
        found.append(each.sample(1, **columns) if isinstance(each, ModelSpace) else each)
    if drawn := [c for p in found for c in _OWN if c in p.table]:
        raise ModelspaceError(
            f"column {drawn[0]} is no setting of a contestant: versus draws seeds and divisions itself"
        )
    if by is not None:
        if len(found) != 1:
            raise ModelspaceError(f"by='{by}' divides one contestant; received {len(found)}")
        table = found[0].table
        if by not in table:
            raise unknown_name("column", by, [str(c) for c in table.columns])
        found = [found[0][np.flatnonzero(table[by] == value)] for value in table[by].unique()]
    if len(found) < 2:
        raise ModelspaceError(
            "a verdict is between two: give another contestant, or by= with a column of several values"
        )
    return found


def _titles(populations: Sequence[Population], names: Sequence[str] | None, by: str | None) -> list[str]:
    """What the contestants are called: by their names, by the column's value, by their spaces."""
    if names is not None:
        if len(names) != len(populations) or len(set(names)) != len(names):
            raise ModelspaceError(
                f"{len(populations)} contestants have as many different names; received {', '.join(names)}"
            )
        return list(names)
    if by is not None:
        return [f"{by}={p.table[by].iloc[0]}" for p in populations]
    titles = []
    for p in populations:
        # What is fixed for a contestant and not the same for all tells it from the others.
        columns = [
            c for c in p.table.columns if c not in RANDOM and len(set(map(str, p.table[c].tolist()))) == 1
        ]
        fixed = {c: p.table[c].tolist()[0] for c in columns}
        own = [f"{c}={v}" for c, v in fixed.items() if any(_differs(q, c, v) for q in populations)]
        titles.append(", ".join([p.title, *own]))
    return _unique(titles)


def _differs(population: Population, column: str, value: Any) -> bool:
    known = population.table
    return column not in known or known[column].tolist() != [value] * len(known)


def _unique(titles: list[str]) -> list[str]:
    again = {title for title in titles if titles.count(title) > 1}
    return [
        f"{title} #{titles[:i].count(title) + 1}" if title in again else title
        for i, title in enumerate(titles)
    ]


def _headline(populations: Sequence[Population], data: Data, goal: dict[str, Any]) -> str:
    """The score where none is named: the accuracy where every contestant has one, otherwise the loss."""
    goals = [goal_of(p, data, **goal) for p in populations]
    among = [each for g in goals for each in (g.among if isinstance(g, Choice) else (g,))]
    if all(usual(each, data.classes) for each in among):
        return "accuracy"
    if len({str(each) for each in among}) > 1:
        raise ModelspaceError(
            "contestants that minimise different things are not compared by what they minimise: give a metric="
        )
    return "loss"


def _possible(vary: tuple[str, ...], data: Data) -> tuple[str, ...]:
    """The sources that these data have."""
    if not len(data.test):
        raise ModelspaceError(f"verdicts are on test samples, and the test split of {data.name} is empty")
    if "split" not in vary:
        return vary
    try:
        check_divisible(data)
    except ModelspaceError as error:
        notice(f"{error}; all pairs share the data's own splits")
        return tuple(source for source in vary if source != "split")
    return vary


def _matches(
    arms: Sequence[_Arm],
    higher: bool,
    sequential: bool,
    threshold: float,
    equal_within: float | None,
    level: float,
) -> list[Any]:
    """Each contestant against each later one; of several matches, 'A' and 'B' stand after Holm's adjustment."""
    both = list(combinations(arms, 2))
    found = [
        paired(
            (a.name, b.name),
            a.scores,
            b.scores,
            higher_is_better=higher,
            sequential=sequential,
            threshold=threshold,
            equal_within=equal_within,
            alpha=(1 - level) / len(both),
        )
        for a, b in both
    ]
    if len(found) == 1:
        return found
    return [
        m.adjusted(p, 1 - level, threshold)
        for m, p in zip(found, holm([m.p_value for m in found]), strict=True)
    ]


def _disagreement(run: Run, data: Data) -> float | None:
    """The share of test samples on which two members predict different classes, the mean over pairs of members."""
    rows = np.flatnonzero(run.status[run.kept] == Status.FINISHED)[:_DISAGREEING]
    if len(rows) < 2:
        return None
    outputs = predict(run.population[rows], data.test)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 3 or outputs.shape[2] < 2:
        return None
    classes = outputs.argmax(2)
    same = torch.stack(
        [(classes[i] != classes[j]).double().mean() for i, j in combinations(range(len(rows)), 2)]
    )
    return float(same.mean())


def _verdict(
    arms: Sequence[_Arm],
    matches: Sequence[Any],
    data: str,
    scored: tuple[str, bool, str],
    samples: int | None,
    vary: tuple[str, ...],
    asked: tuple[float, float | None, float, bool],
    share: float | None,
    began: float,
) -> Verdict:
    (metric, higher, split), made = scored, []
    for arm in arms:
        scores = tuple(arm.scores.values())
        values = [np.nan if value is None else value for value in scores]
        distribution = Distribution.of(values, np.array(arm.status, dtype=object))
        noise, mean = None, distribution.mean
        if metric == "accuracy" and samples and mean is not None:
            noise = ((1 - mean) * (mean if "split" in vary else _HALF) / samples) ** 0.5
        made.append(
            Contestant(
                arm.name,
                arm.setting,
                arm.settings,
                arm.tuned,
                scores,
                distribution,
                noise,
                arm.disagreement,
                arm.components,
            )
        )
    threshold, equal_within, level, sequential = asked
    return Verdict(
        data=data,
        split=split,
        samples=samples,
        metric=metric,
        higher_is_better=higher,
        vary=vary,
        threshold=threshold,
        equal_within=equal_within,
        level=level,
        sequential=sequential,
        contestants=tuple(made),
        matches=tuple(matches),
        test_per_train=share,
        seconds=time.perf_counter() - began,
    )
