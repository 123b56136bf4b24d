"""``Recorder``: takes in what is trained; where there is a folder, it writes that down and resumes from there."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace.atomic import remove_remains
from modelspace.code import changed
from modelspace.engine import Plan, adopt_gains, known_gains
from modelspace.errors import ModelspaceError
from modelspace.memory import Memory
from modelspace.plain import plain, structured
from modelspace.population import Population
from modelspace.progress import notice, progress
from modelspace.runs import folder as folders
from modelspace.runs import shards
from modelspace.runs.catalogue import (
    Catalogue,
    DamagedCatalogueError,
    Ends,
    Places,
    Shard,
    checked_about,
    curves_of,
    latest,
    table_of,
)
from modelspace.runs.records import Held, in_folder
from modelspace.runs.results import Keep, Results, last_values
from modelspace.runs.run import Run, read_result, rows_by_shard
from modelspace.runs.settings import words
from modelspace.runs.shards import Needs, Result, Shapes, needed, result_of
from modelspace.tensorfile import DamagedError

_MACHINE = ("torch", "machine", "device", "threads")


class Recorder:
    """What training hands its results to, from the first shard to the run.

    In this order: it is opened; ``allocate`` and ``left``; ``begin``; for each shard that ``adopt`` does not know,
    ``restore``, ``checkpoint``, ``finish`` and ``commit``; ``run``.

    Args:
        out: The run's folder; None for none.
        about: What the run is: see ``describe``. Not read without a folder.
        fresh: Whether what is there is to be removed, unread, by ``begin``.
        seconds: Between two checkpoints of a shard.

    Attributes:
        plans: Those with which the run began, one for each part of its members, so that it goes on as it began, bit
            for bit; empty where it begins, or another machine began it.
        held: Where what is recorded goes, if there is no folder.

    Raises:
        ModelspaceError: the folder can't be written to, another process is at it, its catalogue is no run's and no
            shard says of what run it is; or it holds another run, of which all differences are listed.
    """

    def __init__(
        self,
        out: str | os.PathLike[str] | None = None,
        about: Mapping[str, Any] | None = None,
        *,
        fresh: bool = False,
        seconds: float = 60.0,
    ):
        self.folder, self._fresh, self._seconds = None if out is None else Path(out), fresh, seconds
        self._about = json.loads(json.dumps(about, default=plain)) if about else {}
        self._catalogue: Catalogue | None = None
        self._last = time.monotonic()
        self.plans: list[Plan] = []
        self.held = Held()
        self._memory: Memory | None = None
        with ExitStack() as stack:
            if self.folder is not None:
                stack.callback(folders.lock(self.folder).release)
                folders.check_own(self.folder, clearing=fresh)
            if self.folder is not None and not fresh:
                self._catalogue = stack.enter_context(_closing(_opened(self.folder)))
                if self._catalogue.about is not None:
                    self._resume(self._catalogue.about)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _resume(self, there: Mapping[str, Any]) -> None:
        """Hold what is asked for against the run that is there, and go on with its plan."""
        here, parts = self._about, there["code"]
        different = [
            f"{name}: {said}"
            if (said := changed(parts.get(name) or {}, here["code"].get(name) or {}))
            else f"{name} is {_short(there['spec'].get(name))} there and {_short(value)} here"
            for name, value in here["spec"].items()
            if there["spec"].get(name) != value
        ]
        before, asked = there["settings"]["epochs"], here["settings"]["epochs"]
        if asked < before:
            different.append(f"it has {before} epochs, and {asked} are asked for")
        if different:
            raise ModelspaceError(
                f"'{self.folder}' holds another run: {'; '.join(different)}. Give another folder, or fresh=True "
                "to remove it"
            )
        adopt_gains(there["trials"])
        machines = ([about["environment"].get(name) for name in _MACHINE] for about in (there, here))
        if next(machines) != next(machines):
            notice("this machine, or a version here, is not the run's: it goes on with a plan of its own")
            return
        self.plans = [structured(plan, Plan, "its plan") for plan in there["plans"]]
        self._memory = structured(there["memory"], Memory | None, "its memory")

    def allocate(
        self, population: Population, curves: Sequence[str], epochs: int, keep: Keep, processes: int
    ) -> None:
        """Take the memory for what is to come.

        Args:
            population: The members before training, which stays as it is.
            curves: The curves' names.
            epochs: The run's length.
            keep: Whose points are kept.
            processes: How many will call ``finish``; 1 for this one alone.
        """
        self._population, self._epochs = population, epochs
        self._results = Results(population, curves, epochs, keep, processes=processes)
        if self.folder is not None:
            self._keys = shards.keys_of(population)

    def left(self, *, longer: bool) -> list[list[int]]:
        """Read what is finished, and return the members that are left to train, those together that were before.

        Args:
            longer: Whether a member that was trained for fewer epochs may be trained on.
        """
        self._places: Places | None = None
        # Only where all points are kept, a finished shard's file holds what going on depends on.
        self._longer = longer and self._results.keep.best is None
        groups: list[list[int]] = []
        if self._catalogue is not None and self._catalogue.about is not None:
            places = self._places = self._catalogue.find(self._keys)
            finished = rows_by_shard(places, places.epochs == self._epochs)
            title = f"reading {sum(len(rows) for _, rows in finished):,} finished members"
            with progress(title, len(finished), "shards") as advance:
                for number, rows in finished:
                    self._read(number, rows, places)
                    advance(1)
            begun = (places.epochs > 0) & (places.epochs < self._epochs) & self._longer
            groups = [rows.tolist() for _, rows in rows_by_shard(places, begun)]
        going_on = {row for rows in groups for row in rows}
        anew = [row for row in self.unfinished(range(len(self._population))) if row not in going_on]
        return [*groups, anew] if anew else groups

    def _read(self, number: int, rows: np.ndarray, places: Places) -> None:
        """Read some members of a finished shard; a damaged one is forgotten, and they stay unfinished."""
        assert self._catalogue is not None
        assert self.folder is not None
        name, keys = self._catalogue.shards[number].name, self._keys[rows]
        try:
            shapes = self._results.shapes(rows)
            self._results.write(rows, read_result(self.folder, name, keys, places.position[rows], shapes))
        except DamagedError as error:
            notice(f"shard {name} is damaged ({error}): its members are trained again")
            self._catalogue.forget(number)
            folders.remove(folders.shard_file(self.folder, name))

    def begin(self, plans: Sequence[Plan], memory: Memory | None) -> None:
        """Note what the run is, its members and its plan; whatever could be refused has been.

        Args:
            plans: How it will be computed, each part of its members.
            memory: What it was predicted to take; what was noted before where None.
        """
        self._memory = memory or self._memory
        if self.folder is None:
            return
        foreign = folders.outputs_in(self.folder)
        if self._fresh:
            foreign = _cleared(self.folder, foreign)
            self._catalogue = self._stack.enter_context(_closing(Catalogue(self.folder, write=True)))
        assert self._catalogue is not None
        if self._catalogue.about is not None:
            foreign = self._catalogue.about["foreign"]
        remains = self.folder / "shards"
        remains.mkdir(exist_ok=True)
        remove_remains(remains, folders.REMAINS)
        noted = {"plans": [plain(plan) for plan in plans], "memory": plain(self._memory)}
        about = {**self._about, **noted, "trials": known_gains(), "foreign": foreign}
        self._catalogue.begin(about, self._keys, self._population.table)

    @property
    def needs(self) -> Needs:
        """Which of a finished shard's tensors ``finish`` reads."""
        everything = self.folder is not None and self._results.keep.best is None
        return "all" if everything else self._results.keep.needs

    def unfinished(self, rows: Iterable[int]) -> list[int]:
        """Return those of these members that are not finished."""
        return self._results.unfinished(rows)

    def adopt(self, rows: Sequence[int]) -> bool:
        """Take in a shard whose file stands, though the catalogue does not know of it yet; whether it does."""
        if self.folder is None:
            return False
        path, index = self._file(rows), np.asarray(rows)
        if not path.is_file():
            return False
        try:
            positions, shapes = np.arange(len(rows)), self._results.shapes(index)
            self._results.write(
                index, read_result(self.folder, path.stem, self._keys[index], positions, shapes)
            )
        except DamagedError as error:
            notice(f"shard {path.stem} is damaged ({error}): its members are trained again")
            return False  # its file will be another's, whole
        self.commit(rows)
        return True

    def restore(self, rows: Sequence[int]) -> dict[str, Tensor] | None:
        """Return the tensors of a shard at its last checkpoint, or at the end of fewer epochs; None for none."""
        if self.folder is None:
            return None
        part, index = self._file(rows, part=True), np.asarray(rows)
        if part.is_file():
            try:
                return self._same(part, self._keys[index])
            except DamagedError as error:
                notice(f"{part.name} is damaged ({error}): that shard is trained from its start")
        places, catalogue = self._places, self._catalogue
        if places is None or catalogue is None or not self._longer:
            return None
        numbers = set(places.shard[index].tolist())
        known = catalogue.shards.get(numbers.pop()) if len(numbers) == 1 else None
        if known is None or known.epochs >= self._epochs:
            return None
        try:
            tensors = self._same(
                folders.shard_file(self.folder, known.name), self._keys[index], places.position[index]
            )
        except DamagedError as error:
            notice(f"shard {known.name} is damaged ({error}): its members are trained from their start")
            return None
        where = torch.from_numpy(places.position[index])
        return {name: value[where] for name, value in tensors.items()}

    @staticmethod
    def _same(path: Path, keys: shards.Keys, positions: np.ndarray | None = None) -> dict[str, Tensor]:
        """A shard's tensors, if its members are these: some of its rows, or all of them in their order."""
        file = shards.read(path)
        if not np.array_equal(file.keys if positions is None else file.keys[positions], keys):
            raise DamagedError("it holds other members")
        return file.tensors

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.folder is not None and time.monotonic() - self._last >= self._seconds

    def checkpoint(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Write down a shard in training.

        Args:
            rows: Its members.
            tensors: All that its next update depends on.
        """
        self._write(rows, tensors, part=True)
        self._last = time.monotonic()

    def finish(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Take in a finished shard, in the process that trained it.

        Args:
            rows: Its members.
            tensors: Those that ``needs`` names.
        """
        index, keep = np.asarray(rows), self._results.keep
        result = keep.chosen(self._results.settings[index], result_of(tensors))
        if self.folder is not None:
            kept = {}
            if keep.best is not None:
                tensors = needed(tensors, "scores")
            if keep.best:
                kept = {"kept": result.kept, "points": result.points}
                kept |= {f"buffers.{name}": value for name, value in result.buffers.items()}
            # All that going on for more epochs depends on, or no more than is kept.
            self._write(rows, {**tensors, **kept}, part=False)
        self.held.write(index, tensors)
        self._results.write(index, result)

    def commit(self, rows: Sequence[int]) -> None:
        """Enter a finished shard into the catalogue, in the process that called ``fit``."""
        if self._catalogue is None or self.folder is None:
            return
        index, path, results = np.asarray(rows), self._file(rows), self._results
        scores = [last_values(values[index]) for values in results.history.values()]
        ends = Ends(results.states.numpy()[index], results.steps.numpy()[index], np.stack(scores, axis=1))
        shard = Shard(path.stem, self._epochs, path.stat().st_size, self._keys[index], ends)
        unused = self._catalogue.record(shard, None if self._places is None else self._places.shard[index])
        folders.remove(self._file(rows, part=True))
        for name in unused:
            folders.remove(folders.shard_file(self.folder, name))

    def run(
        self,
        plans: Sequence[Plan],
        seconds: float,
        title: str,
        data: str,
        settings: dict[str, Any],
        higher: list[str],
    ) -> Run:
        """Return the run, once no more shards will come.

        Args:
            plans: How it was computed, each part of its members.
            seconds: Wall time of this fit.
            title: The space's.
            data: The data's name.
            settings: The recipe, as plain values.
            higher: The curves of which more is better.
        """
        about: Mapping[str, Any] = {}
        if self._catalogue is not None:
            about = self._catalogue.about or {}
            seconds += about.get("seconds", 0.0)
            self._catalogue.note(seconds=seconds, plans=[plain(plan) for plan in plans])
            about = self._catalogue.about or {}
        results = self._results
        results.records = self.held.records(len(self._population))
        if self._catalogue is not None and self.folder is not None:
            places, named = self._catalogue.find(self._keys), self._catalogue.shards
            there = [(named[n].name, rows) for n, rows in rows_by_shard(places, places.shard >= 0)]
            results.records = in_folder(self.folder, there, self._keys, places.position)
        return Run(
            self._population.table.copy(),
            words(results.states.numpy()),
            results.steps.numpy(),
            {name: last_values(values) for name, values in results.history.items()},
            title,
            data,
            settings,
            higher,
            list(plans),
            seconds,
            self._memory,
            self.folder,
            about,
            results,
        )

    def _file(self, rows: Sequence[int], *, part: bool = False) -> Path:
        assert self.folder is not None
        name = shards.shard_name(self._about["spec"], self._epochs, self._keys[np.asarray(rows)])
        return folders.shard_file(self.folder, name, part=part)

    def _write(self, rows: Sequence[int], tensors: Mapping[str, Tensor], *, part: bool) -> None:
        assert self._catalogue is not None
        index = np.asarray(rows)
        members, run = self._population.table.iloc[index], self._catalogue.about or {}
        shards.write(self._file(rows, part=part), tensors, self._epochs, self._keys[index], members, run)


def _opened(folder: Path) -> Catalogue:
    """The catalogue of a folder, for writing; one that is damaged, or gone, is made again from the shards."""
    try:
        catalogue = Catalogue(folder, write=True)
        if catalogue.about is not None or not folders.shard_files(folder):
            return catalogue
        what = "is empty"
    except DamagedCatalogueError as error:
        catalogue, what = None, str(error).partition(": ")[2].partition(": fit")[0]
    found = list(_readable(folder))
    if catalogue is None:
        if not found:
            raise ModelspaceError(
                f"{folder / folders.CATALOGUE}: {what}, and no shard is there to make it anew from: give another "
                "folder, or fresh=True, which sets the file aside"
            )
        aside = folders.set_aside(folder)
        what = f"was damaged ({what}) and is now {aside.name if aside else 'gone'}"
        catalogue = Catalogue(folder, write=True)
    if found:
        try:
            _rebuild(catalogue, found)
        except BaseException:
            catalogue.close()
            raise
        number = sum(shard is not None for _, shard in found)
        notice(f"the catalogue of {folder} {what}: it was made anew from {number} finished shards")
    return catalogue


def _readable(folder: Path) -> Iterator[tuple[shards.File, Shard | None]]:
    """The shards of a folder that say of themselves what they are, without tensors; how the finished ones ended."""
    paths = folders.shard_files(folder)
    with progress(f"reading the shards of {folder}", len(paths), "shards") as advance:
        for path in paths:
            try:
                file = shards.read(path)
                spec = checked_about(file.run)["spec"]
                name, part = file.name.removesuffix(".part"), file.name.endswith(".part")
                if name != shards.shard_name(spec, file.epochs, file.keys):
                    raise DamagedError("its name is another than its members'")
                shard = None
                if not part:
                    curves = curves_of(spec)
                    result = result_of(shards.checked(file.tensors, Shapes(curves, file.epochs)))
                    shard = Shard(name, file.epochs, path.stat().st_size, file.keys, _ends(result, curves))
            except (DamagedError, ValueError) as error:
                notice(f"{path.name} is damaged ({error}), and left out")
                continue
            yield file._replace(tensors={}), shard
            advance(1)


def _ends(result: Result, curves: Sequence[str]) -> Ends:
    scores = [last_values(result.curves[name].numpy()) for name in curves]
    return Ends(result.states.numpy(), result.steps.numpy(), np.stack(scores, axis=1))


def _rebuild(catalogue: Catalogue, found: list[tuple[shards.File, Shard | None]]) -> None:
    """Enter shards into a catalogue that has none: of the run that most of them are of."""
    specs = [json.dumps(file.run["spec"], sort_keys=True) for file, _ in found]
    most = max(specs, key=specs.count)
    # The longest is the last that was asked for; of a member that has more than one, it counts.
    ours = sorted(
        (each for spec, each in zip(specs, found, strict=True) if spec == most),
        key=lambda each: each[0].epochs,
    )
    files = [file for file, _ in ours]
    _, part, row = latest([file.keys for file in files])
    order = np.lexsort((row, part))
    part, row = part[order], row[order]
    keys = np.concatenate([file.keys for file in files])
    first = np.cumsum([0, *(len(file.keys) for file in files)])
    table = table_of((len(file.keys), file.columns) for file in files)
    finished = [shard for _, shard in ours if shard is not None]
    _, stands, _ = latest([shard.keys for shard in finished])
    with catalogue.changing():
        wanted = first[part] + row
        catalogue.begin(files[-1].run, keys[wanted], table.iloc[wanted].reset_index(drop=True))
        for i in sorted(set(stands.tolist())):
            catalogue.record(finished[i])
    for i in set(range(len(finished))).difference(stands.tolist()):
        folders.remove(folders.shard_file(catalogue.folder, finished[i].name))


def _cleared(folder: Path, taken: list[str]) -> list[str]:
    """Remove what is there, of what a run wrote only; which of the outputs' names are not the run's."""
    try:
        before = Catalogue(folder).about
        foreign = taken if before is None else before["foreign"]
    except ModelspaceError:  # damaged, or no catalogue of a run's, or none
        foreign = [] if folders.set_aside(folder) and folders.shard_files(folder) else taken
    folders.remove_run(folder)
    return foreign


def _closing(catalogue: Catalogue) -> Any:
    from contextlib import closing

    return closing(catalogue)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}…"
