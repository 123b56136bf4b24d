"""``Run``: the frozen record of a fit."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modelspace.engine import Plan
from modelspace.fit.results import DIVERGED
from modelspace.late import perform
from modelspace.population import Population


@dataclass(frozen=True, repr=False)
class Run:
    """What a fit did: the trained members, their curves, and how it was computed.

    Attributes:
        population: The members after training, in the order given.
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
    """

    population: Population
    history: dict[str, np.ndarray]
    status: np.ndarray
    steps: np.ndarray
    settings: dict[str, Any]
    data: str
    plan: Plan
    seconds: float
    interrupted: bool

    @property
    def table(self) -> pd.DataFrame:
        """One row a member: its seed and columns, its status, its steps, its last scores."""
        table = self.population.table.copy()
        table["status"] = self.status
        table["steps"] = self.steps
        for name, values in self.history.items():
            table[name] = _last(values)
        return table

    @property
    def diverged(self) -> pd.DataFrame:
        """The diverged members' rows: seeds and hyper-parameters."""
        return self.table.loc[self.status == DIVERGED]

    @property
    def member_steps_per_second(self) -> float:
        """Updates of all members over the wall time, plan included."""
        return float(self.steps.sum()) / self.seconds if self.seconds else 0.0

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a self-contained HTML page about this run.

        Raises:
            ModelspaceError: the place can't be written to.
        """
        perform("run.report", self, path)

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.status == s).sum()} {s}" for s in dict.fromkeys(self.status.tolist()))
        return (
            f"Run of {len(self.population)} members of {self.population.space.title} on {self.data}: {counts}; "
            f"{self.seconds:.1f} s, {self.member_steps_per_second:,.0f} member-steps/s ({self.plan})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<div><p>{escape(repr(self))}</p>{self.table.to_html(max_rows=10, escape=True)}</div>"


def _last(values: np.ndarray) -> np.ndarray:
    """Each row's last number that is not NaN."""
    known = ~np.isnan(values)
    position = values.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    return np.where(known.any(axis=1), values[np.arange(len(values)), position], np.nan)
