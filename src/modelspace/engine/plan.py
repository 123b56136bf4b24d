"""The plan: how a population is computed, chosen by a short measurement at the start of a run.

Candidates are the plain loop, ``vmap`` in shards of several sizes, and the compiled step, the last two on a GPU as
CUDA graphs where that is faster; each with threads, or in processes of one thread. A shard is the members computed
together from start to end; its best size differs by device, architecture and batch, so it is measured. What was
measured is remembered, so that a second run of the same kind measures nothing.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import torch

from modelspace.engine.compile import CompileError, compiled, is_compiled
from modelspace.engine.cuda_graph import graphed, is_graph
from modelspace.engine.measurements import (
    Lowering,
    Measurements,
    Timing,
    Way,
    timing_in_processes,
    timing_of_calls,
)
from modelspace.engine.shard_sizes import ON_A_PROCESSOR, ShardSizes
from modelspace.engine.workers import is_out_of_memory
from modelspace.errors import ModelspaceError
from modelspace.progress import notice

Build = Callable[[Lowering, int], tuple[Callable[..., Any], tuple[Any, ...]]]

_COMPILE_SECONDS = 12.0  # what compiling one step takes on a small machine, as a first guess
_COMPILE_GAIN = 2.0  # how much faster the compiled step of a small net is, as a first guess
_WORTH_A_TRY = 10  # times that cost: a run of such a length tries compiling, whatever the guess
_LOOP_SHARD = 16
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

    def __str__(self) -> str:
        how = "compiled " if self.compiled else ""
        members = f"{self.shard} members" if self.shard > 1 else "1 member"
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        if self.workers > 1:
            threads = f"{self.workers} processes"
        alone = f"; member by member: {', '.join(self.one_by_one)}" if self.one_by_one else ""
        return f"{how}{self.lowering}, shards of {members}, {threads}: {self.reason}{alone}"

    @property
    def choices(self) -> dict[str, Any]:
        """What ``fit`` takes to compute in the same way again, bit for bit: ``fit(…, **run.plan.choices)``."""
        return {
            "lowering": self.lowering,
            "shard": self.shard,
            "compile": self.compiled,
            "threads": self.threads,
            "workers": self.workers,
        }


def means_of(threads: int | None, workers: int | None) -> tuple[tuple[int, int], ...]:
    """The (threads, processes) to try: all threads, one thread, or as many processes of one thread."""
    every = torch.get_num_threads()
    if workers is not None and workers > 1:
        return ((threads or 1, workers),)
    pairs = [(threads or every, 1)]
    if threads is None:
        pairs.append((1, 1))
    if workers is None and (threads or 1) == 1 and every > 1:
        pairs.append((1, every))
    return tuple(dict.fromkeys(pairs))


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
    sizes: ShardSizes = ON_A_PROCESSOR,
    unbatched: str | None = None,
) -> tuple[Plan, Callable[..., Any]]:
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
        unbatched: Why ``vmap`` is no choice; None where it is one.

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
    means = means_of(threads, workers)
    measurements = Measurements(fingerprint)
    with using_threads(means[0][0]):
        search = _Search(build, members, calls, shard, compile, means, key, measurements, unrolled)
        search.largest = largest or members
        search.sizes = sizes
        best, reason, fallback = search.best(lowering, unbatched)
        step = best.program or step_of(build, best.way.lowering, best.way.shard)[0]
    measurements.keep()
    if is_graph(step):
        reason = f"{reason}, a CUDA graph"
    way = best.way
    plan = Plan(way.lowering, way.shard, way.compiled, way.threads, reason, fallback, workers=way.workers)
    return replace(plan, seconds=time.perf_counter() - start), step


def step_of(build: Build, lowering: Lowering, size: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What ``build`` gives; on a GPU the batched step is a CUDA graph, where it can be one and is faster so."""
    step, arguments = build(lowering, size)
    return (graphed(step, arguments) if lowering == "vmap" else step), arguments


@dataclass(frozen=True)
class _Candidate:
    """A way, with its seconds a member and step; and its program, if it is compiled."""

    way: Way
    seconds: float
    program: Callable[..., Any] | None = None


@dataclass
class _Search:
    """The candidates of one run; the fields are those of ``choose_plan``.

    Attributes:
        means: (threads, processes) to try.
        budget: Seconds that measuring may take: a share of what the loop would take for the whole run.
        largest: Members in memory together.
        sizes: The shard sizes to try.
    """

    build: Build
    members: int
    calls: int
    shard: int | None
    compile: bool | None
    means: tuple[tuple[int, int], ...]
    key: Any
    measurements: Measurements
    unrolled: Callable[[], bool]
    budget: float = 0.0
    largest: int = 2**63
    sizes: ShardSizes = ON_A_PROCESSOR

    def best(self, lowering: Lowering | None, unbatched: str | None) -> tuple[_Candidate, str, str | None]:
        """The best candidate, why, and the operation without a batched form where there is one."""
        if unbatched and (lowering == "vmap" or self.compile):
            what = "batched (vmap)" if lowering == "vmap" else "compiled"
            raise ModelspaceError(
                f"the step can't be {what}: {unbatched}; leave the choice out, or take the loop"
            )
        loop = self._loop()
        self.budget = _BUDGET * self._total(loop)
        if lowering == "loop":
            return self._by_means(loop), "as asked", None
        if unbatched:
            return self._by_means(loop), unbatched, unbatched
        try:
            eager = self._eager()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if lowering == "vmap":
                raise ModelspaceError(no_batched_form(error)) from error
            return self._by_means(loop), no_batched_form(error), no_batched_form(error)
        # Of shards that are nearly the fastest the smallest is taken: less memory, finer checkpoints.
        size = min(size for size in eager if eager[size].seconds <= 1.05 * _least(eager).seconds)
        best = batched = self._by_means(eager[size])
        if lowering is None and loop.seconds < batched.seconds:
            best = min(self._by_means(loop), batched, key=self._total)
        reason = _ratio(loop, batched, f"best of shards {', '.join(map(str, sorted(eager)))}")
        if not self.measurements.new:
            reason += ", measured earlier"
        if self.compile is False or (self.compile is None and self.unrolled()):
            return best, reason, None
        return *self._or_compiled(best, batched, loop, reason), None

    def _total(self, candidate: _Candidate) -> float:
        """The predicted time of the run: shards go out to the processes in rounds."""
        way = candidate.way
        rounds = ceil(self.members / way.shard / way.workers)
        seconds = candidate.seconds * way.workers * way.shard * self.calls * rounds
        return seconds + (_FORK_SECONDS if way.workers > 1 else 0.0)

    def _sizes(self) -> list[int]:
        sizes = (self.shard,) if self.shard else self.sizes.tried
        if not self.shard:
            sizes = tuple(min(size, self.largest) for size in sizes)
        return list(dict.fromkeys(balanced(self.members, size) for size in sizes))

    def _timed(self, way: Way) -> _Candidate:
        """Time a way, unless that was done before."""

        def measure() -> Timing:
            try:
                step, arguments = step_of(self.build, way.lowering, way.shard)
                return self._timing(way, step, arguments)
            except Exception as error:
                if not is_out_of_memory(error) or way.shard == 1:
                    raise
                return Timing(inf)

        return _Candidate(way, self.measurements.of(way, measure))

    def _timing(self, way: Way, step: Callable[..., Any], arguments: tuple[Any, ...]) -> Timing:
        """A member's share of a call."""
        budget = min(_CALLS_SECONDS, self.budget / 4) if self.budget else _CALLS_SECONDS
        with using_threads(way.threads):
            if way.workers > 1:
                timing = timing_in_processes(step, arguments, way.workers, budget)
            else:
                timing = timing_of_calls(step, arguments, budget)
            return timing.shared_by(way.shard)

    def _loop(self) -> _Candidate:
        """The loop, timed on a few members: what fails here fails in plain PyTorch too."""
        # With one thread too, where that is a choice: beside other work several wait for each other, and a loop that
        # was timed so makes everything look a thousand times as fast.
        several = {self.means[0][0], *(1 for pair in self.means if pair == (1, 1))}
        few = min(
            (self._timed(Way("loop", min(self.members, 4), threads=threads)) for threads in sorted(several)),
            key=lambda each: each.seconds,
        )
        size = self.shard or min(_LOOP_SHARD, self.largest)
        return replace(few, way=replace(few.way, shard=balanced(self.members, size)))

    def _eager(self) -> dict[int, _Candidate]:
        """Shard sizes under ``vmap``, with one thread if that is a choice, until clearly worse or time is up."""
        step, arguments = self.build("vmap", min(self.members, 2))
        step(*arguments)  # whether there is a batched form
        threads = 1 if (1, 1) in self.means else self.means[0][0]
        began = time.perf_counter()
        found: dict[int, _Candidate] = {}
        for size in self._sizes():
            if not any(
                c.seconds > 1.25 * _least(found).seconds and _beyond(size, other, found)
                for other, c in found.items()
            ):
                found[size] = self._timed(Way("vmap", size, threads=threads))
            if time.perf_counter() - began > self.budget:
                break
        while _least(found).seconds == inf:  # not even the first fits into memory
            size = (min(found) + 1) // 2
            found[size] = self._timed(Way("vmap", size, threads=threads))
        return found

    def _by_means(self, candidate: _Candidate) -> _Candidate:
        """The same with all threads, with one, or in processes, as is best; a run that is over soon tries nothing."""
        found = [candidate] if (candidate.way.threads, candidate.way.workers) in self.means else []
        for threads, workers in self.means:
            way = replace(candidate.way, threads=threads, workers=workers)
            if workers > 1:
                way = self._sized(way, way.shard)
            soon = self._total(candidate) < (4 * _FORK_SECONDS if workers > 1 else _CALLS_SECONDS * 4)
            if way == candidate.way or (found and (soon or self.members < workers)):
                continue
            timed = replace(way, shard=min(way.shard, 4)) if way.lowering == "loop" else way
            found.append(replace(self._timed(timed), way=way))
        # Processes that were lost while they were timed are not taken, unless they alone were asked for.
        timed = [each for each in found if each.seconds < inf]
        found = timed or [replace(found[0], seconds=candidate.seconds)]
        return min(found, key=lambda each: self._total(each) * (_WAITING if each.way.threads > 1 else 1.0))

    def _or_compiled(
        self, best: _Candidate, batched: _Candidate, loop: _Candidate, reason: str
    ) -> tuple[_Candidate, str]:
        """The best so far, or the compiled step if it is expected to repay its compilation, and then does."""
        way = self._sized(replace(batched.way, compiled=True), min(batched.way.shard, self.sizes.compiled))
        cost = self.measurements.known("compilation") or _COMPILE_SECONDS
        expected = replace(batched, seconds=batched.seconds / _COMPILE_GAIN)
        saved = self._total(best) - self._total(expected)
        long = self._total(best) > _WORTH_A_TRY * cost
        if self.compile is None and not self._is_known(way) and saved < cost and not long:
            return best, reason
        found: list[_Candidate] = []
        tries = [way]
        for way in tries:
            try:
                found.append(self._compiled(way))
            except CompileError as error:
                if self.compile:
                    raise ModelspaceError(f"the step can't be compiled: {error}") from error
                reason = f"{reason}; not compiled: {error}"
                break
            # A long run repays trying the neighbours too.
            if len(found) == 1 and self._total(found[0]) > _LONG_SECONDS:
                others = (self._sized(way, size) for size in (way.shard // 2, way.shard * 2) if size)
                tries += [other for other in dict.fromkeys(others) if other != way]
        if not found:
            return best, reason
        found = [each if each.seconds < inf else replace(each, seconds=expected.seconds) for each in found]
        fastest = min(found, key=self._total)
        if self.compile is None and self._total(fastest) >= self._total(best):
            return best, f"{reason}; compiling gains nothing"
        return fastest, _ratio(loop, fastest, f"{batched.seconds / fastest.seconds:.1f} × eager")

    def _sized(self, way: Way, size: int) -> Way:
        """The way with shards of about this size, each process having one; the size as it is, if it was asked for."""
        if self.shard:
            return way
        size = min(size, self.largest // way.workers)
        return replace(way, shard=balanced(ceil(self.members / way.workers), size))

    def _is_known(self, way: Way) -> bool:
        with using_threads(way.threads):
            return is_compiled(self.build("vmap", way.shard)[1], self.key)

    def _compiled(self, way: Way) -> _Candidate:
        """The compiled step, timed."""
        with using_threads(way.threads):
            step, arguments = self.build("vmap", way.shard)
            anew = not is_compiled(arguments, self.key)
            if anew:
                notice(f"compiling the step of {way.shard} members (once; about ten seconds)")
            began = time.perf_counter()
            program = compiled(step, *arguments, key=self.key)
            if anew:
                self.measurements.note("compilation", time.perf_counter() - began)
        seconds = self.measurements.of(way, lambda: self._timing(way, program, arguments))
        return _Candidate(way, seconds, program)


def _beyond(size: int, worse: int, found: dict[int, _Candidate]) -> bool:
    """Whether a size lies on the far side of one that is worse than the best so far."""
    best = _least(found).way.shard
    return best < worse <= size or size <= worse < best


def _least(found: dict[int, _Candidate]) -> _Candidate:
    return min(found.values(), key=lambda c: c.seconds)


def _ratio(loop: _Candidate, batched: _Candidate, note: str) -> str:
    if inf in (loop.seconds, batched.seconds):  # there was no memory for one of them
        return note
    ratio = loop.seconds / batched.seconds
    if ratio >= 1:
        return f"{ratio:.1f} × the loop, {note}"
    return f"the loop is {1 / ratio:.1f} × as fast as vmap here"


def balanced(members: int, size: int) -> int:
    """The shard size near ``size`` that splits the members evenly, so that little of the last shard is padding."""
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
    """Which operation ``vmap`` refused, in one line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    operation = re.search(r"aten::[\w.]*\w", text)
    return f"no batched form of {operation.group()}" if operation else f"no batched form: {text}"
