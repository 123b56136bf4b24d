"""How many members: the score against their number, and one wide network against many narrow ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from modelspace import data as datasets
from modelspace.ensemble._combine import combined, judge, score
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError
from modelspace.family import Family
from modelspace.fit import fit
from modelspace.metrics import Metric
from modelspace.runs import Status, best_of

Judge = str | Metric | Callable[..., Any] | None


def curve(
    ensemble: Ensemble,
    data: Any,
    *,
    sizes: Iterable[int] | None = None,
    metric: Judge = None,
    split: str = "test",
    subsets: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Score ensembles of m = 1 … K of these members: the mean over all subsets of a size, or over some.

    The mean over subsets is what a random m of these members score; it has no luck in which ones. Members weigh alike.

    Args:
        ensemble: The K members, and their combination.
        data: A ``Split``, or what ``modelspace.data.load`` takes.
        sizes: Which m; all from 1 to K where None.
        metric: What is scored; the log-loss, the loss of a location and a scale, or the squared error where None.
        split: Which part of the data.
        subsets: How many of a size are scored at most: where there are no more, all of them.
        seed: Of the draw of subsets.

    Returns:
        A row an m: ``score``; ``error``, its standard error over the draw of subsets, 0 where all are scored; ``sd``
        over subsets; ``subsets`` scored; and whether that is ``exact``.

    Raises:
        ModelspaceError: a size that is not from 1 to K.
    """
    count = len(ensemble)
    wanted = list(range(1, count + 1) if sizes is None else sizes)
    if any(not 1 <= m <= count for m in wanted):
        raise ModelspaceError(f"sizes are from 1 to {count}, the members; received {wanted}")
    outputs, labels = ensemble.on_split(data, split)
    loss, how, draws = ensemble.loss, ensemble.combine, np.random.default_rng(seed)
    by_which = judge(loss, how, metric)
    rows = []
    for m in wanted:
        exact = comb(count, m) <= subsets
        chosen: Iterable[Sequence[int]] = combinations(range(count), m)
        if not exact:
            chosen = [draws.choice(count, m, replace=False).tolist() for _ in range(subsets)]
        alike = torch.full((m,), 1 / m, dtype=torch.float64)
        found = np.array(
            [score(loss, combined(how, loss, outputs[list(s)], alike), labels, by_which) for s in chosen]
        )
        sd = float(found.std(ddof=0 if exact else 1)) if len(found) > 1 else 0.0
        rows.append((found.mean(), 0.0 if exact else sd / np.sqrt(len(found)), sd, len(found), exact))
    index = pd.Index(wanted, name="members")
    table = pd.DataFrame(rows, index, ["score", "error", "sd", "subsets", "exact"])
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
    metric: Judge = None,
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
        chosen, ``score`` (the mean over ensembles), its standard ``error``, and how many ``ensembles`` it is of.

    Raises:
        ModelspaceError: no member of the family is as small as the largest number of members needs, or what ``fit``
            and ``Family.solve`` raise.
    """
    data = datasets.load(data)
    if budget is None:
        names = {"parameters": ["n"], "flops": ["forward_flops", "backward_flops"], "memory": ["peak_bytes"]}[
            of
        ]
        budget = float(family.table[names].sum(axis=1, skipna=False).max())
    rows = []
    for size in sizes:
        solution = family.solve(**{of: budget / size}, over=over)  # pyright: ignore[reportArgumentType]
        space = family.space(**solution.hyperparameters)
        run = fit(space.sample(size * ensembles, **dict(columns or {})), data, **options)
        settings, responses = run.responses()
        best = best_of(responses, higher_is_better=run.monitor in run.higher_is_better)
        if best is None:
            raise ModelspaceError(f"all members of {space.title} diverged: give lower rates in columns")
        chosen = settings[best]
        scores, name = [], ""
        for members in np.split(chosen.rows, ensembles):
            if (run.status[members] == Status.DIVERGED).all():
                continue
            one = Ensemble(run, members=members)
            outputs, labels = one.on_split(data, split)
            by_which = judge(one.loss, one.combine, metric)
            scores.append(score(one.loss, one.combined(outputs), labels, by_which))
            name = by_which.name
        member = solution.member
        flops = None if member.forward_flops is None else member.forward_flops + (member.backward_flops or 0)
        error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else np.nan
        rows.append(
            {
                "members": size,
                **{n: v for n, v in solution.hyperparameters.items() if n in family.axes.listed},
                "parameters": size * member.n,
                "flops": None if flops is None else size * flops,
                **chosen.columns,
                "score": float(np.mean(scores)),
                "error": error,
                "ensembles": len(scores),
            }
        )
    table = pd.DataFrame(rows).set_index("members")
    table.attrs["metric"] = name
    return table
