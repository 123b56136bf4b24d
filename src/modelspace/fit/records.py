"""What is kept of members while they train, and when: ``Record``, and what a fit makes of it.

Times count updates made: at time t a member is at θ_t, its point after t updates; θ_0 is where it began. What belongs
to a point is taken there, what belongs to an update is that of the one made from there. After the last update there
is none, so that loss and gradient have no value at the last time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modelspace.engine import MemberValues
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.population import Population

OF_POINTS = ("points", "distance")
OF_UPDATES = ("loss", "grad_norm", "update_norm")
_TIMES = ("every", "at", "logarithmic", "epochs")


@dataclass(frozen=True)
class Record:
    """What is kept of every member while it trains, and at which times.

    At time t, after t updates and before the next: ``"points"``, θ_t; ``"distance"``, ‖θ_t − θ_0‖; ``"loss"``, of the
    next batch, or what an objective names beside it; ``"grad_norm"``, the norm of the gradient that the optimizer is
    then given, before clipping; ``"update_norm"``, ‖θ_{t+1} − θ_t‖. Or a function f(model) to a tensor or a dict of
    tensors, in evaluation mode; ``model`` is the member itself, a module of the user's class at θ_t.

    The times are one of four; where none is given, the start and after each epoch. A time that depends on how many
    updates there are in all depends on the future, as a cosine schedule does: with ``logarithmic`` a run that is to
    have more epochs begins anew.

    Attributes:
        what: A name or a function.
        every: The times 0, every, 2 · every, …
        at: These times; those past the last update are left out.
        logarithmic: About so many times: 0, and from 1 to the last update in equal ratios, rounded, each once.
        epochs: The start, and after every so many epochs.
        name: What it is called among ``run.records``; the name, or the function's, where None.

    Raises:
        ModelspaceError: several kinds of times, or none that could be.

    Example:
        >>> import modelspace as ms
        >>> from modelspace.examples import DummyNet
        >>> population = ms.ModelSpace(DummyNet).sample(seeds=2, lr=[1e-3])
        >>> run = ms.fit(population, "digits-7x7", epochs=1, record=["points", ms.Record("grad_norm", every=10)])
        >>> run.records["points"].values.shape
        torch.Size([2, 2, 2512])
        >>> run.records["grad_norm"].steps[0].tolist()
        [0, 10, 20, 30]
    """

    what: str | Callable[[Any], Any]
    every: int | None = None
    at: Sequence[int] | None = None
    logarithmic: int | None = None
    epochs: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in _TIMES if getattr(self, kind) is not None]
        problems = [
            f"{kind} is at least {least}; received {value}"
            for kind, least in (("every", 1), ("epochs", 1), ("logarithmic", 2))
            if (value := getattr(self, kind)) is not None and value < least
        ]
        if len(given) > 1:
            problems.append(f"{' and '.join(given)} are given: one of them says when")
        if self.at is not None:
            object.__setattr__(self, "at", tuple(sorted({int(time) for time in self.at})))
            if not self.at or self.at[0] < 0:
                problems.append(f"at is a list of numbers of updates, 0 or more; received {self.at}")
        if not given:
            object.__setattr__(self, "epochs", 1)
        if not isinstance(self.what, str) and not callable(self.what):
            problems.append(f"{self.what!r} is no name and no function of a member")
        elif self.label in ("", "<lambda>"):
            problems.append("a function without a name is given one: record={'name': f}")
        if problems:
            raise ModelspaceError(f"record: {'; '.join(problems)}")

    @property
    def label(self) -> str:
        """What it is called."""
        if self.name is not None:
            return self.name
        return self.what if isinstance(self.what, str) else getattr(self.what, "__name__", "")

    @property
    def looks_ahead(self) -> bool:
        """Whether its first times depend on how many updates there will be."""
        return self.logarithmic is not None

    def times(self, updates: int) -> list[int]:
        """Return the times in a fit of so many updates, ascending; of epochs they are not known here."""
        if self.every is not None:
            return list(range(0, updates + 1, self.every))
        if self.logarithmic is not None:
            found = np.geomspace(updates, 1, self.logarithmic - 1).round().astype(int).tolist()
            return sorted({0, *found})
        return [time for time in self.at or () if time <= updates]

    def __str__(self) -> str:
        what = self.what if isinstance(self.what, str) else getattr(self.what, "__name__", "function")
        named = what if self.label == what else f"{self.label}={what}"
        kind = next(kind for kind in _TIMES if getattr(self, kind) is not None)
        value = getattr(self, kind)
        if kind == "at":
            return f"{named} at {', '.join(map(str, value))}"
        return f"{named} {kind}={value}"


def as_records(
    given: "str | Callable[[Any], Any] | Record | Iterable[Any] | Mapping[str, Any] | None",
) -> tuple[Record, ...]:
    """Return what is to be recorded.

    Args:
        given: A name, a function, a ``Record``; several of them, or a dict of them by their names in the run.

    Raises:
        ModelspaceError: two of one name, or what is none of these.
    """
    if given is None:
        return ()
    if isinstance(given, str | Record) or (callable(given) and not isinstance(given, Mapping)):
        found = [given if isinstance(given, Record) else Record(given)]
    elif isinstance(given, Mapping):
        found = [
            replace(what, name=name) if isinstance(what, Record) else Record(what, name=name)
            for name, what in given.items()
        ]
    elif isinstance(given, Iterable):
        found = [what if isinstance(what, Record) else Record(what) for what in given]
    else:
        found = [Record(given)]
    labels = [record.label for record in found]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ModelspaceError(f"record: two are called {twice}: give them names, record={{'name': …}}")
    return tuple(found)


class Recording(NamedTuple):
    """A record in one fit.

    Attributes:
        record: What was asked for.
        places: Each time's place among them; of epochs, the epochs that are over.
        kinds: Of each tensor, by its name in the run, one member's shape and type.
        of: What computes a function; None where it is a name.
    """

    record: Record
    places: dict[int, int]
    kinds: dict[str, tuple[tuple[int, ...], torch.dtype]]
    of: MemberValues | None

    @property
    def member_bytes(self) -> int:
        """What one member's values take, and the steps beside them."""
        each = sum(prod(shape) * kind.itemsize + 8 for shape, kind in self.kinds.values())
        return len(self.places) * each


def recordings_of(
    records: Sequence[Record], population: Population, updates: int, epochs: int, also: Sequence[str]
) -> tuple[Recording, ...]:
    """Return what is to be recorded in a fit, tried out on a member.

    Args:
        records: What was asked for.
        population: The members.
        updates: How many they make, the most of any.
        epochs: How many.
        also: What the objective names beside its loss.

    Raises:
        ModelspaceError: an unknown name, a function that fails, or none of its times comes.
    """
    return tuple(_recording(record, population, updates, epochs, also) for record in records)


def _recording(
    record: Record, population: Population, updates: int, epochs: int, also: Sequence[str]
) -> Recording:
    times = record.times(updates)
    if record.epochs is not None:
        times = range(0, epochs + 1, record.epochs)
    if not times:
        raise ModelspaceError(f"record {record}: no such time comes in {updates:,} updates")
    places, space = {time: place for place, time in enumerate(times)}, population.space
    if isinstance(record.what, str):
        known = (*OF_POINTS, *OF_UPDATES, *also)
        if record.what not in known:
            raise unknown_name("record", record.what, known)
        kind = ((space.dimension,), space.dtype) if record.what == "points" else ((), torch.float64)
        return Recording(record, places, {record.label: kind}, None)
    of = MemberValues(record.what, f"record '{record.label}'", population)
    kinds = {
        f"{record.label}.{name}".rstrip("."): (shape, _with_nan(kind))
        for name, (shape, kind) in of.kinds.items()
    }
    return Recording(record, places, kinds, of)


def _with_nan(kind: torch.dtype) -> torch.dtype:
    """The type in which values are kept: one that has NaN, for where there are none."""
    return kind if kind.is_floating_point or kind.is_complex else torch.float64


def room(
    recordings: Sequence[Recording], members: int, own: Callable[[Tensor], Tensor] = Tensor.contiguous
) -> dict[str, dict[str, Tensor]]:
    """Return tensors for what is recorded of some members, on the CPU: nothing yet, which is NaN, at step −1.

    Args:
        recordings: What is recorded.
        members: How many.
        own: Makes memory of a tensor whose numbers are all one.

    Returns:
        ``values``, ``[c, T, …]`` by name, and ``steps``, ``[c, T]`` by name: at which update each was taken.
    """
    values, steps = {}, {}
    for recording in recordings:
        shape = (members, len(recording.places))
        for name, (each, kind) in recording.kinds.items():
            values[name] = own(torch.tensor(torch.nan, dtype=kind).expand(*shape, *each))
            steps[name] = own(torch.tensor(-1).expand(shape))
    return {"values": values, "steps": steps}
