"""Every shard of a fit, once: in this process, or in several that share them.

A shard is a function of the recipe and its members alone, so it does not matter who computes it. Where memory runs
out, or a worker process is lost, what is not done is done here, in shards of half the size.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from modelspace.engine import Plan, using_threads
from modelspace.engine.workers import Send, in_processes, is_out_of_memory
from modelspace.errors import ModelspaceError
from modelspace.progress import notice
from modelspace.runs import Needs

Rows = list[int]
Advance = Callable[[int], None]
_TELL_SECONDS = 0.2


class Record(Protocol):
    """Where what is trained is written down."""

    @property
    def needs(self) -> Needs:
        """What ``finish`` reads of a shard: its scores, the points too, or all that it could go on from."""
        ...

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        ...

    def restore(self, rows: Sequence[int]) -> dict[str, Tensor] | None:
        """Return the tensors of this shard at its last checkpoint; None where it is to start."""
        ...

    def checkpoint(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Write down a shard between two updates."""
        ...

    def finish(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Take in a finished shard, in the process that trained it."""
        ...

    def commit(self, rows: Sequence[int]) -> None:
        """Enter a finished shard, in the process that began the fit."""
        ...

    def unfinished(self, rows: Sequence[int]) -> list[int]:
        """Those of these members that are not finished."""
        ...


class Trainer(Protocol):
    """Trains one shard, in a size that was decided."""

    def __call__(self, rows: Sequence[int], record: Record, advance: Advance) -> None:
        """Train these members to the end, and write them down."""
        ...


def execute(
    trainer_of: Callable[[Plan], Trainer],
    plan: Plan,
    shards: Sequence[Rows],
    record: Record,
    advance: Advance,
) -> Plan:
    """Train all shards.

    Args:
        trainer_of: The trainer of shards as a plan says.
        plan: The plan.
        shards: Each one's members.
        record: Where they are written down.
        advance: Told of every member-step.

    Returns:
        The plan; with a smaller shard where memory ran out.

    Raises:
        ModelspaceError: there is not even memory for one member.
    """
    left = list(shards)
    with using_threads(plan.threads):
        trainer = trainer_of(plan)
        if plan.workers > 1 and len(left) > 1:
            reason = _in_workers(trainer, plan.workers, left, record, advance)
            left = [rows for shard in left if (rows := record.unfinished(shard))]
            if reason and left:
                plan = halved(plan, reason)
                trainer, left = trainer_of(plan), pieces(left, plan.chunk)
        while left:
            try:
                trainer(left[0], record, advance)
                record.commit(left[0])
                left = left[1:]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                plan = halved(plan, "out of memory")
                # What the failed attempt holds is freed before the next one asks.
                error.__traceback__ = None
                trainer, left = trainer_of(plan), pieces(left, plan.chunk)
    return plan


def pieces(shards: Sequence[Sequence[int]], size: int) -> list[Rows]:
    """The shards cut into pieces of at most ``size`` members."""
    return [list(rows[i : i + size]) for rows in shards for i in range(0, len(rows), size)]


def halved(plan: Plan, reason: str) -> Plan:
    """The plan with shards of half the size, in one process; that is said.

    Args:
        plan: The plan.
        reason: Why it can't go on as it is, in a few words.

    Raises:
        ModelspaceError: its shards are of one member.
    """
    if plan.chunk == 1:
        raise ModelspaceError(
            f"{reason}, with a single member at a time: a smaller batch, or --precision bf16-mixed, needs less"
        )
    chunk = (plan.chunk + 1) // 2
    notice(f"{reason}: going on in shards of {chunk} members")
    return replace(plan, chunk=chunk, workers=1, reason=f"{plan.reason}; {reason}: shards halved")


def _in_workers(
    trainer: Trainer, workers: int, shards: list[Rows], record: Record, advance: Advance
) -> str | None:
    """Worker i trains shards i, i + workers, …; why one of them ended before it was done, if one did."""

    def body(index: int, send: Send) -> None:
        told, tell = _telling(send)
        for number in range(index, len(shards), workers):
            trainer(shards[number], record, tell)
            send({"finished": number})
        told()

    lost = None
    for message in _listening(in_processes(min(workers, len(shards)), body)):
        if "steps" in message:
            advance(message["steps"])
        if "finished" in message:
            record.commit(shards[message["finished"]])
        lost = message.get("lost", lost)
    return lost


def _listening(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages; whatever ends the listening ends the processes."""
    try:
        yield from messages
    finally:
        messages.close()  # pyright: ignore[reportAttributeAccessIssue]


def _telling(send: Send) -> tuple[Callable[[], None], Advance]:
    """Functions that send the steps made so far: at once, and now and then."""
    steps, last = 0, time.monotonic()

    def tell() -> None:
        nonlocal steps, last
        send({"steps": steps})
        steps, last = 0, time.monotonic()

    def advance(amount: int) -> None:
        nonlocal steps
        steps += amount
        if time.monotonic() - last > _TELL_SECONDS:
            tell()

    return tell, advance
