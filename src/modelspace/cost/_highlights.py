"""The three things worth knowing first about an architecture, as sentences."""

from typing import TYPE_CHECKING

from modelspace.cost._tree import Node
from modelspace.show import bytes_text, number, percent

if TYPE_CHECKING:
    from modelspace.cost._inspection import Inspection

_MOST = 3
# PyTorch marks only what is elementwise or a reduction; these are known to be no products either.
_NO_PRODUCTS = ("norm", "pool", "select", "slice", "index", "scatter", "gather", "embedding", "sort", "topk")
_NO_PRODUCTS += (
    "cumsum",
    "cumprod",
    "upsample",
    "grid_sampler",
    "pad",
    "im2col",
    "col2im",
    "roll",
    "softmax",
)
_NO_PRODUCTS += (
    "tril",
    "triu",
    "unfold",
    "dropout",
    "loss",
    "masked",
    "where",
    "nonzero",
    "bernoulli",
    "rand",
)


def highlights(inspection: "Inspection") -> tuple[str, ...]:
    """At most three sentences, the most consequential first.

    What may be missing from the count comes before where the parameters are, what fills the memory and where the
    FLOP go.

    Args:
        inspection: What is spoken of.

    Example:
        >>> from torch import nn
        >>> from modelspace.cost import inspect
        >>> highlights(inspect(nn.Sequential(nn.Linear(4, 90), nn.ReLU(), nn.Linear(90, 2))))[0]
        '0 (Linear) holds 71 % of the parameters: 450 of 632'
    """
    found = [
        _doubtful(inspection),
        _computed(inspection),
        _holder(inspection),
        _memory(inspection),
        _ties(inspection),
        _frozen(inspection),
        _worker(inspection),
    ]
    return tuple(sentence for sentence in found if sentence)[:_MOST]


def _doubtful(inspection: "Inspection") -> str | None:
    unknown = {
        name: times
        for name, times in inspection.anatomy.unknown.items()
        if not any(part in name for part in _NO_PRODUCTS)
    }
    if not unknown:
        return None
    names = ", ".join(f"{name} × {times}" for name, times in unknown.items())
    return f"not counted, and may hide products: {names}"


def _computed(inspection: "Inspection") -> str | None:
    return inspection.anatomy.computed or None


def _holder(inspection: "Inspection") -> str | None:
    node = concentrated(inspection.tree, "parameters")
    if node is None:
        return None
    held, whole = node.parameters * node.times, inspection.counts.parameters
    if held == whole:
        return None
    return f"{_named(node)} hold{'s' * (node.times == 1)} {percent(held, whole)} of the parameters: " + (
        f"{number(held)} of {number(whole)}"
    )


def _worker(inspection: "Inspection") -> str | None:
    node = concentrated(inspection.tree, "flops")
    if node is None:
        return None
    if node.flops * node.times == inspection.anatomy.forward_flops:
        return None
    share = percent(node.flops * node.times, inspection.anatomy.forward_flops)
    return f"{_named(node)} take{'s' * (node.times == 1)} {share} of the forward's FLOP"


def _memory(inspection: "Inspection") -> str | None:
    """Of a traced step the kind that fills its peak; elsewhere who keeps most for the backward."""
    whole = inspection.anatomy.saved_bytes
    most = max(inspection.tree.walk(), key=lambda node: node.own["saved_bytes"] * node.times)
    kept = most.own["saved_bytes"] * most.times
    verb = "keeps" if most.times == 1 else "themselves keep"
    tail = f"{_named(most)} {verb} most: {bytes_text(kept)}" if kept else ""
    if inspection.memory is not None:
        step = inspection.memory
        kind, held = max(step.by_kind.items(), key=lambda item: item[1])
        return (
            f"the step's peak is in its {step.phase}: {bytes_text(step.peak_bytes)}, "
            f"{percent(held, step.peak_bytes)} of it {kind}"
            + (f"; of the activations {tail}" if tail else "")
        )
    if not kept:
        return None
    return f"{bytes_text(whole)} of activations wait for the backward; {tail}"


def _ties(inspection: "Inspection") -> str | None:
    tied = inspection.counts.tied
    if not tied:
        return None
    first = next(iter(tied))
    more = f" and {len(tied) - 1} more" if len(tied) > 1 else ""
    return f"{first} is {tied[first]}{more}: tied, and counted once"


def _frozen(inspection: "Inspection") -> str | None:
    frozen = inspection.counts.frozen
    if not frozen:
        return None
    return f"{percent(frozen, inspection.counts.parameters)} of the parameters are frozen: {number(frozen)}"


def concentrated(root: Node, quantity: str) -> Node | None:
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
