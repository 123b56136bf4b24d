"""The mode that sees every operation of a pass: its FLOP, its bytes, whose it is, and what it keeps alive."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.trace._calls import Calls
from modelspace.trace._forward import Attempt
from modelspace.trace._ledger import Ledger, stored

Formula = Callable[..., int]
Phase = Literal["forward", "backward", "recomputed", "update"]
aten = torch.ops.aten


class Operation(NamedTuple):
    """Equal operations of one module call: a product written as a function, a sum, a copy.

    Attributes:
        call: The index, among the calls, of the call whose forward it is or belongs to; None outside all.
        name: The operation's name in PyTorch, ``aten.mm``.
        phase: ``"forward"``, ``"backward"``, ``"update"``, or ``"recomputed"`` in the backward by activation
            checkpointing.
        flops: FLOP of one; 0 where it has no formula.
        bytes: Bytes that one reads and writes.
        dtype: The type of its first floating-point argument; None where it has none.
        output_shape: The shape of its first result.
        times: How often it ran.
    """

    call: int | None
    name: str
    phase: Phase
    flops: int
    bytes: int
    dtype: torch.dtype | None
    output_shape: tuple[int, ...]
    times: int = 1


_CONVOLUTIONS = frozenset(
    {
        *(torch.conv1d, torch.conv2d, torch.conv3d, torch.convolution),
        *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    }
)


class Tracer(TorchDispatchMode):
    """Account for each operation while this mode is entered, on fake tensors or on real ones.

    An operation belongs to the module call under way. In the backward none is; there it belongs to the call whose
    forward made the autograd node under way, which the nodes' sequence numbers tell: a node takes its number right
    before its operation is dispatched.

    Args:
        formulas: FLOP by operation.
        calls: The module calls, kept by hooks.
        ledger: Live memory.
        foreign: Identities of the tensors of the module that was copied, which the copy should not reach.

    Attributes:
        phase: Set by whoever runs the pass.
        operations: How often each kind of operation ran.
        uncounted: How often each operation without a formula ran.
        unknown: Those of them that PyTorch does not mark as elementwise or reducing.
        workspaces: Operations that ran with memory of their own that nothing here can know.
        attempt: The operation under way, for the account of a failure.
        reached_original: Whether a foreign tensor was met, at which the run ends.
        missed_complex: Whether there was a convolution after complex numbers, which may have been one of them.
    """

    supports_higher_order_operators = True

    def __init__(
        self, formulas: Mapping[Any, Formula], calls: Calls, ledger: Ledger, foreign: Container[int] = ()
    ):
        super().__init__()
        self._foreign = foreign
        self.phase: Phase = "forward"
        self.operations: Counter[Operation] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.workspaces: Counter[str] = Counter()
        self.attempt: Attempt | None = None
        self._formulas = formulas
        self._calls = calls
        self._ledger = ledger
        self._nodes: dict[int, int | None] = {}
        self.reached_original = False
        self.missed_complex = False
        self._met_complex = False
        self._counts_twice = False
        self._twice: set[int] = set()

    @contextmanager
    def in_phase(self, phase: Phase) -> Iterator[None]:
        """Account for what the block runs under a phase; calls made in a later one than the forward are repeated."""
        before = self.phase
        self._enter_phase(phase)
        try:
            yield
        finally:
            self._enter_phase(before)

    def _enter_phase(self, phase: Phase) -> None:
        self.phase = self._ledger.phase = phase
        self._calls.repeating = phase != "forward"

    def complex_convolution(self) -> None:
        """Expect a complex convolution, which PyTorch computes by three real ones instead of four.

        The first is counted twice, so that a complex multiply-and-add is eight FLOP here as in any product.
        """
        self._counts_twice = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            (tensor,) = args
            return tensor.fake_device if isinstance(tensor, FakeTensor) else func(*args, **kwargs)
        if func in QUERIES:
            return NotImplemented
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._account(func, func, args, kwargs)
        packet = func._overloadpacket
        if packet is aten._local_scalar_dense and self.phase == "update":
            return 2.0  # an optimizer asks for the number of its step
        if packet not in self._formulas and composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        return self._account(func, packet, args, kwargs)

    def _account(self, func: Any, packet: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(id(leaf) in self._foreign for leaf in given):
            self.reached_original = True
            raise RuntimeError(f"{packet} of a tensor of the module that was copied")
        self.attempt = Attempt(str(packet), tuple(tuple(x.shape) for x in given))
        if packet is aten._grouped_mm and isinstance(given[0], FakeTensor):
            offsets = given[2] if len(given) > 2 else None
            shape = grouped_shape(given[0], given[1], offsets)
            out = given[0].new_empty(shape, dtype=kwargs.get("out_dtype"))
        else:
            out = func(*args, **kwargs)
        self.attempt = None
        made = [out] if isinstance(out, Tensor) else [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        owner = self._owner()
        self._met_complex = self._met_complex or any(tensor.is_complex() for tensor in (*given, *made))
        for tensor in made:
            self._ledger.watch(tensor, self._birth(), owner)
        if moves_nothing(func):
            return out
        flops = 0
        if packet in self._formulas:
            flops = int(self._formulas[packet](*args, **kwargs, out_val=out)) * self._times(packet)
        elif computes(func):
            self.uncounted[str(packet)] += 1
            if not elementwise(func):
                self.unknown[str(packet)] += 1
        if packet in WORKSPACES:
            self.workspaces[str(packet)] += 1
        dtype = next((x.dtype for x in given if x.is_floating_point()), None)
        shape = tuple(made[0].shape) if made else ()
        moved = bytes_moved(func, given, made)
        self.operations[Operation(owner, str(packet), self._phase(), flops, moved, dtype, shape)] += 1
        return out

    def _owner(self) -> int | None:
        current = self._calls.current
        if self.phase == "backward" and current is None:
            node = torch._C._current_autograd_node()
            return None if node is None else self._nodes.get(node._sequence_nr())
        if self.phase != "update":
            self._nodes[torch.autograd._get_sequence_nr() - 1] = current
        return current

    def _times(self, packet: Any) -> int:
        if packet is aten.convolution and self._counts_twice:
            self._counts_twice = False
            self._twice.add(torch.autograd._get_sequence_nr() - 1)
            return 2
        self.missed_complex |= packet is aten.convolution and self._met_complex
        if packet is aten.convolution_backward and self._twice:
            node = torch._C._current_autograd_node()
            return 2 if node is not None and node._sequence_nr() in self._twice else 1
        return 1

    def _phase(self) -> Phase:
        again = self.phase == "backward" and self._calls.current is not None
        return "recomputed" if again else self.phase

    def _birth(self) -> str:
        return "activations" if self._phase() in ("forward", "recomputed") else "temporaries"


class ComplexConvolutions(TorchFunctionMode):
    """While entered, a tracer is told of each complex convolution before PyTorch takes it apart.

    Not for a module without complex tensors: under a mode of functions fused kernels step aside.
    """

    def __init__(self, tracer: Tracer):
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _CONVOLUTIONS:
            given = (value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Tensor))
            if any(value.is_complex() for value in given):
                self._tracer.complex_convolution()
        return func(*args, **(kwargs or {}))


# What an operation is to the count: arithmetic, a product, or only memory; and the bytes that it moves.

# FakeTensor asks these of itself at every turn.
QUERIES = frozenset(
    {
        *(aten.sym_is_contiguous.default, aten.is_contiguous.default, aten.is_contiguous.memory_format),
        *(aten.is_strides_like_format.default, aten.is_non_overlapping_and_dense.default),
        *(aten.size.default, aten.sym_size.default, aten.stride.default, aten.sym_stride.default),
        *(aten.storage_offset.default, aten.sym_storage_offset.default),
        *(aten.numel.default, aten.sym_numel.default, aten.dim.default, torch.ops.prim.layout.default),
    }
)

# They allocate, fill, copy or relabel memory.
_ALLOCATIONS = frozenset(
    {
        *(aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided),
        *(aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.t_, aten.as_strided_),
        *(aten.detach, aten._unsafe_view, aten.lift_fresh, aten._reshape_alias, aten.alias, aten.lift),
    }
)
_FILLS = frozenset(
    {
        *(aten.zeros, aten.zeros_like, aten.new_zeros, aten.ones, aten.ones_like, aten.new_ones),
        *(aten.full, aten.full_like, aten.new_full, aten.arange, aten.scalar_tensor),
        *(aten.fill_, aten.fill, aten.zero_, aten.copy_, aten.clone, aten._to_copy, aten.copy),
        *(aten.cat, aten.stack, aten.repeat, aten.constant_pad_nd, aten.roll, aten.flip),
    }
)
# Of their table they read only the rows that they return.
_LOOKUPS = frozenset({aten.embedding, aten.index_select, aten.index, aten.gather, aten._embedding_bag})

# What their kernels take beside arguments and results (oneDNN's and cuDNN's scratch, reordered operands, what a
# recurrence keeps for its backward) no shape tells.
_SCRATCH = (
    *("convolution", "convolution_backward", "_convolution", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"),
    *("_cudnn_rnn", "_cudnn_rnn_backward", "miopen_rnn", "miopen_rnn_backward"),
)
WORKSPACES = frozenset(getattr(aten, name) for name in _SCRATCH if hasattr(aten, name))


@cache
def composite(func: Any) -> bool:
    """Whether an operation is made of others, with no kernel of its own; in inference mode such a one comes whole."""
    name, has = func.name(), torch._C._dispatch_has_kernel_for_dispatch_key
    return has(name, "CompositeImplicitAutograd") and not has(name, "CPU")


def moves_nothing(func: Any) -> bool:
    """Whether an operation only relabels memory, or reserves it."""
    return getattr(func, "is_view", False) or getattr(func, "_overloadpacket", None) in _ALLOCATIONS


def computes(func: Any) -> bool:
    """Whether an operation does arithmetic, as far as its name tells."""
    packet = getattr(func, "_overloadpacket", func)
    library = getattr(func, "namespace", "")
    return not moves_nothing(func) and packet not in _FILLS and library not in ("prim", "profiler")


def elementwise(func: Any) -> bool:
    """Whether PyTorch says of an operation that it treats each element by itself, or reduces them."""
    tags = getattr(func, "tags", ())
    return torch.Tag.pointwise in tags or any(str(tag).endswith("reduction") for tag in tags)


def bytes_moved(func: Any, given: Iterable[Tensor], made: Iterable[Tensor]) -> int:
    """Bytes read and written: each argument and each result once, expanded dimensions not repeated."""
    if moves_nothing(func):
        return 0
    written = sum(_extent(tensor) for tensor in made)
    if getattr(func, "_overloadpacket", None) in _LOOKUPS:
        _, *indices = given
        return 2 * written + sum(_extent(tensor) for tensor in indices)
    return written + sum(_extent(tensor) for tensor in given)


def _extent(tensor: Tensor) -> int:
    extent = 0
    for part in stored(tensor):
        count = 1
        for size, stride in zip(part.shape, part.stride(), strict=True):
            count *= size if stride or not size else 1
        extent += count * part.element_size()
    return extent


def grouped_shape(a: Tensor, b: Tensor, offsets: Tensor | None) -> tuple[int, ...]:
    """The shape of a grouped product, whose own shape function takes bfloat16 only.

    Args:
        a: ``[rows, inner]``, or ``[group, rows, inner]``.
        b: ``[inner, columns]``, or ``[group, inner, columns]``.
        offsets: The end of each group in the dimension that is divided.

    Example:
        >>> grouped_shape(torch.zeros(32, 16), torch.zeros(4, 16, 8), torch.zeros(4))
        (32, 8)
    """
    if a.ndim == b.ndim:
        groups = a.shape[0] if a.ndim == 3 else (0 if offsets is None else offsets.shape[0])
        return groups, a.shape[-2], b.shape[-1]
    return a.shape[-2], b.shape[-1]
