"""Packed sequences of many members at once: packing, padding and reversing as gathers.

The lengths are the same for all members, so the places that elements come from are computed once, by PyTorch's own
function applied to the numbers of the places; in a compiled program they are constants. Every element goes to one
place at most, so that a gradient is a gather too, by the inverse places: never a scatter, which is slow, and which
Inductor up to PyTorch 2.13 gets wrong with several threads (pytorch/pytorch issue 191837).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot

from modelspace.engine.lowerings.batched import Table, is_own


def pack_padded_sequence(
    input: Shaped[Tensor, "first second *rest"], lengths: Int[Tensor, "batch"], batch_first: bool
) -> tuple[Shaped[Tensor, "packed *rest"], Int[Tensor, "step"]]:
    """``torch._pack_padded_sequence``: data and batch sizes; the batch is the first axis, or time is."""
    _must_be_known(lengths, "lengths")
    with _untraced():
        numbers = torch.arange(input.shape[0] * input.shape[1])
        places, sizes = torch._pack_padded_sequence(numbers.view(input.shape[:2]), lengths, batch_first)
    return _taken(input.flatten(0, 1), places), _constant(sizes)


def pad_packed_sequence(
    data: Shaped[Tensor, "packed *rest"],
    batch_sizes: Int[Tensor, "time"],
    batch_first: bool,
    padding_value: float,
    total_length: int,
) -> tuple[Shaped[Tensor, "first second *rest"], Int[Tensor, "batch"]]:
    """``torch._pad_packed_sequence``: padded data and lengths."""
    places, lengths = _padded_places(batch_sizes, batch_first, total_length)
    result = _taken(data, places.flatten()).unflatten(0, places.shape)
    if padding_value != 0:
        outside = (places < 0).view(*places.shape, *[1] * (data.dim() - 1)).to(data.device)
        result = result.masked_fill(outside, padding_value)
    return result, _constant(lengths)


def pad_sequence(
    sequences: Sequence[Shaped[Tensor, "_ *rest"]],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Shaped[Tensor, "first second *rest"]:
    """``nn.utils.rnn.pad_sequence``."""
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"padding_side is {padding_side!r}: 'left' or 'right' was expected")
    longest = max(len(sequence) for sequence in sequences)
    padded = []
    for sequence in sequences:
        missing = longest - len(sequence)
        sides = [0, missing] if padding_side == "right" else [missing, 0]
        padded.append(F.pad(sequence, [0, 0] * (sequence.dim() - 1) + sides, value=padding_value))
    return torch.stack(padded, 0 if batch_first else 1)


def sizes_of(batch_sizes: Int[Tensor, "time"]) -> tuple[int, ...]:
    """Return the batch sizes as numbers."""
    _must_be_known(batch_sizes, "batch_sizes")
    return tuple(batch_sizes.tolist())


def padded(
    data: Shaped[Tensor, "packed *rest"], batch_sizes: Int[Tensor, "time"]
) -> Shaped[Tensor, "time batch *rest"]:
    """Pad packed data with zeros."""
    return pad_packed_sequence(data, batch_sizes, False, 0.0, len(batch_sizes))[0]


def packed(
    input: Shaped[Tensor, "time batch *rest"], batch_sizes: Int[Tensor, "time"]
) -> Shaped[Tensor, "packed *rest"]:
    """Undo ``padded``."""
    _, lengths = _padded_places(batch_sizes, False, len(batch_sizes))
    return pack_padded_sequence(input, lengths, False)[0]


def backwards(
    input: Shaped[Tensor, "time *rest batch"], sizes: Sequence[int]
) -> Shaped[Tensor, "time *rest batch"]:
    """Turn each sequence, of which so many go on at each step, from end to beginning; what lies beyond stays."""
    batch = input.shape[-1]
    if sizes[-1] == batch:
        return input.flip(0)
    lengths = [sum(size > column for size in sizes) for column in range(batch)]
    places = [[n - 1 - t if t < n else t for n in lengths] for t in range(len(sizes))]
    index = torch.tensor(places, device=input.device).view(len(sizes), *[1] * (input.dim() - 2), batch)
    return _Backwards.apply(input, index.expand_as(input))


class _Backwards(torch.autograd.Function):
    """A gather that is its own inverse."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, index: Tensor) -> Tensor:
        return input.gather(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Backwards.apply(*gradients, *ctx.saved_tensors), None


def _taken(
    input: Shaped[Tensor, "place *rest"], places: Int[Tensor, "result"]
) -> Shaped[Tensor, "result *rest"]:
    """Return rows of ``input``, zeros where the place is negative; no row is taken twice."""
    with _untraced():
        inverse = torch.full([input.shape[0] + 1], -1)
        inverse[places] = torch.arange(len(places))  # a negative place writes to the last, which is cut off
    return _Taken.apply(input, places.to(input.device), inverse[:-1].to(input.device))


class _Taken(torch.autograd.Function):
    """A gather whose gradient is the gather of the inverse places."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, places: Tensor, inverse: Tensor) -> Tensor:
        outside = (places < 0).view(-1, *[1] * (input.dim() - 1))
        return input.index_select(0, places.clamp_min(0)).masked_fill(outside, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        places, inverse = ctx.saved_tensors
        return _Taken.apply(*gradients, inverse, places), None, None


def _padded_places(
    batch_sizes: Int[Tensor, "time"], batch_first: bool, total_length: int
) -> tuple[Int[Tensor, "first second"], Int[Tensor, "batch"]]:
    """Tell where each element of the padded tensor lies in the packed one, −1 for nowhere; and the lengths."""
    _must_be_known(batch_sizes, "batch_sizes")
    with _untraced():
        numbers = torch.arange(int(batch_sizes.sum()))
        return torch._pad_packed_sequence(numbers, batch_sizes, batch_first, -1, total_length)


def _must_be_known(numbers: Tensor, name: str) -> None:
    """Refuse numbers that differ between members, or that a compiled program would be told only when it runs."""
    if is_own(numbers):
        raise RuntimeError(f"packed sequences whose {name} differ between members can't be batched")
    if not _made_of_constants(numbers):
        raise RuntimeError(f"packed sequences whose {name} depend on the data can't be compiled")


def _made_of_constants(numbers: Tensor) -> bool:
    """Tell whether the trace under way, if any, has computed these from nothing that is passed to the program."""
    mode = get_proxy_mode()
    slot = None if mode is None else get_proxy_slot(numbers, mode.tracer, None)
    seen = set() if slot is None else {slot.proxy.node}
    ahead = list(seen)
    while ahead:
        node = ahead.pop()
        if node.op == "placeholder":
            return False
        ahead += set(node.all_input_nodes) - seen
        seen.update(node.all_input_nodes)
    return True


def _untraced() -> Any:
    """Have what is computed in the block be a constant of the program that is being traced, if one is."""
    return nullcontext() if get_proxy_mode() is None else disable_proxy_modes_tracing()


def _constant(numbers: Tensor) -> Tensor:
    """Return ``numbers``, such that a trace under way knows their values: a network may ask for one of them."""
    mode = get_proxy_mode()
    if mode is None:
        return numbers
    traced = numbers.clone()
    get_proxy_slot(traced, mode.tracer).constant = numbers
    return traced


TABLE: Table = {
    torch._pack_padded_sequence: pack_padded_sequence,
    torch._pad_packed_sequence: pad_packed_sequence,
    torch._C._nn.pad_sequence: pad_sequence,  # pyright: ignore[reportAttributeAccessIssue]
}
