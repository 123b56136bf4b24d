"""The memory that a fit will take, predicted before a member is trained, and held against what is free.

With K members of n numbers, c of them in each of w processes,

    total = shared + w · shard + kept + curves + recorded
    shard = points + optimizer + buffers + coefficients + records
            + max(gradients + activations, gradients + update, scoring) + heap

where the three phases before the last term never stand in memory together. What the parts are is said at ``Memory``;
how activations, update and scoring are found, and what is not in them, in ``footprint``.

How good it is: of the growth of the process's peak (Linux, glibc, two cores) what is predicted here was 0.74 to
1.38 for an MLP, a convolutional net, a residual one with BatchNorm and a transformer, shards of 90 MiB to 1.1 GiB
(``tests/fit/test_memory.py`` makes four of them again), and 0.6 where a shard took less. The tensors themselves are
predicted to within a few percent; the rest is how the heap happens to lie: a transformer whose blocks are 8 to 16 MiB
took 2.6 times its tensors, one of 32 MiB blocks 1.2 times. Not counted: the compiler (a compiled step holds less
than is predicted, the compiler itself takes memory at the start), and what the plan's trials of other shards leave in
the heap.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from modelspace.data import Rows, is_mapped
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.fit.footprint import Footprint
from modelspace.fit.task import Task
from modelspace.fit.train import keeps_result
from modelspace.memory import Memory, free_bytes
from modelspace.nest import tensors
from modelspace.runs import Keep, setting_numbers
from modelspace.show import bytes_text

_LISTED = 128  # a member's key, and its part of the lists that a report is made from, as measured


def predict(
    task: Task, keep: Keep, plan: Plan, found: Footprint, free: int, members: int | None = None
) -> Memory:
    """What a fit takes as a plan says.

    Args:
        task: The fit.
        keep: Whose points are kept.
        plan: The lowering, the shard's size and the processes.
        found: The footprint of that lowering.
        free: What is free.
        members: K, where it is another than the population's.
    """
    recipe, space = task.recipe, task.population.space
    count = len(task.population) if members is None else members
    shard = min(plan.shard, count)
    point = space.dimension * space.dtype.itemsize
    buffers = _buffer_bytes(task)
    numbers = shard * point
    a = recipe.accumulate
    one = torch.empty(1, space.dimension, dtype=space.dtype, device="meta")
    state = task.coefficients.init(one)
    restores = keeps_result(task, one, state)
    names = len(task.coefficients.names) * len(task.coefficients.cells)
    recordings = task.recordings
    begun = any(each.record.what == "distance" for each in recordings)
    functions = [each.of.most_bytes for each in recordings if each.of is not None]
    return Memory(
        shared=_shared(task),
        points=numbers * (1 + restores + begun),
        gradients=numbers * (1 if a == 1 else 2 * a + 1),
        optimizer=shard * sum(value.nbytes for value in state.values()),
        buffers=shard * buffers * (3 if restores else 2),
        coefficients=shard * task.steps * (names * (8 + space.dtype.itemsize) + 8),
        activations=found.activations(shard),
        update=found.update(shard),
        scoring=max([found.scoring(shard), *functions]),
        kept=_kept(task, keep, plan.workers, count),
        curves=_curves(task, count),
        processes=plan.workers,
        members=count,
        shard_size=shard,
        free=free,
        on_device=task.device.type == "cuda",
        keeps_there=task.device.type == "cuda" and keep.best is None,
        records=shard * _record_bytes(task),
        recorded=_recorded(task, keep, count),
    )


def largest_shard(task: Task, keep: Keep, plan: Plan, found: Footprint, free: int) -> int:
    """The most members for which each of the plan's processes has room in a shard; 0 where not even for one."""

    def fits(shard: int) -> bool:
        return predict(task, keep, replace(plan, shard=shard), found, free).needed <= free

    return _largest(fits, len(task.population))


def largest_members(task: Task, keep: Keep, plan: Plan, found: Footprint, free: int) -> int:
    """The largest K for which there is room, member by member if need be; 0 where there is for none."""

    def fits(members: int) -> bool:
        small = replace(plan, shard=1)
        return predict(task, keep, small, found, free, members).needed <= free

    most = 1
    while fits(most) and most < 2**40:
        most *= 2
    return _largest(fits, most)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that fits, where all below one that fits do."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def check_kept(task: Task, keep: Keep, processes: int, free: int) -> None:
    """Hold the memory that grows with the members against what is free, before any of it is taken.

    Raises:
        ModelspaceError: it is more.
    """
    members = len(task.population)

    def parts(members: int) -> tuple[int, int, int]:
        return _kept(task, keep, processes, members), _curves(task, members), _recorded(task, keep, members)

    def fits(members: int) -> bool:
        kept, curves, recorded = parts(members)
        if task.device.type == "cuda":  # which has what is kept, and not what is recorded
            return kept + curves <= free and recorded <= free_bytes(torch.device("cpu"))
        return kept + curves + recorded <= free

    if fits(members):
        return
    kept, curves, recorded = parts(members)
    most = _largest(fits, members)
    advice = [f"{most:,} members fit"] if most else []
    if keep.best != 0 and curves + recorded <= free:
        advice.append(f"keep='scores' needs {bytes_text(curves + recorded)}")
    if recorded:
        advice.append("with out=folder, or at fewer times, records need less")
    what = f", records {bytes_text(recorded)}" if recorded else ""
    raise ModelspaceError(
        f"{members:,} members need {bytes_text(kept + curves + recorded)} and {bytes_text(free)} are free: points "
        f"that are kept {bytes_text(kept)}, curves {bytes_text(curves)}{what}"
        + "".join(f"; {text}" for text in advice)
    )


def check(task: Task, keep: Keep, plan: Plan, found: Footprint, free: int) -> Memory:
    """The prediction for a plan.

    Raises:
        ModelspaceError: it is more than is free; what takes how much, and what would fit.
    """
    memory = predict(task, keep, plan, found, free)
    if memory.needed <= free:
        return memory
    shard = largest_shard(task, keep, plan, found, free)
    advice = [f"shard={shard} fits"] if shard else []
    if not shard:
        none = replace(keep, best=0)
        members = largest_members(task, keep, plan, found, free)
        if members:
            advice.append(f"{members:,} members fit")
        if keep.best != 0 and largest_shard(task, none, plan, found, free):
            advice.append("keep='scores' fits")
        if not members:
            advice.append("a smaller batch, or precision='bf16-mixed', needs less")
        if memory.records:
            advice.append("fewer times of record= need less")
    text = str(memory).removeprefix("memory: ")
    one = "with a single member at a time, " if not shard and memory.shard_size == 1 else ""
    raise ModelspaceError(f"{one}this run needs {text}. {'; '.join(advice)}")


def _shared(task: Task) -> int:
    space, validation = task.population.space, task.data.validation
    held = tensors((task.inputs, task.labels, validation.inputs, validation.labels))
    template = [*space.template.parameters(), *space.template.buffers()]
    counted = (tensor for tensor in [*held, *template] if tensor.layout is torch.strided)
    return sum(tensor.nbytes for tensor in counted if not (isinstance(tensor, Rows) or is_mapped(tensor)))


def _buffer_bytes(task: Task) -> int:
    space = task.population.space
    return sum(value.nbytes for value in space.buffers_of(space.template).values())


def _kept(task: Task, keep: Keep, processes: int, members: int) -> int:
    population = task.population
    each = population.space.dimension * population.space.dtype.itemsize + _buffer_bytes(task)
    if keep.best is None:
        return members * each * (1 if task.made_before else 2)
    if keep.best == 0:
        return 0
    groups = int(setting_numbers(population.table).max()) + 1
    return processes * -(-groups * members // len(population)) * keep.best * (each + 16)


def _record_bytes(task: Task) -> int:
    """What is recorded of a member."""
    return sum(recording.member_bytes for recording in task.recordings)


def _recorded(task: Task, keep: Keep, members: int) -> int:
    return members * _record_bytes(task) if keep.records else 0


def _curves(task: Task, members: int) -> int:
    table = int(task.population.table.memory_usage().sum())
    each = task.recipe.epochs * len(task.curves) * 8 + 9  # a state and the number of steps
    return members * (each + _LISTED) + 2 * table * members // len(task.population)
