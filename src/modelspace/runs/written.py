"""A run's folder, read without its architecture: what the catalogue says, and the curves in the shards."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.memory import free_bytes
from modelspace.progress import notice, progress
from modelspace.runs import shards as files
from modelspace.runs.catalogue import Place, Store, curves_of
from modelspace.runs.recorder import check_members, outcome_of
from modelspace.runs.results import Shapes
from modelspace.runs.resume import plan_from
from modelspace.runs.settings import Response, Setting, Status, responses_of
from modelspace.runs.shards import Outcome
from modelspace.tensorfile import DamagedError


@dataclass(frozen=True, repr=False)
class Written:
    """What a run's catalogue says of it.

    Attributes:
        folder: Where it stands.
        spec: What the run is, as plain values: two runs of one spec may share their members.
        target: The architecture's name on the command line; None where it has none.
        environment: Versions, machine and commit of the last process that was at it.
        plan: How it was computed; None where it has not come so far.
        settings: The recipe, as plain values.
        epochs: Its length.
        seconds: Of all fits that ended; None before the first has.
        members: The table of all K members that it is to have.
        status: Of each: ``unfinished``, ``finished``, ``diverged`` or ``stopped early``.
        steps: Updates that each made.
        scores: Its last ones, by name; NaN where it has none.
        higher_is_better: The curves of which more is better.
    """

    folder: Path
    spec: dict[str, Any]
    target: str | None
    environment: dict[str, Any]
    plan: Plan | None
    settings: dict[str, Any]
    epochs: int
    seconds: float | None
    members: pd.DataFrame
    status: np.ndarray
    steps: np.ndarray
    scores: dict[str, np.ndarray]
    higher_is_better: list[str]

    @property
    def title(self) -> str:
        """The space's."""
        return self.spec["space"]

    @property
    def data(self) -> str:
        """The data's name."""
        return self.spec["data"]

    @property
    def monitor(self) -> str:
        """The score that judges: the last validation curve."""
        return list(self.scores)[-1]

    @property
    def table(self) -> pd.DataFrame:
        """One row a member, as ``Run.table``: its seed and columns, its status, its steps, its last scores."""
        return self.members.assign(status=self.status, steps=self.steps, **self.scores)

    def responses(self) -> tuple[list[Setting], list[Response]]:
        """The settings, and each one's response: the quartiles of the score that judges."""
        higher = self.monitor in self.higher_is_better
        return responses_of(self.members, self.scores[self.monitor], self.status, higher_is_better=higher)


def read_run(path: str | os.PathLike[str]) -> Written:
    """What a run's folder says of it, from its catalogue alone; also while a process is at it.

    Args:
        path: The folder.

    Raises:
        ModelspaceError: there is no run, it was stopped before it began, its catalogue is damaged, or a newer version
            of this library has written it.
    """
    with closing(Store(Path(path))) as store:
        spec = spec_in(store)
        ends = list(store.ends())
        status = np.array([state or Status.UNFINISHED.value for _, state, _, _ in ends], dtype=object)
        steps = np.array([steps or 0 for _, _, steps, _ in ends], dtype=np.int64)
        scores = {
            name: np.array([np.nan if (v := last.get(name)) is None else v for _, _, _, last in ends])
            for name in curves_of(spec)
        }
        plan = store.get("plan")
        return Written(
            store.folder,
            spec,
            store.get("target"),
            store.get("environment") or {},
            None if plan is None else plan_from(plan),
            store.get("settings") or {},
            store.get("epochs") or 0,
            store.get("seconds"),
            table_of([columns for columns, *_ in ends]),
            status,
            steps,
            scores,
            store.get("higher_is_better") or [],
        )


def read_curves(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The curves of a run's finished members, from its shards; its architecture is not needed.

    Args:
        path: The folder.

    Returns:
        By name, ``[K, epochs]``: NaN where a member made no such epoch, is not finished, or its shard is damaged
        (which is said on standard error).

    Raises:
        ModelspaceError: as ``read_run``.
    """
    with closing(Store(Path(path))) as store:
        names = curves_of(spec_in(store))
        wanted, places, epochs = store.wanted(), store.places(), store.get("epochs") or 0
        size, free = len(names) * len(wanted) * epochs * 8, free_bytes(torch.device("cpu"))
        if size > free:
            raise ModelspaceError(
                f"the curves of '{store.folder}' are {size:,} bytes ({len(wanted):,} members, {epochs:,} epochs), "
                f"and {free:,} are free"
            )
        curves = {name: np.full((len(wanted), epochs), np.nan) for name in names}
        shapes = Shapes(names, epochs, None, {})
        for outcome, rows, _ in outcomes_of(store, [key for key, _ in wanted], places, shapes):
            for name, values in curves.items():
                found = outcome.curves[name].numpy()
                values[rows, : found.shape[1]] = found
    return curves


def spec_in(store: Store) -> dict[str, Any]:
    """What the run is.

    Raises:
        ModelspaceError: it was stopped before that was written down.
    """
    spec = store.get("spec")
    if spec is None:
        raise ModelspaceError(
            f"the run in '{store.folder}' was stopped before it began to train: fit it again"
        )
    return spec


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A population's table from the plain values of its rows."""
    table = pd.DataFrame(rows)
    for name in table.columns:
        if any(isinstance(value, list) for value in table[name]):
            table[name] = table[name].map(tuple)
    return table


def outcomes_of(
    store: Store, keys: list[bytes], places: Mapping[bytes, Place], shapes: Shapes
) -> Iterator[tuple[Outcome, list[int], np.ndarray]]:
    """The outcome of every finished shard that holds some of these members; one that is damaged is said and left out.

    Args:
        store: Opened.
        keys: The members'.
        places: Where the finished ones stand.
        shapes: What the shards are held against.

    Yields:
        The outcome of the members in it, which they are (positions in ``keys``), and which of them its points are of.
    """
    shards: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key in places:
            shards.setdefault(places[key].shard, []).append(row)
    with progress(f"reading {store.folder}", len(shards), "shards") as advance:
        for name, rows in shards.items():
            positions = [places[keys[row]].position for row in rows]
            try:
                tensors, about = files.read_shard(store.file(name))
                check_members(about, [keys[row] for row in rows], positions)
                outcome, of = outcome_of(tensors, positions, shapes)
            except DamagedError as error:
                notice(f"shard {name} is damaged ({error}): fit the run again to train its members anew")
                continue
            yield outcome, rows, of
            advance(1)
