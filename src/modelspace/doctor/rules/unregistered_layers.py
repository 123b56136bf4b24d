"""Layers or parameters that the forward uses and ``parameters()`` does not list."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.graph import leaves, run_backward
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Trace, first_tensor


def _probe(subject: Subject) -> Iterator[Observation]:
    trace = subject.trace
    missing = _unregistered(trace)
    if missing:
        # A tensor whose shape follows the batch is no parameter, nor is one that a backward gives no gradient.
        other = subject.traced(training=False, batch=BATCH + 2)
        if other.failure is None:
            others = _unregistered(other).values()
            ran = run_backward(other.result)
            shapes = {x.shape for x in others if not ran or x.grad is not None or isinstance(x, nn.Parameter)}
            missing = {key: x for key, x in missing.items() if x.shape in shapes}
    if not missing:
        return
    names = _names(trace.module)
    groups: dict[str, list[Tensor]] = {}
    for key, tensor in missing.items():
        groups.setdefault(_owner(names.get(key, "")), []).append(tensor)
    for owner, tensors in groups.items():
        count = sum(x.numel() for x in tensors)
        user = next((o for o in trace.operations if any(x is tensors[0] for x in o.tensors)), None)
        line = user.where if user is not None else subject.title
        what = f"kept in {owner}" if owner else "kept outside the module or made in its forward"
        yield Observation(
            line,
            f"{len(tensors)} parameter{'s' if len(tensors) > 1 else ''} with {count:,} numbers, {what}, take part in "
            "the forward and are not in parameters(): an optimizer never moves them, state_dict() and .to() "
            "leave them out",
            f"self.{owner.split('[')[0].split('.')[-1]} = nn.ModuleList(…)     # nn.ModuleDict, nn.ParameterList"
            if owner
            else "def __init__(self):\n    super().__init__()\n    self.layer = nn.Linear(…)     # registered",
        )


def _unregistered(trace: Trace) -> dict[int, Tensor]:
    """Tensors that are used as parameters and are not registered, by identity.

    Left out are copies of the inputs, and what the forward itself makes to differentiate by: coordinates of a force
    field, collocation points, a latent that is optimised.
    """
    registered = {id(p) for p in (*trace.module.parameters(), *trace.module.buffers())}
    from_inputs, made, differentiated = {_storage(trace.inputs)}, set[int](), set[int]()
    for operation in trace.operations:
        if operation.name == "grad":
            differentiated |= {id(x) for x in operation.tensors}
        made |= {_storage(x) for x in operation.outputs}
        if any(_storage(x) in from_inputs for x in operation.tensors):
            from_inputs |= {_storage(x) for x in (*operation.outputs, *operation.written)}
    return {
        id(x): x
        for x in _used(trace)
        if id(x) not in registered
        and _storage(x) not in from_inputs
        and not (id(x) in differentiated and _storage(x) in made)
    }


def _storage(tensor: Tensor) -> int:
    """What tensors that share memory have in common, also where there is none, on the meta device."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse, or inside a transform of torch.func
        return id(tensor)


def _used(trace: Trace) -> list[Tensor]:
    """Tensors that the forward takes gradients to, or that are parameters among an operation's arguments."""
    found: list[Tensor] = [x for o in trace.operations for x in o.tensors if isinstance(x, nn.Parameter)]
    outputs = first_tensor(trace.result)
    return found if outputs is None else [*found, *leaves(outputs)]


def _owner(name: str) -> str:
    """The container's name: what comes before the first index."""
    return name.partition("[")[0]


def _names(module: nn.Module) -> dict[int, str]:
    """Parameters and leaf tensors in plain attributes, by identity."""
    found: dict[int, str] = {}
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if not name.startswith("_") or (
                name not in ("_parameters", "_buffers", "_modules") and not name.endswith("_hooks")
            ):
                _search(value, ".".join(filter(None, (path, name))), found, depth=0)
    return found


def _search(value: Any, name: str, found: dict[int, str], depth: int) -> None:
    if depth > 4:
        return
    if isinstance(value, Tensor):
        found.setdefault(id(value), f"{name}[")
    elif isinstance(value, nn.Module):
        for parameter in value.parameters():
            found.setdefault(id(parameter), f"{name}[")
    elif isinstance(value, dict):
        for item in value.values():
            _search(item, f"{name}[", found, depth + 1)
    elif isinstance(value, list | tuple | set):
        for item in value:
            _search(item, f"{name}[", found, depth + 1)


RULE = Rule(
    "unregistered-layers",
    "error",
    "the forward uses layers or parameters that parameters() does not list",
    _probe,
    needs=("inputs",),
)
