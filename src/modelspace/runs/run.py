"""``Run``: the frozen record of a fit."""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelspace import data as datasets
from modelspace.engine import Plan
from modelspace.memory import Memory
from modelspace.population import Population
from modelspace.runs.keep import last_values
from modelspace.runs.settings import Status
from modelspace.space import ModelSpace


@dataclass(frozen=True, repr=False)
class Run:
    """What a fit did: the trained members, their curves, and how it was computed.

    Attributes:
        space: The space.
        members: The table of all K members, in the order given.
        population: The members whose points were kept: all of them, unless ``keep`` said otherwise.
        kept: Their positions among the K.
        history: By name, a ``[K, epochs]`` array: ``train_loss`` (mean over the epoch's batches, before each
            update), ``validation_loss`` and the other validation scores (after the epoch). NaN where a member
            made no such epoch.
        status: Of each member: ``finished``, ``diverged`` (its loss or point became NaN or infinite: it keeps its
            last finite point), ``stopped early``, or ``unfinished`` (the run was interrupted before).
        steps: Updates that each member made.
        settings: The recipe, as plain values.
        data: The data's name.
        plan: How it was computed, and why.
        seconds: Wall time, plan included.
        interrupted: Whether Ctrl-C ended it.
        folder: Where it is written down, if it is.
        memory: What it was predicted to take; None where that is not known.
    """

    space: ModelSpace
    members: pd.DataFrame
    population: Population
    kept: np.ndarray
    history: dict[str, np.ndarray]
    status: np.ndarray
    steps: np.ndarray
    settings: dict[str, Any]
    data: str
    plan: Plan
    seconds: float
    interrupted: bool
    folder: Path | None = None
    memory: Memory | None = None

    @property
    def table(self) -> pd.DataFrame:
        """One row a member: its seed and columns, its status, its steps, its last scores."""
        table = self.members.copy()
        table["status"] = self.status
        table["steps"] = self.steps
        for name, values in self.history.items():
            table[name] = last_values(values)
        return table

    @property
    def diverged(self) -> pd.DataFrame:
        """The diverged members' rows: seeds and hyper-parameters."""
        return self.table.loc[self.status == Status.DIVERGED]

    @property
    def member_steps_per_second(self) -> float:
        """Updates of all members over the wall time, plan included."""
        return float(self.steps.sum()) / self.seconds if self.seconds else 0.0

    def report(self, path: str | os.PathLike[str], data: Any = None) -> None:
        """Write a self-contained HTML page about this run.

        Args:
            path: Where the page goes.
            data: What it was fitted on, as ``fit`` took it: where the loss is a column, margins and calibration are
                then shown on its test split too.

        Raises:
            ModelspaceError: the place can't be written to.
        """
        write_run = import_module("modelspace.report").write_run
        write_run(self, path, data=None if data is None else datasets.load(data))

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.status == s).sum()} {s}" for s in dict.fromkeys(self.status.tolist()))
        return (
            f"Run of {len(self.members):,} members of {self.space.title} on {self.data}: {counts}; "
            f"{self.seconds:.1f} s, {self.member_steps_per_second:,.0f} member-steps/s ({self.plan})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<div><p>{escape(repr(self))}</p>{self.table.to_html(max_rows=10, escape=True)}</div>"
