"""The frozen record of a pass: module calls, operations, FLOP, bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from modelspace.cost._counts import Counts


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
class Operation:
    """Equal operations of one module call: a product written as a function, a sum, a copy.

    Attributes:
        call: The index, among the calls, of the call whose forward it is or belongs to; None outside all.
        name: The operation's name in PyTorch, ``aten.mm``.
        phase: ``"forward"``, ``"backward"``, or ``"recomputed"`` in the backward by activation checkpointing.
        times: How often it ran.
        flops: FLOP of one; 0 where it has no formula.
        bytes: Bytes that one reads and writes.
        dtype: The type of its first floating-point argument; None where it has none.
        output_shape: The shape of its first result.
    """

    call: int | None
    name: str
    phase: Literal["forward", "backward", "recomputed", "update"]
    times: int
    flops: int
    bytes: int
    dtype: torch.dtype | None
    output_shape: tuple[int, ...]


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
        batch: Samples in the batch.
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
    batch: int
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
