"""Optuna as the suggester, in memory: what to try next, what mattered, and a study for its own tools.

It alone decides what is suggested. A choice among numbers is suggested by its place in their order, any other by its
place among the choices, so that every value is Optuna's own; what is exported has the values themselves.

Sources:
    Akiba et al., "Optuna", KDD 2019; Bergstra et al., "Algorithms for hyper-parameter optimization", NIPS 2011 (TPE);
    Hansen & Ostermeier, Evolutionary Computation 9, 2001 (CMA-ES); Deb et al., IEEE TEC 6, 2002 (NSGA-II); Bergstra &
    Bengio, JMLR 13, 2012 (random; quasi-random, §4); Hutter et al., "An efficient approach for assessing
    hyperparameter importance", ICML 2014 (fANOVA); Watanabe et al., "PED-ANOVA", IJCAI 2023.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.search._over import Parameter, Span

SAMPLERS = ("tpe", "cmaes", "qmc", "random", "nsga2")
IMPORTANCES = ("fanova", "ped-anova")
_FEWEST = 8  # trials, below which nothing can be said of importance


class Suggestion(NamedTuple):
    """What was suggested.

    Attributes:
        setting: A value for each parameter that is active, by its name.
        handle: What the suggester knows it by.
    """

    setting: dict[str, Any]
    handle: Any


class Told(NamedTuple):
    """What became of a setting, as a study has it.

    Attributes:
        setting: Its values, by the parameters' names.
        values: Its goals; None where it has none.
        stopped: The epochs after which it was stopped, 0 where it was never begun; None where it was not.
        about: What else is known of it, by name.
    """

    setting: Mapping[str, Any]
    values: Sequence[float] | None
    stopped: int | None = None
    about: Mapping[str, Any] = {}


class Suggester:
    """Suggests settings and is told what became of them.

    Args:
        parameters: What is chosen, parents first.
        sampler: One of ``SAMPLERS``.
        seed: Of the sampler: the same seed, told the same, suggests the same.
        higher: Of each goal, whether more is better.
        batch: How many are asked for before any is told.

    Raises:
        ModelspaceError: an unknown sampler, several goals for one that has one, or Optuna is missing.
    """

    def __init__(
        self, parameters: Sequence[Parameter], sampler: str, seed: int, higher: Sequence[bool], batch: int
    ):
        self._parameters = parameters
        with _optuna() as optuna:
            made = _sampler(optuna, sampler, seed, len(higher), batch)
            self._study = optuna.create_study(directions=_directions(higher), sampler=made)
            self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def ask(self, held: Mapping[str, Any] | None = None, *, anew: bool = False) -> Suggestion:
        """Suggest a setting.

        Args:
            held: Values that it is to have; all are suggested where None.
            anew: Whether it is to be drawn at random: a sampler may suggest what it knows again and again.
        """
        setting: dict[str, Any] = {}
        with _optuna():
            if anew:
                other, held = self._random.ask(), {}
                for parameter in self._parameters:
                    if parameter.active(held):
                        held[parameter.name] = _suggested(other, parameter)
            if held:
                own = [p for p in self._parameters if p.name in held and p.active(held) and _varies(p)]
                self._study.enqueue_trial({p.key: _placed(p, held[p.name]) for p in own})
            trial = self._study.ask()
            for parameter in self._parameters:
                if parameter.active(setting):
                    setting[parameter.name] = _suggested(trial, parameter)
        return Suggestion(setting, trial)

    def tell(self, suggestion: Suggestion, told: Told) -> None:
        """Tell what became of a suggestion."""
        with _optuna() as optuna:
            states, trial = optuna.trial.TrialState, suggestion.handle
            if told.stopped is None:
                state = states.FAIL if told.values is None else states.COMPLETE
                self._study.tell(trial, None if told.values is None else list(told.values), state=state)
            elif len(self._study.directions) > 1:
                self._study.tell(trial, state=states.FAIL)
            else:  # one that was never begun has no score: the worst of those that were stopped
                if told.values is not None:
                    trial.report(told.values[0], told.stopped)
                self._study.tell(trial, state=states.PRUNED)


def importances(
    parameters: Sequence[Parameter],
    trials: Sequence[Told],
    higher: Sequence[bool],
    kind: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return how much of the scores' variance each parameter explains, and the bootstrap's standard error of that.

    A parameter that depends on another is judged among the trials that have it.

    Args:
        parameters: What was chosen.
        trials: What became of it; those that failed or were stopped are left out.
        higher: Of the goals, whether more is better; the first counts.
        kind: ``"fanova"`` or ``"ped-anova"``.
        resamples: Of the trials, with replacement.
        seed: Of these, and of fANOVA's forests.

    Raises:
        ModelspaceError: an unknown kind, or fewer than 8 trials.
    """
    if kind not in IMPORTANCES:
        raise unknown_name("importance", kind, IMPORTANCES)
    whole = [told for told in trials if told.values is not None and told.stopped is None]
    if len(whole) < _FEWEST:
        raise ModelspaceError(f"importance needs at least {_FEWEST} finished trials; there are {len(whole)}")
    rows, drawn = [], np.random.default_rng(seed)
    for when in dict.fromkeys(parameter.when for parameter in parameters):
        asked = [p for p in parameters if p.when == when and _varies(p)]
        own = [told for told in whole if any(_has(told, p) for p in asked)]
        there = [p for p in parameters if _varies(p) and own and all(_has(told, p) for told in own)]
        found = np.full((1 + resamples, len(asked)), np.nan)
        if len(own) >= _FEWEST:
            for i in range(1 + resamples):
                pick = drawn.integers(len(own), size=len(own)) if i else range(len(own))
                shares = _shares(there, [own[k] for k in pick], higher, kind, seed)
                found[i] = [shares.get(p.key, 0.0) for p in asked]
        errors = found[1:].std(axis=0, ddof=1) if resamples > 1 else np.full(len(asked), np.nan)
        rows += [(p.key, *said, len(own)) for p, *said in zip(asked, found[0], errors, strict=True)]
    table = pd.DataFrame(rows, columns=pd.Index(["parameter", "importance", "error", "trials"]))
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def export(
    parameters: Sequence[Parameter], trials: Sequence[Told], higher: Sequence[bool], storage: str, name: str
) -> None:
    """Write a study into an Optuna storage.

    Raises:
        ModelspaceError: the storage can't be opened, or has a study of this name.
    """
    with _optuna() as optuna:
        try:
            study = optuna.create_study(study_name=name, storage=storage, directions=_directions(higher))
        except optuna.exceptions.DuplicatedStudyError:
            raise ModelspaceError(f"{storage} has a study '{name}' already: give another name=") from None
        except Exception as error:  # whatever a database says
            raise ModelspaceError(f"can't write a study to {storage}: {first_line(error)}") from error
        study.add_trials([_frozen(optuna, parameters, told, plain=True) for told in trials])


@contextmanager
def _optuna() -> Iterator[ModuleType]:
    """Optuna, without its log and without what it says of its own future."""
    try:
        import optuna
    except ImportError as error:
        raise ModelspaceError(
            f"a search needs a package that can't be imported ({error}): pip install 'torch-modelspace[search]'"
        ) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _directions(higher: Sequence[bool]) -> list[str]:
    return ["maximize" if more else "minimize" for more in higher]


def _sampler(optuna: ModuleType, name: str, seed: int, goals: int, batch: int) -> Any:
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    if name == "cmaes" and goals > 1:
        raise ModelspaceError("sampler 'cmaes' has one goal: several need 'nsga2', 'tpe', 'qmc' or 'random'")
    made = optuna.samplers
    try:
        return {
            "tpe": lambda: made.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=max(10, batch)
            ),
            "cmaes": lambda: made.CmaEsSampler(seed=seed, warn_independent_sampling=False),
            "qmc": lambda: made.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
            "random": lambda: made.RandomSampler(seed=seed),
            "nsga2": lambda: made.NSGAIISampler(seed=seed, population_size=max(2, batch)),
        }[name]()
    except ImportError as error:
        raise ModelspaceError(
            f"sampler '{name}' needs a package that can't be imported ({first_line(error)}): "
            "pip install 'torch-modelspace[search]'"
        ) from error


def _suggested(trial: Any, parameter: Parameter) -> Any:
    key, values = parameter.key, parameter.values
    if isinstance(values, Span):
        return (trial.suggest_int if values.whole else trial.suggest_float)(
            key, values.low, values.high, log=values.log
        )
    if len(values) == 1:
        return values[0]
    last = len(values) - 1
    if parameter.ordered:
        return values[trial.suggest_int(key, 0, last)]
    return values[trial.suggest_categorical(key, list(range(last + 1)))]


def _frozen(optuna: ModuleType, parameters: Sequence[Parameter], told: Told, *, plain: bool) -> Any:
    """A trial as a study has it; with ``plain`` choices are themselves, and not their places."""
    states = optuna.trial.TrialState
    state = states.FAIL if told.values is None else states.COMPLETE if told.stopped is None else states.PRUNED
    params, distributions = {}, {}
    for parameter in (p for p in parameters if _has(told, p)):
        value, key = told.setting[parameter.name], parameter.key
        params[key] = _storable(value) if plain else _placed(parameter, value)
        distributions[key] = _distribution(optuna, parameter, plain=plain)
    steps = {} if told.stopped is None or told.values is None else {told.stopped: told.values[0]}
    return optuna.trial.create_trial(
        state=state,
        values=list(told.values or []) if state == states.COMPLETE else None,
        params=params,
        distributions=distributions,
        user_attrs=dict(told.about),
        intermediate_values=steps,
    )


def _distribution(optuna: ModuleType, parameter: Parameter, *, plain: bool) -> Any:
    made, values = optuna.distributions, parameter.values
    if isinstance(values, Span):
        kind = made.IntDistribution if values.whole else made.FloatDistribution
        return kind(values.low, values.high, log=values.log)
    if plain:
        return made.CategoricalDistribution([_storable(value) for value in values])
    if parameter.ordered:
        return made.IntDistribution(0, len(values) - 1)
    return made.CategoricalDistribution(list(range(len(values))))


def _shares(
    parameters: Sequence[Parameter], trials: Sequence[Told], higher: Sequence[bool], kind: str, seed: int
) -> dict[str, float]:
    """Each parameter's share among some trials that have all of them; nothing where they all scored alike."""
    if len({told.values[0] for told in trials if told.values is not None}) < 2:
        return {}
    with _optuna() as optuna:
        study = optuna.create_study(directions=_directions(higher))
        study.add_trials([_frozen(optuna, parameters, told, plain=False) for told in trials])
        made = optuna.importance
        forest, windows = made.FanovaImportanceEvaluator, made.PedAnovaImportanceEvaluator
        evaluator = forest(seed=seed) if kind == "fanova" else windows()
        names = [parameter.key for parameter in parameters]
        return made.get_param_importances(
            study, evaluator=evaluator, params=names, target=lambda trial: trial.values[0]
        )


def _has(told: Told, parameter: Parameter) -> bool:
    return parameter.name in told.setting and parameter.active(told.setting)


def _varies(parameter: Parameter) -> bool:
    return isinstance(parameter.values, Span) or len(parameter.values) > 1


def _placed(parameter: Parameter, value: Any) -> Any:
    """A value as it is suggested: of a choice, its place."""
    return value if isinstance(parameter.values, Span) else parameter.values.index(value)


def _storable(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
