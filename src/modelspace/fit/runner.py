"""Who trains the shards of a fit: this machine, a cluster, or anything that keeps the protocol.

A shard is a function of the task and its members alone, so it does not matter who computes it. Where memory runs out,
or a worker process is lost, what is not finished is computed in shards of half the size.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.fit.task import Task
from modelspace.fit.train import Advance, Stepped
from modelspace.processes import Send, in_processes
from modelspace.progress import notice
from modelspace.runs import Recorder

Rows = list[int]
_TELL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """What is to be computed, whoever does it.

    Attributes:
        task: The fit: its members before training, its data and its recipe.
        plan: How shards are computed.
        step: The plan's step, as it was measured and perhaps compiled; None where it is to be made.
    """

    task: Task
    plan: Plan
    step: Callable[..., Stepped] | None


class Runner(Protocol):
    """Trains all shards of a fit.

    A shard may be computed anywhere, in any order, and again where an attempt was lost. What a runner owes: for each
    shard ``recorder.restore`` before it is trained (what that returns is where training goes on), ``recorder.finish``
    with its tensors, and ``recorder.commit`` after that in the process that called. An exception,
    ``KeyboardInterrupt`` included, is raised as it is: what was committed stays.
    """

    def __call__(self, job: Job, shards: Sequence[Rows], recorder: Recorder, advance: Advance) -> Plan:
        """Train all shards.

        Args:
            job: The fit and its plan.
            shards: Each one's members, no more than the plan's.
            recorder: Takes in what is trained.
            advance: Told of every member-step.

        Returns:
            The plan; another one where it had to be changed, as for want of memory.
        """
        ...


def pieces(shards: Sequence[Sequence[int]], size: int) -> list[Rows]:
    """Return the shards cut into pieces of at most ``size`` members."""
    return [list(rows[i : i + size]) for rows in shards for i in range(0, len(rows), size)]


def halved(plan: Plan, reason: str) -> Plan:
    """Return the plan with shards of half the size, in one process, and say so.

    Args:
        plan: The plan.
        reason: Why it can't go on as it is, in a few words.

    Raises:
        ModelspaceError: its shards are of one member.
    """
    if plan.shard == 1:
        raise ModelspaceError(
            f"{reason}, with a single member at a time: a smaller batch, or precision='bf16-mixed', needs less"
        )
    shard = (plan.shard + 1) // 2
    notice(f"{reason}: going on in shards of {shard} members")
    return replace(plan, shard=shard, workers=1, reason=f"{plan.reason}; {reason}: shards halved")


def in_workers(
    train: Callable[[Rows, Advance], None],
    workers: int,
    shards: Sequence[Rows],
    recorder: Recorder,
    advance: Advance,
) -> str | None:
    """Train the shards in worker processes: shards i, i + workers, … in the i-th.

    Args:
        train: Trains a shard and hands it to the recorder.
        workers: How many processes.
        shards: Each one's members.
        recorder: Commits what they finish.
        advance: Told of every member-step.

    Returns:
        Why one of them ended before it was done; None where none did.
    """

    def body(index: int, send: Send) -> None:
        told = _Told(send)
        for number in range(index, len(shards), workers):
            train(shards[number], told)
            send({"finished": number})
        told.tell()

    lost = None
    for message in _listening(in_processes(min(workers, len(shards)), body)):
        if "steps" in message:
            advance(message["steps"])
        if "finished" in message:
            recorder.commit(shards[message["finished"]])
        lost = message.get("lost", lost)
    return lost


def _listening(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages; whatever ends the listening ends the processes."""
    try:
        yield from messages
    finally:
        messages.close()  # pyright: ignore[reportAttributeAccessIssue]


class _Told:
    """Counts member-steps, and sends their number now and then."""

    def __init__(self, send: Send) -> None:
        self._send, self._steps, self._last = send, 0, time.monotonic()

    def __call__(self, amount: int) -> None:
        self._steps += amount
        if time.monotonic() - self._last > _TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Send what was counted since."""
        self._send({"steps": self._steps})
        self._steps, self._last = 0, time.monotonic()
