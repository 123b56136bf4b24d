"""What a module does on one batch, counted without data: layers, shapes, FLOPs and memory.

The module runs forward and backward once as a copy on the meta device, where tensors have shapes and no
values, so a network of any size costs neither memory nor arithmetic.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from modelspace.errors import ModelspaceError
from modelspace.space.copying import copied
from modelspace.space.forward import forward_checked
from modelspace.space.memory import PeakMemory

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """One call of one layer.

    Attributes:
        name: Qualified name, "" for the module itself.
        type: The class's name.
        parameters: Elements of the parameters that are this row's alone: its own, and those of submodules
            that are never called (which it uses itself), trainable and frozen. A tied tensor counts in the
            first row that has it, and a layer called again has none left: the rows add up to the module's.
        output_shape: Shape of its first output tensor, batch included; empty if it returned none.
        flops: Forward FLOPs of this call outside the calls within it: the rows add up to the forward FLOPs.
    """

    name: str
    type: str
    parameters: int
    output_shape: tuple[int, ...]
    flops: int


@dataclass(frozen=True)
class Anatomy:
    """A module's layers and what one training pass over one batch costs.

    Attributes:
        layers: In the order in which they were called: every layer without submodules, and every other
            module that has parameters or FLOPs of its own.
        forward_flops: FLOPs of the batch's forward. One multiply-and-add is two; matrix products,
            convolutions and attention only.
        backward_flops: The same for the backward into every trainable parameter, not into the inputs.
        peak_bytes: Most bytes alive at once: parameters, buffers, inputs, activations and gradients; no
            optimizer state, no kernel workspace.
        uncounted: Operations that ran and have no FLOP formula, by name.
        batch: Samples in the batch.
        input_shape: Shape of one sample.
        device: "meta", or "cpu" where the forward needs real values.
    """

    layers: tuple[Layer, ...]
    forward_flops: int
    backward_flops: int
    peak_bytes: int
    uncounted: tuple[str, ...]
    batch: int
    input_shape: tuple[int, ...]
    device: str


def anatomy(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    batch: int = 1,
    input_dtype: torch.dtype = torch.float32,
) -> Anatomy:
    """Count a module's layers, shapes, FLOPs and peak memory for one training pass over one batch.

    The pass is a forward and the backward of the sum of its outputs, in the module's own mode (training or
    evaluation), on a copy: the module, its buffers, gradients and the global random numbers stay as they
    are. A forward that reads values, which the meta device hasn't got, runs on a CPU copy instead, of zeros
    where the module itself is on meta, and then costs real memory and time.

    FLOPs are those of ``torch.utils.flop_counter.FlopCounterMode``, and of mv, dot, addmv and the CPU's
    flash attention, which it lacks. Not for the time of a step: that is set by memory traffic and launches
    as much as by FLOPs.

    Args:
        module: A module of one input, on any device, meta included.
        input_shape: One sample's shape, without the batch.
        batch: Samples in the batch; at least 2 for BatchNorm on plain features in training mode.
        input_dtype: The batch's dtype; an integer one for token indices.

    Returns:
        The record.

    Raises:
        ModelspaceError: If the forward or backward fails (which layer, on what, what it expects), the module
            has uninitialised lazy parameters, or ``batch`` is below 1.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> cost = anatomy(net, (64,))
        >>> cost.forward_flops == 2 * (64 * 32 + 32 * 10), cost.uncounted
        (True, ('aten.relu', 'aten.sum', 'aten.threshold_backward'))
    """
    if batch < 1:
        raise ModelspaceError(f"batch is {batch}: an anatomy needs a batch of one or more samples")
    lazy = [name for name, p in module.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ModelspaceError(
            f"{type(module).__name__} has lazy parameters without a shape ({', '.join(lazy)}): "
            "run it once on a batch first"
        )
    try:
        return _on("meta", module, tuple(input_shape), batch, input_dtype)
    except ModelspaceError as error:
        if not _needs_values(error.__cause__):
            raise
    return _on("cpu", module, tuple(input_shape), batch, input_dtype)


def _on(
    device: str, module: nn.Module, input_shape: tuple[int, ...], batch: int, input_dtype: torch.dtype
) -> Anatomy:
    module = copied(module, device)
    inputs = torch.zeros(batch, *input_shape, dtype=input_dtype, device=device)
    memory = PeakMemory([*module.parameters(), *module.buffers(), inputs])
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FORMULAS)
    uncounted = _Uncounted(counter)
    # Dropout on a CPU copy would draw from the caller's stream.
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), memory, uncounted, counter:
        with _calls(module, counter) as calls:
            outputs = forward_checked(module, inputs)
        forward = counter.get_total_flops()
        _backward(module, [x for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.requires_grad])
    return Anatomy(
        layers=_rows(module, calls),
        forward_flops=forward,
        backward_flops=counter.get_total_flops() - forward,
        peak_bytes=memory.peak,
        uncounted=tuple(sorted(uncounted.names)),
        batch=batch,
        input_shape=input_shape,
        device=device,
    )


def _backward(module: nn.Module, outputs: list[Tensor]) -> None:
    """The backward of the outputs' sum, without the sum, which is not the module's own operation."""
    if not outputs:
        return
    try:
        ones = [torch.ones((), dtype=x.dtype, device=x.device).expand_as(x) for x in outputs]
        torch.autograd.backward(outputs, ones)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelspaceError(f"the backward of {type(module).__name__} failed: {reason}") from error


def _needs_values(error: BaseException | None) -> bool:
    """Whether a failure on the meta device came from there being no values, rather than from the shapes."""
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower()


class _Uncounted(TorchDispatchMode):
    """The names of operations that ran and have no FLOP formula; entered outside the counter it reads."""

    def __init__(self, counter: FlopCounterMode):
        super().__init__()
        self.counter = counter
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func._overloadpacket
        if packet not in self.counter.flop_registry and packet not in _NO_ARITHMETIC and not func.is_view:
            self.names.add(str(packet))
        return func(*args, **(kwargs or {}))


# They allocate, fill, copy or relabel memory.
_NO_ARITHMETIC = frozenset(
    {
        *(aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided),
        *(aten.zeros, aten.zeros_like, aten.new_zeros, aten.ones, aten.ones_like, aten.new_ones),
        *(aten.full, aten.full_like, aten.new_full, aten.arange, aten.scalar_tensor, aten.lift_fresh),
        *(aten.fill_, aten.zero_, aten.copy_, aten.clone, aten._to_copy, aten.detach, aten._unsafe_view),
    }
)


def _mv_flop(a_shape, b_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * a_shape[0] * a_shape[1]


def _addmv_flop(self_shape, a_shape, b_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * a_shape[0] * a_shape[1]


def _dot_flop(a_shape, b_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * a_shape[0]


def _cpu_attention_flop(q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(q_shape, k_shape, v_shape)


def _cpu_attention_backward_flop(
    grad_shape, q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs
) -> int:
    return sdpa_backward_flop_count(grad_shape, q_shape, k_shape, v_shape)


_MORE_FORMULAS = {
    aten.mv: _mv_flop,
    aten.addmv: _addmv_flop,
    aten.dot: _dot_flop,
    aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward_flop,
}


@dataclass
class _Call:
    """One call under way: its layer and the FLOPs counted when it began, in all and within inner calls."""

    name: str
    layer: nn.Module
    start: int
    inner: int = 0
    flops: int = 0
    output_shape: tuple[int, ...] = field(default=())


@contextmanager
def _calls(module: nn.Module, counter: FlopCounterMode) -> Iterator[list[_Call]]:
    """Every call of every submodule, in the order in which they began."""
    calls: list[_Call] = []
    stack: list[_Call] = []
    names = {layer: name for name, layer in module.named_modules()}

    def enter(layer: nn.Module, args: tuple) -> None:
        stack.append(_Call(names[layer], layer, counter.get_total_flops()))
        calls.append(stack[-1])

    def leave(layer: nn.Module, args: tuple, output: Any) -> None:
        call = stack.pop()
        spent = counter.get_total_flops() - call.start
        call.flops = spent - call.inner
        if stack:
            stack[-1].inner += spent
        first = next((x for x in tree_leaves(output) if isinstance(x, Tensor)), None)
        call.output_shape = () if first is None else tuple(first.shape)

    handles = []
    try:
        for layer in names:
            handles.append(layer.register_forward_pre_hook(enter))
            # Called after a failure too, which the user's own forward may catch.
            handles.append(layer.register_forward_hook(leave, always_call=True))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _rows(module: nn.Module, calls: list[_Call]) -> tuple[Layer, ...]:
    called = {call.layer for call in calls}
    owned: dict[nn.Module, list[nn.Parameter]] = defaultdict(list)

    def collect(layer: nn.Module, owner: nn.Module) -> None:
        owner = layer if layer in called else owner
        owned[owner].extend(layer.parameters(recurse=False))
        for child in layer.children():
            collect(child, owner)

    collect(module, module)
    seen: set[nn.Parameter] = set()
    rows = []
    for call in calls:
        fresh = set(owned[call.layer]) - seen
        seen |= fresh
        is_leaf = next(call.layer.children(), None) is None
        if is_leaf or owned[call.layer] or call.flops:
            rows.append(
                Layer(
                    name=call.name,
                    type=type(call.layer).__name__,
                    parameters=sum(p.numel() for p in fresh),
                    output_shape=call.output_shape,
                    flops=call.flops,
                )
            )
    return tuple(rows)
