"""A pass as a tree of module calls, each with what it and those within hold and cost; what stands out in it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from modelspace.cost._anatomy import Anatomy
from modelspace.cost._counts import Counts
from modelspace.cost._memory import StepMemory
from modelspace.show import bytes_text, number, percent

QUANTITIES = ("parameters", "flops", "backward_flops", "bytes", "saved_bytes", "peak_bytes")
_MAY_DIFFER = ("backward_flops", "peak_bytes")
_MOST = 3
# PyTorch marks only what is elementwise or a reduction; these are known to be no products either.
_NO_PRODUCTS = (
    *("norm", "pool", "select", "slice", "index", "scatter", "gather", "embedding", "sort", "topk", "cumsum"),
    *("cumprod", "upsample", "grid_sampler", "pad", "im2col", "col2im", "roll", "softmax", "tril", "triu"),
    *("unfold", "dropout", "loss", "masked", "where", "nonzero", "bernoulli", "rand"),
)


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
        own = {key: getattr(call, key) for key in QUANTITIES[:-1]} | {"peak_bytes": peaks.pop(call.name, 0)}
        total = {key: own[key] + sum(getattr(child, key) for child in children) for key in QUANTITIES}
        return Node(
            name=call.name,
            label=call.name.removeprefix(f"{around}.") if around else call.name,
            type=call.type,
            output_shape=call.output_shape,
            times=1,
            again=call.repeat > 0,
            own=own,
            children=_folded(children) if fold else children,
            **total,
        )

    return node(inside[None][0], "")


def _folded(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Nodes in a row that are alike, as one each."""
    runs = (list(run) for _, run in groupby(nodes, _kind))
    return tuple(node for run in runs for node in ([_joined(run)] if _numbered(run[0].label) else run))


def _joined(run: list[Node]) -> Node:
    first, last = run[0], run[-1]
    if first is last:
        return first
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


# What stands out, as sentences.


def highlights(record: Anatomy, root: Node, step: StepMemory | None = None) -> tuple[str, ...]:
    """At most three sentences, the most consequential first.

    What may be missing from the count comes before where the parameters are, what fills the memory and where the
    FLOP go.
    """
    found = [
        _doubtful(record),
        record.computed,
        _holder(record, root),
        _memory(record, root, step),
        _ties(record.counts),
        _frozen(record.counts),
        _worker(record, root),
    ]
    return tuple(sentence for sentence in found if sentence)[:_MOST]


def _doubtful(record: Anatomy) -> str | None:
    unknown = {
        name: times
        for name, times in record.unknown.items()
        if not any(part in name for part in _NO_PRODUCTS)
    }
    if not unknown:
        return None
    names = ", ".join(f"{name} × {times}" for name, times in unknown.items())
    return f"not counted, and may hide products: {names}"


def _holder(record: Anatomy, root: Node) -> str | None:
    node = _concentrated(root, "parameters")
    if node is None:
        return None
    held, whole = node.parameters * node.times, record.counts.parameters
    if held == whole:
        return None
    return f"{_named(node)} hold{'s' * (node.times == 1)} {percent(held, whole)} of the parameters: " + (
        f"{number(held)} of {number(whole)}"
    )


def _worker(record: Anatomy, root: Node) -> str | None:
    node = _concentrated(root, "flops")
    if node is None:
        return None
    if node.flops * node.times == record.forward_flops:
        return None
    share = percent(node.flops * node.times, record.forward_flops)
    return f"{_named(node)} take{'s' * (node.times == 1)} {share} of the forward's FLOP"


def _memory(record: Anatomy, root: Node, step: StepMemory | None) -> str | None:
    """Of a traced step the kind that fills its peak; elsewhere who keeps most for the backward."""
    whole = record.saved_bytes
    most = max(root.walk(), key=lambda node: node.own["saved_bytes"] * node.times)
    kept = most.own["saved_bytes"] * most.times
    verb = "keeps" if most.times == 1 else "themselves keep"
    tail = f"{_named(most)} {verb} most: {bytes_text(kept)}" if kept else ""
    if step is not None:
        kind, held = max(step.by_kind.items(), key=lambda item: item[1])
        return (
            f"the step's peak is in its {step.phase}: {bytes_text(step.peak_bytes)}, "
            f"{percent(held, step.peak_bytes)} of it {kind}"
            + (f"; of the activations {tail}" if tail else "")
        )
    if not kept:
        return None
    return f"{bytes_text(whole)} of activations wait for the backward; {tail}"


def _ties(counts: Counts) -> str | None:
    tied = counts.tied
    if not tied:
        return None
    first = next(iter(tied))
    more = f" and {len(tied) - 1} more" if len(tied) > 1 else ""
    return f"{first} is {tied[first]}{more}: tied, and counted once"


def _frozen(counts: Counts) -> str | None:
    frozen = counts.frozen
    if not frozen:
        return None
    return f"{percent(frozen, counts.parameters)} of the parameters are frozen: {number(frozen)}"


def _concentrated(root: Node, quantity: str) -> Node | None:
    """The deepest node that still holds more than half of a quantity, or else the largest at the top.

    None where the whole is one layer, or there is nothing.
    """
    whole = getattr(root, quantity)
    if not whole or not root.children:
        return None
    node = root
    while node.children:
        largest = max(node.children, key=lambda child: getattr(child, quantity) * child.times)
        if 2 * getattr(largest, quantity) * largest.times <= whole and node is not root:
            break
        node = largest
        if node.times > 1 or 2 * getattr(node, quantity) <= whole:
            break
    # A wrapper around everything says nothing of where it is.
    return node if getattr(node, quantity) else None


def _named(node: Node) -> str:
    name = node.name if node.times == 1 else node.name.removesuffix(node.label.partition("–")[0]) + node.label
    return f"{name or 'the module itself'} ({node.type})" + (f" × {node.times}" if node.times > 1 else "")
