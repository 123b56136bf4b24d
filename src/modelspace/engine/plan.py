"""The plan: how a population is computed, chosen by a short measurement at the start of a run.

Candidates are the plain loop, ``vmap`` in shards of several sizes, and the compiled step. A shard is the members
computed together from start to end; its best size is the one whose working set still fits the cache, and differs
by architecture and batch, so it is measured.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal

import torch

from modelspace.engine.compile import CompileError, compiled, is_compiled
from modelspace.errors import ModelspaceError
from modelspace.progress import notice

Lowering = Literal["vmap", "loop"]
Build = Callable[[Lowering, int], tuple[Callable[..., Any], tuple[Any, ...]]]

_SIZES = (4, 8, 16, 32, 64, 128, 256)
_COMPILE_SECONDS = 8.0  # what compiling one step takes on a small machine, as a first guess
_COMPILE_GAIN = 2.0  # how much faster the compiled step of a small net is, as a first guess
_COMPILED_CHUNK = 32  # the compiled step works on a smaller set than eager: its best shard is no larger
_LOOP_CHUNK = 16
_LONG_SECONDS = 60.0  # from here on a second and third shard size are worth compiling


@dataclass(frozen=True)
class Plan:
    """How a population is computed, and why.

    Attributes:
        lowering: ``"vmap"`` (members batched) or ``"loop"`` (one after the other).
        chunk: Members in a shard.
        compiled: Whether the step is one compiled program.
        threads: Threads within an operation.
        reason: Why, in one line.
        fallback: The operation without a batched form, in one line; None where there is none.
        seconds: What choosing cost, compilation included.
    """

    lowering: Lowering
    chunk: int
    compiled: bool
    threads: int
    reason: str
    fallback: str | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        how = "compiled " if self.compiled else ""
        members = f"{self.chunk} members" if self.chunk > 1 else "1 member"
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        return f"{how}{self.lowering}, shards of {members}, {threads}: {self.reason}"

    @property
    def choices(self) -> dict[str, Any]:
        """What ``fit`` takes to compute in the same way again, bit for bit: ``fit(…, **run.plan.choices)``."""
        return {
            "lowering": self.lowering,
            "chunk": self.chunk,
            "compile": self.compiled,
            "threads": self.threads,
        }


def choose_plan(
    build: Build,
    members: int,
    calls: int,
    *,
    lowering: Lowering | None = None,
    chunk: int | None = None,
    compile: bool | None = None,
    threads: int | None = None,
    key: Any = None,
) -> tuple[Plan, Callable[..., Any]]:
    """Measure the candidates and take the one with the least predicted total time, compilation included.

    Args:
        build: ``build(lowering, c)`` gives the step for c members and arguments to call it with.
        members: K.
        calls: Calls of the step for each shard.
        lowering: Decide this oneself.
        chunk: Decide this oneself, 1 … K.
        compile: Decide this oneself.
        threads: Decide this oneself, at least 1.
        key: What the step depends on beside its arguments' shapes, so that it is compiled once only.

    Returns:
        The plan, and its step.

    Raises:
        ModelspaceError: ``chunk`` is out of range, or ``compile=True`` and compiling fails.
    """
    start = time.perf_counter()
    if chunk is not None and chunk < 1:
        raise ModelspaceError(f"a shard has at least 1 member; received {chunk}")
    if threads is not None and threads < 1:
        raise ModelspaceError(f"at least 1 thread is needed; received {threads}")
    counts = (threads,) if threads else tuple(dict.fromkeys((torch.get_num_threads(), 1)))
    with using_threads(counts[0]):
        search = _Search(build, members, calls, chunk, compile, counts, key)
        best, reason, fallback = search.best(lowering)
        step = best.program or build(best.lowering, best.chunk)[0]
    plan = Plan(best.lowering, best.chunk, best.program is not None, best.threads, reason, fallback)
    return replace(plan, seconds=time.perf_counter() - start), step


@dataclass(frozen=True)
class _Candidate:
    """One way to compute the population, with its seconds a member and step."""

    lowering: Lowering
    chunk: int
    seconds: float
    threads: int = field(default_factory=torch.get_num_threads)
    program: Callable[..., Any] | None = None


@dataclass(frozen=True)
class _Search:
    """The candidates of one run; the fields are those of ``choose_plan``.

    Attributes:
        counts: Numbers of threads to try, the one in force first.
    """

    build: Build
    members: int
    calls: int
    chunk: int | None
    compile: bool | None
    counts: tuple[int, ...]
    key: Any

    def best(self, lowering: Lowering | None) -> tuple[_Candidate, str, str | None]:
        """The best candidate, why, and the operation without a batched form where there is one."""
        loop = self._loop()
        if lowering == "loop":
            return loop, "as asked", None
        try:
            eager = self._eager()
        except Exception as error:
            if lowering == "vmap":
                raise ModelspaceError(no_batched_form(error)) from error
            return loop, no_batched_form(error), no_batched_form(error)
        batched = self._with_threads(eager)
        best = min(batched, loop, key=lambda c: c.seconds) if lowering is None else batched
        reason = _ratio(loop, batched, f"best of shards {', '.join(map(str, eager))}")
        if self.compile is False:
            return best, reason, None
        return *self._or_compiled(best, batched, loop, reason), None

    def _sizes(self) -> list[int]:
        return sorted({balanced(self.members, size) for size in ((self.chunk,) if self.chunk else _SIZES)})

    def _timed(self, lowering: Lowering, size: int) -> _Candidate:
        step, arguments = self.build(lowering, size)
        return _Candidate(lowering, size, _seconds(step, arguments) / size)

    def _loop(self) -> _Candidate:
        """The loop, timed on a few members: what fails here fails in plain PyTorch too."""
        few = self._timed("loop", min(self.members, 4))
        return replace(few, chunk=balanced(self.members, self.chunk or _LOOP_CHUNK))

    def _eager(self) -> dict[int, float]:
        """Seconds a member and step under ``vmap``, for growing shard sizes until they get clearly worse."""
        found: dict[int, float] = {}
        for size in self._sizes():
            found[size] = self._timed("vmap", size).seconds
            if found[size] > 1.25 * min(found.values()):
                break
        return found

    def _with_threads(self, eager: dict[int, float]) -> _Candidate:
        """The best shard with all threads, or with one where that is faster: on small work, or a busy machine.

        Of shards that are nearly the fastest the smallest is taken: less memory, finer checkpoints.
        """
        size = min(size for size in eager if eager[size] <= 1.05 * min(eager.values()))
        candidates = [_Candidate("vmap", size, eager[size])]
        for count in self.counts[1:]:
            with using_threads(count):
                candidates.append(self._timed("vmap", size))
        return min(candidates, key=lambda c: c.seconds)

    def _or_compiled(
        self, best: _Candidate, batched: _Candidate, loop: _Candidate, reason: str
    ) -> tuple[_Candidate, str]:
        """The best so far, or the compiled step if it is expected to repay its compilation, and then does."""
        only = len(self._sizes()) == 1
        size = batched.chunk if only else balanced(self.members, min(batched.chunk, _COMPILED_CHUNK))
        with using_threads(batched.threads):
            known = is_compiled(self.build("vmap", size)[1], self.key)
        updates = self.members * self.calls
        saved = updates * (best.seconds - batched.seconds / _COMPILE_GAIN)
        if self.compile is None and not known and saved < _COMPILE_SECONDS:
            return best, reason
        found: list[_Candidate] = []
        tries = [(size, batched.threads)]
        for size, count in tries:
            try:
                found.append(self._compiled(size, count))
            except CompileError as error:
                if self.compile:
                    raise ModelspaceError(f"the step can't be compiled: {error}") from error
                reason = f"{reason}; not compiled: {error}"
                break
            # A long run repays trying the neighbours too.
            if len(found) == 1 and updates * found[0].seconds > _LONG_SECONDS:
                tries += [(size, other) for other in self.counts if other != count]
                neighbours = [] if only else [balanced(self.members, s) for s in (size // 2, size * 2)]
                tries += [(s, count) for s in neighbours if s != size]
        if not found:
            return best, reason
        fastest = min(found, key=lambda c: c.seconds)
        if self.compile is None and fastest.seconds >= best.seconds:
            return best, f"{reason}; compiling gains nothing"
        return fastest, _ratio(loop, fastest, f"{batched.seconds / fastest.seconds:.1f} × eager")

    def _compiled(self, size: int, count: int) -> _Candidate:
        """The compiled step of so many members, with so many threads, timed."""
        with using_threads(count):
            step, arguments = self.build("vmap", size)
            if not is_compiled(arguments, self.key):
                notice(f"compiling the step of {size} members, {count} threads (once; about ten seconds)")
            program = compiled(step, *arguments, key=self.key)
            return _Candidate("vmap", size, _seconds(program, arguments) / size, program=program)


def _ratio(loop: _Candidate, batched: _Candidate, note: str) -> str:
    ratio = loop.seconds / batched.seconds
    if ratio >= 1:
        return f"{ratio:.1f} × the loop, {note}"
    return f"the loop is {1 / ratio:.1f} × as fast as vmap here"


def balanced(members: int, size: int) -> int:
    """The shard size near ``size`` that splits the members evenly, so that little of the last shard is padding."""
    size = min(size, members)
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


def _seconds(step: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The mean time of a few calls, after one that warms up; about a twentieth of a second, if the step is short.

    The mean and not the least: on a busy machine threads wait for each other now and then, and a run pays for that.
    """
    step(*arguments)
    calls = 0
    began = time.perf_counter()
    while calls < 3 or (time.perf_counter() - began < 0.05 and calls < 50):
        step(*arguments)
        calls += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def no_batched_form(error: Exception) -> str:
    """Which operation ``vmap`` refused, in one line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    operation = re.search(r"aten::[\w.]+", text)
    return f"no batched form of {operation.group()}" if operation else f"no batched form: {text}"
