"""Who trains the shards of a fit: this machine, a cluster, or anything that keeps the protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelspace.engine import Plan
from modelspace.errors import unknown_name
from modelspace.fit.execution import Advance, Record, Rows, Trainer, execute
from modelspace.fit.training import Training
from modelspace.late import perform

_BY_NAME = ("local", "ray")


@dataclass(frozen=True)
class Job:
    """What is to be computed, whoever does it.

    Attributes:
        training: The fit: its members before training, its data and its recipe.
        plan: How shards are computed.
        step: The plan's step, as it was measured and perhaps compiled; None where it is to be made.
    """

    training: Training
    plan: Plan
    step: Callable[..., Any] | None

    def trainer(self, plan: Plan) -> Trainer:
        """What trains one shard in this process as a plan says, which may differ from the job's."""
        return self.training.trainer(plan, self.step if plan is self.plan else None)


class Runner(Protocol):
    """Trains all shards of a fit.

    A shard is a function of the job and its members alone, so it may be computed anywhere, in any order, and again
    where an attempt was lost. What a runner owes: for each shard ``record.restore`` before it is trained (what that
    returns is where training goes on), ``record.finish`` with its tensors, and ``record.commit`` after that in the
    process that called. An exception, ``KeyboardInterrupt`` included, is raised as it is: what was committed stays.
    """

    def __call__(self, job: Job, shards: Sequence[Rows], record: Record, advance: Advance) -> Plan:
        """Train all shards.

        Args:
            job: The fit and its plan.
            shards: Each one's members, no more than the plan's.
            record: Where they are written down.
            advance: Told of every member-step.

        Returns:
            The plan; another one where it had to be changed, as for want of memory.
        """
        ...


def local(job: Job, shards: Sequence[Rows], record: Record, advance: Advance) -> Plan:
    """Train all shards on this machine: in this process, or in as many as the plan says."""
    return execute(job.trainer, job.plan, shards, record, advance)


def resolve(runner: str | Runner) -> Runner:
    """A runner by its name.

    Args:
        runner: ``"local"``, ``"ray"``, or a runner.

    Raises:
        ModelspaceError: an unknown name, or what it needs is not installed.
    """
    if not isinstance(runner, str):
        return runner
    if runner not in _BY_NAME:
        raise unknown_name("runner", runner, _BY_NAME)
    return local if runner == "local" else perform(f"runner.{runner}")
