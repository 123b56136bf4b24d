"""The plan: how a population is computed, chosen by a short measurement at the start of a run.

Candidates are the plain loop, ``vmap`` in shards of several sizes, the same as a traced list of operations, and the
compiled step; on a GPU as CUDA graphs where that is faster; each with threads, or in processes of one thread. A shard
is the members computed together from start to end; its best size differs by device, architecture and batch, so it is
measured. What was measured is remembered, so that a second run of the same kind measures nothing.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any, Literal, NamedTuple

import torch

from modelspace.engine.measurements import Measurements, Timing, timing_in_processes, timing_of_calls
from modelspace.engine.program import CompileError, compiled, graphed, is_compiled, is_graph, traced
from modelspace.errors import ModelspaceError
from modelspace.processes import is_out_of_memory
from modelspace.progress import notice

Lowering = Literal["vmap", "loop"]
Step = Callable[..., Any]
Build = Callable[[Lowering, int], tuple[Step, tuple[Any, ...]]]

_COMPILE_SECONDS = 12.0  # what compiling one step takes on a small machine, as a first guess
_COMPILE_GAIN = 2.0  # how much faster the compiled step of a small net is, as a first guess
_WORTH_A_TRY = 10  # times that cost: a run of such a length tries compiling, whatever the guess
_TRACE_SECONDS = 0.4  # what tracing one step takes, as a first guess
_TRACE_WORTH = 4  # times that cost: a run of such a length tries it
_TRACE_CALLS = 200  # the same where nothing is measured
_LOOP_SHARD = 16
_LOOP_TIMED = 4  # members on which the loop is timed
_LONG_SECONDS = 60.0  # from here on a second and third shard size are worth compiling
_BUDGET = 0.05  # of the loop's time, for measuring
_CALLS_SECONDS = 0.05  # for timing one candidate
_FORK_SECONDS = 0.3  # what starting processes costs a run
# Threads have to be so much faster: beside other work they wait for each other, 100 times as long.
_WAITING = 1.25


@dataclass(frozen=True)
class Plan:
    """How a population is computed, and why.

    Attributes:
        lowering: ``"vmap"`` (members batched) or ``"loop"`` (one after the other).
        shard: Members in a shard.
        compiled: Whether the step is one compiled program.
        threads: Threads within an operation.
        reason: Why, in one line.
        fallback: Why the loop had to be taken, in one line; None where batching is possible.
        seconds: What choosing cost, compilation included.
        workers: Processes that share the shards.
        one_by_one: The operations without a batched form, which alone are computed member by member.
        traced: Whether the step is a list of its operations, called without Python between them: the same bits.
    """

    lowering: Lowering
    shard: int
    compiled: bool
    threads: int
    reason: str
    fallback: str | None = None
    seconds: float = 0.0
    workers: int = 1
    one_by_one: tuple[str, ...] = ()
    traced: bool = False

    def __str__(self) -> str:
        how = "compiled " if self.compiled else "traced " if self.traced else ""
        members = f"{self.shard} members" if self.shard > 1 else "1 member"
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        if self.workers > 1:
            threads = f"{self.workers} processes"
        alone = f"; member by member: {', '.join(self.one_by_one)}" if self.one_by_one else ""
        return f"{how}{self.lowering}, shards of {members}, {threads}: {self.reason}{alone}"

    @property
    def choices(self) -> dict[str, Any]:
        """What ``fit`` takes to compute in the same way again, bit for bit: ``fit(…, plan=run.plan)``."""
        return {
            "lowering": self.lowering,
            "shard": self.shard,
            "compile": self.compiled,
            "threads": self.threads,
            "workers": self.workers,
        }


class ShardSizes(NamedTuple):
    """Numbers of members computed together: tried, in that order; the largest compiled."""

    tried: tuple[int, ...]
    compiled: int


# On a processor the best shard is one whose working set still fits the cache; the compiled step works on a smaller
# set than eager, so that its best shard is no larger. A GPU takes as long for one small network as for hundreds: what
# a step costs there is starting its kernels, until there are so many members that they fill it.
_ON_A_PROCESSOR = ShardSizes(tried=(16, 32, 8, 64, 4, 128, 256), compiled=32)
_ON_A_GPU = ShardSizes(tried=(1024, 4096, 256, 16384, 64, 16), compiled=16384)


def shard_sizes(device: torch.device) -> ShardSizes:
    """Return what to try on a device."""
    return _ON_A_PROCESSOR if device.type == "cpu" else _ON_A_GPU


def choose_plan(
    build: Build,
    members: int,
    calls: int,
    *,
    lowering: Lowering | None = None,
    shard: int | None = None,
    compile: bool | None = None,
    threads: int | None = None,
    workers: int | None = 1,
    key: Any = None,
    fingerprint: str | None = None,
    unrolled: Callable[[], bool] = lambda: False,
    largest: int | None = None,
    sizes: ShardSizes = _ON_A_PROCESSOR,
    unbatched: Callable[[], str | None] = lambda: None,
) -> tuple[Plan, Step]:
    """Measure the candidates and take the one with the least predicted total time, compilation included.

    Args:
        build: ``build(lowering, c)`` gives the step for c members and arguments to call it with.
        members: K.
        calls: Calls of the step for each shard.
        lowering: Decide this oneself.
        shard: Decide this oneself, 1 … K.
        compile: Decide this oneself.
        threads: Decide this oneself, at least 1.
        workers: Decide this oneself, at least 1; None to try as many processes as there are threads.
        key: What the step depends on beside its arguments' shapes, so that it is compiled once only.
        fingerprint: Under what name measurements are remembered; None remembers none.
        unrolled: Whether the step, once called, computes something member by member: it is then not compiled
            unless that is asked for, since the program would hold every member's operations.
        largest: Members that there is memory for, of all processes together; None for any number.
        sizes: The shard sizes to try.
        unbatched: Says why ``vmap`` is no choice, None where it is one; asked only where it is considered.

    Returns:
        The plan, and its step.

    Raises:
        ModelspaceError: ``shard`` is out of range, ``compile=True`` and compiling fails, or ``vmap`` or compiling is
            asked for and is no choice.
    """
    start = time.perf_counter()
    if shard is not None and shard < 1:
        raise ModelspaceError(f"a shard has at least 1 member; received {shard}")
    for name, number in (("thread", threads), ("worker", workers)):
        if number is not None and number < 1:
            raise ModelspaceError(f"at least 1 {name} is needed; received {number}")
    if (lowering == "vmap" or compile) and (why := unbatched()):
        what = "batched (vmap)" if lowering == "vmap" else "compiled"
        raise ModelspaceError(f"the step can't be {what}: {why}; leave the choice out, or take the loop")
    means, measurements = _means(threads, workers), Measurements(fingerprint)
    given = build, members, calls, shard, compile, means, key, unrolled, largest or members, sizes
    search = _Search(*given, measurements)
    with using_threads(means[0][0]):
        way, reason, fallback = search.best(lowering, unbatched)
        step = search.programs.get(way) or search.step(way)
    measurements.keep()
    if is_graph(step):
        reason = f"{reason}, a CUDA graph"
    taken, workers = time.perf_counter() - start, way.workers
    given = way.lowering, way.shard, way.compiled, way.threads, reason, fallback, taken, workers
    plan = Plan(*given, traced=way.traced)
    return plan, step


def _means(threads: int | None, workers: int | None) -> list[tuple[int, int]]:
    """Return the (threads, processes) to try: all threads, one thread, as many processes of one thread."""
    every = torch.get_num_threads()
    if workers is not None and workers > 1:
        return [(threads or 1, workers)]
    pairs = [(threads or every, 1)]
    if threads is None:
        pairs.append((1, 1))
    if workers is None and (threads or 1) == 1 and every > 1:
        pairs.append((1, every))
    return list(dict.fromkeys(pairs))


def step_of(build: Build, lowering: Lowering, size: int) -> tuple[Step, tuple[Any, ...]]:
    """Build a step; on a GPU the batched one is a CUDA graph, where it can be one and is faster so."""
    step, arguments = build(lowering, size)
    return (graphed(step, arguments) if lowering == "vmap" else step), arguments


class _Way(NamedTuple):
    """One way to compute a population; the fields are those of ``Plan``."""

    lowering: Lowering
    shard: int
    compiled: bool = False
    threads: int = 1
    workers: int = 1
    traced: bool = False


@dataclass
class _Search:
    """The search for the best way; the first fields are the arguments of ``choose_plan``."""

    build: Build
    members: int
    calls: int
    shard: int | None
    compile: bool | None
    means: list[tuple[int, int]]  # (threads, processes) to try
    key: Any
    unrolled: Callable[[], bool]
    largest: int
    sizes: ShardSizes
    measurements: Measurements
    budget: float = (
        0.0  # seconds that measuring may take: a share of what the loop would take for the whole run
    )
    times: dict[_Way, float] = field(default_factory=dict)  # seconds a member and step
    programs: dict[_Way, Step] = field(default_factory=dict)  # the compiled steps
    lists: dict[_Way, Step] = field(default_factory=dict)  # the traced ones

    def best(
        self, lowering: Lowering | None, unbatched: Callable[[], str | None]
    ) -> tuple[_Way, str, str | None]:
        """Return the best way, why, and the operation without a batched form where there is one."""
        if lowering is not None and (way := self._decided(lowering)) is not None:
            return way, "as asked", None
        loop = self._loop()
        self.budget = _BUDGET * self._total(loop)
        if lowering == "loop":
            return self._by_means(loop), "as asked", None
        if lowering is None and self._is_alone(loop):
            return self._by_means(loop), "a single member: there is nothing to batch", None
        if why := unbatched():
            return self._by_means(loop), why, why
        try:
            self._try_batched()
        except ModelspaceError as error:
            if lowering == "vmap":
                raise
            return self._by_means(loop), str(error), str(error)
        eager = self._eager()
        # Of shards that are nearly the fastest the smallest is taken: less memory, finer checkpoints.
        least = min(map(self._seconds, eager))
        fast = [way for way in eager if self._seconds(way) <= 1.05 * least]
        untraced = min(fast, key=lambda way: way.shard)
        batched = self._by_means(self._or_traced(untraced, loop))
        best = batched
        if lowering is None and self._seconds(loop) < self._seconds(batched):
            best = min(self._by_means(loop), batched, key=self._total)
        sizes = sorted(way.shard for way in eager)
        note = f"best of shards {', '.join(map(str, sizes))}"
        if batched.traced:
            note += f", {self._gain(untraced, batched):.1f} × untraced"
        reason = self._against(loop, batched, note)
        if not self.measurements.new:
            reason += ", measured earlier"
        if self.compile is not False and (self.compile or not self.unrolled()):
            best, reason = self._or_compiled(best, batched, loop, reason)
        return best, reason, None

    def _decided(self, lowering: Lowering) -> _Way | None:
        """Return the way where nothing is left to be measured; None where something is."""
        shard = self.shard or (min(_LOOP_SHARD, self.largest) if lowering == "loop" else None)
        if shard is None or len(self.means) > 1 or (lowering == "vmap" and self.compile is not False):
            return None
        if lowering == "vmap":
            self._try_batched()
        threads, workers = self.means[0]
        way = _Way(lowering, balanced(self.members, shard), threads=threads, workers=workers)
        long = self.calls * ceil(self.members / way.shard) >= _TRACE_CALLS
        return self._traced(way) if lowering == "vmap" and long else way

    def _try_batched(self) -> None:
        """Call the step of two members; what has no batched form is named in the error."""
        try:
            step, arguments = self.build("vmap", min(self.members, 2))
            step(*arguments)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelspaceError(no_batched_form(error)) from error

    def step(self, way: _Way) -> Step:
        """Return the step of a way that is not compiled."""
        if way.traced:
            return self.lists.get(way) or self._listed(way)[0]
        return step_of(self.build, way.lowering, way.shard)[0]

    # The candidates

    def _loop(self) -> _Way:
        """Return the loop, timed on a few members: what fails here fails in plain PyTorch too."""
        size = balanced(self.members, self.shard or min(_LOOP_SHARD, self.largest))
        # With one thread too, where that is a choice: beside other work several wait for each other, and a loop that
        # was timed so makes everything look a thousand times as fast.
        threads = sorted({self.means[0][0], *(1 for pair in self.means if pair == (1, 1))})
        return min((_Way("loop", size, threads=count) for count in threads), key=self._seconds)

    def _is_alone(self, loop: _Way) -> bool:
        """Tell whether there is one member, and compiling it, all that could gain something, would not be repaid."""
        if self.members > 1 or self.compile:
            return False
        if self.compile is False:
            return True
        if self._total(loop) > _TRACE_WORTH * self._tracing:
            return False
        cost = self.measurements.seconds.get("compilation") or _COMPILE_SECONDS
        soon = self._total(loop) * (1 - 1 / _COMPILE_GAIN) < cost
        return soon and not self._is_compiled(loop._replace(lowering="vmap", compiled=True))

    def _eager(self) -> list[_Way]:
        """Time shards under ``vmap``, with one thread if that is a choice, until clearly worse or time is up."""
        began = time.perf_counter()
        threads = 1 if (1, 1) in self.means else self.means[0][0]
        tried = [self.shard] if self.shard else [min(size, self.largest) for size in self.sizes.tried]
        ways: list[_Way] = []
        for size in dict.fromkeys(balanced(self.members, size) for size in tried):
            if not self._is_beyond(size, ways):
                ways.append(_Way("vmap", size, threads=threads))
                self._seconds(ways[-1])
            if time.perf_counter() - began > self.budget:
                break
        while min(map(self._seconds, ways)) == inf:  # not even the first fits into memory
            ways.append(_Way("vmap", (min(way.shard for way in ways) + 1) // 2, threads=threads))
        return ways

    def _is_beyond(self, size: int, ways: Sequence[_Way]) -> bool:
        """Tell whether a size lies on the far side of one that is clearly worse than the best so far."""
        if not ways:
            return False
        best = min(ways, key=self._seconds)
        worse = [way.shard for way in ways if self._seconds(way) > 1.25 * self._seconds(best)]
        return any(best.shard < other <= size or size <= other < best.shard for other in worse)

    def _by_means(self, way: _Way) -> _Way:
        """Return the same with all threads, with one, or in processes, as is best; if it is over soon, as it is."""
        tried = [way] if (way.threads, way.workers) in self.means else []
        for threads, workers in self.means:
            other = way._replace(threads=threads, workers=workers)
            if workers > 1:
                other = self._sized(other, other.shard)
            soon = self._total(way) < (4 * _FORK_SECONDS if workers > 1 else _CALLS_SECONDS * 4)
            if other != way and not (tried and (soon or self.members < workers)):
                tried.append(other)
                self._seconds(other)
        # Processes that were lost while they were timed are not taken, unless they alone were asked for.
        timed = [other for other in tried if self._seconds(other) < inf]
        if not timed:
            timed = tried[:1]
            self.times[timed[0]] = self._seconds(way)
        return min(timed, key=lambda way: self._total(way) * (_WAITING if way.threads > 1 else 1.0))

    @property
    def _tracing(self) -> float:
        """What tracing a step is expected to take."""
        return self.measurements.seconds.get("tracing") or _TRACE_SECONDS

    def _or_traced(self, way: _Way, loop: _Way) -> _Way:
        """Return the way with its step traced, where the run is long enough to try that, and it is faster."""
        if min(self._total(way), self._total(loop)) <= _TRACE_WORTH * self._tracing:
            return way
        return min(self._traced(way), way, key=self._total)

    def _traced(self, way: _Way) -> _Way:
        """Return the way with its step traced; as it is where it can't be, or a GPU computes."""
        if self.unrolled() or self.sizes is _ON_A_GPU:
            return way
        began, listed = time.perf_counter(), way._replace(traced=True)
        try:
            self._listed(listed)
        except CompileError:
            return way
        self.measurements.seconds.setdefault("tracing", time.perf_counter() - began)
        return listed

    def _listed(self, way: _Way) -> tuple[Step, tuple[Any, ...]]:
        """Trace a way's step; return it, and arguments to call it with."""
        with using_threads(way.threads):
            step, arguments = self.build("vmap", way.shard)
            self.lists[way] = traced(step, *arguments, key=self.key)
        return self.lists[way], arguments

    def _gain(self, way: _Way, other: _Way) -> float:
        return self._seconds(way) / self._seconds(other)

    def _or_compiled(self, best: _Way, batched: _Way, loop: _Way, reason: str) -> tuple[_Way, str]:
        """Return the best so far, or the compiled step if it is expected to repay its compilation, and then does."""
        way = self._sized(
            batched._replace(compiled=True, traced=False), min(batched.shard, self.sizes.compiled)
        )
        cost = self.measurements.seconds.get("compilation") or _COMPILE_SECONDS
        guess = self._seconds(batched) / _COMPILE_GAIN
        saved = self._total(best) - self._total(batched, guess)
        long = self._total(best) > _WORTH_A_TRY * cost
        if self.compile is None and not self._is_compiled(way) and saved < cost and not long:
            return best, reason
        tries = [way]
        for way in tries:
            try:
                self._compile(way)
            except CompileError as error:
                if self.compile:
                    raise ModelspaceError(f"the step can't be compiled: {error}") from error
                reason = f"{reason}; not compiled: {error}"
                break
            # A long run repays trying the neighbours too.
            if len(self.programs) == 1 and self._total(way) > _LONG_SECONDS:
                others = (self._sized(way, size) for size in (way.shard // 2, way.shard * 2) if size)
                tries += [other for other in dict.fromkeys(others) if other != way]
        if not self.programs:
            return best, reason
        for way in self.programs:
            if self.times[way] == inf:
                self.times[way] = guess
        fastest = min(self.programs, key=self._total)
        if self.compile is None and self._total(fastest) >= self._total(best):
            return best, f"{reason}; compiling gains nothing"
        return fastest, self._against(loop, fastest, f"{self._gain(batched, fastest):.1f} × eager")

    # What they cost

    def _total(self, way: _Way, seconds: float | None = None) -> float:
        """Predict the time of the run: shards go out to the processes in rounds."""
        seconds = self._seconds(way) if seconds is None else seconds
        rounds = ceil(self.members / way.shard / way.workers)
        total = seconds * way.workers * way.shard * self.calls * rounds
        return total + (_FORK_SECONDS if way.workers > 1 else 0.0)

    def _seconds(self, way: _Way) -> float:
        """Time a way, unless that was done before: a member's share of a call."""
        if way not in self.times:
            few = min(way.shard, _LOOP_TIMED) if way.lowering == "loop" else way.shard
            timed = way._replace(shard=few)
            self.times[way] = self.measurements.of(json.dumps(timed._asdict()), lambda: self._timed(timed))
        return self.times[way]

    def _timed(self, way: _Way) -> Timing:
        try:
            made = self._listed(way) if way.traced else step_of(self.build, way.lowering, way.shard)
            return self._timing(way, *made)
        except Exception as error:
            if not is_out_of_memory(error) or way.shard == 1:
                raise
            return Timing(inf)

    def _timing(self, way: _Way, step: Step, arguments: tuple[Any, ...]) -> Timing:
        # Of a loop that is over soon a few calls must do, too: its whole time is known only by them.
        budget = min(_CALLS_SECONDS, self.budget / 4) if self.budget else _CALLS_SECONDS
        calls = self.calls * ceil(self.members / way.shard)
        with using_threads(way.threads):
            if way.workers > 1:
                timing = timing_in_processes(step, arguments, way.workers, budget)
            else:
                timing = timing_of_calls(step, arguments, budget, _BUDGET / 2 * calls)
        return Timing(timing.seconds / way.shard, timing.quiet)

    def _is_compiled(self, way: _Way) -> bool:
        with using_threads(way.threads):
            return is_compiled(self.build("vmap", way.shard)[1], self.key)

    def _compile(self, way: _Way) -> None:
        """Compile the step, and time it."""
        with using_threads(way.threads):
            step, arguments = self.build("vmap", way.shard)
            anew = not is_compiled(arguments, self.key)
            if anew:
                notice(f"compiling the step of {way.shard} members (once; about ten seconds)")
            began = time.perf_counter()
            program = self.programs[way] = compiled(step, *arguments, key=self.key)
            if anew:
                self.measurements.seconds["compilation"] = time.perf_counter() - began
        key = json.dumps(way._asdict())
        self.times[way] = self.measurements.of(key, lambda: self._timing(way, program, arguments))

    def _sized(self, way: _Way, size: int) -> _Way:
        """Return the way with shards of about this size, each process having one; as it is, if one was asked for."""
        if self.shard:
            return way
        size = min(size, self.largest // way.workers)
        return way._replace(shard=balanced(ceil(self.members / way.workers), size))

    def _against(self, loop: _Way, way: _Way, note: str) -> str:
        """Say how many times as fast as the loop a way is."""
        seconds = self._seconds(loop), self._seconds(way)
        if inf in seconds:  # there was no memory for one of them
            return note
        ratio = seconds[0] / seconds[1]
        if ratio >= 1:
            return f"{ratio:.1f} × the loop, {note}"
        return f"the loop is {1 / ratio:.1f} × as fast as vmap here"


def balanced(members: int, size: int) -> int:
    """Return the shard size near ``size`` that splits the members evenly, so that little of the last is padding."""
    size = max(1, min(size, members))
    return ceil(members / ceil(members / size))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run the block with so many threads within an operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def no_batched_form(error: Exception) -> str:
    """Say which operation ``vmap`` refused, in one line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    operation = re.search(r"aten::[\w.]*\w", text)
    return f"no batched form of {operation.group()}" if operation else f"no batched form: {text}"
