"""Tensors in another place or type than the model's: what stays behind on ``.to(device)``, and float64."""

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Seen, rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Operation, Trace, place, source_of

# They make tensors on the default device where none is named.
_FACTORIES = frozenset(
    {
        *("zeros", "ones", "empty", "full", "arange", "linspace", "logspace", "eye", "tensor", "rand"),
        *(
            "randn",
            "randint",
            "randperm",
            "from_numpy",
            "as_tensor",
            "tril_indices",
            "triu_indices",
            "normal",
        ),
    }
)
_MOVING = ("to", "type_as", "cuda")
# They take tensors of the CPU whatever the device of the others, or leave tensors altogether.
_FREE = frozenset(
    {
        *("__getitem__", "__setitem__", "_pack_padded_sequence", "item", "cpu", "tolist", "numpy"),
        *("__len__", "__bool__", "__index__", "__int__", "__float__", "__iter__"),
    }
)


@rule("warning", needs=(), survives_failure=True)
def unregistered_constant(subject: Subject) -> Seen:
    """A tensor that is neither parameter nor buffer would stay behind on .to(device)."""
    yield from _fixed_devices(subject.skeleton if subject.too_large else subject.fresh())
    if subject.shape is None:
        return
    reported: set[str] = set()
    for trace in (subject.trace, subject.training_trace):
        for where, evidence, fix in (*_attributes(trace), *_made(trace)):
            if where not in reported:
                reported.add(where)
                yield where, evidence, fix


def _fixed_devices(module: nn.Module) -> Seen:
    """Look for ``.cuda()`` and ``device="cuda"`` in the source of a forward and of what it may call."""
    for kind in dict.fromkeys(type(layer) for layer in module.modules()):
        own = vars(kind)
        if kind.__module__.startswith("torch.") or "forward" not in own:
            continue
        # The constructor runs before any .to().
        left_out = ("__init__", "forward", "to", "cuda", "cpu")
        for name in ("forward", *(n for n in own if inspect.isfunction(own[n]) and n not in left_out)):
            for call, line in _devices_in_source(own[name]):
                yield (
                    place(f"{kind.__name__}.{name}", line=line),
                    f"{call} fixes the device in the source: the model runs nowhere else",
                    "x = x.to(self.fc.weight.device)     # or device=x.device where a tensor is made",
                )


def _devices_in_source(function: Any) -> list[tuple[str, str]]:
    found = []
    for node, line in source_of(function):
        if not isinstance(node, ast.Call):
            continue
        where = f"{Path(inspect.getsourcefile(function) or '').name}:{line}"
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        words = [k.value for k in node.keywords if k.arg == "device"]
        words += node.args if attribute == "to" else []
        named = [w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)]
        if attribute == "cuda":
            found.append((".cuda()", where))
        elif any(word.startswith("cuda") for word in named):
            found.append((ast.unparse(node), where))
    return found


def _attributes(trace: Trace) -> Iterator[tuple[str, str, str]]:
    """Look for plain tensors among a module's attributes, or in lists and dicts there, that the forward uses."""
    used = {id(x): o for o in trace.operations for x in o.tensors}
    made = {id(x) for o in trace.operations for x in o.outputs}
    registered = {id(x) for x in (*trace.module.parameters(), *trace.module.buffers())}
    for path, layer in trace.module.named_modules():
        for name, value in vars(layer).items():
            for tensor in _tensors(value, alone=name.startswith("_")):
                operation = used.get(id(tensor))
                # One with gradients is a parameter in disguise: unregistered-layers says more.
                if operation is None or tensor.requires_grad or not tensor.is_leaf:
                    continue
                if id(tensor) in registered or id(tensor) in made:
                    continue
                own = ".".join(filter(None, (path, name)))
                yield (
                    place(own, line=operation.line),
                    f"{own}, a tensor of shape {list(tensor.shape)}, is neither parameter nor buffer: .to(device) "
                    "and state_dict() leave it out",
                    f'self.register_buffer("{name}", {name})     # persistent=False to keep it out of state_dict()',
                )
                break


def _tensors(value: Any, *, alone: bool) -> list[Tensor]:
    """List the tensor that an attribute is, or those in it where it may be a container."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    found = not alone and isinstance(value, list | tuple)
    return [x for x in value if isinstance(x, Tensor)] if found else []


def _made(trace: Trace) -> Iterator[tuple[str, str, str]]:
    """Look for tensors that the forward makes on the default device and mixes with what it was given."""
    fixed: dict[int, Operation] = {}
    living = {id(x) for x in (trace.inputs, *trace.module.parameters(), *trace.module.buffers())}
    for operation in trace.operations:
        ids = [id(x) for x in operation.tensors]
        lives = any(i in living for i in ids)
        if operation.name in _FACTORIES and not operation.tensors and _is_unplaced(operation):
            fixed |= {id(x): operation for x in operation.outputs if x.ndim}
        elif operation.name in _MOVING:
            for x in (*operation.tensors[:1], *operation.outputs):
                fixed.pop(id(x), None)
                living.add(id(x))
        elif operation.name in _FREE:
            living |= {id(x) for x in operation.outputs if lives}
        else:
            made = next((fixed[i] for i in ids if i in fixed), None)
            if lives and made is not None:
                yield (
                    made.where,
                    f"{made.name}(…) makes a tensor of shape {list(made.outputs[0].shape)} on the default device, "
                    f"and {operation.name} mixes it with the model's own: on another device that fails",
                    f"{made.name}(…, device=x.device)     # or x.new_zeros(…), or a buffer",
                )
                for i in ids:
                    fixed.pop(i, None)
            if lives:
                living |= {id(x) for x in operation.outputs}
            elif made is not None:
                fixed |= {id(x): made for x in operation.outputs}


def _is_unplaced(operation: Operation) -> bool:
    device = operation.keywords.get("device")
    return device is None or (isinstance(device, str) and torch.device(device).type in ("cpu", "cuda"))


@rule("warning", needs=("inputs",), survives_failure=True)
def double_precision(subject: Subject) -> Seen:
    """Float64 leaks into a float32 network."""
    parameters = {n: p for n, p in subject.skeleton.named_parameters() if p.dtype.is_floating_point}
    kinds, double = Counter(p.dtype for p in parameters.values()), torch.float64
    if not kinds or set(kinds) == {double}:
        return
    if double in kinds:
        yield (
            next(name for name, p in parameters.items() if p.dtype == double),
            f"{kinds[double]} of {len(parameters)} parameters are float64, the others are not",
            "model = model.float()",
        )
        return
    found = _leak(subject, subject.trace)
    if found is not None:
        where, evidence = found
        yield (
            where,
            f"{evidence}: at half the speed or less, and no GPU is made for it",
            "scale = torch.tensor(scale, dtype=torch.float32)     # NumPy's numbers are float64\n"
            "x = torch.as_tensor(array).to(x.dtype)",
        )


def _leak(subject: Subject, trace: Trace) -> tuple[str, str] | None:
    """Return where float64 comes in, and what shows it."""
    double, fails = torch.float64, trace.failure is not None
    for operation in trace.operations:
        promoted = any(x.dtype == double and x.ndim for x in operation.outputs)
        narrow = [x for x in operation.tensors if x.is_floating_point() and x.dtype != double and x.ndim]
        wide = [x for x in operation.tensors if x.dtype == double]
        if wide and narrow and (promoted or (fails and not operation.outputs)):
            kinds = [f"{str(x[0].dtype).removeprefix('torch.')} {list(x[0].shape)}" for x in (narrow, wide)]
            so = f"; the forward fails of it: {trace.failure}" if fails else ""
            return (
                operation.where,
                f"{operation.name} takes {' and '.join(kinds)}, and goes on in float64{so}",
            )
    first = next((o for o in trace.operations if any(x.dtype == double for x in o.outputs)), None)
    if not fails and trace.outputs.dtype == double:
        where = first.where if first is not None else subject.end
        return where, "the outputs are float64, and the parameters are not"
    if fails and first is not None and "double" in str(trace.cause).lower():
        return first.where, f"{first.name} makes float64, and the forward fails of it: {trace.failure}"
    return None
