"""The autograd graph behind a tensor."""

from torch import Tensor


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
