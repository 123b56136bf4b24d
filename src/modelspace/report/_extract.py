"""From an ``Exploration`` or a ``Run`` to the record of its page."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from os import cpu_count
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelspace import losses
from modelspace.compare import compare_losses
from modelspace.cost import Layer
from modelspace.data import Data
from modelspace.engine import confusion
from modelspace.errors import ModelspaceError
from modelspace.explore import Exploration
from modelspace.losses import Curve, Loss, curve, has_curve
from modelspace.population import Population
from modelspace.report._record import (
    Band,
    BlockRow,
    ClassScores,
    DataRecord,
    FitRecord,
    KeptSection,
    LossesRecord,
    Member,
    ReportRecord,
    Scores,
    Setting,
    SpaceRecord,
    Summary,
    Value,
)
from modelspace.runs import (
    RANDOM,
    Distribution,
    Response,
    Run,
    Status,
    best_of,
    ended_well,
    quantiles,
    responses_of,
)
from modelspace.runs import Setting as Members
from modelspace.space import ModelSpace

_MOST_LISTED = 10_000
_MOST_CLASSES = 40
_MOST_CURVES = 14
_EVERY = 4  # of a curve's points are drawn: what a page can show


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
    tried, _, records = _responses(sweep, metric)
    best = next(i for i, setting in enumerate(tried) if setting.columns == exploration.chosen)
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
        response=records,
        best=best,
        fits=(
            _fit("sweep", sweep, tried[best].rows, "the chosen setting" if columns else "all members"),
            _fit("fresh", fresh, np.arange(len(fresh.members)), "all members"),
        ),
        recipe=_recipe(fresh),
        scores=_scores("test", names, fresh, test, np.arange(len(fresh.members))),
        pair=exploration.comparison,
        # On validation: the sweep is what is chosen among, and the test split is the fresh seeds'.
        losses=losses_of_run(sweep, exploration.data, split="validation"),
        diagnosis=exploration.diagnosis.findings if exploration.diagnosis else (),
        classes=_classes(exploration),
        ground=_ground(exploration),
    )


def _ground(exploration: Exploration) -> tuple[KeptSection, ...]:
    """What lies between fresh members, and how it bends there, as sections of the page."""
    found = (exploration.ground, exploration.bends)
    if not any(found):
        return ()
    from modelspace.report._geometry import (
        explored,  # and plotly with it, which takes longer than all the rest
    )

    return explored(*found)


def _classes(exploration: Exploration) -> tuple[ClassScores, ...]:
    """How each class fares on the test split, over the fresh members that ended well."""
    data, fresh = exploration.data, exploration.fresh
    rows = np.flatnonzero(ended_well(fresh.status[fresh.kept]))
    if exploration.metric != "accuracy" or not 2 <= (data.classes or 0) <= _MOST_CLASSES or not len(rows):
        return ()
    try:
        found = confusion(fresh.population[rows], data)
    except ModelspaceError:  # labels ±1, or outputs that are no scores of classes
        return ()
    shares = found.shares.mean(0).nan_to_num(0).tolist()
    return tuple(
        ClassScores(name, int(row[0]), tuple(zip(row[1::2], _known(row[2::2]), strict=True)), tuple(share))
        for name, row, share in zip(
            found.class_names, found.by_class.to_numpy().tolist(), shares, strict=True
        )
    )


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]


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
    tried, responses, records = _responses(run, metric)
    columns = list(tried[0].columns)
    rankable = _rankable(tried, metric)
    first = best_of([responses[i] for i in rankable], higher_is_better=metric == "accuracy")
    best = None if first is None else rankable[first]
    shown = np.arange(len(run.members)) if best is None else tried[best].rows
    names = [n.removeprefix("validation_") for n in run.history if n.startswith("validation_")]
    names = list(dict.fromkeys([metric, *names]))
    final = run.table[[f"validation_{n}" for n in names]].to_numpy(dtype=np.float64)
    several = len(tried) > 1 and best is not None
    return ReportRecord(
        kind="run",
        created=_now(),
        made_by=command,
        versions=_versions(run),
        space=_space(Population.from_seeds(run.space, run.members.iloc[shown]).space),
        dataset=DataRecord(run.data) if data is None else _data(data),
        metric=metric,
        higher_is_better=metric == "accuracy",
        columns=tuple(columns),
        response=records,
        best=best,
        fits=(_fit("run", run, shown, "the best setting on validation" if several else "all members"),),
        recipe=_recipe(run),
        scores=None if best is None else _scores("validation", names, run, final, shown),
        pair=None,
        losses=losses_of_run(run, data),
    )


def _rankable(settings: list[Members], metric: str) -> list[int]:
    """The settings among which one is best: those with a score of one kind, under one condition."""
    if metric == "loss" and "loss" in settings[0].columns:
        return []
    noise = [float(setting.columns.get("label_noise", 0.0)) for setting in settings]
    return [i for i, level in enumerate(noise) if level == min(noise)]


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


def _responses(run: Run, metric: str) -> tuple[list[Members], list[Response], tuple[Setting, ...]]:
    """The settings of a run, the response of each, and both as the page shows them."""
    scores = run.table[f"validation_{metric}"].to_numpy(dtype=np.float64)
    tried, responses = responses_of(run.members, scores, run.status, higher_is_better=metric == "accuracy")
    records = []
    for setting, found in zip(tried, responses, strict=True):
        known = Distribution.of(scores[setting.rows], run.status[setting.rows])
        quartiles = {name: _number(getattr(found, name)) for name in ("q1", "median", "q3")}
        values = tuple(map(_value, setting.columns.values()))
        records.append(
            Setting(values, found.ended, found.diverged, least=known.min, most=known.max, **quartiles)
        )
    return tried, responses, tuple(records)


def _values(table: pd.DataFrame, member: int, columns: list[str]) -> tuple[Value, ...]:
    return tuple(_value(table[name].iloc[member]) for name in columns)


def _value(value: Any) -> Value:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return Value(str(value), None)
    return Value(f"{float(value):.4g}" if float(value) != int(value) else str(int(value)), float(value))


def _number(value: Any) -> float | None:
    """A float, or None for what does not exist."""
    return None if value is None or np.isnan(value) else float(value)


def _fit(name: str, run: Run, shown: np.ndarray, bands_of: str) -> FitRecord:
    table = run.members
    columns = [n for n in table.columns if n != "seed"]
    metrics = [n for n in run.history if n.startswith("validation_")]
    known = [n for n in run.history if not np.isnan(run.history[n]).all()]
    rows = shown
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
            for k in np.flatnonzero(run.status == Status.DIVERGED)[:_MOST_LISTED]
        ),
        updates=int(run.steps.sum()),
        seconds=float(run.seconds),
        rate=float(run.member_steps_per_second),
        plan=run.plan,
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
    members = tuple(int(n) for n in (~np.isnan(values)).sum(axis=0))
    return Band(name, members, *(tuple(map(_number, level)) for level in quantiles(values, levels)))


def _scores(split: str, names: list[str], run: Run, values: np.ndarray, shown: np.ndarray) -> Scores:
    rows = shown[run.status[shown] != Status.UNFINISHED]
    table = run.members
    columns = [n for n in table.columns if n not in RANDOM]
    last = table.assign(**{f"score {i}": values[:, i] for i in range(len(names))})
    # Of hundreds of thousands a page shows no more than it does of some thousands, and memory is not theirs.
    listed = rows[:: -(-len(rows) // _MOST_LISTED)] if len(rows) > _MOST_LISTED else rows
    members = [_member(run, last, k, columns, [f"score {i}" for i in range(len(names))]) for k in listed]
    found = [Distribution.of(values[rows, i], run.status[rows]) for i in range(len(names))]
    summaries = tuple(
        Summary(name, d.n, d.mean, d.sd, d.min, d.q1, d.median, d.q3, d.max)
        for name, d in zip(names, found, strict=True)
    )
    whole = (None, None) if listed is rows else (len(rows), found[0].diverged)
    return Scores(split, tuple(names), tuple(members), summaries, *whole)


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
    known: dict[str, Any] = dict.fromkeys(("forward_flops", "backward_flops", "peak_bytes", "peak_batch"))
    layers: tuple[Layer, ...] = ()
    if cost is not None:
        layers = tuple(
            replace(row, output_shape=tuple(row.output_shape[1:]), flops=row.flops // cost.batch_size)
            for row in cost.layers
        )
        flops = {name: getattr(cost, name) // cost.batch_size for name in ("forward_flops", "backward_flops")}
        known = {**flops, "peak_bytes": cost.peak_bytes, "peak_batch": cost.batch_size}
    return SpaceRecord(
        title=space.title,
        dimension=space.dimension,
        dtype=str(space.dtype).removeprefix("torch."),
        input_shape=space.input_shape,
        blocks=tuple(blocks),
        tied=tuple(space.layout.tied.items()),
        layers=layers,
        uncounted=() if cost is None else tuple(cost.uncounted),
        cost_problem=problem,
        **known,
    )


def _data(data: Data) -> DataRecord:
    sizes = {name: split.total for name, split in data.splits.items()}
    shape, classes = data.input_shape, data.classes
    return DataRecord(data.name, **sizes, input_shape=shape, classes=classes, notes=data.notes)


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


def losses_of_run(run: Run, data: Data | None = None, *, split: str | None = None) -> LossesRecord | None:
    """The losses of a run, compared on a split of the data, or by the run's own scores where points or data are gone.

    Args:
        run: What ``fit`` gave.
        data: What it was fitted on, where it is at hand.
        split: Which split; the test split where None, or the validation split where there is no test split.

    Returns:
        None where the loss is no column.
    """
    if "loss" not in run.members:
        return None
    drawn = tuple(_thinned(curve(loss)) for loss in islice(filter(has_curve, _trained(run)), _MOST_CURVES))
    try:
        if data is None or len(run.kept) < len(run.members):
            return LossesRecord(compare_losses(run), None, drawn)
        split = split or ("test" if len(data.test) else "validation")
        return LossesRecord(compare_losses(run, data, split=split), None, drawn)
    except ModelspaceError as error:
        return LossesRecord(None, str(error), drawn)


def _trained(run: Run) -> Iterator[Loss]:
    """Each loss at each combination of its own parameters that was trained."""
    for name in run.members["loss"].unique():
        loss = losses.resolve(name)
        own = [column for column in loss.hyperparameters() if column in run.members]
        rows = run.members.loc[run.members["loss"] == name, own]
        for values in dict.fromkeys(rows.itertuples(index=False, name=None)):
            yield loss.at({column: float(value) for column, value in zip(own, values, strict=True)})


def _thinned(whole: Curve) -> Curve:
    columns = {name: getattr(whole, name) for name in ("points", "value", "slope", "curvature")}
    fewer = {n: tuple(float(f"{v:.6g}") for v in column[::_EVERY]) for n, column in columns.items()}
    return replace(whole, **fewer)
