"""The plan: how a population is computed, chosen by a short measurement at the start of a run.

Candidates are the plain loop, ``vmap`` in shards of several sizes, and the compiled step. A shard is the members
computed together from start to end; its best size is the one whose working set still fits the cache, and differs
by architecture and batch, so it is measured.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import torch

from modelspace.engine.compile import CompileError, compiled, is_compiled
from modelspace.errors import ModelspaceError

Lowering = Literal["vmap", "loop"]
Build = Callable[[Lowering, int], tuple[Callable[..., Any], tuple[Any, ...]]]

_SIZES = (4, 8, 16, 32, 64, 128, 256)
_COMPILE_SECONDS = 8.0  # what compiling one step takes on a small machine, as a first guess
_COMPILE_GAIN = 2.0  # how much faster the compiled step of a small net is, as a first guess
_LONG_SECONDS = 60.0  # from here on a second and third shard size are worth compiling


@dataclass(frozen=True)
class Plan:
    """How a population is computed, and why.

    Attributes:
        lowering: ``"vmap"`` (members batched) or ``"loop"`` (one after the other).
        chunk: Members in a shard.
        compiled: Whether the step is one compiled program.
        reason: Why, in one line.
        fallback: The operation without a batched form, in one line; None where there is none.
        seconds: What choosing cost, compilation included.
    """

    lowering: Lowering
    chunk: int
    compiled: bool
    reason: str
    fallback: str | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        how = "compiled " if self.compiled else ""
        members = f"{self.chunk} members" if self.chunk > 1 else "1 member"
        return f"{how}{self.lowering}, shards of {members}: {self.reason}"


def choose_plan(
    build: Build,
    members: int,
    calls: int,
    *,
    lowering: Lowering | None = None,
    chunk: int | None = None,
    compile: bool | None = None,
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
        key: What the step depends on beside its arguments' shapes, so that it is compiled once only.

    Returns:
        The plan, and its step.

    Raises:
        ModelspaceError: ``chunk`` is out of range, or ``compile=True`` and compiling fails.
    """
    start = time.perf_counter()
    if chunk is not None and chunk < 1:
        raise ModelspaceError(f"a shard has at least 1 member; received {chunk}")
    sizes = sorted({balanced(members, size) for size in ((chunk,) if chunk else _SIZES)})
    # The loop goes first: what fails here fails in plain PyTorch too, and is not a matter of batching.
    loop_step, arguments = build("loop", min(members, sizes[0], 2))
    loop_seconds = _seconds(loop_step, arguments) / min(members, sizes[0], 2)
    reason, fallback = "", None
    if lowering != "loop":
        try:
            eager = _measured(build, sizes)
        except Exception as error:
            if lowering == "vmap":
                raise ModelspaceError(no_batched_form(error)) from error
            fallback, eager = no_batched_form(error), {}
            reason = fallback
        if eager:
            # The smallest shard that is nearly the fastest: less memory, finer checkpoints.
            best = min(size for size in eager if eager[size] <= 1.05 * min(eager.values()))
            ratio = loop_seconds / eager[best]
            if ratio >= 1 or lowering == "vmap":
                reason = f"{ratio:.1f} × the loop, best of shards {', '.join(map(str, eager))}"
                plan = Plan("vmap", best, False, reason)
                return _perhaps_compiled(
                    build, plan, eager, members, calls, compile, key, loop_seconds, start
                )
            reason = f"the loop is {1 / ratio:.1f} × as fast as vmap here"
    plan = Plan("loop", balanced(members, chunk or 16), False, reason or "as asked", fallback)
    return replace(plan, seconds=time.perf_counter() - start), build("loop", plan.chunk)[0]


def balanced(members: int, size: int) -> int:
    """The shard size near ``size`` that splits the members evenly, so that little of the last shard is padding."""
    size = min(size, members)
    return ceil(members / ceil(members / size))


def _measured(build: Build, sizes: list[int]) -> dict[int, float]:
    """Seconds a member and step under ``vmap``, for growing shard sizes until they get clearly worse."""
    found: dict[int, float] = {}
    for size in sizes:
        step, arguments = build("vmap", size)
        found[size] = _seconds(step, arguments) / size
        if found[size] > 1.25 * min(found.values()):
            break
    return found


def _perhaps_compiled(
    build: Build,
    plan: Plan,
    eager: dict[int, float],
    members: int,
    calls: int,
    compile: bool | None,
    key: Any,
    loop_seconds: float,
    start: float,
) -> tuple[Plan, Callable[..., Any]]:
    eager_total = members * calls * eager[plan.chunk]
    saved = eager_total * (1 - 1 / _COMPILE_GAIN)
    eager_step = build("vmap", plan.chunk)[0]
    sizes = [plan.chunk if len(eager) == 1 else balanced(members, min(plan.chunk, 32))]
    repaid = saved > _COMPILE_SECONDS or is_compiled(build("vmap", sizes[0])[1], key)
    if compile is False or (compile is None and not repaid):
        return replace(plan, seconds=time.perf_counter() - start), eager_step
    found: dict[int, tuple[float, Callable[..., Any]]] = {}
    try:
        for size in sizes:
            step, arguments = build("vmap", size)
            program = compiled(step, *arguments, key=key)
            found[size] = (_seconds(program, arguments) / size, program)
            # A long run repays trying the neighbours too.
            if len(sizes) == 1 and len(eager) > 1 and members * calls * found[size][0] > _LONG_SECONDS:
                sizes += [
                    s for s in {balanced(members, size // 2), balanced(members, size * 2)} if s not in sizes
                ]
    except CompileError as error:
        if compile:
            raise ModelspaceError(f"the step can't be compiled: {error}") from error
        if not found:
            plan = replace(plan, reason=f"{plan.reason}; not compiled: {error}")
            return replace(plan, seconds=time.perf_counter() - start), eager_step
    size = min(found, key=lambda s: found[s][0])
    seconds, program = found[size]
    if compile is None and seconds >= eager[plan.chunk]:
        plan = replace(plan, reason=f"{plan.reason}; compiling gains nothing")
        return replace(plan, seconds=time.perf_counter() - start), eager_step
    reason = f"{loop_seconds / seconds:.1f} × the loop, {eager[plan.chunk] / seconds:.1f} × eager"
    return Plan("vmap", size, True, reason, seconds=time.perf_counter() - start), program


def _seconds(step: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The least time of a few calls, after one that warms up; at most about a tenth of a second."""
    step(*arguments)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.03 and len(times) < 20):
        began = time.perf_counter()
        step(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def no_batched_form(error: Exception) -> str:
    """Which operation ``vmap`` refused, in one line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    operation = re.search(r"aten::[\w.]+", text)
    return f"no batched form of {operation.group()}" if operation else f"no batched form: {text}"
