"""Packed sequences of many members at once: packing and padding as gathers.

The lengths are the same for all members, so the places that each element comes from are computed once, by PyTorch's
own function applied to the numbers of the places. In a compiled program they are constants.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot


def pack_padded_sequence(
    input: Shaped[Tensor, "time batch *rest"], lengths: Int[Tensor, "batch"], batch_first: bool
) -> tuple[Shaped[Tensor, "packed *rest"], Int[Tensor, "time"]]:
    """``torch._pack_padded_sequence``: data and batch sizes."""
    _must_be_known(lengths, "lengths")
    with _untraced():
        places = torch.arange(input.shape[0] * input.shape[1]).view(input.shape[:2])
        places, sizes = torch._pack_padded_sequence(places, lengths, batch_first)
    return input.flatten(0, 1).index_select(0, places.to(input.device)), _constant(sizes)


def pad_packed_sequence(
    data: Shaped[Tensor, "packed *rest"],
    batch_sizes: Int[Tensor, "time"],
    batch_first: bool,
    padding_value: float,
    total_length: int,
) -> tuple[Shaped[Tensor, "time batch *rest"], Int[Tensor, "batch"]]:
    """``torch._pad_packed_sequence``: padded data and lengths."""
    places, lengths = _padded_places(batch_sizes, batch_first, total_length)
    places = places.to(data.device)
    padded = data.index_select(0, places.clamp_min(0).flatten()).unflatten(0, places.shape)
    outside = (places < 0).view(*places.shape, *[1] * (data.dim() - 1))
    return torch.where(outside, torch.full_like(data[0], padding_value), padded), _constant(lengths)


def sizes_of(batch_sizes: Int[Tensor, "time"]) -> tuple[int, ...]:
    """The batch sizes as numbers."""
    _must_be_known(batch_sizes, "batch_sizes")
    return tuple(batch_sizes.tolist())


def padded(
    data: Shaped[Tensor, "packed *rest"], batch_sizes: Int[Tensor, "time"]
) -> Shaped[Tensor, "time batch *rest"]:
    """Packed data padded with something."""
    places, _ = _padded_places(batch_sizes, False, len(batch_sizes))
    places = places.clamp_min(0).to(data.device)
    return data.index_select(0, places.flatten()).unflatten(0, places.shape)


def packed(
    input: Shaped[Tensor, "time batch *rest"], batch_sizes: Int[Tensor, "time"]
) -> Shaped[Tensor, "packed *rest"]:
    """The inverse of ``padded``."""
    _, lengths = _padded_places(batch_sizes, False, len(batch_sizes))
    return pack_padded_sequence(input, lengths, False)[0]


def backwards(
    input: Shaped[Tensor, "time *rest batch"], sizes: Sequence[int]
) -> Shaped[Tensor, "time *rest batch"]:
    """Each sequence from its end to its beginning; what lies beyond its end stays in place.

    Args:
        input: By step.
        sizes: How many sequences are at least so many steps long, not increasing.
    """
    if sizes[-1] == input.shape[-1]:
        return input.flip(0)
    steps = range(len(sizes))
    lengths = [sum(size > column for size in sizes) for column in range(input.shape[-1])]
    places = [[n - 1 - t if t < n else t for n in lengths] for t in steps]
    index = torch.tensor(places, device=input.device)
    index = index.view(len(sizes), *[1] * (input.dim() - 2), -1).expand_as(input)
    return _Backwards.apply(input, index)


class _Backwards(torch.autograd.Function):
    """A gather that is its own inverse, so that its gradient is a gather too."""

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

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _Backwards.apply(tangent, *ctx.saved_tensors)


def _padded_places(
    batch_sizes: Int[Tensor, "time"], batch_first: bool, total_length: int
) -> tuple[Int[Tensor, "time batch"], Int[Tensor, "batch"]]:
    """Where each element of the padded tensor lies in the packed one, −1 for what lies nowhere; and the lengths."""
    _must_be_known(batch_sizes, "batch_sizes")
    with _untraced():
        places = torch.arange(int(batch_sizes.sum()))
        return torch._pad_packed_sequence(places, batch_sizes, batch_first, -1, total_length)


def _must_be_known(numbers: Tensor, name: str) -> None:
    """Refuse numbers that aren't the same for all members, or that a compiled program would have to ask for."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    if functorch.is_batchedtensor(numbers):
        raise RuntimeError(f"packed sequences: {name} differ between members, so that they can't be batched")
    if not _made_of_constants(numbers):
        raise RuntimeError(f"packed sequences: {name} depend on the data, so that they can't be compiled")


def _made_of_constants(numbers: Tensor) -> bool:
    """Whether a trace under way, if any, has computed these from nothing that is passed to the program."""
    mode = get_proxy_mode()
    slot = None if mode is None else get_proxy_slot(numbers, mode.tracer, None)
    nodes = [] if slot is None else [slot.proxy.node]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.op == "placeholder":
            return False
        new = set(node.all_input_nodes) - seen
        seen |= new
        nodes += new
    return True


def _untraced() -> Any:
    """What is computed in the block is a constant of the program that is being traced, if one is."""
    return nullcontext() if get_proxy_mode() is None else disable_proxy_modes_tracing()


def _constant(numbers: Tensor) -> Tensor:
    """``numbers``, such that a trace under way knows their values: a network may ask for one of them."""
    mode = get_proxy_mode()
    if mode is None:
        return numbers
    traced = numbers.clone()
    get_proxy_slot(traced, mode.tracer).constant = numbers
    return traced


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch._pack_padded_sequence: pack_padded_sequence,
    torch._pad_packed_sequence: pad_packed_sequence,
}
