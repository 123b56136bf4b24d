"""The autograd graph behind a tensor."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


def leaves(*outputs: Tensor) -> list[Tensor]:
    """Every leaf that a gradient of the outputs reaches."""
    found: dict[int, Tensor] = {id(x): x for x in outputs if x.requires_grad and x.grad_fn is None}
    seen = set()
    waiting = [x.grad_fn for x in outputs if x.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found[id(variable)] = variable
        waiting += [following for following, _ in node.next_functions]
    return list(found.values())


def run_backward(result: object) -> bool:
    """Accumulate gradients of all that a forward returned; whether that was possible.

    The graph tells less than a backward does: a reentrant checkpoint hides in one node what it computes again.

    Args:
        result: What the forward returned; its graph is freed.
    """
    outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.requires_grad]
    try:
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    except RuntimeError:
        return False
    return bool(outputs)
