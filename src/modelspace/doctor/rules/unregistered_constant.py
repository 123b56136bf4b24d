"""Tensors that would not follow the model to another device."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Operation, Trace


def _probe(subject: Subject) -> Iterator[Observation]:
    module = subject.skeleton if subject.too_large else subject.fresh()
    yield from _fixed_devices(module)
    if subject.shape is None:
        return
    seen: set[str] = set()
    for trace in (subject.trace, subject.training_trace):
        for found in (*_attributes(trace), *_made(trace)):
            if found.where not in seen:
                seen.add(found.where)
                yield found


def _fixed_devices(module: nn.Module) -> Iterator[Observation]:
    """``.cuda()`` and ``device="cuda"`` in the source of a forward."""
    for kind in dict.fromkeys(type(layer) for layer in module.modules()):
        if kind.__module__.startswith("torch.") or "forward" not in vars(kind):
            continue
        for name in ("forward", *_called_by(kind)):
            for call, line in _devices_in_source(vars(kind).get(name)):
                yield Observation(
                    place(f"{kind.__name__}.{name}", line),
                    f"{call} fixes the device in the source: the model runs nowhere else",
                    "x = x.to(self.fc.weight.device)     # or device=x.device where a tensor is made",
                )


def _called_by(kind: type) -> list[str]:
    """Methods of a class other than its constructor, which runs before any ``.to()``."""
    return [
        name
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and name not in ("__init__", "forward", "to", "cuda", "cpu")
    ]


def _devices_in_source(function: Any) -> list[tuple[str, str]]:
    try:
        lines, start = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        file = Path(inspect.getsourcefile(function) or "").name
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        words = [
            *(k.value for k in node.keywords if k.arg == "device"),
            *(node.args if attribute == "to" else []),
        ]
        named = [w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)]
        if attribute == "cuda":
            found.append((".cuda()", f"{file}:{start + node.lineno - 1}"))
        elif any(word.startswith("cuda") for word in named):
            found.append((ast.unparse(node), f"{file}:{start + node.lineno - 1}"))
    return found


def _attributes(trace: Trace) -> Iterator[Observation]:
    """Plain tensors among a module's attributes, or in lists and dicts there, that the forward uses."""
    used = {id(x): o for o in trace.operations for x in o.tensors}
    registered = {id(x) for x in (*trace.module.parameters(), *trace.module.buffers())}
    for path, layer in trace.module.named_modules():
        for name, value in vars(layer).items():
            if name.startswith("_"):
                items: list[Any] = [value] if isinstance(value, Tensor) else []
            else:
                items = _tensors(value)
            for tensor in items:
                operation = used.get(id(tensor))
                if operation is None or id(tensor) in registered or not _is_constant(tensor, trace):
                    continue
                own = ".".join(filter(None, (path, name)))
                yield Observation(
                    place(own, operation.line),
                    f"{own}, a tensor of shape {list(tensor.shape)}, is neither parameter nor buffer: .to(device) "
                    "and state_dict() leave it out",
                    f'self.register_buffer("{name}", {name})     # persistent=False to keep it out of state_dict()',
                )
                break


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for x in value if isinstance(x, Tensor)] if isinstance(value, list | tuple) else []


def _is_constant(tensor: Tensor, trace: Trace) -> bool:
    """Whether a tensor was there before the forward and is no parameter in disguise."""
    if tensor.requires_grad or not tensor.is_leaf:
        return False  # a parameter: unregistered-layers says more
    return all(not any(x is tensor for x in o.outputs) for o in trace.operations)


# They make tensors on the default device where none is named.
_FACTORIES = frozenset(
    {
        *(
            "zeros",
            "ones",
            "empty",
            "full",
            "arange",
            "linspace",
            "logspace",
            "eye",
            "tensor",
            "rand",
            "randn",
        ),
        *("randint", "randperm", "from_numpy", "as_tensor", "tril_indices", "triu_indices", "normal"),
    }
)
# They take tensors of the CPU whatever the device of the others, or move them.
_FREE = frozenset(
    {"to", "type_as", "cuda", "__getitem__", "__setitem__", "_pack_padded_sequence", "item", "cpu"}
)
_WATCHED = frozenset(
    {"tolist", "numpy", "__len__", "__bool__", "__index__", "__int__", "__float__", "__iter__"}
)


def _made(trace: Trace) -> Iterator[Observation]:
    """Tensors that the forward makes on the default device and mixes with what it was given."""
    fixed: dict[int, Operation] = {}
    living = {id(x) for x in (trace.inputs, *trace.module.parameters(), *trace.module.buffers())}
    for operation in trace.operations:
        ids = [id(x) for x in operation.tensors]
        if operation.name in _FACTORIES and not operation.tensors and _is_unplaced(operation):
            for x in operation.outputs:
                if x.ndim:
                    fixed[id(x)] = operation
            continue
        if operation.name in _FREE or operation.name in _WATCHED:
            if operation.name in ("to", "type_as", "cuda"):
                for x in (*operation.tensors[:1], *operation.outputs):
                    fixed.pop(id(x), None)
                    living.add(id(x))
            elif any(i in living for i in ids):
                living |= {id(x) for x in operation.outputs}
            continue
        made = next((fixed[i] for i in ids if i in fixed), None)
        if any(i in living for i in ids):
            if made is not None:
                yield Observation(
                    made.where,
                    f"{made.name}(…) makes a tensor of shape {list(made.outputs[0].shape)} on the default device, "
                    f"and {operation.name} mixes it with the model's own: on another device that fails",
                    f"{made.name}(…, device=x.device)     # or x.new_zeros(…), or a buffer",
                )
                for i in ids:
                    fixed.pop(i, None)
            living |= {id(x) for x in operation.outputs}
        elif made is not None:
            for x in operation.outputs:
                fixed[id(x)] = made


def _is_unplaced(operation: Operation) -> bool:
    device = operation.keywords.get("device")
    return device is None or (isinstance(device, str) and torch.device(device).type in ("cpu", "cuda"))


RULE = Rule(
    "unregistered-constant",
    "warning",
    "a tensor that is neither parameter nor buffer would stay behind on .to(device)",
    _probe,
    needs=(),
    survives_failure=True,
)
