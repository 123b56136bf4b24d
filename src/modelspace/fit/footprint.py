"""What one shard's step and scores hold in memory, found by running them on the meta device.

There tensors have shapes and no values: the step that will be made is made with 2 and with 64 members, every storage
is watched, and what lies between is taken as a straight line,

    bytes(c) ≈ a + b·c,

whose constant is what members share (the batch, the windows of a first convolution). So the columns of convolutions,
what autograd keeps and the copies that ``vmap`` makes are in it. What no meta kernel can do, or the plain loop, is
estimated from the anatomy of one member; of an objective, or of several tensors as input, from a step that one member
makes.

Not in it: what a kernel takes within itself (an operand that a matrix product copies first, oneDNN's scratch), the
allocator's rounding, and that a compiled step holds less.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from modelspace.construction import seeded_elsewhere
from modelspace.cost import Anatomy, anatomy, update_memory
from modelspace.engine import (
    HELD_AT_ONCE,
    SCORED_AT_ONCE,
    Batch,
    Function,
    Lowering,
    is_sample_mean,
    loop_gradient,
    members_bytes,
    objective_values,
    stacked_outputs,
    vmap_gradient,
)
from modelspace.errors import ModelspaceError
from modelspace.fit import precision
from modelspace.fit.task import Task
from modelspace.losses import Objective
from modelspace.nest import Nest, mapped, take, tensors, unshared
from modelspace.optimizers import looked
from modelspace.trace import PeakMemory

_FEW, _MANY = 2, 64
_META = torch.device("meta")


@dataclass(frozen=True)
class Line:
    """Bytes as a function of the members in a shard: ``shared + each · members``."""

    shared: float
    each: float

    def __call__(self, members: int) -> int:
        """Bytes of a shard of so many members."""
        return max(0, round(self.shared + self.each * members))


@dataclass(frozen=True)
class Footprint:
    """What a shard holds beside its points, buffers, optimizer state and gradients, phase by phase.

    Attributes:
        activations: In forward and backward: what autograd keeps, the batch, the way there.
        update: In the update: new points and state beside the old ones, the optimizer's own terms.
        scoring: In the forward over validation samples.
        estimated: Whether the first and last are from the anatomy instead of from the step itself.
    """

    activations: Line
    update: Line
    scoring: Line
    estimated: bool


_KEPT = 1024
_known: OrderedDict[Any, Footprint] = OrderedDict()


def footprint(task: Task, lowering: Lowering) -> Footprint:
    """The footprint of a fit's step; that of a fit of the same kind is found once in a process.

    Args:
        task: The fit.
        lowering: How members are computed.
    """
    scored = (
        task.total == 1,
        len(task.data.validation),
        *_wholes(task),
        *(m.name for m in task.recipe.measured),
    )
    key = (task.fingerprint, lowering, scored)
    if key not in _known:
        with seeded_elsewhere(0):
            _known[key] = _found(task, lowering)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return _known[key]


def _found(task: Task, lowering: Lowering) -> Footprint:
    update = _line(task, partial(_update, task))
    if lowering == "loop" and task.total > 1:
        together = footprint(task, "vmap")
        if together.estimated:
            return _by_anatomy(task, lowering, update)
        # One member at a time: beside its activations its own parameters and gradients, and which have one.
        space = task.population.space
        numbers = space.dimension * space.dtype.itemsize
        activations = Line(together.activations(1) + 2 * numbers, space.dimension)
        return Footprint(activations, update, Line(numbers + together.scoring(1), 0), estimated=True)
    try:
        function = Function(task.population.space, _META, task.function.products)
        return Footprint(
            _line(task, partial(_gradient, task, function, lowering)),
            update,
            _with_outputs(task, function, _line(task, partial(_scores, task, function, lowering))),
            estimated=False,
        )
    except Exception:  # a kernel without a meta form: anything may be raised
        return _by_anatomy(task, lowering, update)


def _line(task: Task, count: Callable[[int], int]) -> Line:
    if task.total == 1:  # which is all that is asked of it, and half as long to find
        return Line(0, count(1))
    few, many = count(_FEW), count(_MANY)
    each = (many - few) / (_MANY - _FEW)
    return Line(few - each * _FEW, each)


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=_META)


def _members(task: Task, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Points and buffers of so many members."""
    space = task.population.space
    points = torch.empty(count, space.dimension, dtype=space.dtype, device=_META)
    return points, {n: _empty(b, count, *b.shape) for n, b in space.buffers_of(space.template).items()}


def _held(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _gradient(task: Task, function: Function, lowering: Lowering, count: int) -> int:
    """The most that forward and backward hold beyond points, buffers and one gradient."""
    points, buffers = _members(task, count)
    own = task.own_inputs
    own_labels = own or task.noise is not None
    shared, each = (batch_size(task),), (count, batch_size(task))
    inputs = _some(task.inputs, *(each if own else shared))
    labels = _some(task.labels, *(each if own_labels else shared))
    scale = precision.scaling(count, task.function.products, _META).get("scale")
    seeds, number = (torch.empty(s, dtype=torch.int64, device=_META) for s in ((count,), ()))
    batch = Batch(inputs, labels, own, own_labels)
    terms = _terms(task, points)
    gradient = vmap_gradient if lowering == "vmap" else loop_gradient
    with PeakMemory([points, *buffers.values(), *tensors((inputs, labels))]) as memory:
        gradient(function, task.recipe.loss, points, buffers, batch, seeds, number, scale, terms)
    c = {name: _empty(points.real, count, 1) for name in task.coefficients.names}
    again = looked(task.coefficients.optimizer, points, points, c) is not None
    # Then the first gradient and the points of the second stand beside it.
    more = 2 * points.nbytes if again else 0
    return max(0, memory.peak + more - 2 * points.nbytes - _held(list(buffers.values())))


def _some(nest: Nest, *shape: int) -> Nest:
    """As many samples of a nest's kind."""
    return mapped(lambda part: _empty(part, *shape, *part.shape[1:]), unshared(nest))


def _terms(task: Task, points: Tensor) -> dict[str, Tensor]:
    """The loss's columns of so many members."""
    like = {"dtype": points.dtype.to_real(), "device": _META}
    return {name: torch.empty(len(points), **like) for name in task.coefficients.terms}


def _scores(task: Task, function: Function, lowering: Lowering, count: int) -> int:
    """The most that a forward over validation samples holds beyond points and buffers."""
    samples = len(task.data.validation)
    if not samples:
        return 0
    points, buffers = _members(task, count)
    goal = task.recipe.loss
    size = batch_size(task) if isinstance(goal, Objective) else SCORED_AT_ONCE
    inputs, labels = (_some(nest, min(samples, size)) for nest in (task.inputs, task.labels))
    with PeakMemory([points, *buffers.values()]) as memory:
        batched = lowering == "vmap"
        if isinstance(goal, Objective):
            terms = _terms(task, points)
            objective_values(function, goal, points, buffers, inputs, labels, terms, batched=batched)
        else:
            stacked_outputs(function, points, buffers, inputs, batched=batched)
    return max(0, memory.peak - points.nbytes - _held(list(buffers.values())))


def _wholes(task: Task) -> list[str]:
    """The scores that are taken of the outputs of all validation samples together."""
    labels = task.data.validation.labels
    scores = {name: score for name, score in task.scores.items() if not isinstance(score, Objective)}
    return [name for name, score in scores.items() if not is_sample_mean(score, labels)]


def _with_outputs(task: Task, function: Function, line: Line) -> Line:
    """And the outputs of all validation samples, where scores are taken of them: of as many members as have room."""
    samples = len(task.data.validation)
    if not samples or not _wholes(task):
        return line
    points, buffers = _members(task, 1)
    few = _some(task.inputs, min(samples, 2))
    one = members_bytes(stacked_outputs(function, points, buffers, few, batched=True), samples)
    # A member's own twice: what a score may write into is a copy.
    held = min(task.total * one, max(one, HELD_AT_ONCE)) + one
    return Line(line.shared + held, line.each)


def _update(task: Task, count: int) -> int:
    """The most that the update holds beyond points, state and gradient."""
    points, _ = _members(task, count)
    state, most = update_memory(task.coefficients.optimizer, points, task.coefficients.names)
    # The rows that count are put back there by a selection, which copies once more.
    again = 0 if task.device.type == "cpu" else points.nbytes + state
    clipped = points.nbytes if task.coefficients.clipping else 0
    # With groups, each coefficient is one number a coordinate.
    laid_out = len(task.coefficients.names) * points.nbytes if len(task.coefficients.cells) > 1 else 0
    return most + again + clipped + laid_out


def _by_anatomy(task: Task, lowering: Lowering, update: Line) -> Footprint:
    """One member's peak, for each member where they are computed together, once where one by one."""
    numbers = task.population.space.dimension * task.population.space.dtype.itemsize
    if isinstance(task.recipe.loss, Objective) or not isinstance(unshared(task.inputs), Tensor):
        peak, flags = _of_one_step(task), task.population.space.dimension
        line = Line(peak + 2 * numbers, flags) if lowering == "loop" else Line(0, peak)
        scored = Line(numbers + peak, 0) if lowering == "loop" else Line(0, peak)
        return Footprint(line, update, scored, estimated=True)
    try:
        step, forward = (_anatomy(task, size) for size in (batch_size(task), SCORED_AT_ONCE))
    except ModelspaceError:
        return Footprint(Line(0, 0), update, Line(0, 0), estimated=True)
    layers = [prod(layer.output_shape) for layer in forward.layers]
    scores = 2 * task.population.space.dtype.itemsize * max(layers, default=0)
    if lowering == "loop":
        # One member's own parameters and gradients are in its peak; a byte a number says which have one.
        flags = task.population.space.dimension
        return Footprint(Line(step.peak_bytes, flags), update, Line(numbers + scores, 0), estimated=True)
    each = max(0, step.peak_bytes - 2 * numbers)
    return Footprint(Line(0, each), update, Line(0, scores), estimated=True)


def _of_one_step(task: Task) -> int:
    """The most that a step of one member holds beyond point, buffers and gradient, in forward and backward."""
    member, size = task.population[[0]], slice(batch_size(task))
    points, buffers = member.points.clone(), {n: b.clone() for n, b in member.buffers.items()}
    batch = Batch(take(task.inputs, size), take(task.labels, size), own=False)
    terms = {name: column[:1] for name, column in task.terms.items()}
    seeds, number = task.seeds[:1].to(task.device), torch.tensor(0, device=task.device)
    function = Function(member.space, task.device, task.function.products)
    function.trust(task.verdict)
    with PeakMemory([points, *buffers.values(), *tensors((batch.inputs, batch.labels))]) as memory:
        loop_gradient(function, task.recipe.loss, points, buffers, batch, seeds, number, None, terms)
    return max(0, memory.peak - 2 * points.nbytes - _held(list(buffers.values())))


def _anatomy(task: Task, samples: int) -> Anatomy:
    space = task.population.space
    inputs = unshared(task.inputs)
    shape = tuple(inputs.shape[1:])
    return anatomy(space.working_copy(), shape, batch_size=samples, input_dtype=inputs.dtype)


def batch_size(task: Task) -> int:
    """Samples in a batch: no more than there are."""
    return min(task.samples if task.views is None else len(task.views.train(0)), task.recipe.batch_size)
