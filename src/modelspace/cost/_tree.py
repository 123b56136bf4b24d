"""A pass as a tree of module calls, each with what it holds and costs, those within it included."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelspace.cost._anatomy import Anatomy, Layer

QUANTITIES = ("parameters", "flops", "backward_flops", "bytes", "saved_bytes", "peak_bytes")
_MAY_DIFFER = ("backward_flops", "peak_bytes")


@dataclass(frozen=True)
class Node:
    """One module call, or several in a row that are alike; the numbers are those of *one* of them.

    Attributes:
        name: The qualified name of the module, of the first where there are several.
        label: The name as the tree shows it: without that of the call around it, ``layers.0–79`` for several.
        type: The class's name.
        output_shape: Shape of the first output, batch included.
        times: How many calls in a row are alike.
        again: Whether the module was called before.
        parameters: Elements of the parameters that are first used here; tied tensors count once.
        flops: Forward FLOP.
        backward_flops: Backward FLOP; of several that are alike the mean, for the first may need no gradient of its
            input.
        bytes: Bytes that the forward's operations read and write.
        saved_bytes: Bytes of activations kept for the backward.
        peak_bytes: Bytes held at the peak of a training step; of several that are alike the mean, for the backward
            has passed some of them. 0 where no step was traced.
        own: The same numbers without the calls within.
        children: The calls within, alike ones folded.
    """

    name: str
    label: str
    type: str
    output_shape: tuple[int, ...]
    times: int
    again: bool
    parameters: int
    flops: int
    backward_flops: int
    bytes: int
    saved_bytes: int
    peak_bytes: int
    own: Mapping[str, int]
    children: tuple["Node", ...]

    @property
    def intensity(self) -> float:
        """Forward FLOP a byte moved; 0 where nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    def walk(self) -> Iterator["Node"]:
        """This node and every one below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree(anatomy: Anatomy, at_peak: Mapping[str | None, int] | None = None, *, fold: bool = True) -> Node:
    """The tree of a pass.

    Args:
        anatomy: The record of the pass.
        at_peak: Bytes held at a step's peak by module name, as a step's memory has them.
        fold: Join calls in a row that are alike in all numbers and all the way down.

    Returns:
        The outermost call.

    Example:
        >>> from torch import nn
        >>> from modelspace.cost import anatomy
        >>> blocks = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)]
        >>> root = tree(anatomy(nn.Sequential(*blocks), (8,)))
        >>> [(node.label, node.times, node.parameters) for node in root.children]
        [('0–4', 5, 72)]
    """
    inside: dict[int | None, list[int]] = defaultdict(list)
    for index, call in enumerate(anatomy.calls):
        inside[call.parent].append(index)
    # A module's bytes are those of all its calls: its first one shows them.
    peaks = dict(at_peak or {})

    def node(index: int, around: str) -> Node:
        call = anatomy.calls[index]
        children = tuple(node(child, call.name) for child in inside[index])
        own = _own(call, peaks.pop(call.name, 0))
        total = {key: own[key] + sum(getattr(child, key) for child in children) for key in QUANTITIES}
        return Node(
            name=call.name,
            label=_relative(call.name, around),
            type=call.type,
            output_shape=call.output_shape,
            times=1,
            again=call.repeat > 0,
            own=own,
            children=folded(children) if fold else children,
            **total,
        )

    return node(inside[None][0], "")


def folded(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Nodes in a row that are alike, as one each."""
    found: list[list[Node]] = []
    for node in nodes:
        if found and _kind(found[-1][0]) == _kind(node) and _numbered(node.label):
            found[-1].append(node)
        else:
            found.append([node])
    return tuple(run[0] if len(run) == 1 else _joined(run) for run in found)


def _joined(run: list[Node]) -> Node:
    first, last = run[0], run[-1]
    label = f"{first.label}–{last.label.rpartition('.')[2]}"
    means = {key: round(sum(getattr(node, key) for node in run) / len(run)) for key in _MAY_DIFFER}
    return Node(**{**vars(first), "label": label, "times": len(run), **means})


def _kind(node: Node) -> tuple:
    """What must be equal in alike nodes; of the name all but the number that ends it."""
    numbers = (node.times, *(getattr(node, key) for key in QUANTITIES if key not in _MAY_DIFFER))
    stem = node.label.rpartition(".")[0] if _numbered(node.label) else node.label
    return stem, node.type, node.output_shape, node.again, numbers, tuple(_kind(c) for c in node.children)


def _numbered(label: str) -> bool:
    return label.rpartition(".")[2].isdigit()


def _own(call: Layer, peak: int) -> dict[str, int]:
    return {
        "parameters": call.parameters,
        "flops": call.flops,
        "backward_flops": call.backward_flops,
        "bytes": call.bytes,
        "saved_bytes": call.saved_bytes,
        "peak_bytes": peak,
    }


def _relative(name: str, around: str) -> str:
    return name.removeprefix(f"{around}.") if around else name
