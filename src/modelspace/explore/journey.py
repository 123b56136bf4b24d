"""``explore``: the whole journey — measure, sample, fit, choose on validation, fit fresh seeds, test, compare."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace import losses
from modelspace.compare import Comparison, compare
from modelspace.data import Data
from modelspace.doctor import Diagnosis, doctor
from modelspace.engine import evaluate, goal_of
from modelspace.errors import ModelspaceError, the_users_told
from modelspace.fit import fit
from modelspace.geometry import Curvature, Landscape, curvature, landscape
from modelspace.losses import Choice, Loss, Objective, Objectives
from modelspace.metrics import usual
from modelspace.optimizers import Optimizer
from modelspace.population import LARGEST_SEED, Population
from modelspace.runs import Distribution, Response, Run, Setting, best_of, ended_well, responses_of
from modelspace.space import ModelSpace, check_number

_GRID = 15  # points along each axis of the plane
_BENT, _SAMPLES = 16, 256  # members whose curvature is computed, and samples that it is of


class Interrupted(KeyboardInterrupt):
    """Ctrl-C before there was anything to choose or to report.

    Attributes:
        run: The run in progress, with what was finished until then.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run


@dataclass(frozen=True, repr=False)
class Exploration:
    """What an exploration found.

    Attributes:
        space: The space.
        data: The data.
        sweep: The first run: seeds × columns.
        response: For each column combination, the validation score over seeds: median, quartiles, diverged.
        chosen: The combination chosen on the validation split.
        fresh: The second run: fresh seeds at the chosen combination.
        test: The fresh members' test scores, one row a member.
        distribution: Of the fresh members' headline test score.
        pair: The two fresh members that are compared (positions in ``fresh.population``).
        comparison: Of these two, on the test split.
        metric: The headline score: accuracy for classes, otherwise the loss.
        diagnosis: What the doctor found before anything was trained; None where it could not examine the space.
        ground: The loss over the plane through the first three fresh members that finished; None where there are
            fewer, or the loss can't be taken there.
        bends: The curvature of the loss at the first of them, at most 16; None likewise.
    """

    space: ModelSpace
    data: Data
    sweep: Run
    response: pd.DataFrame
    chosen: dict[str, Any]
    fresh: Run
    test: pd.DataFrame
    distribution: Distribution
    pair: tuple[int, int]
    comparison: Comparison | None
    metric: str
    diagnosis: Diagnosis | None = None
    ground: Landscape | None = None
    bends: Curvature | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit of the fresh seeds."""
        return self.fresh.interrupted

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a self-contained HTML page.

        Raises:
            ModelspaceError: the place can't be written to.
        """
        import_module("modelspace.report").write_exploration(self, path)

    def __repr__(self) -> str:
        chosen = ", ".join(f"{k}={v}" for k, v in self.chosen.items()) or "the defaults"
        of = f"{self.space.title} on {self.data.name} at {chosen}"
        return f"Exploration of {of}: test {self.metric} {self.distribution}"


@the_users_told()
def explore(
    space: ModelSpace,
    data: Any,
    *,
    seeds: Iterable[int] | int = 16,
    columns: Mapping[str, Any] | None = None,
    fresh_seeds: int = 64,
    loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
    objective: Objective | Callable[[Any, Any], Any] | Literal["model"] | None = None,
    optimizer: str | Optimizer = "adam",
    epochs: int = 20,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    ground: bool = True,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Exploration:
    """Explore a space honestly: choose on validation, then report fresh seeds on test.

    1. Let the doctor look at the space, its loss and its data; sample seeds × columns and fit all as one program.
    2. Choose the column combination with the best median validation score (accuracy for classes, otherwise the
       loss); a diverged member counts as the worst. An own ``data_seed`` is randomness, not a choice.
    3. Fit ``fresh_seeds`` new seeds there; report the distribution of their test score.
    4. Compare the two fresh members that are the first to have finished.
    5. Map the ground: the loss over the plane through three of them, and how it bends at sixteen.

    Args:
        space: The space.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        seeds: Seeds of the sweep, or their number.
        columns: Hyper-parameters to sweep: ``{"lr": [1e-3, 1e-2]}``.
        fresh_seeds: How many new seeds to fit at the choice, at least 2.
        loss: What is minimised; cross-entropy where nothing is given.
        objective: In place of a loss, as of ``fit``: then the choice is by its ``loss``.
        optimizer: How.
        epochs: Passes over the training split.
        batch_size: Samples a step.
        device: Where to compute.
        ground: Whether to do step 5.
        out: A folder in which both runs are written down as they go, in ``sweep`` and ``fresh``: see ``fit``.
        **settings: Further arguments of ``fit``.

    Returns:
        The exploration. After Ctrl-C in step 3 it holds the fresh members that were finished.

    Raises:
        ModelspaceError: fewer than 2 fresh seeds or more than 10⁸, an empty validation or test split, every
            member of the sweep diverged, or what ``fit`` raises.
        Interrupted: Ctrl-C before the sweep, or any fresh member, was finished; it carries that run.
    """
    data = datasets.load(data)
    columns = dict(columns or {})
    check_confirmable(data, fresh_seeds, "exploring")
    goal = {"loss": loss, "objective": objective}
    settings = {**goal, "optimizer": optimizer, "epochs": epochs, "batch_size": batch_size, **settings}
    population = space.sample(seeds, **columns)
    measure = measure_of(population, data, columns, **goal, taker="explore")
    diagnosis = _diagnosis(space, measure.among[0], data)
    sweep = fit(population.to(device), data, **settings, out=_part(out, "sweep"))
    if sweep.interrupted:
        raise Interrupted(sweep)
    higher = measure.higher_is_better
    scores = sweep.table[measure.score].to_numpy(dtype=np.float64)
    tried, responses = responses_of(sweep.members, scores, sweep.status, higher_is_better=higher)
    best = best_of(responses, higher_is_better=higher)
    if best is None:
        raise ModelspaceError(
            f"all {len(sweep.members)} members diverged: try smaller learning rates, or clip_norm=1"
        )
    chosen = tried[best].columns
    used = {int(s) for s in sweep.members["seed"]}
    own_order = "data_seed" in columns
    where = _part(out, "fresh")
    try:
        confirmed = confirm(
            space, data, chosen, used, fresh_seeds, measure, settings, device, where, own_order=own_order
        )
    except Interrupted:
        raise Interrupted(sweep) from None
    return Exploration(
        confirmed.fresh.population.space,
        data,
        sweep,
        _table(tried, responses),
        chosen,
        *confirmed,
        measure.metric,
        diagnosis,
        *(_mapped(confirmed.fresh, data, goal, settings) if ground else (None, None)),
    )


class Measure(NamedTuple):
    """What settings are judged by.

    Attributes:
        minimised: What is minimised.
        metric: The headline score: accuracy for classes, otherwise the loss.
    """

    minimised: Loss
    metric: str

    @property
    def among(self) -> Sequence[Loss]:
        """The losses among which members have theirs."""
        return self.minimised.among if isinstance(self.minimised, Choice) else (self.minimised,)

    @property
    def score(self) -> str:
        """The curve whose last value counts."""
        return f"validation_{self.metric}"

    @property
    def higher_is_better(self) -> bool:
        """Of the score."""
        return self.metric != "loss"


def measure_of(
    population: Population, data: Data, columns: Mapping[str, Any], *, loss: Any, objective: Any, taker: str
) -> Measure:
    """Return what settings are judged by.

    Args:
        population: Some of them.
        data: What is learned.
        columns: What is chosen, by name: its values.
        loss: As of ``fit``.
        objective: As of ``fit``.
        taker: Who asks, for messages.

    Raises:
        ModelspaceError: a validation score can't choose among these values.
    """
    minimised = goal_of(population, data, loss, objective)
    measure = Measure(minimised, "loss")
    if all(usual(each, data.classes) for each in measure.among):
        measure = Measure(minimised, "accuracy")
    _refuse_incomparable(columns, measure, taker)
    return measure


def check_confirmable(data: Data, fresh_seeds: int, doing: str) -> None:
    """Refuse what a choice can't be made or confirmed with.

    Raises:
        ModelspaceError: fewer than 2 fresh seeds or more than 10⁸, or an empty validation or test split.
    """
    if fresh_seeds < 2:
        raise ModelspaceError(f"a distribution needs at least 2 fresh seeds; received {fresh_seeds}")
    check_number(fresh_seeds)
    for name in ("validation", "test"):
        if len(data.splits[name]) == 0:
            raise ModelspaceError(f"{doing} needs a {name} split, but that of {data.name} is empty")


class Confirmation(NamedTuple):
    """What a choice is worth: fresh seeds on the test split; the attributes are those of ``Exploration``."""

    fresh: Run
    test: pd.DataFrame
    distribution: Distribution
    pair: tuple[int, int]
    comparison: Comparison | None


def confirm(
    space: ModelSpace,
    data: Data,
    chosen: Mapping[str, Any],
    used: set[int],
    seeds: int,
    measure: Measure,
    settings: Mapping[str, Any],
    device: torch.device | str,
    out: Path | None,
    *,
    own_order: bool = False,
) -> Confirmation:
    """Fit fresh seeds at a choice, test them, and compare the first two that finished.

    Args:
        space: The space.
        data: What is learned.
        chosen: The columns, one value each.
        used: Seeds that are not fresh.
        seeds: How many fresh ones.
        measure: What the choice was made by.
        settings: Those of ``fit``.
        device: Where to compute.
        out: The run's folder.
        own_order: Whether each has its own order of the data.

    Raises:
        Interrupted: Ctrl-C before any of them was finished.
    """
    first = next(s for s in range(LARGEST_SEED) if all(s + i not in used for i in range(seeds)))
    population = space.sample(range(first, first + seeds), **{n: [v] for n, v in chosen.items()})
    if own_order:
        population = population.with_columns(data_seed=population.table["seed"])
    fresh = fit(population.to(device), data, **{**settings, "keep": "all"}, out=out)
    finished = ended_well(fresh.status)
    if fresh.interrupted and not finished.any():
        raise Interrupted(fresh)
    measured = list(dict.fromkeys(["loss", measure.metric]))
    loss, objective = settings.get("loss"), settings.get("objective")
    test = evaluate(fresh.population, data, measured, loss=loss, objective=objective)
    test["status"] = fresh.status
    first_two = [int(k) for k in test[finished].index[:2]]
    comparison = None
    if len(first_two) == 2:
        comparison = _compared(fresh.population, first_two, data, chosen, measure.minimised)
    distribution = Distribution.of(test[measure.metric], fresh.status)
    pair = (first_two[0], first_two[-1]) if first_two else (0, 0)
    return Confirmation(fresh, test, distribution, pair, comparison)


def _compared(
    population: Population, pair: Sequence[int], data: Data, chosen: Mapping[str, Any], minimised: Loss
) -> Comparison:
    """Two members held against each other on the test split."""
    if not isinstance(minimised, Objective):
        minimised = losses.resolve(chosen.get("loss", minimised)).on(data.train.labels)
    own = {name: value for name, value in chosen.items() if name in minimised.hyperparameters()}
    a, b = pair
    return compare(
        population.module(a),
        population.module(b),
        inputs=data.test.inputs,
        labels=data.test.labels,
        loss=minimised.at(own) if isinstance(minimised, Objective) else minimised,
        names=(f"seed {population.table['seed'][a]}", f"seed {population.table['seed'][b]}"),
        space=population.space,
    )


def _mapped(
    fresh: Run, data: Data, goal: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Landscape | None, Curvature | None]:
    """The plane through three members and the curvature at a few; None of what can't be computed of this loss."""
    rows = np.flatnonzero(ended_well(fresh.status)[fresh.kept])
    plane = bends = None
    if fresh.interrupted or len(rows) < 3:
        return None, None
    with suppress(ModelspaceError):
        plane = landscape(fresh.population[rows[:3]], data, plane="seeds", grid=_GRID, **goal)
    with suppress(ModelspaceError):
        few = fresh.population[rows[:_BENT]]
        given = {"top": 1, "probes": 4, "samples": _SAMPLES, "optimizer": settings["optimizer"]}
        bends = curvature(few, data, **given, **goal)
    return plane, bends


def _diagnosis(space: ModelSpace, loss: Loss, data: Data) -> Diagnosis | None:
    try:
        return doctor(space, loss=None if isinstance(loss, Objective) else loss, data=data)
    except ModelspaceError:  # what is wrong enough to stop it stops the fit too, which says so
        return None


def _refuse_incomparable(columns: Mapping[str, Any], measure: Measure, taker: str) -> None:
    """Columns among whose values a validation score can't choose."""
    minimised, noise = measure.minimised, columns.get("label_noise")
    if isinstance(noise, Iterable) and len(set(noise)) > 1:
        raise ModelspaceError(
            f"label_noise is a condition, not a choice: {taker} takes one value of it; fit takes several"
        )
    if isinstance(minimised, Objectives):
        raise ModelspaceError(
            f"objectives can't be chosen among by their own values: {taker} takes one; fit takes several"
        )
    own = minimised.hyperparameters() if isinstance(minimised, Objective) else {}
    for name in own:
        values = columns.get(name)
        if isinstance(values, Iterable) and len(set(values)) > 1:
            raise ModelspaceError(
                f"{name} is a parameter of objective '{minimised.name}', among whose values its own can't choose: "
                f"{taker} takes one of them; fit takes several"
            )
    if measure.metric == "loss" and "loss" in columns:
        raise ModelspaceError(
            f"losses can't be chosen among by their own values: {taker} takes several where labels are classes, "
            "and chooses by accuracy; fit takes several of any kind"
        )


def _part(out: str | os.PathLike[str] | None, name: str) -> Path | None:
    return None if out is None else Path(out) / name


def _table(settings: Sequence[Setting], responses: Sequence[Response]) -> pd.DataFrame:
    """The response of each setting, a row each."""
    rows = [
        (*s.columns.values(), r.q1, r.median, r.q3, r.members, r.diverged)
        for s, r in zip(settings, responses, strict=True)
    ]
    columns = [*settings[0].columns, "q1", "median", "q3", "seeds", "diverged"]
    return pd.DataFrame(rows, columns=pd.Index(columns))
