"""``RayRunner``: the shards of a fit as tasks of Ray Core."""

import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from modelspace.distribute import worker
from modelspace.distribute.cluster import check_installed, connected
from modelspace.distribute.parcel import common_of, pickled, piece_of, unpacked
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError, first_line
from modelspace.fit import Advance, Job, Rows, halved, pieces
from modelspace.runs import Recorder

_WAIT_SECONDS = 0.3
_SLOTS_SECONDS = 5.0
_AHEAD = 2  # tasks sent for each that can run at once: enough that none waits, few enough to hold


@dataclass(frozen=True)
class RayRunner:
    """Trains shards as tasks of Ray Core, on one machine or on many.

    A task is a pure function of its members, the architecture, the data, the recipe and the plan, to the tensors of
    the finished shard; these come back through Ray's object store, and the process that called ``fit`` writes them
    down. So the folder of a run, ``keep`` and continuing are what they are with the local runner, bit for bit with
    the same plan on machines of one kind, and no file system is shared. A task that is lost with its process or its
    node starts anew somewhere else.

    The plan is measured on the machine that calls. A node of another kind computes as that plan says: right, though
    perhaps not in its fastest way, and it may differ in the last bits.

    Args:
        address: The cluster's, ``"auto"`` or ``host:port``; where None, what ``RAY_ADDRESS`` says, or a Ray of its
            own on this machine, which ends with the run. A Ray that the program is connected to already is used.
        retries: How many lost processes or nodes a shard survives, at least 0; −1 for any number.
        cpus: The cores of a Ray of its own, at least 1; all of them where None.

    Raises:
        ModelspaceError: Ray is not installed, or the numbers are out of range.

    Example:
        >>> import modelspace as ms
        >>> runner = ms.distribute.RayRunner("auto")  # doctest: +SKIP
        >>> ms.fit(population, "mnist1d", runner=runner, out="runs/large")  # doctest: +SKIP
    """

    address: str | None = None
    retries: int = 3
    cpus: int | None = None

    def __post_init__(self) -> None:
        check_installed()
        if self.retries < -1:
            raise ModelspaceError(f"retries are 0 or more, or -1 for any number; received {self.retries}")
        if self.cpus is not None and self.cpus < 1:
            raise ModelspaceError(f"at least 1 core is needed; received cpus={self.cpus}")

    def __call__(self, job: Job, shards: Sequence[Rows], recorder: Recorder, advance: Advance) -> Plan:
        """Train all shards; see ``modelspace.fit.Runner``.

        Raises:
            ModelspaceError: no cluster answers, it has no such device, something can't be sent there, or a worker met
                a mistake.
            RuntimeError: anything else was raised in a worker.
        """
        if not shards:
            return job.plan
        with (
            connected(self.address, self.cpus) as ray,
            _Crew(ray, job, recorder, advance, self.retries) as crew,
        ):
            return crew.train(shards)


@dataclass
class _Flight:
    """A task that was sent.

    Attributes:
        number: Its own.
        rows: Its members.
        shard: The shard size of its plan.
        told: Member-steps of it that progress has been told of.
    """

    number: int
    rows: Rows
    shard: int
    told: int = 0


class _Crew:
    """The tasks of one job.

    Args:
        ray: Ray, connected.
        job: The job.
        recorder: Takes in finished shards.
        advance: Told of every member-step.
        retries: How many lost processes or nodes a shard survives.
    """

    def __init__(self, ray: Any, job: Job, recorder: Recorder, advance: Advance, retries: int):
        self.ray, self.job, self.recorder = ray, job, recorder
        self.advance, self.retries = advance, retries
        self.plan = job.plan
        self.key = uuid.uuid4().hex
        self.steps = job.task.updates
        self.common = ray.put(pickled(common_of(job, recorder.needs), ray.cloudpickle))
        self.counter = ray.remote(num_cpus=0, max_restarts=-1)(_Counter).remote()
        self.asked: Any = None  # what the counter has not answered yet
        self.flying: dict[Any, _Flight] = {}
        self.sent = 0
        self.seen = -_SLOTS_SECONDS  # when the nodes were last asked for

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_: object) -> None:
        """End what was sent and is not wanted any longer."""
        for ref in self.flying:
            self.ray.cancel(ref, force=True)
        self.ray.kill(self.counter)

    def train(self, shards: Sequence[Rows]) -> Plan:
        """Send all shards, never more at once than can run soon; take in each as it ends."""
        left = deque(shards)
        while left or self.flying:
            while left and len(self.flying) < _AHEAD * self._slots():
                rows = left.popleft()
                if len(rows) > self.plan.shard:
                    left.extendleft(reversed(pieces([rows], self.plan.shard)))
                else:
                    self._send(rows)
            for ref in self._ended():
                flight = self.flying.pop(ref)
                reason = self._take(flight, self._answer(ref))
                if reason is None:
                    continue
                if flight.shard == self.plan.shard:  # others of that size fail for the same reason
                    self.plan = halved(self.plan, reason)
                left.appendleft(flight.rows)
            self._progress()
        return self.plan

    def _send(self, rows: Rows) -> None:
        piece = piece_of(self.job, rows, self.recorder.restore(rows))
        plan = worker.without_processes(self.plan)
        arguments = (self.key, [self.common], plan, piece, self.counter, self.sent)
        ref = self.task.remote(*arguments)
        self.flying[ref] = _Flight(self.sent, rows, self.plan.shard)
        self.sent += 1

    def _slots(self) -> int:
        """How many tasks the cluster can run at once; asked again now and then, as nodes come and go."""
        if time.monotonic() - self.seen > _SLOTS_SECONDS:
            self.seen = time.monotonic()
            on_gpu = self.job.task.device.type == "cuda"
            nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            # A node with fewer cores than the plan has threads gets the task all the same.
            cpus = max(1, min(self.plan.threads, most))
            gpus = sum(int(node.get("GPU", 0)) for node in nodes)
            if on_gpu and not gpus:
                raise ModelspaceError("the members are on a GPU, and no node of the Ray cluster has one")
            options = {"num_cpus": cpus, "num_gpus": int(on_gpu), "max_retries": self.retries}
            self.task = self.ray.remote(**options)(_task)
            self.slots = max(1, gpus if on_gpu else sum(int(node.get("CPU", 0)) // cpus for node in nodes))
        return self.slots

    def _ended(self) -> list[Any]:
        """The tasks that have ended; waits a moment for the first."""
        refs = list(self.flying)
        ended, _ = self.ray.wait(refs, num_returns=1, timeout=_WAIT_SECONDS)
        if ended:
            ended, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        return ended

    def _answer(self, ref: Any) -> worker.Answer:
        """What a task gave; where there is nothing to get, why."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.OutOfMemoryError:
            return worker.Answer(None, "out of memory on a node", "memory")
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError) as error:
            return worker.Answer(None, f"a shard's worker was lost ({first_line(error)})", "memory")
        except errors.RayError as error:
            kind = "mistake" if isinstance(error, errors.RuntimeEnvSetupError) else "error"
            return worker.Answer(None, first_line(error), kind, str(error))

    def _take(self, flight: _Flight, answer: worker.Answer) -> str | None:
        """Write a finished shard down; or why it is to be tried again in smaller ones."""
        if answer.tensors is None:
            self.advance(-flight.told)
            if answer.kind == "memory":
                return answer.failure
            error = ModelspaceError(answer.failure)
            if answer.kind != "mistake":
                error = RuntimeError(
                    f"a shard of {len(flight.rows)} members failed in a worker: {answer.failure}"
                )
            error.add_note(answer.trace)
            raise error
        self.recorder.finish(flight.rows, unpacked(answer.tensors))
        self.recorder.commit(flight.rows)
        self.advance(len(flight.rows) * self.steps - flight.told)
        return None

    def _progress(self) -> None:
        """Pass on how far the tasks are, if the counter has answered; nothing waits for it."""
        if self.asked is None:
            self.asked = self.counter.take.remote()
            return
        answered, _ = self.ray.wait([self.asked], timeout=0)
        if not answered:
            return
        try:
            told = self.ray.get(self.asked)
        except self.ray.exceptions.RayError:  # the counter was lost, and another one starts
            told = {}
        self.asked = None
        for flight in self.flying.values():
            steps = told.get(flight.number, 0)
            if steps > flight.told:  # fewer, where the task was lost and has started anew
                self.advance(steps - flight.told)
                flight.told = steps


class _Counter:
    """Member-steps of the tasks in flight, as these tell them."""

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}

    def tell(self, number: int, steps: int) -> None:
        """Note how far a task is."""
        self._steps[number] = steps

    def take(self) -> dict[int, int]:
        """What was noted since this was last asked."""
        steps, self._steps = self._steps, {}
        return steps


def _task(key: str, common: list[Any], plan: Plan, piece: Any, counter: Any, number: int) -> worker.Answer:
    """What Ray runs; the common part comes in a list, so that it is fetched only where a process lacks it."""
    import ray  # pyright: ignore[reportMissingImports]

    return worker.train(
        key, partial(ray.get, common[0]), plan, piece, lambda steps: counter.tell.remote(number, steps)
    )
