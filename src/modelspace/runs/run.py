"""``Run``: what a fit did; from a folder, curves and points are read when they are first asked for."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch

from modelspace import data as datasets
from modelspace.code import changed, python_version
from modelspace.engine import Plan, predict
from modelspace.errors import ModelspaceError
from modelspace.loading import file_of_target, load_architecture
from modelspace.memory import Memory, free_bytes
from modelspace.nest import Nest
from modelspace.plain import structured
from modelspace.population import Population, Stack
from modelspace.progress import notice, progress
from modelspace.runs.catalogue import Catalogue, Places, curves_of
from modelspace.runs.folder import shard_file
from modelspace.runs.identity import architecture_hash, content_hash
from modelspace.runs.records import Records, in_folder
from modelspace.runs.results import Keep, Results
from modelspace.runs.settings import Distribution, Response, Setting, Status, responses_of, settings_of, words
from modelspace.runs.shards import Keys, Result, Shapes, checked, keys_of, read, result_of
from modelspace.space import ModelSpace
from modelspace.tensorfile import DamagedError

if TYPE_CHECKING:
    from modelspace.ensemble import Ensemble


class Source(Protocol):
    """Where a run's curves and points are."""

    @property
    def space(self) -> ModelSpace:
        """The space."""
        ...

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The curves."""
        ...

    @property
    def records(self) -> Records:
        """What was recorded."""
        ...

    def kept(self) -> tuple[np.ndarray, Population]:
        """Which members' points are kept, and they themselves."""
        ...


@dataclass(frozen=True, repr=False)
class Run:
    """What a fit did: the trained members, their curves, and how it was computed.

    Attributes:
        members: The table of all K members, in the order given.
        status: Of each member: ``finished``, ``diverged`` (its loss or point became NaN or infinite: it keeps its
            last finite point), ``stopped early``, or ``unfinished`` (the run was interrupted before).
        steps: Updates that each member made.
        scores: The last value of each curve, by name; NaN where a member has none.
        title: The space's.
        data: The data's name.
        settings: The recipe, as plain values.
        higher_is_better: The curves of which more is better.
        plans: How it was computed, and why: each part of its members that had a program of its own.
        seconds: Wall time of all fits that ended, plan included.
        memory: What it was predicted to take; None where that is not known.
        folder: Where it is written down, if it is.
        about: What the folder's catalogue says it is; empty without a folder.
        source: Where its curves and points are.
    """

    members: pd.DataFrame
    status: np.ndarray
    steps: np.ndarray
    scores: dict[str, np.ndarray]
    title: str
    data: str
    settings: dict[str, Any]
    higher_is_better: list[str]
    plans: list[Plan]
    seconds: float
    memory: Memory | None
    folder: Path | None
    about: Mapping[str, Any]
    source: Source

    @property
    def plan(self) -> Plan:
        """How it was computed, and why; the first part of its members, where parts had programs of their own."""
        return self.plans[0]

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """By name, a ``[K, epochs]`` array, NaN where a member made no such epoch.

        ``train_loss`` is the mean over the epoch's batches, before each update; ``validation_loss`` and the other
        validation scores are taken after the epoch. From a folder, the curves of a damaged shard are left out, which
        is said.
        """
        return self.source.history

    @cached_property
    def records(self) -> Records:
        """What was recorded as the members trained, by name: see ``Record``.

        ``run.records["points"].values`` is ``[K, T, n]``, ``.steps`` how many updates each member had made at each
        time, ``[K, T]``; ``run.records["points"].of(k)`` are the steps and values of one member. Values are NaN, and
        steps −1, where a member has none. From a folder they are read when they are asked for.
        """
        return self.source.records

    @cached_property
    def _kept(self) -> tuple[np.ndarray, Population]:
        return self.source.kept()

    @property
    def population(self) -> Population:
        """The members whose points were kept: all of them, unless ``keep`` said otherwise; of a folder, the finished.

        Raises:
            ModelspaceError: the run was opened without its space.
        """
        return self._kept[1]

    @property
    def kept(self) -> np.ndarray:
        """Their positions among the K."""
        return self._kept[0]

    @property
    def space(self) -> ModelSpace:
        """The space.

        Raises:
            ModelspaceError: the run was opened without it.
        """
        return self.source.space

    @property
    def epochs(self) -> int:
        """Its length."""
        return self.settings["epochs"]

    @property
    def interrupted(self) -> bool:
        """Whether it ended, by Ctrl-C perhaps, before all members had."""
        return bool((self.status == Status.UNFINISHED).any())

    @property
    def monitor(self) -> str:
        """The score that judges: the last validation curve."""
        return list(self.scores)[-1]

    @property
    def table(self) -> pd.DataFrame:
        """One row a member: its seed and columns, its status, its steps, its last scores."""
        return self.members.assign(status=self.status, steps=self.steps, **self.scores)

    @property
    def summary(self) -> pd.DataFrame:
        """One row a setting: its columns, members, diverged, and of the score that judges mean, SD and quartiles.

        Of the other scores the mean; all over the members that ended without diverging. The best median comes first
        to a reader who sorts by ``median``.
        """
        rows = []
        for setting in settings_of(self.members):
            of = {
                n: Distribution.of(s[setting.rows], self.status[setting.rows]) for n, s in self.scores.items()
            }
            judge = of.pop(self.monitor)
            quartiles = {name: getattr(judge, name) for name in ("mean", "sd", "q1", "median", "q3")}
            others = {name: each.mean for name, each in of.items()}
            rows.append(
                {**setting.columns, "members": len(setting.rows), "diverged": judge.diverged}
                | quartiles
                | others
            )
        found = pd.DataFrame(rows)
        numbers = [n for n in ("mean", "sd", "q1", "median", "q3", *self.scores) if n in found]
        return found.astype(dict.fromkeys(numbers, float))

    @property
    def diverged(self) -> pd.DataFrame:
        """The diverged members' rows: seeds and hyper-parameters."""
        return self.table.loc[self.status == Status.DIVERGED]

    @property
    def member_steps_per_second(self) -> float:
        """Updates of all members over the wall time, plan included."""
        return float(self.steps.sum()) / self.seconds if self.seconds else 0.0

    def responses(self) -> tuple[list[Setting], list[Response]]:
        """The settings, and each one's response: the quartiles of the score that judges."""
        higher = self.monitor in self.higher_is_better
        return responses_of(self.members, self.scores[self.monitor], self.status, higher_is_better=higher)

    def begun(self) -> Population:
        """Return the members as they began, so that a fit of them in the run's folder goes on where this ended.

        Raises:
            ModelspaceError: the run is in memory alone, where what the optimizer remembers is not kept; or its
                members
                did not begin where their seeds begin.
        """
        if self.folder is None:
            raise ModelspaceError(
                "a run in memory keeps points, and not what the optimizer remembers: give out=folder to the fit "
                "that is to "
                "go on, or fit run.population, whose optimizer begins anew"
            )
        known = {key.tobytes() for key in Catalogue(self.folder).keys}
        if "seed" in self.members:
            population = Population.from_seeds(self.space, self.members, self.population.device)
            if known.issuperset(key.tobytes() for key in keys_of(population)):
                return population
        raise ModelspaceError(
            f"the members of the run in '{self.folder}' did not begin where seeds begin: give fit the population "
            "that they "
            "began as, and out= the folder"
        )

    def predict(self, inputs: Any) -> Nest:
        """Compute the outputs of every kept member, ``[K, N, …]``: see ``modelspace.predict``."""
        return predict(self.population, inputs)

    def ensemble(self, **options: Any) -> "Ensemble":
        """Return the kept members that did not diverge as one module: see ``modelspace.Ensemble``.

        Args:
            **options: Its own: ``members=``, ``combine=``, ``loss=``, ``weights=``.

        Raises:
            ModelspaceError: there are none.
        """
        return import_module("modelspace.ensemble").Ensemble(self, **options)

    def versus(self, *others: "Run", by: str | None = None, data: Any = None, **options: Any) -> Any:
        """Tell which values of a column, or which of several runs, are better, by the members that there are.

        Each contestant is at its best setting by the median validation score. Members are paired by their seeds, and
        by ``fold``, ``bootstrap`` and ``task``. Intervals are the exact binomial ones of one look at all pairs.

        Args:
            *others: Further runs.
            by: A column, each of whose values is a contestant.
            data: What it was fitted on: then scores are of its test split. Without it they are the last validation
                scores, on which settings were chosen too, so that they flatter.
            **options: ``names``, ``metric``, ``threshold``, ``equal_within`` and ``level`` of ``modelspace.versus``.

        Returns:
            The ``Verdict``.

        Raises:
            ModelspaceError: fewer than two contestants, an unknown column, or no seeds in common.
        """
        return import_module("modelspace.compare").versus_runs([self, *others], by, data, **options)

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
        count = len(self.plans) - 1
        more = f", and {count} plan{'s' if count > 1 else ''} more" if count else ""
        return (
            f"Run of {len(self.members):,} members of {self.title} on {self.data}: {counts}; "
            f"{self.seconds:.1f} s, {self.member_steps_per_second:,.0f} member-steps/s ({self.plan}{more})"
        )

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(repr(self))}</p>{self.table.to_html(max_rows=10, escape=True)}</div>"


def open_run(path: str | os.PathLike[str], space: ModelSpace | None = None, *, trust: bool = False) -> Run:
    """Open the run in a folder, as ``fit(…, out=folder)`` returned it, or would have if it had not been cut short.

    Also while a process is at it. Its table, scores and curves need nothing else; points without their architecture
    are only numbers, and nothing that a folder names is executed unasked.

    Args:
        path: The folder.
        space: The space that was fitted.
        trust: Whether to execute the file or module that the folder names as its architecture, where ``space`` is
            None; the file must be, byte for byte, the one that was fitted.

    Returns:
        The run: its ``population``, which needs ``space`` or ``trust``, holds the members whose points were kept and
        that are finished.

    Raises:
        ModelspaceError: there is no run, it was stopped before it began, its catalogue is damaged, another version of
            this library has written it; or the architecture can't be found, or is another one now.
    """
    catalogue = Catalogue(Path(path))
    about = catalogue.about
    if about is None:
        raise ModelspaceError(
            f"the run in '{catalogue.folder}' was stopped before it began to train: fit it again"
        )
    if space is None and trust:
        space = _executed(catalogue.folder, about)
    if space is not None:
        _check(catalogue.folder, about, space)
    places = catalogue.find(catalogue.keys)
    return Run(
        catalogue.members,
        words(places.ends.states),
        places.ends.steps,
        dict(zip(curves_of(about["spec"]), places.ends.scores.T, strict=True)),
        about["spec"]["space"],
        about["spec"]["data"],
        about["settings"],
        about["higher_is_better"],
        [structured(plan, Plan, "its plan") for plan in about["plans"]],
        about.get("seconds", 0.0),
        structured(about["memory"], Memory | None, "its memory"),
        catalogue.folder,
        about,
        _Folder(catalogue, places, space),
    )


class _Folder:
    """The curves and points of a run in a folder, read when they are asked for."""

    def __init__(self, catalogue: Catalogue, places: Places, space: ModelSpace | None):
        assert catalogue.about is not None
        self.folder, self.about, self._space = catalogue.folder, catalogue.about, space
        self.keys, self.members, self.places = catalogue.keys, catalogue.members, places
        self.shards = {number: shard.name for number, shard in catalogue.shards.items()}

    @property
    def history(self) -> dict[str, np.ndarray]:
        names, epochs, members = (
            curves_of(self.about["spec"]),
            self.about["settings"]["epochs"],
            len(self.keys),
        )
        size, free = len(names) * members * epochs * 8, free_bytes(torch.device("cpu"))
        if size > free:
            raise ModelspaceError(
                f"the curves of '{self.folder}' are {size:,} bytes ({members:,} members, {epochs:,} epochs), and "
                f"{free:,} are free"
            )
        curves = {name: np.full((members, epochs), np.nan) for name in names}
        for rows, result in self._results(lambda _: Shapes(names, epochs)):
            for name, values in result.curves.items():
                curves[name][rows, : values.shape[1]] = values.numpy()
        return curves

    @property
    def records(self) -> Records:
        shards = [(self.shards[n], rows) for n, rows in rows_by_shard(self.places, self.places.shard >= 0)]
        return in_folder(self.folder, shards, self.keys, self.places.position)

    @property
    def space(self) -> ModelSpace:
        if self._space is None:
            target = self.about["target"] or self.about["spec"]["space"]
            raise ModelspaceError(
                f"the points of the run in '{self.folder}' need their architecture, {target}, which is not executed "
                "unasked: open_run(…, space=ModelSpace(…)), or trust=True to execute it. Its table needs neither"
            )
        return self._space

    def kept(self) -> tuple[np.ndarray, Population]:
        space, about = self.space, self.about
        curves = curves_of(about["spec"])
        keep = Keep.of(about["spec"]["keep"], curves, about["higher_is_better"])
        before = Population.from_seeds(space, self.members)
        if keep.best is None:
            before = Population.from_stacks(space, [_room(*part) for part in before.spaces], self.members)
        results = Results(before, curves, about["settings"]["epochs"], keep)
        for rows, result in self._results(results.shapes):
            results.write(rows, result)
        rows, population = results.kept()
        if keep.best is None:
            rows = np.flatnonzero(results.states.numpy())
            population = population[rows]
        return rows, population

    def _results(self, shapes: Callable[[np.ndarray], Shapes]) -> Iterator[tuple[np.ndarray, Result]]:
        """The members of each finished shard, and their result; one that is damaged is said and left out."""
        groups = rows_by_shard(self.places, self.places.shard >= 0)
        with progress(f"reading {self.folder}", len(groups), "shards") as advance:
            for number, rows in groups:
                name = self.shards[number]
                try:
                    result = read_result(
                        self.folder, name, self.keys[rows], self.places.position[rows], shapes(rows)
                    )
                except DamagedError as error:
                    notice(f"shard {name} is damaged ({error}): fit the run again to train its members anew")
                    continue
                yield rows, result
                advance(1)


def _room(rows: np.ndarray, space: ModelSpace) -> Stack:
    """Room for the points of members of one space, which are read."""
    buffers = space.buffers_of(space.template).items()
    room = {name: v.detach().expand(len(rows), *v.shape).clone() for name, v in buffers}
    return Stack(rows, torch.zeros(len(rows), space.dimension, dtype=space.dtype), room)


def rows_by_shard(places: Places, which: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return the numbers of the shards in which some members stand, and which members of each."""
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(places.shard[rows], kind="stable")]
    numbers, first = np.unique(places.shard[rows], return_index=True)
    return list(zip(numbers.tolist(), np.split(rows, first)[1:], strict=True))


def read_result(folder: Path, name: str, keys: Keys, positions: np.ndarray, shapes: Shapes) -> Result:
    """Read what became of some members of a finished shard.

    Args:
        folder: The run's.
        name: The shard's.
        keys: The members'.
        positions: Their rows of it.
        shapes: What it is held against.

    Raises:
        DamagedError: the file is not what was written, or holds other members.
    """
    file = read(shard_file(folder, name))
    tensors = checked(file.tensors, shapes)
    if positions.max(initial=0) >= max(len(file.keys), 1) or not np.array_equal(file.keys[positions], keys):
        raise DamagedError("it holds other members")
    return result_of(tensors, positions)


def _check(folder: Path, about: Mapping[str, Any], space: ModelSpace) -> None:
    """Hold a space against the one that was fitted."""
    spec = about["spec"]
    other = f"the run in '{folder}' is of {spec['space']} as it was then"
    if architecture_hash(space) != spec["architecture"]:
        raise ModelspaceError(f"{other}; {space.title} is another now")
    if space.code.hash == spec.get("code"):
        return
    if f"Python {python_version()}" not in str(spec.get("packages")).split(", "):
        notice(f"{other}, under another version of Python: whether its code has changed since is not known")
        return
    before = about["code"].get("code") or {}
    raise ModelspaceError(f"{other}: {changed(before, space.code.parts) or 'its code has changed'} since")


def _executed(folder: Path, about: Mapping[str, Any]) -> ModelSpace:
    """The space that a folder names, its file being the one that was fitted."""
    target, spec = about["target"], about["spec"]
    if target is None:
        raise ModelspaceError(
            f"the run in '{folder}' does not say where {spec['space']} is defined: give space=ModelSpace(…)"
        )
    file = file_of_target(target)
    if file is None or about["source"] is None or content_hash(file) != about["source"]:
        state = "can't be found" if file is None else "is not the file that was fitted"
        raise ModelspaceError(
            f"{target}, which the run in '{folder}' names as its architecture, {state}, and is not executed: "
            "give space=ModelSpace(…)"
        )
    notice(f"executing {target}, which the run names as its architecture (space=ModelSpace(…) does without)")
    return ModelSpace(
        load_architecture(target),
        input_shape=about["input_shape"],
        input_dtype=getattr(torch, about["input_type"]),
        dtype=getattr(torch, spec["type"].removeprefix("torch.")),
        **about["hyperparameters"],
    )
