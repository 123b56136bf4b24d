"""The mode that sees every operation of a pass: its FLOP, its bytes, whose it is, and what it keeps alive."""

import contextlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.trace._calls import Calls
from modelspace.trace._forward import Attempt
from modelspace.trace._ledger import Ledger
from modelspace.trace._operations import (
    QUERIES,
    WORKSPACES,
    bytes_moved,
    composite,
    computes,
    elementwise,
    grouped_shape,
    moves_nothing,
)

Formula = Callable[..., int]
Phase = Literal["forward", "backward", "recomputed", "update"]
aten = torch.ops.aten


class Kind(NamedTuple):
    """What makes two operations one line of the account.

    Attributes:
        call: The index of the module call that it belongs to; None outside all of them.
        name: The operation.
        phase: When it ran.
        flops: Its FLOP; 0 where it has no formula.
        bytes: What it reads and writes.
        dtype: The type of its first floating-point argument.
        output_shape: The shape of its first result.
    """

    call: int | None
    name: str
    phase: Phase
    flops: int
    bytes: int
    dtype: torch.dtype | None
    output_shape: tuple[int, ...]


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
        self.operations: Counter[Kind] = Counter()
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

    def set_phase(self, phase: Phase) -> None:
        """Account for what follows under a phase; calls made in a later one than the forward are repeated ones."""
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
        if not moves_nothing(func):
            self._count(func, packet, args, kwargs, given, out, made, owner)
        return out

    def _count(
        self,
        func: Any,
        packet: Any,
        args: tuple,
        kwargs: dict[str, Any],
        given: list[Tensor],
        out: Any,
        made: list[Tensor],
        owner: int | None,
    ) -> None:
        formula = self._formulas.get(packet)
        flops = 0
        if formula is not None:
            flops = int(formula(*args, **kwargs, out_val=out)) * self._times(packet)
        elif computes(func):
            self.uncounted[str(packet)] += 1
            if not elementwise(func):
                self.unknown[str(packet)] += 1
        if packet in WORKSPACES:
            self.workspaces[str(packet)] += 1
        dtype = next((x.dtype for x in given if x.is_floating_point()), None)
        shape = tuple(made[0].shape) if made else ()
        moved = bytes_moved(func, given, made)
        self.operations[Kind(owner, str(packet), self._phase(), flops, moved, dtype, shape)] += 1

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
        if func in _CONVOLUTIONS and _complex((*args, *(kwargs or {}).values())):
            self._tracer.complex_convolution()
        return func(*args, **(kwargs or {}))


def _complex(values: Iterable[Any]) -> bool:
    return any(isinstance(value, Tensor) and value.is_complex() for value in values)


def flops(operations: Mapping[Kind, int], *phases: Phase) -> int:
    """FLOP of all operations of some phases."""
    return sum(kind.flops * times for kind, times in operations.items() if kind.phase in phases)


def of_calls(operations: Mapping[Kind, int], *phases: Phase) -> tuple[Counter, Counter]:
    """FLOP and bytes by the index of the module call."""
    counted: Counter = Counter()
    moved: Counter = Counter()
    for kind, times in operations.items():
        if kind.phase in phases:
            counted[kind.call] += kind.flops * times
            moved[kind.call] += kind.bytes * times
    return counted, moved


@contextlib.contextmanager
def in_phase(tracer: Tracer, phase: Phase) -> Iterator[None]:
    """Account for what the block runs under a phase."""
    before = tracer.phase
    tracer.set_phase(phase)
    try:
        yield
    finally:
        tracer.set_phase(before)
