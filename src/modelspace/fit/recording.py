"""Recording a shard as it trains: what is taken at which update, of which members."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace.fit.records import OF_POINTS, Recording
from modelspace.fit.step import Shard, Stepped
from modelspace.fit.task import Task

Room = Mapping[str, Mapping[str, Tensor]]


class Recorded:
    """Takes what is to be recorded of one shard, into tensors on the CPU.

    A member that diverged or stopped has nothing from then on. Members that make unequal numbers of updates are each
    recorded by its own number.

    Args:
        task: The shard's.
        rows: Its members.
        room: What is written into: see ``modelspace.fit.records.room``.
    """

    def __init__(self, task: Task, rows: Sequence[int], room: Room):
        self._task, self._members, self._room = task, len(rows), room
        self._own = task.own_steps() if task.ragged else torch.full((len(rows),), task.steps)
        distances = any(recording.record.what == "distance" for recording in task.recordings)
        self._begun = task.population[rows].points.clone() if distances else None

    def begin(self, shard: Shard) -> None:
        """Take what belongs to the points before the first update."""
        for recording in self._task.recordings:
            places = self._places(recording, 0, 0)
            if places is not None and _is_of_points(recording):
                self._enter(recording, places, torch.zeros_like(places), shard)

    def step(self, before: Shard, stepped: Stepped, after: Shard, epoch: int, made: int) -> None:
        """Take what belongs to an update, and to the points that it has made.

        Args:
            before: The shard that it was made from.
            stepped: What the step gave.
            after: The shard since.
            epoch: Counted from 0.
            made: Updates of this epoch, with this one.
        """
        for recording in self._task.recordings:
            behind = 0 if _is_of_points(recording) else 1
            places = self._places(recording, epoch, made, behind)
            if places is not None:
                numbers = epoch * self._own + self._own.clamp(max=made) - behind
                self._enter(recording, places, numbers, before if behind else after, stepped, after)

    def _places(
        self, recording: Recording, epoch: int, made: int, behind: int = 0
    ) -> Int64[Tensor, "member"] | None:
        """Where members' values go, −1 where none is taken; None where none is of any.

        Args:
            recording: What is taken.
            epoch: The epoch.
            made: Updates of it that were made.
            behind: 1 for what belongs to the last of these: its time is before it.
        """
        task, places = self._task, recording.places
        if task.ragged and recording.record.epochs is None:
            numbers = torch.where(made <= self._own, epoch * self._own + made - behind, -1)
            found = torch.tensor([places.get(number, -1) for number in numbers.tolist()])
            return found if bool((found >= 0).any()) else None
        time: int | None = epoch * task.steps + made - behind
        if recording.record.epochs is not None:
            count = min(task.steps, task.updates - epoch * task.steps)
            begins, ends = made - behind == 0, made == count and not behind
            time = epoch if begins else epoch + 1 if ends else None
        place = None if time is None else places.get(time)
        return None if place is None else torch.full((self._members,), place)

    def _enter(
        self,
        recording: Recording,
        places: Int64[Tensor, "member"],
        numbers: Int64[Tensor, "member"],
        shard: Shard,
        stepped: Stepped | None = None,
        after: Shard | None = None,
    ) -> None:
        """Take values at a shard, and of the step from it, of the members that are trained and have a place."""
        rows = torch.nonzero((places >= 0) & shard.active.cpu())[:, 0]
        if not len(rows):
            return
        where = rows, places[rows]
        for name, values in self._values(
            recording, rows.to(shard.points.device), shard, stepped, after
        ).items():
            kept = self._room["values"][name]
            kept[where] = values.detach().to(kept)
            self._room["steps"][name][where] = numbers[rows]

    def _values(
        self, recording: Recording, rows: Tensor, shard: Shard, stepped: Stepped | None, after: Shard | None
    ) -> dict[str, Tensor]:
        what, label = recording.record.what, recording.record.label
        if recording.of is not None:
            buffers = {name: value[rows] for name, value in shard.buffers.items()}
            values = recording.of(shard.points[rows], buffers)
            return {f"{label}.{name}".rstrip("."): value for name, value in values.items()}
        if what == "points":
            return {label: shard.points[rows]}
        if what == "distance":
            assert self._begun is not None
            return {label: torch.linalg.vector_norm(shard.points[rows] - self._begun[rows], dim=1)}
        assert stepped is not None
        assert after is not None
        if what == "update_norm":
            return {label: torch.linalg.vector_norm(after.points[rows] - shard.points[rows], dim=1)}
        return {label: {"loss": stepped.losses, **stepped.also, **stepped.norms}[str(what)][rows]}


def _is_of_points(recording: Recording) -> bool:
    return recording.of is not None or recording.record.what in OF_POINTS
