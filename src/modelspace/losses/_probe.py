"""What a loss does when it is called and what tensors it holds: is it a function of outputs and labels alone?"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, told
from modelspace.nest import Nest, mapped, tensors

_DEEP, _MANY = 6, 1000  # how far and how wide a callable is searched for tensors


def check_call(
    loss: Callable[[Tensor, Tensor], Any],
    code: tuple[Callable[..., Any], ...],
    name: str,
    outputs: Nest,
    labels: Nest,
) -> None:
    """Refuse what is no function of outputs and labels alone to a number with a gradient.

    Args:
        loss: What is called.
        code: The parts of it that are the user's.
        name: For messages: ``"loss 'hinge'"``.
        outputs: Without a gradient.
        labels: A copy: a loss that writes into it is found out.
    """
    tensors = [tensor for part in code for tensor in tensors_of(part).values()]
    before = [(id(tensor), tensor._version) for tensor in tensors]
    leaf, written = mapped(_leaf, outputs), _versions(labels)
    try:
        with torch.enable_grad():
            copies = (mapped(Tensor.clone, z) for z in (leaf, outputs, outputs))
            value, apart, again = (loss(z, labels) for z in copies)
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(
            f"{name} failed on outputs of shape {kinds_in(outputs)} and labels of shape {kinds_in(labels)}: "
            f"{told(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        kind = f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ModelspaceError(f"{name} returned {kind}: it must return a real floating-point scalar tensor")
    if apart.requires_grad:
        own = ", ".join(_named(leaves(apart), code))
        raise ModelspaceError(
            f"{name} has parameters of its own, which nobody would train: {own}; put "
            "them into the module that is fitted, or, if they are to stay as they are, call requires_grad_(False)"
        )
    if not value.requires_grad:
        raise ModelspaceError(
            f"{name} has no gradient with respect to the outputs (argmax, a comparison, .item() or .detach() on "
            "the way?): train under another loss and give this one as a metric"
        )
    if _versions(labels) != written:
        raise ModelspaceError(f"{name} writes into its labels, which members share: work on a copy")
    after = [(id(tensor), tensor._version) for part in code for tensor in tensors_of(part).values()]
    if after != before or not torch.equal(apart.nan_to_num(), again.nan_to_num()):
        raise ModelspaceError(
            f"{name} changes from call to call (a buffer, a counter or random numbers of its own), and members "
            "would share that: make it a function of outputs and labels alone"
        )


def _leaf(value: Tensor) -> Tensor:
    """A copy that a gradient is taken with respect to, where there can be one."""
    return value.clone().requires_grad_(value.is_floating_point() or value.is_complex())


def _versions(nest: Nest) -> list[int]:
    return [tensor._version for tensor in tensors(nest)]


def kinds_in(nest: Nest) -> str:
    """Say the shapes and types of all tensors: ``[3, 2] (torch.float32)``."""
    return ", ".join(f"{list(each.shape)} ({each.dtype})" for each in tensors(nest)) or "(none)"


def leaves(*outputs: Tensor) -> list[Tensor]:
    """List every leaf that a gradient of the outputs reaches."""
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


def _named(leaves: list[Tensor], code: tuple[Callable[..., Any], ...]) -> list[str]:
    """Name leaves by where the loss's code holds them; by their shapes, where no name is known."""
    names: dict[int, str] = {}
    for part in code:
        for name, tensor in tensors_of(part).items():
            names.setdefault(id(tensor), name)
    return [names.get(id(leaf), f"a tensor of shape {list(leaf.shape)}") for leaf in leaves]


def tensors_of(function: Any) -> dict[str, Tensor]:
    """Find the tensors that a callable holds, by name: in a module, an object, a closure, a partial's arguments."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def look(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            found.setdefault(name, value)
        if isinstance(value, Tensor) or id(value) in seen or depth == _DEEP:
            return
        seen.add(id(value))
        lead = f"{name}." if name else ""
        for key, part in islice(parts_of(value).items(), _MANY):
            look(f"{lead}{key}" if key != "" else name, part, depth + 1)

    look("", function, 0)
    return found


def parts_of(value: Any) -> Mapping[Any, Any]:
    """List what a value holds, by name."""
    if isinstance(value, nn.Module):
        return {**dict(value.named_parameters()), **dict(value.named_buffers()), **vars(value)}
    if isinstance(value, partial):
        return {"": value.func, **dict(enumerate(value.args)), **value.keywords}
    if isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        parts = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
        parts |= {n: value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__}
        return {n: part for n, part in parts.items() if not isinstance(part, ModuleType | type)}
    if isinstance(value, MethodType):
        return {"": value.__func__, "self": value.__self__}
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
        return vars(value)
    return {}
