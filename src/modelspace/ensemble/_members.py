"""Which points become members, and how many: selection, snapshots, soups; the score against the number."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.ensemble._combine import combined, judge, kind_of, predictions, score
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.family import Family
from modelspace.fit import fit
from modelspace.metrics import Metric
from modelspace.population import Population
from modelspace.runs import Run, Status, best_of


class Selection(NamedTuple):
    """A selected ensemble, and how it came about.

    Attributes:
        ensemble: Of the members chosen, weighing as often as they were.
        order: The positions chosen, in order, repeated perhaps.
        scores: The score on the samples chosen by, after each.
        metric: Its name.
    """

    ensemble: Ensemble
    order: list[int]
    scores: list[float]
    metric: str


def select(
    ensemble: Ensemble,
    data: Any,
    size: int | None = None,
    *,
    by: Literal["greedy", "diversity"] = "greedy",
    metric: str | Metric | Callable[..., Any] | None = None,
    split: str = "validation",
) -> Selection:
    """Choose members on samples that they were not trained on.

    ``greedy`` adds, one at a time and with replacement, the member with which the combination scores best, and keeps
    the beginning that scored best of all: a member chosen three times weighs three. ``diversity`` begins with the
    best and adds the one that is furthest, on average, from those chosen: in the share of samples with another
    class, or the mean squared difference. It takes a bad member gladly, so give it members that are about as good.

    The score is an optimistic one of the ensemble chosen: report it on other samples.

    Args:
        ensemble: The members to choose from; their combination is kept.
        data: A ``Split``, or what ``modelspace.data.load`` takes.
        size: How many are chosen; of ``greedy`` at most, repetitions counted. All, or half of them rounded up, where
            None.
        by: Which way.
        metric: What is scored; the log-loss, the loss of a location and a scale, or the squared error where None.
        split: Which part of the data.

    Raises:
        ModelspaceError: an unknown way, or a size out of range.

    Source:
        Caruana, Niculescu-Mizil, Crew & Ksikes, "Ensemble selection from libraries of models", ICML 2004.
    """
    if by not in ("greedy", "diversity"):
        raise unknown_name("selection", by, ("greedy", "diversity"))
    loss, how, count = ensemble.loss, ensemble.combine, len(ensemble)
    size = size if size is not None else count if by == "greedy" else (count + 1) // 2
    if size < 1 or (by == "diversity" and size > count):
        raise ModelspaceError(f"size is a number from 1 to {count}; received {size}")
    outputs, labels = ensemble.on_split(data, split)
    by_which = judge(loss, how, metric)
    sign = 1 if by_which.higher_is_better else -1

    def scored(order: Sequence[int]) -> float:
        times = torch.bincount(torch.tensor(order), minlength=count).double()
        kept = times.nonzero().flatten()
        return score(loss, combined(how, loss, outputs[kept], times[kept] / times.sum()), labels, by_which)

    apart = _disagreement(ensemble, outputs) if by == "diversity" else None
    order: list[int] = []
    while len(order) < size:
        if order and apart is not None:
            left = [k for k in range(count) if k not in order]
            order.append(max(left, key=lambda k: float(apart[k, order].mean())))
        else:
            order.append(int(np.nanargmax([sign * scored([*order, k]) for k in range(count)])))
    scores = [scored(order[: m + 1]) for m in range(size)]
    if by == "greedy":
        best = int(np.nanargmax(sign * np.array(scores))) + 1
        order, scores = order[:best], scores[:best]
    times = np.bincount(order, minlength=count)
    kept = np.flatnonzero(times)
    chosen = Ensemble(ensemble, members=kept, combine=how, weights=times[kept].tolist())
    return Selection(chosen, order, scores, by_which.name)


def _disagreement(ensemble: Ensemble, outputs: Tensor) -> Tensor:
    """How far the predictions of each two members are apart, ``[K, K]``."""
    p, kind = predictions(ensemble.loss, outputs), kind_of(ensemble.loss)
    if kind in ("classes", "binary"):
        taken = (p.argmax(2) if kind == "classes" else p > 0.5).flatten(1)
        return torch.stack([(taken != own).double().mean(1) for own in taken])
    return torch.stack([(p - own).double().square().flatten(1).mean(1) for own in p])


def snapshots(run: Run, last: int | None = None, *, members: Sequence[int] | None = None) -> Population:
    """Return points that members passed through while they trained, as a population: ``fit(…, record="points")``.

    With a cyclic schedule, record at the ends of the cycles and each is a member of its own. An average over a
    trajectory is ``soup`` of them; one over all updates comes out of a fit by ``ema(…)`` or ``swa(…)``.

    Args:
        run: One that recorded points.
        last: How many of each member, the last ones; all after the start where None.
        members: Whose, by their positions in the run; all where None.

    Returns:
        A row a point, with the member's columns, and ``member`` and ``step``, the updates made until then.

    Raises:
        ModelspaceError: points were not recorded, or are of several spaces; or members have buffers that training
            changes (BatchNorm's), which are not recorded.

    Source:
        Huang, Li, Pleiss, Liu, Hopcroft & Weinberger, "Snapshot ensembles: train 1, get M for free", ICLR 2017.
    """
    if "points" not in list(run.records):
        raise ModelspaceError("the run has no points of the way: fit(…, record='points')")
    space, end = run.population.space, run.population.buffers
    start = space.buffers_of(space.template)
    if moving := [n for n, v in end.items() if bool((v.cpu() != start[n]).any())]:
        raise ModelspaceError(
            f"snapshots are points alone, and training changes {', '.join(moving)} too, which record='points' does "
            "not keep: without them the points are other functions"
        )
    rows, points = [], []
    for k in range(len(run.members)) if members is None else members:
        steps, values = run.records["points"].of(k)
        after = [i for i, step in enumerate(steps.tolist()) if step > 0]
        for i in after if last is None else after[-last:]:
            rows.append({**run.members.iloc[k].to_dict(), "member": k, "step": int(steps[i])})
            points.append(values[i])
    if not points:
        raise ModelspaceError("no point was recorded after the start")
    buffers = {name: value.detach().expand(len(points), *value.shape) for name, value in start.items()}
    return Population(space, torch.stack(points).to(space.dtype), buffers, pd.DataFrame(rows))


def soup(
    source: Run | Population,
    data: Any = None,
    *,
    how: Literal["uniform", "greedy"] = "uniform",
    metric: str | Metric | Callable[..., Any] | None = None,
    loss: Any = None,
    split: str = "validation",
) -> Population:
    """Return the mean of points: one point, which costs what one member costs.

    It is a good function where its ingredients lie in one basin: snapshots of one training, or trainings from one
    start. The mean of independent seeds is as bad as chance. ``greedy`` goes through the ingredients from the best on
    and keeps those with which the soup scores no worse.

    Buffers are averaged likewise, whole numbers are the first one's: take BatchNorm's statistics again on training
    data (``torch.optim.swa_utils.update_bn``).

    Args:
        source: A run, whose members that did not diverge are taken, or a population, of one space.
        data: What ``greedy`` scores on: a ``Split``, or what ``modelspace.data.load`` takes.
        how: All of them, or those that help.
        metric: What is scored, as ``select`` has it.
        loss: What members were trained for, where a run does not tell.
        split: Which part of the data.

    Returns:
        One row, whose column ``ingredients`` says of which rows it is the mean.

    Raises:
        ModelspaceError: an unknown way, no ingredients, those of several spaces, or no data for ``greedy``.

    Example:
        >>> population = ms.ModelSpace(nn.Linear, in_features=4, out_features=3).sample(seeds=3)
        >>> bool((soup(population).points[0] - population.points.mean(0)).abs().max() < 1e-6)
        True

    Source:
        Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
        increasing inference time", ICML 2022.
    """
    if how not in ("uniform", "greedy"):
        raise unknown_name("soup", how, ("uniform", "greedy"))
    if how == "greedy" and data is None:
        raise ModelspaceError("a greedy soup is scored on samples not trained on: give data")
    if isinstance(source, Run):
        population, rows = (
            source.population,
            np.flatnonzero(source.status[source.kept] != Status.DIVERGED).tolist(),
        )
        loss = Ensemble(source, members=rows[:1]).loss if loss is None and rows else loss
    else:
        population, rows = source, [*range(len(source))]
    if not rows:
        raise ModelspaceError("a soup has at least one ingredient")

    def scored(rows: list[int]) -> float:
        one = Ensemble(_mean(population, rows), loss=loss)
        outputs, labels = one.on_split(data, split)
        by_which = judge(one.loss, one.combine, metric)
        value = score(one.loss, one.combined(outputs), labels, by_which) * (
            1 if by_which.higher_is_better else -1
        )
        return -np.inf if np.isnan(value) else value

    if how == "uniform":
        return _mean(population, rows)
    kept, best = [], -np.inf
    for k in sorted(rows, key=lambda k: scored([k]), reverse=True):
        if (found := scored([*kept, k])) >= best:
            kept, best = [*kept, k], found
    return _mean(population, kept)


def _mean(population: Population, rows: list[int]) -> Population:
    """The mean of some rows, as a population of one."""
    chosen = population[rows]

    def mean(values: Tensor) -> Tensor:
        return (
            values.double().mean(0, keepdim=True).to(values.dtype)
            if values.is_floating_point()
            else values[:1]
        )

    table = pd.DataFrame({"ingredients": [tuple(rows)]})
    return Population(
        chosen.space, mean(chosen.points), {n: mean(b) for n, b in chosen.buffers.items()}, table
    )


def curve(
    ensemble: Ensemble,
    data: Any,
    *,
    sizes: Iterable[int] | None = None,
    metric: str | Metric | Callable[..., Any] | None = None,
    split: str = "test",
    subsets: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Score ensembles of m = 1 … K of these members: the mean over all subsets of a size, or over some.

    It is what a random m of these members score: no luck in which ones. Members weigh alike.

    Args:
        ensemble: The K members, and their combination.
        data: A ``Split``, or what ``modelspace.data.load`` takes.
        sizes: Which m; all from 1 to K where None.
        metric: What is scored; the log-loss, the loss of a location and a scale, or the squared error where None.
        split: Which part of the data.
        subsets: How many of a size are scored at most; where there are no more, all of them.
        seed: Of the draw of subsets.

    Returns:
        A row an m: ``score``; ``error``, its standard error over the draw of subsets, 0 where all are scored; ``sd``
        over subsets; ``subsets`` scored; and whether that is ``exact``.

    Raises:
        ModelspaceError: a size that is not from 1 to K.
    """
    loss, how, count = ensemble.loss, ensemble.combine, len(ensemble)
    wanted = list(range(1, count + 1) if sizes is None else sizes)
    if any(not 1 <= m <= count for m in wanted):
        raise ModelspaceError(f"sizes are from 1 to {count}, the members; received {wanted}")
    outputs, labels = ensemble.on_split(data, split)
    by_which, draws, rows = judge(loss, how, metric), np.random.default_rng(seed), []
    for m in wanted:
        exact = comb(count, m) <= subsets
        drawn = (draws.choice(count, m, replace=False) for _ in range(subsets))
        chosen: Iterable[Sequence[int]] = combinations(range(count), m) if exact else drawn  # pyright: ignore
        alike = torch.full((m,), 1 / m, dtype=torch.float64)
        found = [score(loss, combined(how, loss, outputs[list(s)], alike), labels, by_which) for s in chosen]
        sd = float(np.std(found, ddof=0 if exact else 1))
        rows.append((np.mean(found), 0.0 if exact else sd / len(found) ** 0.5, sd, len(found), exact))
    table = pd.DataFrame(rows, pd.Index(wanted, name="members"), ["score", "error", "sd", "subsets", "exact"])
    table.attrs["metric"] = by_which.name
    return table


def equal_budget(
    family: Family,
    data: Any,
    budget: float | None = None,
    *,
    of: Literal["parameters", "flops", "memory"] = "parameters",
    sizes: Sequence[int] = (1, 2, 4, 8),
    ensembles: int = 4,
    columns: Mapping[str, Any] | None = None,
    over: str | None = None,
    metric: str | Metric | Callable[..., Any] | None = None,
    split: str = "test",
    **options: Any,
) -> pd.DataFrame:
    """Hold one wide network against many narrow ones that cost the same together, sizes found by the family's laws.

    For each number of members m, the member of the family whose cost is nearest to ``budget`` / m is trained with
    m × ``ensembles`` seeds. Where ``columns`` hold several settings, each size's own is chosen by its median on
    validation, since a narrow network wants another rate than a wide one; and independent ensembles of m are scored.

    Args:
        family: Spaces by a width, say, that ``Family.solve`` can solve for.
        data: What ``fit`` takes.
        budget: What all members of an ensemble cost together; that of the family's largest member where None.
        of: What it is a budget of; FLOP are of forward and backward.
        sizes: The numbers of members.
        ensembles: How many of each size: the error is over them.
        columns: Of the training, ``{"lr": [1e-3, 1e-2]}``.
        over: Which hyper-parameter is solved for, where several are open.
        metric: What is scored, as ``curve`` has it.
        split: Which part of the data.
        **options: Of ``fit``: ``epochs=``, ``loss=``, …

    Returns:
        A row a size: the family's hyper-parameters, ``parameters`` and ``flops`` of all members together, the columns
        chosen, ``score`` (the mean over ensembles), its standard ``error``, and of how many ``ensembles``.

    Raises:
        ModelspaceError: all members of a size diverged, or what ``fit`` and ``Family.solve`` raise.
    """
    data, rows, name = datasets.load(data), [], ""
    if budget is None:
        names = {"parameters": ["n"], "flops": ["forward_flops", "backward_flops"], "memory": ["peak_bytes"]}[
            of
        ]
        budget = float(family.table[names].sum(axis=1, skipna=False).max())
    for size in sizes:
        solution = family.solve(**{of: budget / size}, over=over)  # pyright: ignore[reportArgumentType]
        member, space = solution.member, family.space(**solution.hyperparameters)
        run = fit(space.sample(size * ensembles, **(columns or {})), data, **options)
        settings, responses = run.responses()
        best = best_of(responses, higher_is_better=run.monitor in run.higher_is_better)
        if best is None:
            raise ModelspaceError(f"all members of {space.title} diverged: give lower rates in columns")
        scores = []
        for members in np.split(settings[best].rows, ensembles):
            if (run.status[members] != Status.DIVERGED).any():
                one = Ensemble(run, members=members)
                outputs, labels = one.on_split(data, split)
                by_which = judge(one.loss, one.combine, metric)
                scores.append(score(one.loss, one.combined(outputs), labels, by_which))
                name = by_which.name
        flops = (member.forward_flops or np.nan) + (member.backward_flops or np.nan)
        row = {n: v for n, v in solution.hyperparameters.items() if n in family.axes.listed}
        row |= {"parameters": size * member.n, "flops": size * flops, **settings[best].columns}
        error = float(np.std(scores, ddof=1)) / len(scores) ** 0.5 if len(scores) > 1 else np.nan
        rows.append({**row, "score": np.mean(scores), "error": error, "ensembles": len(scores)})
    table = pd.DataFrame(rows, pd.Index(sizes, name="members"))
    table.attrs["metric"] = name
    return table
