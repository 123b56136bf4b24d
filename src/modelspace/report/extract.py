"""From an ``Exploration`` or a ``Run`` to the record of its page."""

import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from os import cpu_count
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelspace.compare import Comparison
from modelspace.data import Data
from modelspace.errors import ModelspaceError
from modelspace.explore import Exploration
from modelspace.report.losses_extract import losses_of_run
from modelspace.report.record import (
    Band,
    BlockRow,
    DataRecord,
    Distance,
    FitRecord,
    LayerRow,
    Member,
    PairRecord,
    ReportRecord,
    Scores,
    Setting,
    SpaceRecord,
    Summary,
    Value,
)
from modelspace.runs import DIVERGED, Run
from modelspace.space import ModelSpace

# They say where a member comes from or which random numbers it drew, and are nothing to choose.
_MOST_LISTED = 10_000
_ORIGIN = ("seed", "data_seed", "source")


def record_of_exploration(exploration: Exploration, *, command: str | None = None) -> ReportRecord:
    """The record of an exploration.

    Args:
        exploration: What ``explore`` gave.
        command: The command line to print for a reader who wants to do it again.

    Returns:
        The record.
    """
    sweep, fresh, metric = exploration.sweep, exploration.fresh, exploration.metric
    columns = list(exploration.chosen)
    groups = _groups(sweep, columns)
    scores = sweep.table[f"validation_{metric}"].to_numpy(dtype=np.float64)
    response, keys = [], []
    for row in exploration.response.to_dict("records"):
        keys.append(tuple(row[name] for name in columns))
        quartiles = (row["q1"], row["median"], row["q3"])
        response.append(_setting(sweep, groups[keys[-1]], columns, scores, quartiles))
    chosen = tuple(exploration.chosen.values())
    names = list(dict.fromkeys([metric, "loss"]))
    # Where the loss is a column, what was measured of it stands under another name.
    measured = [f"test_{name}" if f"test_{name}" in exploration.test else name for name in names]
    test = exploration.test[measured].to_numpy(dtype=np.float64)
    return ReportRecord(
        kind="exploration",
        created=_now(),
        made_by=command,
        versions=_versions(fresh),
        space=_space(exploration.space),
        dataset=_data(exploration.data),
        metric=metric,
        higher_is_better=metric == "accuracy",
        columns=tuple(columns),
        response=tuple(response),
        best=keys.index(chosen),
        fits=(
            _fit("sweep", sweep, groups[chosen], "the chosen setting" if columns else "all members"),
            _fit("fresh", fresh, range(len(fresh.members)), "all members"),
        ),
        recipe=_recipe(fresh),
        scores=_scores("test", names, fresh, test, range(len(fresh.members))),
        pair=None if exploration.comparison is None else _pair(exploration.comparison),
        # On validation: the sweep is what is chosen among, and the test split is the fresh seeds'.
        losses=losses_of_run(sweep, exploration.data, split="validation"),
        diagnosis=exploration.diagnosis.findings if exploration.diagnosis else (),
    )


def record_of_run(run: Run, *, command: str | None = None, data: Data | None = None) -> ReportRecord:
    """The record of a plain run: its members' last validation scores, setting by setting.

    Settings are ranked at the least label noise; where the loss is a column and there is no accuracy they are not
    ranked, since values of different losses are no one score.

    Args:
        run: What ``fit`` gave.
        command: The command line to print for a reader who wants to do it again.
        data: What it was fitted on: where the loss is a column, losses are then compared on its test split.

    Returns:
        The record.
    """
    metric = "accuracy" if "validation_accuracy" in run.history else "loss"
    columns = [n for n in run.members.columns if n not in _ORIGIN]
    groups = _groups(run, columns)
    sign = -1 if metric == "accuracy" else 1
    last = run.table
    scores = last[f"validation_{metric}"].to_numpy(dtype=np.float64)
    response = tuple(
        _setting(run, members, columns, scores, _quartiles(run, members, scores, sign))
        for members in groups.values()
    )
    ranked = [
        (sign * median, i)
        for i in _rankable(groups, columns, metric)
        if (median := response[i].median) is not None and np.isfinite(median)
    ]
    best = min(ranked, default=(0, None))[1]
    shown = list(groups.values())[best] if best is not None else list(range(len(run.members)))
    names = [n.removeprefix("validation_") for n in run.history if n.startswith("validation_")]
    names = list(dict.fromkeys([metric, *names]))
    final = last[[f"validation_{n}" for n in names]].to_numpy(dtype=np.float64)
    several = len(groups) > 1 and best is not None
    return ReportRecord(
        kind="run",
        created=_now(),
        made_by=command,
        versions=_versions(run),
        space=_space(run.space),
        dataset=DataRecord(run.data),
        metric=metric,
        higher_is_better=metric == "accuracy",
        columns=tuple(columns),
        response=response,
        best=best,
        fits=(_fit("run", run, shown, "the best setting on validation" if several else "all members"),),
        recipe=_recipe(run),
        scores=None if best is None else _scores("validation", names, run, final, shown),
        pair=None,
        losses=losses_of_run(run, data),
    )


def _rankable(groups: dict[tuple[Any, ...], list[int]], columns: list[str], metric: str) -> list[int]:
    """The settings among which one is best: those with a score of one kind, under one condition."""
    if metric == "loss" and "loss" in columns:
        return []
    if "label_noise" not in columns:
        return list(range(len(groups)))
    noise = [key[columns.index("label_noise")] for key in groups]
    return [i for i, level in enumerate(noise) if level == min(noise)]


def quantiles(values: Iterable[float], levels: Sequence[float]) -> list[float | None]:
    """Quantiles of the numbers that exist, interpolated; taken by rank where infinities are among them."""
    known = np.array([v for v in values if not np.isnan(v)], dtype=np.float64)
    if not len(known):
        return [None] * len(levels)
    # An infinite value must not turn its neighbour into NaN.
    method = "linear" if np.isfinite(known).all() else "nearest"
    return [float(q) for q in np.quantile(known, levels, method=method)]


def seed_ranges(seeds: Iterable[int]) -> str:
    """``0–15, 20``: sorted seeds, neighbours joined."""
    found = np.unique(
        np.asarray(seeds if isinstance(seeds, Sequence | np.ndarray) else list(seeds), dtype=np.int64)
    )
    parts = np.split(found, np.flatnonzero(np.diff(found) != 1) + 1) if len(found) else []
    texts = [str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts[:12]]
    if len(parts) > 12:
        texts.append(f"… ({len(found)} in all)")
    return ", ".join(texts)


def _groups(run: Run, columns: list[str]) -> dict[tuple[Any, ...], list[int]]:
    """Members by their combination of columns."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    table = run.members
    keys = zip(*(table[name].tolist() for name in columns), strict=True) if columns else [()] * len(table)
    for k, key in enumerate(keys):
        groups.setdefault(key, []).append(k)
    return groups


def _quartiles(run: Run, members: list[int], scores: np.ndarray, worst_sign: int) -> tuple[float, ...]:
    """As ``explore`` takes them: by rank, a diverged member being the worst."""
    tried = [k for k in members if run.steps[k] > 0]
    if not tried:
        return (np.nan,) * 3
    failed = (run.status[tried] == DIVERGED) | np.isnan(scores[tried])
    counted = np.where(failed, worst_sign * np.inf, scores[tried])
    return tuple(float(q) for q in np.quantile(counted, [0.25, 0.5, 0.75], method="nearest"))


def _setting(
    run: Run, members: list[int], columns: list[str], scores: np.ndarray, quartiles: tuple[float, ...]
) -> Setting:
    tried = [k for k in members if run.steps[k] > 0]
    diverged = run.status[tried] == DIVERGED
    finished = scores[tried][~diverged & ~np.isnan(scores[tried])]
    q1, median, q3 = (_number(q) for q in quartiles)
    return Setting(
        values=_values(run.members, members[0], columns),
        seeds=len(tried),
        diverged=int(diverged.sum()),
        least=float(finished.min()) if len(finished) else None,
        q1=q1,
        median=median,
        q3=q3,
        most=float(finished.max()) if len(finished) else None,
    )


def _values(table: pd.DataFrame, member: int, columns: list[str]) -> tuple[Value, ...]:
    return tuple(_value(table[name].iloc[member]) for name in columns)


def _value(value: Any) -> Value:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return Value(str(value), None)
    return Value(f"{float(value):.4g}" if float(value) != int(value) else str(int(value)), float(value))


def _number(value: Any) -> float | None:
    """A float, or None for what does not exist."""
    return None if value is None or np.isnan(value) else float(value)


def _fit(name: str, run: Run, shown: Iterable[int], bands_of: str) -> FitRecord:
    table = run.members
    columns = [n for n in table.columns if n != "seed"]
    metrics = [n for n in run.history if n.startswith("validation_")]
    known = [n for n in run.history if not np.isnan(run.history[n]).all()]
    rows = list(shown)
    last = run.table
    statuses = dict.fromkeys(run.status.tolist(), 0)
    for status in run.status.tolist():
        statuses[status] += 1
    return FitRecord(
        name=name,
        members=len(table),
        seeds=seed_ranges(table["seed"].to_numpy()) if "seed" in table else "",
        columns=tuple((n, _distinct(table[n].tolist())) for n in columns),
        statuses=tuple(statuses.items()),
        diverged=tuple(
            _member(run, last, int(k), columns, metrics)
            for k in np.flatnonzero(run.status == DIVERGED)[:_MOST_LISTED]
        ),
        updates=int(run.steps.sum()),
        seconds=float(run.seconds),
        rate=float(run.member_steps_per_second),
        lowering=run.plan.lowering,
        chunk=run.plan.chunk,
        compiled=run.plan.compiled,
        reason=run.plan.reason,
        fallback=run.plan.fallback,
        plan_seconds=float(run.plan.seconds),
        interrupted=run.interrupted,
        bands_of=bands_of,
        bands=tuple(_band(n, run.history[n][rows]) for n in known),
    )


def _distinct(column: list[Any]) -> str:
    texts = list(dict.fromkeys(_value(v).text for v in column))
    if len(texts) > 16:
        texts = [*texts[:8], "…", *texts[-2:]]
    return ", ".join(texts)


def _member(run: Run, last: pd.DataFrame, k: int, columns: list[str], scores: list[str]) -> Member:
    seed = int(last["seed"].iloc[k]) if "seed" in last else None
    found = tuple(_number(last[name].iloc[k]) for name in scores)
    return Member(seed, _values(last, k, columns), str(run.status[k]), int(run.steps[k]), found)


def _band(name: str, values: np.ndarray) -> Band:
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    columns = zip(*(quantiles(epoch, levels) for epoch in values.T), strict=True)
    members = tuple(int(n) for n in (~np.isnan(values)).sum(axis=0))
    return Band(name, members, *(tuple(column) for column in columns))


def _scores(split: str, names: list[str], run: Run, values: np.ndarray, shown: Iterable[int]) -> Scores:
    rows = [k for k in shown if run.steps[k] > 0]
    table = run.members
    columns = [n for n in table.columns if n not in _ORIGIN]
    last = table.assign(**{f"score {i}": values[:, i] for i in range(len(names))})
    # Of hundreds of thousands a page shows no more than it does of some thousands, and memory is not theirs.
    listed = rows[:: -(-len(rows) // _MOST_LISTED)] if len(rows) > _MOST_LISTED else rows
    members = [_member(run, last, k, columns, [f"score {i}" for i in range(len(names))]) for k in listed]
    counted = [k for k in rows if run.status[k] != DIVERGED]
    summaries = tuple(_summary(name, values[counted, i]) for i, name in enumerate(names))
    whole = (None, None) if listed is rows else (len(rows), len(rows) - len(counted))
    return Scores(split, tuple(names), tuple(members), summaries, *whole)


def _summary(metric: str, values: np.ndarray) -> Summary:
    values = values[~np.isnan(values)]
    if not len(values):
        return Summary(metric, 0, None, None, None, None, None, None, None)
    low, q1, median, q3, high = quantiles(values, [0, 0.25, 0.5, 0.75, 1])
    sd = None
    if len(values) > 1 and np.isfinite(values).all():
        sd = float(values.std(ddof=1))
    return Summary(metric, len(values), _number(values.mean()), sd, low, q1, median, q3, high)


def _space(space: ModelSpace) -> SpaceRecord:
    blocks = [BlockRow(b.name, b.shape, b.size, f"p[{b.start}:{b.stop}]") for b in space.layout]
    for place, shapes in (("frozen", space.frozen_shapes), ("buffer", space.buffer_shapes)):
        taken = {
            block.name for block in blocks
        }  # a frozen parameter of each point's own is among the buffers too
        blocks += [
            BlockRow(name, s, int(np.prod(s, dtype=np.int64)), place)
            for name, s in shapes.items()
            if name not in taken
        ]
    cost, problem = None, None
    try:
        cost = space.anatomy()
    except ModelspaceError as error:
        problem = str(error)
    return SpaceRecord(
        title=space.title,
        dimension=space.dimension,
        dtype=str(space.dtype).removeprefix("torch."),
        input_shape=space.input_shape,
        blocks=tuple(blocks),
        tied=tuple(space.layout.tied.items()),
        layers=()
        if cost is None
        else tuple(
            LayerRow(r.name, r.type, r.parameters, tuple(r.output_shape[1:]), r.flops // cost.batch)
            for r in cost.layers
        ),
        forward_flops=None if cost is None else cost.forward_flops // cost.batch,
        backward_flops=None if cost is None else cost.backward_flops // cost.batch,
        peak_bytes=None if cost is None else cost.peak_bytes,
        peak_batch=None if cost is None else cost.batch,
        uncounted=() if cost is None else tuple(cost.uncounted),
        cost_problem=problem,
    )


def _data(data: Data) -> DataRecord:
    sizes = {name: len(split) for name, split in data.splits.items()}
    return DataRecord(data.name, **sizes, input_shape=data.input_shape, classes=data.classes)


def _pair(comparison: Comparison) -> PairRecord:
    def distance(block: Any) -> Distance:
        return Distance(block.name, *(_number(v) for v in (block.l2, block.relative, block.cosine)))

    return PairRecord(
        names=comparison.names,
        same_point=comparison.same_point,
        distance=None if comparison.distance is None else distance(comparison.distance),
        blocks=tuple(distance(block) for block in comparison.blocks),
        inputs=comparison.inputs,
        output_distance=_number(comparison.output_distance),
        output_scale=_number(comparison.output_scale),
        disagreement=_number(comparison.disagreement),
        path=tuple(float(alpha) for alpha in comparison.path),
        path_losses=tuple(_number(v) for v in comparison.path_losses),
        barrier=_number(comparison.barrier),
        loss=comparison.loss,
    )


def _recipe(run: Run) -> tuple[tuple[str, str], ...]:
    def text(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or "none"
        return "none" if value is None else str(value)

    return tuple((name.replace("_", " "), text(value)) for name, value in run.settings.items())


def _versions(run: Run) -> tuple[tuple[str, str], ...]:
    from modelspace import __version__

    device = run.population.device
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return (
        ("modelspace", __version__),
        ("torch", torch.__version__),
        ("numpy", np.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}, {cpu_count()} cores"),
        ("device", f"{device.type} ({name})"),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
