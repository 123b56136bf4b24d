"""The worker's side: one shard trained in a process somewhere, from what was sent to what is sent back."""

import pickle
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelspace.distribute.parcel import Common, Piece, packed, unpacked
from modelspace.engine import Plan, Scoring, using_threads
from modelspace.engine.lowerings import trials
from modelspace.engine.workers import is_out_of_memory
from modelspace.errors import ModelspaceError
from modelspace.fit.precision import products_in
from modelspace.fit.training import Training
from modelspace.runs import Needs

_TELL_SECONDS = 0.3


class Answer(NamedTuple):
    """What becomes of a task.

    Attributes:
        course: The tensors of the finished course, as bytes; None where it failed.
        failure: Why, in one line.
        kind: ``"memory"``, ``"mistake"`` (the user's, as one of this library's errors) or ``"error"``.
        trace: Where, as Python prints it.
    """

    course: bytes | None
    failure: str = ""
    kind: str = ""
    trace: str = ""


@dataclass(frozen=True)
class _Built:
    """What a process has built for a job and a plan: tasks of the same job find it again."""

    key: tuple[str, Plan]
    training: Training
    step: Callable[..., Any]
    scoring: Scoring


_built: _Built | None = None


def train(
    key: str, fetch: Callable[[], bytes], plan: Plan, piece: Piece, tell: Callable[[int], None]
) -> Answer:
    """Train one shard.

    Args:
        key: The job's.
        fetch: Gets the job's common part, pickled; not called where this process has it.
        plan: How to compute.
        piece: The shard's members.
        tell: Is told now and then how many member-steps have been made.

    Returns:
        Its course, or why there is none: nothing is raised but for what ends the process.
    """
    try:
        with using_threads(plan.threads):
            return Answer(_trained(key, fetch, plan, piece, tell))
    except Exception as error:
        trace = traceback.format_exc()
        if is_out_of_memory(error):
            return Answer(None, "out of memory in a worker process", "memory", trace)
        if isinstance(error, ModelspaceError):
            return Answer(None, str(error), "mistake", trace)
        return Answer(None, _in_a_line(error), "error", trace)


def _trained(
    key: str, fetch: Callable[[], bytes], plan: Plan, piece: Piece, tell: Callable[[int], None]
) -> bytes:
    built = _found(key, fetch, plan, piece)
    training, recipe = built.training, built.training.recipe
    population = piece.population(training.population.space, training.device)
    members = training.of(population, torch.tensor(piece.seeds, dtype=torch.int64))
    record = _Record(piece.begun, _needed[key])
    with products_in(recipe.precision):
        members.trainer(plan, built.step, built.scoring)(range(len(population)), record, _told(tell))
    assert record.course is not None
    return record.course


_needed: dict[str, Needs] = {}


def _found(key: str, fetch: Callable[[], bytes], plan: Plan, piece: Piece) -> _Built:
    """What was built for this job and plan; one is held, since another means that the former is done with."""
    global _built
    if _built is None or _built.key != (key, plan):
        training = _built.training if _built is not None and _built.key[0] == key else None
        _built = None  # before the next one is built beside it
        training = training or _training(key, _unpickled(fetch()), piece)
        with products_in(training.recipe.precision):
            _built = _Built((key, plan), training, training.made(plan), training.scoring(plan))
    return _built


def _unpickled(parcel: bytes) -> Common:
    try:
        return pickle.loads(parcel)
    except ImportError as error:
        raise ModelspaceError(
            f"{error} on a worker: install it there, or keep what is needed in the folder of the architecture's "
            "file, whose modules are sent along"
        ) from error


def _training(key: str, common: Common, piece: Piece) -> Training:
    if common.torch != torch.__version__:
        raise ModelspaceError(
            f"a worker has torch {torch.__version__} and the driver {common.torch}: their numbers would differ"
        )
    _needed.clear()
    _needed[key] = common.needs
    trials.adopt(common.trials)
    population = piece.population(common.space(), torch.device(common.device))
    return Training(population, common.data, common.recipe, common.members)


class _Record:
    """Where the one shard of a task is written down.

    Args:
        begun: Where it was put down.
        needs: What is to be kept of its course.
    """

    def __init__(self, begun: bytes | None, needs: Needs):
        self._begun = begun
        self.needs: Needs = needs
        self.course: bytes | None = None
        self.due = False

    def restore(self, rows: Sequence[int]) -> dict[str, Tensor] | None:
        return None if self._begun is None else unpacked(self._begun)

    def checkpoint(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        pass

    def finish(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        self.course = packed(tensors)

    def commit(self, rows: Sequence[int]) -> None:
        pass

    def unfinished(self, rows: Sequence[int]) -> list[int]:
        return list(rows)


def _told(tell: Callable[[int], None]) -> Callable[[int], None]:
    """Counts member-steps and tells their sum a few times a second."""
    steps, last = 0, time.monotonic()

    def advance(amount: int) -> None:
        nonlocal steps, last
        steps += amount
        if time.monotonic() - last > _TELL_SECONDS:
            tell(steps)
            last = time.monotonic()

    return advance


def _in_a_line(error: Exception) -> str:
    """An exception with the last place outside of PyTorch that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "torch" not in Path(frame.filename).parts] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def without_processes(plan: Plan) -> Plan:
    """The plan as one task carries it out: its reasons and times are not what two tasks differ by."""
    return replace(plan, workers=1, reason="", seconds=0.0)
