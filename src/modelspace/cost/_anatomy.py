"""What a module does on one batch, counted without data: calls, shapes, FLOP and memory, as one frozen record."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from modelspace.construction import held_tensors
from modelspace.cost._counts import Counts, counts
from modelspace.cost._formulas import all_formulas
from modelspace.errors import ModelspaceError
from modelspace.trace import (
    Call,
    Operation,
    Phase,
    Result,
    Spec,
    Subject,
    WithoutValues,
    mapped,
    trace,
)


@dataclass(frozen=True)
class Layer:
    """One call of one module. FLOP and bytes are those outside the calls within it: the rows add up.

    Attributes:
        name: Qualified name, "" for the module itself.
        type: The class's name.
        parameters: Elements of the parameters that are this row's alone: its own, and those of submodules
            that are never called (which it uses itself), trainable and frozen. A tied tensor counts in the
            first row that has it, and a layer called again has none left: the rows add up to the module's.
        output_shape: Shape of its first output tensor, batch included; empty if it returned none.
        flops: Forward FLOP.
        backward_flops: FLOP of the backward of what this call did, recomputed ones included.
        output_shapes: The shape of each tensor that it returned.
        bytes: Bytes that its forward's operations read and write.
        saved_bytes: Bytes that it made in the forward and that are kept for the backward.
        parent: The index, among the calls, of the call that made this one; None for the outermost.
        repeat: How many calls of the same module came before.
    """

    name: str
    type: str
    parameters: int
    output_shape: tuple[int, ...]
    flops: int
    backward_flops: int = 0
    output_shapes: tuple[tuple[int, ...], ...] = ()
    bytes: int = 0
    saved_bytes: int = 0
    parent: int | None = None
    repeat: int = 0

    @property
    def intensity(self) -> float:
        """Forward FLOP a byte moved; 0 where nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Anatomy:
    """A module's layers and what one training pass over one batch costs.

    One multiply-and-add is two FLOP (a MAC is FLOP / 2). Matrix products, convolutions, attention and recurrences
    are counted; elementwise arithmetic is not, and is listed in ``uncounted`` with everything else without a formula.

    Attributes:
        calls: Every module call, in the order in which they began.
        operations: What they did, by module call.
        counts: What the module holds.
        forward_flops: FLOP of the batch's forward.
        backward_flops: FLOP of the backward into every trainable parameter, not into the inputs, with what
            activation checkpointing computes again.
        recomputed_flops: The part of ``backward_flops`` that is computed again.
        forward_bytes: Bytes that the forward's operations read and write, each by itself.
        backward_bytes: The same of the backward.
        peak_bytes: Most bytes alive at once: parameters, buffers, inputs, activations and gradients; no
            optimizer state, no kernel workspace.
        saved_bytes: Bytes made in the forward that are kept for the backward.
        uncounted: Operations that ran and have no FLOP formula, with the number of their calls.
        unknown: Those of them that may hide products: neither elementwise nor a reduction, says PyTorch.
        workspaces: Operations whose kernels take memory of their own that no shape tells; it is not in
            ``peak_bytes``.
        batch_size: Samples in the batch.
        input_shape: Shape of one sample of the first input.
        device: ``"fake"`` where shapes alone were enough, ``"cpu"`` where the pass was computed.
        computed: Why it was computed, and on which inputs: the counts hold for these. "" where it was not.
    """

    calls: tuple[Layer, ...]
    operations: tuple[Operation, ...]
    counts: Counts
    forward_flops: int
    backward_flops: int
    recomputed_flops: int
    forward_bytes: int
    backward_bytes: int
    peak_bytes: int
    saved_bytes: int
    uncounted: Mapping[str, int]
    unknown: Mapping[str, int]
    workspaces: Mapping[str, int]
    batch_size: int
    input_shape: tuple[int, ...]
    device: Literal["fake", "cpu"]
    computed: str = ""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The calls of layers without submodules, and of modules with parameters or FLOP of their own."""
        inner = {call.parent for call in self.calls}
        return tuple(
            call
            for index, call in enumerate(self.calls)
            if index not in inner or call.parameters or call.flops or call.backward_flops
        )

    @property
    def intensity(self) -> float:
        """FLOP of the pass a byte moved."""
        moved = self.forward_bytes + self.backward_bytes
        return (self.forward_flops + self.backward_flops) / moved if moved else 0.0


def anatomy(
    module: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    batch_size: int = 1,
    input_dtype: torch.dtype = torch.float32,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    flop_formulas: Mapping[Any, Callable[..., int]] | None = None,
    backward: bool = True,
) -> Anatomy:
    """Count a module's calls, shapes, FLOP and peak memory for one pass over one batch.

    The pass is a forward and the backward of the sum of its outputs, in the module's own mode (training or
    evaluation), on a copy whose tensors have shapes and no values: a module of any size costs neither memory nor
    arithmetic, and stays as it is, with its buffers, gradients and the global random numbers. A forward that reads
    values, and a module that holds sparse tensors, runs on a CPU copy instead, which costs real memory and time;
    inputs without values are made up then, all ones, and parameters without are zeros. The record says so.

    Not for the time of a step: that is set by memory traffic and launches as much as by FLOP.

    Args:
        module: Any module, on any device, meta included.
        input_shape: One sample's shape without the batch, for a module of one input.
        batch_size: Samples in the batch; at least 2 for BatchNorm on plain features in training mode.
        input_dtype: The batch's type; an integer one for token indices.
        inputs: Instead of ``input_shape``, the batch itself: a tensor, a `Spec`, or a nest of them. A tuple is the
            positional arguments, anything else is the one argument.
        kwargs: Keyword arguments, nests of tensors and `Spec` too.
        flop_formulas: FLOP of operations that have no formula, or another one, ``{torch.ops.my.op: function}``: see
            `register_flop_formula`.
        backward: False for inference: the forward alone, with nothing kept for a backward.

    Returns:
        The record.

    Raises:
        ModelspaceError: If the forward or backward fails (where, on what, what was expected), the module
            has uninitialised lazy parameters, ``batch_size`` is below 1, or no inputs are given, or it reads
            values and is too large to be computed.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> cost = anatomy(net, (64,))
        >>> cost.forward_flops == 2 * (64 * 32 + 32 * 10), cost.uncounted
        (True, {'aten.relu': 1, 'aten.sum': 2, 'aten.threshold_backward': 1})
        >>> anatomy(nn.Bilinear(4, 5, 3), inputs=(Spec((8, 4)), Spec((8, 5)))).forward_flops
        1200
    """
    args = arguments(module, input_shape, batch_size, input_dtype, inputs)

    def run(subject: Subject) -> Anatomy:
        if backward:
            subject.forward_backward()
        else:
            subject.forward()
        return _record(subject)

    return trace(module, args, kwargs or {}, run, formulas=all_formulas(flop_formulas), gradients=backward)


def smallest_batch(measure: Callable[[int], Result]) -> Result:
    """What is measured on one sample, or on two where BatchNorm refuses one.

    Raises:
        ModelspaceError: it fails on both: what it says of one.
    """
    try:
        return measure(1)
    except ModelspaceError as error:
        try:
            return measure(2)
        except ModelspaceError:
            raise error from None


def on_values(
    module: nn.Module,
    make: Callable[[], nn.Module],
    measure: Callable[[nn.Module], Result],
    computed: Callable[[Result], str],
) -> Result:
    """Measure a module; where that asks for values and it has none, the one that is made with values.

    Args:
        module: A module that may be on the meta device.
        make: Makes it in memory.
        measure: What is asked of it.
        computed: Whether the result was computed on values, the zeros of a module without any.

    Raises:
        ModelspaceError: as ``measure`` and ``make``.
    """
    if not any(tensor.is_meta for tensor in held_tensors(module)):
        return measure(module)
    try:
        found = measure(module)
        if not computed(found):
            return found
    except WithoutValues:
        pass
    return measure(make())


def arguments(
    module: nn.Module,
    input_shape: tuple[int, ...] | None,
    batch_size: int,
    input_dtype: torch.dtype,
    inputs: Any,
) -> tuple:
    """The positional arguments of a forward, as nests of tensors and `Spec`.

    Raises:
        ModelspaceError: a shape of the module is not known yet, ``batch_size`` is below 1, or neither or both of
            ``input_shape`` and ``inputs`` are given.
    """
    lazy = [name for name, p in module.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ModelspaceError(
            f"{type(module).__name__} has lazy parameters without a shape ({', '.join(lazy)}): "
            "run it once on a batch first"
        )
    if batch_size < 1:
        raise ModelspaceError(f"batch_size is {batch_size}: an anatomy needs a batch of one or more samples")
    if (input_shape is None) == (inputs is None):
        raise ModelspaceError(
            f"the anatomy of {type(module).__name__} needs either input_shape=(…), one sample's shape, or inputs=…, "
            f"the batch itself as tensors or Spec(shape, dtype); received {'neither' if inputs is None else 'both'}"
        )
    if input_shape is not None:
        return (Spec((batch_size, *input_shape), input_dtype),)
    return inputs if isinstance(inputs, tuple) and not hasattr(inputs, "_fields") else (inputs,)


def _record(subject: Subject) -> Anatomy:
    tracer = subject.tracer
    operations = tuple(operation._replace(times=times) for operation, times in tracer.operations.items())
    ahead, moved = _by_call(operations, "forward")
    back, moved_back = _by_call(operations, "backward", "recomputed")
    again, _ = _by_call(operations, "recomputed")
    shapes: list[tuple[int, ...]] = []
    mapped((subject.args, subject.kwargs), lambda tensor: shapes.append(tuple(tensor.shape)))
    first = next((shape for shape in shapes if shape), (1,))
    owned = _owned(subject.module, subject.calls.made)
    seen: set[nn.Parameter] = set()
    rows = []
    for index, call in enumerate(subject.calls.made):
        fresh = set(owned[call.module]) - seen
        seen |= fresh
        rows.append(
            Layer(
                name=call.name,
                type=type(call.module).__name__,
                parameters=sum(p.numel() for p in fresh),
                output_shape=call.output_shapes[0] if call.output_shapes else (),
                flops=ahead[index],
                backward_flops=back[index],
                output_shapes=call.output_shapes,
                bytes=moved[index],
                saved_bytes=subject.saved.get(index, 0),
                parent=call.parent,
                repeat=call.repeat,
            )
        )
    return Anatomy(
        calls=tuple(rows),
        operations=operations,
        counts=counts(subject.module),
        forward_flops=ahead.total(),
        backward_flops=back.total(),
        recomputed_flops=again.total(),
        forward_bytes=moved.total(),
        backward_bytes=moved_back.total(),
        peak_bytes=subject.ledger.peak,
        saved_bytes=sum(subject.saved.values()),
        uncounted=dict(sorted(tracer.uncounted.items())),
        unknown=dict(sorted(tracer.unknown.items())),
        workspaces=dict(tracer.workspaces),
        batch_size=first[0],
        input_shape=first[1:],
        device=subject.device,
        computed=subject.computed,
    )


def _by_call(operations: Iterable[Operation], *phases: Phase) -> tuple[Counter, Counter]:
    """FLOP and bytes of some phases by the index of the module call."""
    flops: Counter = Counter()
    moved: Counter = Counter()
    for operation in operations:
        if operation.phase in phases:
            flops[operation.call] += operation.flops * operation.times
            moved[operation.call] += operation.bytes * operation.times
    return flops, moved


def _owned(module: nn.Module, calls: list[Call]) -> dict[nn.Module, list[nn.Parameter]]:
    """Each called module's parameters, with those of submodules that are never called."""
    called = {call.module for call in calls}
    owned: dict[nn.Module, list[nn.Parameter]] = defaultdict(list)

    def collect(layer: nn.Module, owner: nn.Module) -> None:
        owner = layer if layer in called else owner
        owned[owner].extend(layer.parameters(recurse=False))
        for child in layer.children():
            collect(child, owner)

    collect(module, module)
    return owned
