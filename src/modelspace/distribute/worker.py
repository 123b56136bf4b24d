"""The worker's side: one shard trained in a process somewhere, from what was sent to what is sent back."""

import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from modelspace.distribute.parcel import Common, Piece, packed, unpacked
from modelspace.engine import Plan, adopt_gains, using_threads
from modelspace.errors import ModelspaceError
from modelspace.fit import Program, Task, prepare, products_in, program
from modelspace.fit import train as train_members
from modelspace.processes import is_out_of_memory
from modelspace.runs import Needs, needed

_TELL_SECONDS = 0.3


class Answer(NamedTuple):
    """What becomes of a task.

    Attributes:
        tensors: Those of the finished shard, as bytes; None where it failed.
        failure: Why, in one line.
        kind: ``"memory"``, ``"mistake"`` (the user's, as one of this library's errors) or ``"error"``.
        trace: Where, as Python prints it.
    """

    tensors: bytes | None
    failure: str = ""
    kind: str = ""
    trace: str = ""


@dataclass(frozen=True)
class _Built:
    """What a process has built for a job and a plan: tasks of the same job find it again.

    Attributes:
        key: The job and the plan.
        task: The fit, prepared with the members that came first.
        program: How its shards are computed.
        needs: What is to be sent back of a finished shard.
    """

    key: tuple[str, Plan]
    task: Task
    program: Program
    needs: Needs


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
        Its tensors, or why there are none: nothing is raised but for what ends the process.
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
    built = _build(key, fetch, plan, piece)
    population = piece.population(built.task.population.space, built.task.device)
    members = built.task.of(population, torch.tensor(piece.seeds, dtype=torch.int64))
    begun = None if piece.begun is None else unpacked(piece.begun)
    with products_in(members.recipe.precision):
        rows = range(len(population))
        tensors = train_members(members, built.program, rows, begun, advance=_told(tell))
    return packed(needed(tensors, built.needs))


def _build(key: str, fetch: Callable[[], bytes], plan: Plan, piece: Piece) -> _Built:
    """What was built for this job and plan; one is held, since another means that the former is done with."""
    global _built
    if _built is None or _built.key != (key, plan):
        known = _built if _built is not None and _built.key[0] == key else None
        _built = None  # before the next one is built beside it
        task, needs = (known.task, known.needs) if known else _prepared(_unpickled(fetch()), piece)
        del known
        with products_in(task.recipe.precision):
            _built = _Built((key, plan), task, program(task, plan), needs)
    return _built


def _unpickled(parcel: bytes) -> Common:
    try:
        return pickle.loads(parcel)
    except ImportError as error:
        raise ModelspaceError(
            f"{error} on a worker: install it there, or keep what is needed in the folder of the architecture's "
            "file, whose modules are sent along"
        ) from error


def _prepared(common: Common, piece: Piece) -> tuple[Task, Needs]:
    if common.torch != torch.__version__:
        raise ModelspaceError(
            f"a worker has torch {torch.__version__} and the driver {common.torch}: their numbers would differ"
        )
    adopt_gains(common.trials)
    population = piece.population(common.space(), torch.device(common.device))
    task = prepare(population, common.data, common.recipe, common.members, updates=common.updates)
    return task, common.needs


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
