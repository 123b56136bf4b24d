"""Every shard of a fit, once: in this process, or in several that share them.

A shard is a function of the recipe and its members alone, so it does not matter who computes it. Where memory runs
out, or a worker process is lost, what is not done is done here, in shards of half the size.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modelspace.engine import Plan, using_threads
from modelspace.engine.workers import Send, in_processes, is_out_of_memory
from modelspace.errors import ModelspaceError
from modelspace.fit.results import Results
from modelspace.progress import notice

Range = tuple[int, int]
Advance = Callable[[int], None]
_TELL_SECONDS = 0.2


class Trainer(Protocol):
    """Trains one shard, in a size that was decided."""

    def __call__(self, start: int, stop: int, results: Results, advance: Advance) -> None:
        """Train members ``start … stop − 1`` into the results."""
        ...


def execute(trainer_of: Callable[[Plan], Trainer], plan: Plan, results: Results, advance: Advance) -> Plan:
    """Train all members.

    Args:
        trainer_of: The trainer of shards as a plan says.
        plan: The plan.
        results: Where they are written.
        advance: Told of every member-step.

    Returns:
        The plan; with a smaller shard where memory ran out.

    Raises:
        ModelspaceError: there is not even memory for one member.
    """
    members = len(results.states)
    with using_threads(plan.threads):
        trainer = trainer_of(plan)
        ranges = pieces([(0, members)], plan.chunk)
        if plan.workers > 1 and len(ranges) > 1:
            reason = _in_workers(trainer, plan.workers, ranges, results, advance)
            ranges = [r for r in ranges if not results.is_done(*r)]
            if reason and ranges:
                plan = _halved(plan, reason)
                trainer, ranges = trainer_of(plan), pieces(ranges, plan.chunk)
        while ranges:
            try:
                trainer(*ranges[0], results, advance)
                ranges = ranges[1:]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                plan = _halved(plan, "out of memory")
                # What the failed attempt holds is freed before the next one asks.
                error.__traceback__ = None
                trainer, ranges = trainer_of(plan), pieces(ranges, plan.chunk)
    return plan


def pieces(ranges: Sequence[Range], size: int) -> list[Range]:
    """The ranges cut into pieces of at most ``size`` members."""
    return [(start, min(start + size, end)) for begin, end in ranges for start in range(begin, end, size)]


def _halved(plan: Plan, reason: str) -> Plan:
    if plan.chunk == 1:
        raise ModelspaceError(
            f"{reason}, with a single member at a time: a smaller batch, or --precision bf16-mixed, needs less"
        )
    chunk = (plan.chunk + 1) // 2
    notice(f"{reason}: going on in shards of {chunk} members")
    return replace(plan, chunk=chunk, workers=1, reason=f"{plan.reason}; {reason}: shards halved")


def _in_workers(
    trainer: Trainer, workers: int, ranges: list[Range], results: Results, advance: Advance
) -> str | None:
    """Worker i trains shards i, i + workers, …; why one of them ended before it was done, if one did."""

    def body(index: int, send: Send) -> None:
        told, tell = _telling(send)
        for start, stop in ranges[index::workers]:
            trainer(start, stop, results, tell)
        told()

    lost = None
    for message in _listening(in_processes(min(workers, len(ranges)), body)):
        if "steps" in message:
            advance(message["steps"])
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
