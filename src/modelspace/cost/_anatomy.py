"""What a module does on one batch, counted without data: calls, shapes, FLOP and memory."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from modelspace.cost._counts import counts
from modelspace.cost._formulas import all_formulas
from modelspace.cost._record import Anatomy, Layer, Operation
from modelspace.errors import ModelspaceError
from modelspace.trace import (
    Call,
    Request,
    Result,
    Spec,
    Subject,
    WithoutValues,
    flops,
    forward,
    forward_backward,
    held_tensors,
    mapped,
    of_calls,
    trace,
)


def anatomy(
    module: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    batch: int = 1,
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
        batch: Samples in the batch; at least 2 for BatchNorm on plain features in training mode.
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
            has uninitialised lazy parameters, ``batch`` is below 1, or no inputs are given, or it reads values and is
            too large to be computed.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> cost = anatomy(net, (64,))
        >>> cost.forward_flops == 2 * (64 * 32 + 32 * 10), cost.uncounted
        (True, {'aten.relu': 1, 'aten.sum': 2, 'aten.threshold_backward': 1})
        >>> anatomy(nn.Bilinear(4, 5, 3), inputs=(Spec((8, 4)), Spec((8, 5)))).forward_flops
        1200
    """
    refuse_lazy(module)
    args = arguments(module, input_shape, batch, input_dtype, inputs)
    request = Request(module, args, kwargs or {}, all_formulas(flop_formulas))
    return trace(request, _passed if backward else _forwarded, gradients=backward)


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
    batch: int,
    input_dtype: torch.dtype,
    inputs: Any,
) -> tuple:
    """The positional arguments of a forward, as nests of tensors and `Spec`.

    Raises:
        ModelspaceError: ``batch`` is below 1, or neither or both of ``input_shape`` and ``inputs`` are given.
    """
    if batch < 1:
        raise ModelspaceError(f"batch is {batch}: an anatomy needs a batch of one or more samples")
    if (input_shape is None) == (inputs is None):
        raise ModelspaceError(
            f"the anatomy of {type(module).__name__} needs either input_shape=(…), one sample's shape, or inputs=…, "
            f"the batch itself as tensors or Spec(shape, dtype); received {'neither' if inputs is None else 'both'}"
        )
    if input_shape is not None:
        return (Spec((batch, *input_shape), input_dtype),)
    return inputs if isinstance(inputs, tuple) and not hasattr(inputs, "_fields") else (inputs,)


def refuse_lazy(module: nn.Module) -> None:
    """Refuse a module whose shapes are not known yet."""
    lazy = [name for name, p in module.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ModelspaceError(
            f"{type(module).__name__} has lazy parameters without a shape ({', '.join(lazy)}): "
            "run it once on a batch first"
        )


def _passed(subject: Subject) -> Anatomy:
    forward_backward(subject)
    return _record(subject)


def _forwarded(subject: Subject) -> Anatomy:
    forward(subject)
    return _record(subject)


def _record(subject: Subject) -> Anatomy:
    done = subject.tracer.operations
    shapes: list[tuple[int, ...]] = []
    mapped((subject.args, subject.kwargs), lambda tensor: shapes.append(tuple(tensor.shape)))
    first = next((shape for shape in shapes if shape), (1,))
    return Anatomy(
        calls=_rows(subject),
        operations=tuple(
            Operation(k.call, k.name, k.phase, times, k.flops, k.bytes, k.dtype, k.output_shape)
            for k, times in done.items()
        ),
        counts=counts(subject.module),
        forward_flops=flops(done, "forward"),
        backward_flops=flops(done, "backward", "recomputed"),
        recomputed_flops=flops(done, "recomputed"),
        forward_bytes=sum(of_calls(done, "forward")[1].values()),
        backward_bytes=sum(of_calls(done, "backward", "recomputed")[1].values()),
        peak_bytes=subject.ledger.peak,
        saved_bytes=sum(subject.saved.values()),
        uncounted=dict(sorted(subject.tracer.uncounted.items())),
        unknown=dict(sorted(subject.tracer.unknown.items())),
        workspaces=dict(subject.tracer.workspaces),
        batch=first[0],
        input_shape=first[1:],
        device=subject.device,
        computed=subject.computed,
    )


def _rows(subject: Subject) -> tuple[Layer, ...]:
    calls = subject.calls.made
    owned = _owned(subject.module, calls)
    ahead, moved = of_calls(subject.tracer.operations, "forward")
    back, _ = of_calls(subject.tracer.operations, "backward", "recomputed")
    seen: set[nn.Parameter] = set()
    rows = []
    for index, call in enumerate(calls):
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
    return tuple(rows)


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
