"""``search``: ask for settings, train all of a batch as one program, tell, race the best, confirm the winner."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError, first_line, the_users_told, unknown_name
from modelspace.explore import Interrupted, check_confirmable, confirm, measure_of
from modelspace.family import Family
from modelspace.fit import fit
from modelspace.losses import Loss, Objective
from modelspace.optimizers import Optimizer
from modelspace.plain import parsed, plain
from modelspace.population import Population
from modelspace.runs import Run, Status
from modelspace.search._over import Parameter, Span, parameters_of
from modelspace.search._record import COSTS, Search, Trial, told
from modelspace.search._rungs import contenders, lengths, mean, survivors
from modelspace.search._suggest import Suggester, Suggestion, Told
from modelspace.space import TRAINING, ModelSpace

NOTES = "search.json"
_PATIENCE = 25  # suggestions, for one that is new and within budget
_IDLE = 8  # suggestions in a row that are known or refused, after which one is drawn at random
_CONTENDERS = 8  # settings that are given more seeds, at most
Costs = Callable[[Mapping[str, Any]], dict[str, float] | None]
Train = Callable[[str, Sequence[tuple[Trial, int]], int], None]


class _Note(TypedDict):
    """What became of a fit: its seconds, and its members' scores, None of one that diverged."""

    seconds: float
    scores: list[float | None]


@the_users_told()
def search(
    space: ModelSpace | Family,
    data: Any,
    *,
    over: Mapping[str, Any] | None = None,
    trials: int = 128,
    batch: int = 32,
    alike: int = 8,
    seeds: int = 2,
    race: int = 8,
    fresh_seeds: int = 64,
    sampler: Literal["tpe", "cmaes", "qmc", "random", "nsga2"] | None = None,
    search_seed: int = 0,
    goals: Sequence[str] = ("score",),
    parameters: float | None = None,
    flops: float | None = None,
    memory: float | None = None,
    seconds: float | None = None,
    stop: Literal["halving", "median"] | None = None,
    reduction: int = 3,
    rungs: int = 3,
    loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
    objective: Objective | Callable[[Any, Any], Any] | Literal["model"] | None = None,
    optimizer: str | Optimizer = "adam",
    epochs: int = 20,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Search:
    """Search hyper-parameters honestly: every setting over seeds, chosen on validation, confirmed on fresh seeds.

    1. Optuna suggests a batch of settings; those over budget are refused by what they cost, and never trained.
    2. All of them × ``seeds`` are one population, trained as one program for each space among them; with ``stop``
       after a part of the epochs those that do badly are left out. Optuna is told, and suggests the next batch.
    3. A race: the best, and what its scores can't be told from, get more seeds until one is ahead, or ``race`` each.
    4. The winner is trained with ``fresh_seeds`` new seeds and tested. How much better it looked when it was chosen
       is the winner's curse, and printed.

    The same call gives the same search. With ``out`` every fit is written down as it goes: killed at any moment, the
    same call goes on, and ends with the same table.

    Args:
        space: A space, or a family, whose listed hyper-parameters are chosen too.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        over: What is chosen, by name: columns of ``fit`` (``lr``, ``batch_size``, ``optimizer``, ``loss``, …) and
            arguments of the architecture. A range ``(1e-4, 1e-1)`` or ``"1e-4:1e-1"``, choices ``[16, 32]``, or
            choices with what depends on them, ``{"adam": {}, "sgd": {"momentum": (0.5, 0.99, "linear")}}``.
        trials: Settings.
        batch: Settings that are asked for and trained together.
        alike: So many in a row share an architecture, and so a program: what differs in columns alone costs little.
        seeds: Members of each setting.
        race: The most seeds that one of the best gets; no race where that is no more than ``seeds``.
        fresh_seeds: New seeds fitted at the choice, at least 2.
        sampler: ``tpe``, ``cmaes``, ``qmc`` (quasi-random), ``random`` or ``nsga2``; where None, ``tpe``, and
            ``nsga2`` where there are several goals.
        search_seed: Of the sampler.
        goals: ``score``, and costs that are to be small: ``parameters``, ``flops``, ``memory``. The best score wins
            the confirmation; ``front`` has the others.
        parameters: The most coordinates of a setting.
        flops: The most FLOP of forward and backward, over a batch as of ``Family.member``.
        memory: The most bytes alive in forward and backward.
        seconds: Of training, after which no more settings are asked for; the race and the fresh seeds come on top.
        stop: ``halving``: of a batch, the best 1/``reduction`` go on from each rung; ``median``: those that are no
            worse than the median of all that were there. All go on where None.
        reduction: By how much a rung is longer than the one before.
        rungs: How many there are, the whole fit included.
        loss: What is minimised; cross-entropy where nothing is given.
        objective: In place of a loss, as of ``fit``: then the choice is by its ``loss``.
        optimizer: How.
        epochs: Passes over the training split.
        batch_size: Samples a step.
        device: Where to compute.
        out: A folder in which everything is written down.
        **settings: Further arguments of ``fit``: ``runner``, ``plan``, ``schedule``, ….

    Returns:
        What was found.

    Raises:
        ModelspaceError: nothing to choose, a range that is none, no setting within the budget, all that were tried
            diverged, no Optuna (``pip install 'torch-modelspace[search]'``), or what ``fit`` raises.
        Interrupted: Ctrl-C; it carries the run in progress. With ``out`` the same call goes on from there.

    Sources:
        Maron & Moore, "Hoeffding races", NIPS 1994; Jamieson & Talwalkar, AISTATS 2016, and Li et al., "Hyperband",
        JMLR 2018 (successive halving); Akiba et al., "Optuna", KDD 2019; Bouthillier et al., MLSys 2021 (why seeds).
    """
    data = datasets.load(data)
    check_confirmable(data, fresh_seeds, "a search")
    asked: dict[str, Any] = {"trials": trials, "batch": batch, "alike": alike, "seeds": seeds, "race": race}
    for name, value in asked.items():
        if value < 1:
            raise ModelspaceError(f"{name} must be at least 1; received {value}")
    if unknown := [goal for goal in goals if goal not in ("score", *COSTS)]:
        raise unknown_name("goal", unknown[0], ("score", *COSTS))
    if "score" not in goals or (stop is not None and len(goals) > 1):
        raise ModelspaceError(
            f"goals are score and costs, and with several nobody is stopped; received {', '.join(goals)}"
        )
    if settings.pop("fresh", False):
        raise ModelspaceError("a search goes on with what is in its folder: give another one, not fresh=True")
    if isinstance(space, Family):
        over = {**{name: list(values) for name, values in space.axes.listed.items()}, **(over or {})}
    chosen = parameters_of(over or {})
    if not chosen:
        raise ModelspaceError("nothing to choose: over={'lr': (1e-4, 1e-1), 'width': [16, 32]}")
    budget = {"parameters": parameters, "flops": flops, "memory": memory}
    rules = _Rules(space, chosen, {n: v for n, v in budget.items() if v is not None}, goals)
    goal = {"loss": loss, "objective": objective}
    settings = {**goal, "optimizer": optimizer, "epochs": epochs, "batch_size": batch_size, **settings}
    listed = _listed(chosen)
    some = rules.space.sample(1, **{n: v for n, v in listed.items() if n in goal})
    measure = measure_of(some, data, listed, **goal, taker="search")
    higher = measure.higher_is_better
    sampler = sampler or ("tpe" if len(goals) == 1 else "nsga2")
    study = Suggester(chosen, sampler, search_seed, [higher and g == "score" for g in goals], batch)
    ends = lengths(epochs, stop, reduction, rungs)
    # Only where all points are kept can members go on from rung to rung; and a run's folder is one architecture's.
    keep, apart = ("all", rules.own) if len(ends) > 1 else (settings.get("keep", "scores"), set())

    def fitted(table: pd.DataFrame, **own: Any) -> Run:
        members = Population.from_seeds(rules.space, table, torch.device(device))
        return fit(members, data, **{**settings, "keep": keep, **own})

    with _folder(out, needed=len(ends) > 1) as folder:
        trainer = _Trainer(fitted, measure.score, folder, ends[-1], apart)
        asked = {**asked, "own": rules.own, "ends": ends, "stop": stop, "reduction": reduction}
        asked["enough"] = lambda: seconds is not None and trainer.seconds >= seconds
        found, close = hunt(study, rules.costs, trainer.train, higher, goals, **asked)
        if not found:
            raise ModelspaceError(rules.nothing())
        best = found[close[0]].setting
        used = {seed for trial in found for seed in trial.scores}
        where = None if out is None else Path(out) / f"fresh-{_digest(best)}"
        last = confirm(rules.space, data, best, used, fresh_seeds, measure, settings, device, where)
    taken = trainer.seconds + last.fresh.seconds
    about = (rules.space.name, data.name, chosen, found, close, measure.metric, tuple(goals))
    return Search(*about, *last, rules.refused, taken)


def hunt(
    study: Suggester,
    costs: Costs,
    train: Train,
    higher: bool,
    goals: Sequence[str] = ("score",),
    *,
    trials: int,
    batch: int,
    seeds: int,
    race: int,
    ends: Sequence[int],
    alike: int = 1,
    own: Collection[str] = (),
    stop: str | None = None,
    reduction: int = 3,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[list[Trial], list[int]]:
    """Search, whoever trains: ask, train from rung to rung, tell; at last race.

    ``costs`` gives None where a setting is not to be tried; ``train``, given a name, settings with seeds, and epochs,
    enters the scores; ``own`` are the parameters that make another program. Returned are every setting, and the
    numbers of the best and of those near it: none where there were none to try.

    Raises:
        ModelspaceError: all diverged.
    """
    found: list[Trial] = []
    seen: dict[int, list[float]] = {end: [] for end in ends}
    for number in count():
        if len(found) >= trials or enough():
            break
        asked = _asked(study, costs, found, min(batch, trials - len(found)), number, alike, own)
        if not asked:
            break
        new = alive = [trial for _, trial in asked]
        for end in ends:
            train(f"batch-{number:03d}", [(t, seed) for t in alive for seed in range(seeds)], end)
            worths = [mean(trial.worths(higher)) for trial in alive]
            on = survivors(worths, seen[end], stop, reduction) if stop and end < ends[-1] else []
            seen[end] += worths
            for i, trial in enumerate(alive):
                trial.stopped = end < ends[-1] and i not in on
            alive = [alive[i] for i in on]
            if not alive:
                break
        found += new
        for suggestion, trial in asked:
            study.tell(suggestion, told(trial, found, goals, higher))
    return found, _race(train, found, race, higher) if found else []


def _asked(
    study: Suggester,
    costs: Costs,
    found: Sequence[Trial],
    most: int,
    batch: int,
    alike: int,
    own: Collection[str],
) -> list[tuple[Suggestion, Trial]]:
    """Ask for settings that are new and within budget; fewer where the sampler has no more."""
    known = {_digest(trial.setting) for trial in found}
    asked: list[tuple[Suggestion, Trial]] = []
    held: dict[str, Any] | None = None
    idle = 0
    for _ in range(_PATIENCE * most):
        suggestion = study.ask(held, anew=idle > _IDLE)
        setting, key = suggestion.setting, _digest(suggestion.setting)
        cost = None if key in known else costs(setting)
        if cost is None:
            study.tell(suggestion, Told(setting, None, None if key in known else 0))
            held, idle = None, idle + 1
            continue
        known.add(key)
        idle = 0
        asked.append((suggestion, Trial(len(found) + len(asked), batch, setting, cost)))
        if len(asked) == most:
            break
        held = {n: v for n, v in setting.items() if n in own} if len(asked) % alike else None
    return asked


def _race(train: Train, found: Sequence[Trial], most: int, higher: bool) -> list[int]:
    """Give the best, and those near it, more seeds until one is ahead; the numbers of those near it at the end."""
    racing = [trial.number for trial in found if trial.state != "stopped"]
    for number in count():
        racing = contenders({i: found[i].worths(higher) for i in racing}, _CONTENDERS)
        if not racing:
            raise ModelspaceError(
                f"all {len(found)} settings diverged: try smaller learning rates, or clip_norm=1"
            )
        have = len(found[racing[0]].scores)
        if len(racing) < 2 or have >= most:
            break
        pairs = [(found[i], seed) for i in racing for seed in range(have, min(most, 2 * have))]
        train(f"race-{number}", pairs, found[racing[0]].epochs)
    return racing


class _Rules:
    """What a setting costs, and whether that is within the budget.

    Attributes:
        space: The space without what is chosen.
        own: Which of what is chosen are arguments of the architecture.
        refused: How many settings were over budget, or could not be built.
    """

    def __init__(
        self,
        given: ModelSpace | Family,
        parameters: Sequence[Parameter],
        budget: Mapping[str, float],
        goals: Sequence[str],
    ):
        self._family = given if isinstance(given, Family) else None
        self._budget, self._asked = budget, {*budget, *goals} - {"score"}
        names = {parameter.name for parameter in parameters}
        if isinstance(given, Family):
            for name in given.axes.fixed.keys() & names:
                given.axes.require(name)
            self.space = given.space(**{name: values[0] for name, values in given.axes.listed.items()})
        else:
            self.space = given
        self.own = names.intersection(self.space.arguments).difference(TRAINING)
        self._known: dict[str, dict[str, float] | str] = {}
        self.refused, self._why = 0, "none was made"

    def costs(self, setting: Mapping[str, Any]) -> dict[str, float] | None:
        """Return what a setting costs; None where that is over budget, or it can't be built."""
        arguments = {name: value for name, value in setting.items() if name in self.own}
        key = _digest(arguments)
        if key not in self._known:
            try:
                self._known[key] = self._measured(arguments)
            except ModelspaceError as error:
                self._known[key] = str(error)
        costs = self._known[key]
        if not isinstance(costs, str):
            above = [name for name, most in self._budget.items() if not costs.get(name, np.inf) <= most]
            if not above:
                return costs
            least = min(c.get(above[0], np.inf) for c in self._known.values() if not isinstance(c, str))
            costs = f"the least {above[0]} among those suggested are {least:,.0f}"
        self.refused, self._why = self.refused + 1, costs
        return None

    def _measured(self, arguments: Mapping[str, Any]) -> dict[str, float]:
        """Coordinates, FLOP where a sample's shape is known, and bytes where they are asked for."""
        forward, backward, peak = None, None, None
        if self._family is not None:  # by law, where one holds
            listed = {name: self.space.hyperparameters[name] for name in self._family.axes.listed}
            cost = self._family.member(**{**listed, **arguments})
            size, forward, backward, peak = cost.n, cost.forward_flops, cost.backward_flops, cost.peak_bytes
        else:
            space = self.space.variant(**arguments) if arguments else self.space
            size = space.dimension
            if size <= self._budget.get("parameters", np.inf) and space.input_shape is not None:
                cost = space.anatomy()
                forward, backward, peak = cost.forward_flops, cost.backward_flops, cost.peak_bytes
        found: dict[str, float] = {"parameters": size}
        found |= {} if forward is None or backward is None else {"flops": forward + backward}
        found |= {"memory": peak} if peak is not None and "memory" in self._asked else {}
        if (unknown := self._asked - {*found}) and size <= self._budget.get("parameters", np.inf):
            raise ModelspaceError(
                f"the {unknown.pop()} of {self.space.name} are not known: give it input_shape=(…)"
            )
        return found

    def nothing(self) -> str:
        """Say why no setting was tried."""
        limits = ", ".join(f"{name}={value:,.0f}" for name, value in self._budget.items())
        within = f" within {limits}" if limits else ""
        return f"no setting{within} in {self.refused} suggestions: {self._why}"


class _Trainer:
    """Trains members of settings, and notes in the search's folder what became of them.

    A fit that is in the notes is not asked of its folder again, but for one: that holds the call against what the
    folder was made by.

    Attributes:
        seconds: Of all fits.
    """

    def __init__(
        self, fitted: Callable[..., Run], score: str, folder: Path | None, epochs: int, apart: set[str]
    ):
        self._apart = apart
        self._fit, self._score, self._folder, self._last = fitted, score, folder, epochs
        self._notes, self._checked = _read_notes(folder), False
        self._places: dict[Any, str] = {}
        self.seconds = 0.0

    def train(self, name: str, pairs: Sequence[tuple[Trial, int]], epochs: int) -> None:
        """Train members up to so many epochs, and enter their scores; those that have the same columns together.

        Args:
            name: Of the fit; the same for all rungs of a batch.
            pairs: Settings and seeds.
            epochs: From the start.

        Raises:
            Interrupted: Ctrl-C.
        """
        groups: dict[str, list[tuple[Trial, int]]] = {}
        for trial, seed in pairs:
            alike = [*trial.setting, {n: v for n, v in trial.setting.items() if n in self._apart}]
            groups.setdefault(_digest(alike), []).append((trial, seed))
        for group, own in groups.items():
            table = pd.DataFrame([{"seed": seed, **trial.setting} for trial, seed in own])
            digest = _digest(table.to_dict("list"))
            place = self._places.setdefault((name, group), f"{name}-{digest}")
            key = f"{place}@{epochs}-{digest}"
            note = self._notes.get(key)
            if note is None or (epochs == self._last and not self._checked):
                note = self._noted(key, self._trained(table, epochs, place))
                self._checked = self._checked or epochs == self._last
            self.seconds += note["seconds"]
            for (trial, seed), score in zip(own, note["scores"], strict=True):
                trial.scores[seed] = np.nan if score is None else score
                trial.epochs = epochs

    def _trained(self, table: pd.DataFrame, epochs: int, place: str) -> _Note:
        began = time.perf_counter()
        run = self._fit(table, epochs=epochs, out=None if self._folder is None else self._folder / place)
        if run.interrupted:
            raise Interrupted(run)
        scores = np.where(run.status == Status.DIVERGED, np.nan, run.scores[self._score])
        return {
            "seconds": time.perf_counter() - began,
            "scores": [None if np.isnan(score) else float(score) for score in scores],
        }

    def _noted(self, key: str, note: _Note) -> _Note:
        """Note what became of a fit; how long it took the first time is what counts."""
        note["seconds"] = self._notes.get(key, note)["seconds"]
        self._notes[key] = note
        if self._folder is not None:
            with whole_file(self._folder / NOTES) as temporary:
                temporary.write_text(json.dumps(self._notes), encoding="utf-8")
        return note


def _read_notes(folder: Path | None) -> dict[str, _Note]:
    """Return what became of the fits of a search, by what they are.

    Raises:
        ModelspaceError: the file is none that a search wrote.
    """
    path = None if folder is None else folder / NOTES
    if path is None or not path.is_file():
        return {}
    try:
        notes = parsed(path.read_text(encoding="utf-8"), dict[str, _Note], "it")
    except (OSError, ValueError) as error:
        why = first_line(error)
        raise ModelspaceError(f"{path} is damaged ({why}): without it, its fits are read again") from error
    return notes


@contextmanager
def _folder(out: str | os.PathLike[str] | None, *, needed: bool) -> Iterator[Path | None]:
    """Give the search's folder; one for its time alone where none is given, and members go on from rung to rung."""
    if out is not None:
        yield Path(out)
    elif needed:
        with TemporaryDirectory(prefix="modelspace-search-") as name:
            yield Path(name)
    else:
        yield None


def _listed(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    """Return each parameter's choices, or the ends of its range."""
    found: dict[str, list[Any]] = {}
    for p in parameters:
        own = (p.values.low, p.values.high) if isinstance(p.values, Span) else p.values
        found[p.name] = [*found.get(p.name, []), *(v for v in own if v not in found.get(p.name, []))]
    return found


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=plain)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
