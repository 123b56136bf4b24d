"""Parameters that were to be one and are two."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache, partial

from torch import Tensor, nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    module = subject.skeleton if subject.too_large else subject.fresh()
    ran = None
    if subject.shape is not None and not subject.too_large and subject.trace.failure is None:
        ran = subject.trace.module
    reported: set[frozenset[str]] = set()
    for source in (_written, _by_method, partial(_sharing_memory, ran), _equal_embeddings, _after_copy):
        for first, second, how in source(module):
            pair = frozenset((first, second))
            if pair in reported:
                continue
            reported.add(pair)
            yield Observation(
                f"{first} and {second}",
                f"{how}: training, copying or moving the model lets the two go apart",
                f"self.{second} = self.{first}     # the same Parameter object, as the last thing that "
                "__init__ does\n# not .data, not clone(), not nn.Parameter(…)",
            )


def _written(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """``self.a.weight = self.b.weight`` stands in ``__init__``, and the two are not one object."""
    for path, layer in module.named_modules():
        if type(layer).__module__.startswith("torch."):
            continue
        for left, right, line in _ties_in_source(type(layer)):
            one, other = _attribute(layer, left), _attribute(layer, right)
            if isinstance(one, nn.Parameter) and isinstance(other, nn.Parameter) and one is not other:
                names = [".".join(filter(None, (path, *name))) for name in (right, left)]
                yield (
                    names[0],
                    names[1],
                    f"line {line} of {type(layer).__name__} ties them, and they are two objects",
                )


@cache
def _ties_in_source(kind: type) -> list[tuple[list[str], list[str], int]]:
    try:
        lines, start = inspect.getsourcelines(kind)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            left, right = _chain(node.targets[0]), _chain(node.value)
            if left and right and len(left) > 1 and left[-1] in ("weight", "bias", "data"):
                data = left[-1] == "data" or right[-1] == "data"
                pair = [names[:-1] if names[-1] == "data" else names for names in (left, right)]
                if pair[0][-1] == pair[1][-1] or data:
                    found.append((pair[0], pair[1], start + node.lineno - 1))
    return found


def _chain(node: ast.expr) -> list[str]:
    """``self.a.b`` as ``["a", "b"]``; nothing for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if isinstance(node, ast.Name) and node.id == "self" else []


def _attribute(layer: nn.Module, names: list[str]) -> object:
    found: object = layer
    for name in names:
        found = getattr(found, name, None)
    return found


def _by_method(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """``tie_weights()`` makes ties that the module has not got."""
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


def _sharing_memory(ran: nn.Module | None, module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Two parameters, or a parameter and a plain tensor, in the same memory.

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
                    own = ".".join(filter(None, (path, name)))
                    yield (
                        first[0],
                        own,
                        "the second is a plain tensor in the memory of the first, not the parameter",
                    )


def _made_anew(ran: nn.Module | None, layer: nn.Module, path: str, name: str) -> bool:
    """Whether a forward replaces a plain tensor by another, in memory of its own."""
    if ran is None:
        return bool(layer._forward_pre_hooks)
    after = ran.get_submodule(path)
    value = getattr(after, name, None)
    return not isinstance(value, Tensor) or all(value.data_ptr() != p.data_ptr() for p in ran.parameters())


def _equal_embeddings(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """An output layer that begins as a copy of an embedding."""
    weights = [
        (f"{name}.weight" if name else "weight", layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Embedding | nn.Linear)
    ]
    for first, embedding in weights:
        for second, output in weights:
            if not isinstance(embedding, nn.Embedding) or not isinstance(output, nn.Linear):
                continue
            one, other = embedding.weight, output.weight
            if one is other or one.shape != other.shape or one.is_meta or not bool(one.std() > 0):
                continue
            if bool((one == other).all()):
                yield (
                    first,
                    second,
                    "the output layer begins with the embedding's values, and they are two parameters",
                )


def _after_copy(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Ties that a copy has not got."""
    before = _aliases(module)
    if not before:
        return
    try:
        after = {frozenset(names) for names in _aliases(copy.deepcopy(module))}
    except Exception:
        return
    for names in before:
        if frozenset(names) not in after:
            yield names[0], names[1], "they are tied, and a copy.deepcopy of the module has them apart"


RULE = Rule(
    "ties-lost",
    "warning",
    "parameters that were to be tied are two",
    _probe,
    needs=(),
)
