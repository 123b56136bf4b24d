"""Which points become members: a selection on validation, snapshots of a training, averages of points."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from modelspace.ensemble._combine import combined, judge, kind_of, predictions, score
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import Loss
from modelspace.metrics import Metric
from modelspace.population import Population
from modelspace.runs import Run, Status

_WAYS = ("greedy", "diversity", "best")


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
    by: Literal["greedy", "diversity", "best"] = "greedy",
    metric: str | Metric | Callable[..., Any] | None = None,
    split: str = "validation",
) -> Selection:
    """Choose members on samples that they were not trained on.

    ``greedy`` adds, one at a time and with replacement, the member with which the combination scores best, and keeps
    the beginning that scored best of all: a member chosen three times weighs three. ``best`` takes those that score
    best by themselves. ``diversity`` begins with the best and adds the one that is furthest, on average, from those
    chosen: in the share of samples with another class, or the mean squared difference. It takes a bad member gladly,
    so give it members that are about equally good.

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
    if by not in _WAYS:
        raise unknown_name("selection", by, _WAYS)
    loss, how, count = ensemble.loss, ensemble.combine, len(ensemble)
    size = size if size is not None else count if by == "greedy" else (count + 1) // 2
    if size < 1 or (by != "greedy" and size > count):
        raise ModelspaceError(f"size is a number from 1 to {count}; received {size}")
    outputs, labels = ensemble.on_split(data, split)
    by_which = judge(loss, how, metric)
    sign = 1 if by_which.higher_is_better else -1

    def scored(order: Sequence[int]) -> float:
        times = torch.bincount(torch.tensor(order), minlength=count).double()
        kept = times.nonzero().flatten()
        return score(loss, combined(how, loss, outputs[kept], times[kept] / times.sum()), labels, by_which)

    own = [sign * scored([k]) for k in range(count)]
    ranking = sorted(range(count), key=lambda k: -np.inf if np.isnan(own[k]) else own[k], reverse=True)
    order = ranking[:size] if by == "best" else ranking[:1]
    if by == "diversity":
        apart = _disagreement(loss, outputs)
    while len(order) < size:
        if by == "diversity":
            left = [k for k in range(count) if k not in order]
            order.append(max(left, key=lambda k: float(apart[k, order].mean())))
        else:
            order.append(int(np.nanargmax([sign * scored([*order, k]) for k in range(count)])))
    scores = [scored(order[: m + 1]) for m in range(len(order))]
    if by == "greedy":
        best = int(np.nanargmax(sign * np.array(scores))) + 1
        order, scores = order[:best], scores[:best]
    times = np.bincount(order, minlength=count)
    kept = np.flatnonzero(times)
    return Selection(
        Ensemble(ensemble, members=kept, combine=how, weights=times[kept].tolist()),
        order,
        scores,
        by_which.name,
    )


def _disagreement(loss: Loss | None, outputs: Tensor) -> Tensor:
    """How far the predictions of each two members are apart, ``[K, K]``."""
    p, kind = predictions(loss, outputs), kind_of(loss)
    if kind in ("classes", "binary"):
        taken = (p.argmax(2) if kind == "classes" else p > 0.5).flatten(1)
        return torch.stack([(taken != own).double().mean(1) for own in taken])
    return torch.stack([(p - own).double().square().flatten(1).mean(1) for own in p])


def snapshots(run: Run, last: int | None = None, *, members: Sequence[int] | None = None) -> Population:
    """Return points that members passed through while they trained, as a population: ``fit(…, record="points")``.

    With a cyclic schedule, record at the ends of the cycles and each is a member of its own. An average over a
    trajectory is ``soup`` of them; one over all updates comes out of a fit with ``ema(…)`` or ``swa(…)`` as optimizer.

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
    moving = [n for n, v in end.items() if bool((v.cpu() != start[n].detach()).any())]
    if moving:
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
    buffers = {name: value[:1].cpu().expand(len(points), *value.shape[1:]) for name, value in end.items()}
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
    population, rows = (
        (source, np.arange(len(source))) if isinstance(source, Population) else (source.population, None)
    )
    if isinstance(source, Run):
        rows = np.flatnonzero(source.status[source.kept] != Status.DIVERGED)
    if rows is None or not len(rows):
        raise ModelspaceError("a soup has at least one ingredient")
    if how == "uniform":
        return _mean(population, rows.tolist())
    if isinstance(source, Run) and loss is None:
        loss = Ensemble(source, members=rows[:1]).loss

    def scored(point: Population) -> float:
        one = Ensemble(point, loss=loss)
        outputs, labels = one.on_split(data, split)
        by_which = judge(one.loss, one.combine, metric)
        value = score(one.loss, one.combined(outputs), labels, by_which)
        return -np.inf if np.isnan(value) else value if by_which.higher_is_better else -value

    own = {k: scored(population[[k]]) for k in rows.tolist()}
    kept: list[int] = []
    best = -np.inf
    for k in sorted(own, key=lambda k: own[k], reverse=True):
        if (found := scored(_mean(population, [*kept, k]))) >= best:
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
