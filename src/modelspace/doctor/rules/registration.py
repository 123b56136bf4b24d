"""Parameters that a module doesn't have as it should: not registered, or two where they were to be one."""

import ast
import copy
import inspect
from collections.abc import Iterator
from functools import cache, reduce
from typing import Any

from torch import Tensor, nn

from modelspace.doctor.rule import Seen, rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Trace, first_tensor, source_of
from modelspace.losses import leaves


@rule("error", needs=("inputs",))
def unregistered_layers(subject: Subject) -> Seen:
    """The forward uses layers or parameters that parameters() does not list."""
    trace = subject.trace
    missing = _unregistered(trace)
    if missing:
        # A tensor whose shape follows the batch is no parameter, nor is one that a backward gives no gradient.
        other = subject.traced(training=False, batch=BATCH + 2)
        if other.failure is None:
            others = _unregistered(other).values()
            ran = other.backward_failure is None
            shapes = {x.shape for x in others if not ran or x.grad is not None or isinstance(x, nn.Parameter)}
            missing = {key: x for key, x in missing.items() if x.shape in shapes}
    names = _names(trace.module) if missing else {}
    groups: dict[str, list[Tensor]] = {}
    for key, tensor in missing.items():
        groups.setdefault(names.get(key, ""), []).append(tensor)
    for owner, tensors in groups.items():
        user = next((o for o in trace.operations if any(x is tensors[0] for x in o.tensors)), None)
        what = f"kept in {owner}" if owner else "kept outside the module or made in its forward"
        yield (
            user.where if user is not None else subject.title,
            f"{len(tensors)} parameter{'s' if len(tensors) > 1 else ''} with {sum(x.numel() for x in tensors):,} "
            f"numbers, {what}, take part in the forward and are not in parameters(): an optimizer never moves them, "
            "state_dict() and .to() leave them out",
            f"self.{owner.split('.')[-1]} = nn.ModuleList(…)     # nn.ModuleDict, nn.ParameterList"
            if owner
            else "def __init__(self):\n    super().__init__()\n    self.layer = nn.Linear(…)     # registered",
        )


def _unregistered(trace: Trace) -> dict[int, Tensor]:
    """Return tensors that are used as parameters and are not registered, by identity.

    Left out are copies of the inputs, and what the forward itself makes to differentiate by: coordinates of a force
    field, collocation points, a latent that is optimised.
    """
    registered = {id(p) for p in (*trace.module.parameters(), *trace.module.buffers())}
    from_inputs, made, differentiated = {_storage(trace.inputs)}, set[int](), set[int]()
    # Parameters among the arguments of operations, and whatever else gradients accumulate in.
    used: list[Tensor] = [x for o in trace.operations for x in o.tensors if isinstance(x, nn.Parameter)]
    outputs = first_tensor(trace.result)
    used += [] if outputs is None else leaves(outputs)
    for operation in trace.operations:
        if operation.name == "grad":
            differentiated |= {id(x) for x in operation.tensors}
        made |= {_storage(x) for x in operation.outputs}
        if any(_storage(x) in from_inputs for x in operation.tensors):
            from_inputs |= {_storage(x) for x in (*operation.outputs, *operation.written)}
    return {
        id(x): x
        for x in used
        if id(x) not in registered
        and _storage(x) not in from_inputs
        and not (id(x) in differentiated and _storage(x) in made)
    }


def _storage(tensor: Tensor) -> int:
    """Identify what tensors that share memory have in common, also where there is none, on the meta device."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse, or inside a transform of torch.func
        return id(tensor)


def _names(module: nn.Module) -> dict[int, str]:
    """Return the attribute in which each tensor stands that is no registered parameter, by its identity."""
    found: dict[int, str] = {}

    def search(value: Any, name: str, depth: int = 0) -> None:
        if depth > 4:
            return
        if isinstance(value, Tensor):
            found.setdefault(id(value), name)
        elif isinstance(value, nn.Module):
            for parameter in value.parameters():
                found.setdefault(id(parameter), name)
        elif isinstance(value, dict | list | tuple | set):
            for item in value.values() if isinstance(value, dict) else value:
                search(item, name, depth + 1)

    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if name not in ("_parameters", "_buffers", "_modules") and not (
                name.startswith("_") and name.endswith("_hooks")
            ):
                search(value, ".".join(filter(None, (path, name))))
    return found


# Names of two parameters, and how they are known to be tied.
_Pairs = Iterator[tuple[str, str, str]]


@rule("warning", needs=())
def ties_lost(subject: Subject) -> Seen:
    """Parameters that were to be tied are two."""
    module = subject.skeleton if subject.too_large else subject.fresh()
    ran = None
    if subject.shape is not None and not subject.too_large and subject.trace.failure is None:
        ran = subject.trace.module
    reported: set[frozenset[str]] = set()
    for pairs in (
        _written(module),
        _by_method(module),
        _sharing_memory(ran, module),
        _equal_embeddings(module),
        _after_copy(module),
    ):
        for first, second, how in pairs:
            pair = frozenset((first, second))
            if pair in reported:
                continue
            reported.add(pair)
            yield (
                f"{first} and {second}",
                f"{how}: training, copying or moving the model lets the two go apart",
                f"self.{second} = self.{first}     # the same Parameter object, as the last thing that "
                "__init__ does\n# not .data, not clone(), not nn.Parameter(…)",
            )


def _written(module: nn.Module) -> _Pairs:
    """Look for ``self.a.weight = self.b.weight`` in ``__init__`` where the two are not one object."""
    for path, layer in module.named_modules():
        if type(layer).__module__.startswith("torch."):
            continue
        for left, right, line in _ties_in_source(type(layer)):
            one, other = (reduce(lambda x, name: getattr(x, name, None), n, layer) for n in (left, right))
            if isinstance(one, nn.Parameter) and isinstance(other, nn.Parameter) and one is not other:
                how = f"line {line} of {type(layer).__name__} ties them, and they are two objects"
                first, second = (".".join(filter(None, (path, *name))) for name in (right, left))
                yield first, second, how


@cache
def _ties_in_source(kind: type) -> list[tuple[list[str], list[str], int]]:
    found = []
    methods = [value for value in vars(kind).values() if inspect.isfunction(value)]
    for node, line in (pair for method in methods for pair in source_of(method)):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            left, right = _chain(node.targets[0]), _chain(node.value)
            if left and right and len(left) > 1 and left[-1] in ("weight", "bias", "data"):
                data = left[-1] == "data" or right[-1] == "data"
                pair = [names[:-1] if names[-1] == "data" else names for names in (left, right)]
                if pair[0][-1] == pair[1][-1] or data:
                    found.append((pair[0], pair[1], line))
    return found


def _chain(node: ast.expr) -> list[str]:
    """Return ``self.a.b`` as ``["a", "b"]``; nothing for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if isinstance(node, ast.Name) and node.id == "self" else []


def _by_method(module: nn.Module) -> _Pairs:
    """Look for ties that ``tie_weights()`` makes and that the module has not got."""
    method = getattr(module, "tie_weights", None)
    if not callable(method):
        return
    tied = copy.deepcopy(module)
    try:
        tied.tie_weights()  # pyright: ignore[reportCallIssue]
    except Exception:
        return
    before = {frozenset(names) for names in _aliases(module)}
    for names in _aliases(tied):
        if frozenset(names) not in before:
            yield names[0], names[1], "tie_weights() ties them, and it has not been called, or not last"


def _aliases(module: nn.Module) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _sharing_memory(ran: nn.Module | None, module: nn.Module) -> _Pairs:
    """Look for two parameters, or a parameter and a plain tensor, in the same memory.

    Args:
        ran: A copy after its first forward, which may have made the plain tensor anew, as the hook of a spectral
            norm does; where there is none, a layer with such hooks is not judged.
        module: As built.
    """
    holders: dict[int, tuple[str, Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.is_meta or not parameter.numel():
            continue
        first = holders.setdefault(parameter.data_ptr(), (name, parameter))
        if first[1] is not parameter and first[1].numel() == parameter.numel():
            yield first[0], name, "they are two parameters in one memory, each with its own gradient"
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if isinstance(value, Tensor) and value.is_leaf and not value.is_meta and value.numel():
                first = holders.get(value.data_ptr())
                if first is not None and first[1] is not value and not _made_anew(ran, layer, path, name):
                    how = "the second is a plain tensor in the memory of the first, not the parameter"
                    yield first[0], ".".join(filter(None, (path, name))), how


def _made_anew(ran: nn.Module | None, layer: nn.Module, path: str, name: str) -> bool:
    """Tell whether a forward replaces a plain tensor by another, in memory of its own."""
    if ran is None:
        return bool(layer._forward_pre_hooks)
    value = getattr(ran.get_submodule(path), name, None)
    return not isinstance(value, Tensor) or all(value.data_ptr() != p.data_ptr() for p in ran.parameters())


def _equal_embeddings(module: nn.Module) -> _Pairs:
    """Look for an output layer that begins as a copy of an embedding."""
    how = "the output layer begins with the embedding's values, and they are two parameters"
    layers = [(f"{name}.weight" if name else "weight", layer) for name, layer in module.named_modules()]
    for first, embedding in layers:
        if not isinstance(embedding, nn.Embedding):
            continue
        for second, output in layers:
            one, other = embedding.weight, output.weight if isinstance(output, nn.Linear) else None
            if other is None or one is other or one.shape != other.shape or one.is_meta or not one.std() > 0:
                continue
            if bool((one == other).all()):
                yield first, second, how


def _after_copy(module: nn.Module) -> _Pairs:
    """Look for ties that a copy has not got."""
    before = _aliases(module)
    try:
        after = {frozenset(names) for names in _aliases(copy.deepcopy(module))} if before else set()
    except Exception:
        return
    for names in before:
        if frozenset(names) not in after:
            yield names[0], names[1], "they are tied, and a copy.deepcopy of the module has them apart"
