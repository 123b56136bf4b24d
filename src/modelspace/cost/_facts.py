"""What is compared of a module: its class, its arguments, its own tensors, and what its calls cost."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from modelspace.cost._anatomy import Anatomy
from modelspace.show import shape_text


@dataclass(frozen=True)
class Facts:
    """One module by itself, without its submodules.

    Attributes:
        name: Its qualified name, "" for the outermost.
        type: Its class's name.
        arguments: What it says of itself in its ``repr``: ``in_features=4, out_features=3, bias=True``.
        tensors: Its own parameters and buffers by name, as text: shape, type, frozen or not.
        parameters: Their elements, ties included.
        outputs: The output shape of each of its calls; empty where it isn't called or nothing was traced.
        flops: Forward FLOP of its calls, without those within.
        backward_flops: Backward FLOP of its calls, without those within.
        saved_bytes: Bytes of activations that its calls keep.
    """

    name: str
    type: str
    arguments: str
    tensors: tuple[tuple[str, str], ...]
    parameters: int
    outputs: tuple[tuple[int, ...], ...] = ()
    flops: int = 0
    backward_flops: int = 0
    saved_bytes: int = 0

    @property
    def structure(self) -> tuple:
        """What makes two modules of unlike names the same."""
        return self.type, self.arguments, self.tensors


def facts_of(module: nn.Module, record: Anatomy | None) -> dict[str, Facts]:
    """Every module's facts by its name, in the order in which they were made.

    Args:
        module: The outermost module.
        record: Its pass; None where there is none.
    """
    outputs: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    costs: dict[str, Counter[str]] = defaultdict(Counter)
    for call in record.calls if record is not None else ():
        outputs[call.name].append(call.output_shape)
        costs[call.name].update(
            flops=call.flops, backward_flops=call.backward_flops, saved_bytes=call.saved_bytes
        )
    return {
        name: Facts(
            name=name,
            type=type(layer).__name__,
            arguments=layer.extra_repr(),
            tensors=_tensors(layer),
            parameters=sum(p.numel() for p in layer.parameters(recurse=False)),
            outputs=tuple(outputs[name]),
            flops=costs[name]["flops"],
            backward_flops=costs[name]["backward_flops"],
            saved_bytes=costs[name]["saved_bytes"],
        )
        for name, layer in module.named_modules()
    }


def _tensors(layer: nn.Module) -> tuple[tuple[str, str], ...]:
    named = [
        *(
            (name, p, "" if p.requires_grad else " frozen")
            for name, p in layer.named_parameters(recurse=False)
        ),
        *((name, b, " buffer") for name, b in layer.named_buffers(recurse=False)),
    ]
    return tuple((name, f"{shape_text(tuple(t.shape))} {_type(t.dtype)}{kind}") for name, t, kind in named)


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
