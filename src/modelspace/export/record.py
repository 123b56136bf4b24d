"""``ExportRecord``: everything an exporter writes, as plain numbers, whether of a run in memory or in a folder."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from modelspace.runs import Distribution, Run, Status, open_run, quantiles
from modelspace.runs import settings_of as settings_of_table

_LONGEST_NAME = 100


class Quartiles(NamedTuple):
    """Of the numbers that are not NaN; NaN where there are none.

    Attributes:
        median: The middle.
        q1: Lower quartile.
        q3: Upper quartile.
    """

    median: Float64[np.ndarray, "*epoch"]
    q1: Float64[np.ndarray, "*epoch"]
    q3: Float64[np.ndarray, "*epoch"]


@dataclass(frozen=True)
class Setting:
    """Members that differ in nothing but their seeds.

    Attributes:
        name: Its columns as text, fit for a folder's name: ``lr=0.01,momentum=0.9``; ``seeds`` where it has none.
        columns: Its hyper-parameters, as plain values.
        rows: Its members' positions in the table.
        curves: By name, the quartiles over members, ``[epochs]`` each.
        diverged: How many had diverged at the end of each epoch, ``[epochs]``.
        final: By curve, the last value of the members that ended without diverging: how many, and their quartiles.
    """

    name: str
    columns: dict[str, Any]
    rows: np.ndarray
    curves: dict[str, Quartiles]
    diverged: np.ndarray
    final: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ExportRecord:
    """What is exported of a run.

    Attributes:
        title: The space's.
        data: The data's name.
        recipe: The settings of the fit, as plain values.
        table: One row a member.
        history: By name, ``[K, epochs]``, NaN where a member made no such epoch.
        settings: In the order in which they first appear.
    """

    title: str
    data: str
    recipe: dict[str, Any]
    table: pd.DataFrame
    history: dict[str, np.ndarray]
    settings: tuple[Setting, ...]


def table_of(run: Run | str | os.PathLike[str]) -> pd.DataFrame:
    """The members' table, with their numbers as its first column."""
    return _numbered((run if isinstance(run, Run) else open_run(run)).table)


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    table = table.reset_index(drop=True)
    if "member" not in table:
        table.insert(0, "member", np.arange(len(table)))
    return table


def record_of(run: Run | str | os.PathLike[str]) -> ExportRecord:
    """What is exported of a run in memory, or of the one in a folder.

    Raises:
        ModelspaceError: the folder's run can't be read.
    """
    run = run if isinstance(run, Run) else open_run(run)
    settings = settings_of(run.members, run.table, run.history)
    return ExportRecord(run.title, run.data, run.settings, _numbered(run.table), run.history, settings)


def settings_of(
    members: pd.DataFrame, table: pd.DataFrame, history: Mapping[str, np.ndarray]
) -> tuple[Setting, ...]:
    """The settings of a run.

    Args:
        members: Seeds and columns, ``K`` rows.
        table: The same with status and last scores.
        history: By name, ``[K, epochs]``.
    """
    status = table["status"].to_numpy(dtype=object)
    names: set[str] = set()
    settings = []
    for number, (values, rows) in enumerate(settings_of_table(members)):
        name = name_of(values)
        if name in names:
            name = f"{name}-{number}"
        names.add(name)
        gone = np.isnan(history["train_loss"][rows]) & (status[rows] == Status.DIVERGED)[:, None]
        final = {curve: _final(table[curve].to_numpy()[rows], status[rows]) for curve in history}
        curves = {
            curve: Quartiles(*quantiles(of_all[rows], [0.5, 0.25, 0.75])) for curve, of_all in history.items()
        }
        settings.append(Setting(name, values, rows, curves, gone.sum(0), final))
    return tuple(settings)


def _final(scores: np.ndarray, status: np.ndarray) -> dict[str, float]:
    found = Distribution.of(scores, status)
    values = {name: getattr(found, name) for name in ("q1", "median", "q3")}
    return {"n": found.n, **{name: np.nan if value is None else value for name, value in values.items()}}


def name_of(columns: Mapping[str, Any]) -> str:
    """``lr=0.01,momentum=0.9``: columns as a name that any file system and tracker takes.

    Example:
        >>> name_of({"lr": 0.01, "betas": (0.9, 0.999)})
        'lr=0.01,betas=0.9-0.999'
    """
    parts = [f"{name}={_text(value)}" for name, value in columns.items()]
    return re.sub(r"[^\w.,=+-]", "_", ",".join(parts))[:_LONGEST_NAME] or "seeds"


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "-".join(map(_text, value))
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
