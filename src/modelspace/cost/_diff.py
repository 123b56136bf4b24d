"""``diff``: two architectures side by side: which module is which, and what differs of each."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modelspace.construction import Source, made_of, title_of
from modelspace.cost._anatomy import Anatomy, on_values
from modelspace.cost._counts import counts
from modelspace.cost._difference import Change, Difference
from modelspace.cost._inspect import built, passed, with_values
from modelspace.cost._sample import Sample, sample_of, shape_of
from modelspace.errors import ModelspaceError
from modelspace.show import shape_text
from modelspace.trace import Spec

_COSTS = {
    "flops": "FLOP forward",
    "backward_flops": "FLOP backward",
    "saved_bytes": "activations in bytes",
}


class Facts(NamedTuple):
    """One module by itself, without its submodules, everything but the count as text by name.

    Attributes:
        name: Its qualified name, "" for the outermost.
        type: Its class's name.
        parameters: Elements of its own parameters, ties included.
        structure: Class, arguments, own tensors: what makes two modules of unlike names the same.
        costs: What its calls return, and what they cost without those within.
    """

    name: str
    type: str
    parameters: int
    structure: dict[str, str]
    costs: dict[str, str]


Pair = tuple[Facts | None, Facts | None]


def diff(
    a: Source,
    b: Source,
    *,
    input_shape: tuple[int, ...] | Spec | Tensor | None = None,
    batch_size: int | None = None,
    input_dtype: torch.dtype | None = None,
    arguments: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> Difference:
    """How two architectures differ: modules, shapes, counts, costs. Their values are not compared.

    Modules are aligned by name, the others by structure. Costs are of one forward and backward, traced by shapes
    alone; where the input can neither be guessed nor run, only what they hold is compared, and the record says why.

    Args:
        a: A class, a factory, a module, a space, or a target, as ``inspect`` takes it.
        b: The other one.
        input_shape: One sample's shape for both, without the batch; guessed for each where None. A `Spec` or samples
            for a forward that reads values, as in ``inspect``.
        batch_size: Samples that the cost is for; the smallest that trains where None.
        input_dtype: The samples' type; found out where None.
        arguments: The arguments of the two classes or factories.

    Raises:
        ModelspaceError: one can't be built; or ``input_shape`` is given and doesn't run.

    Example:
        >>> found = diff(nn.Linear(4, 3), nn.Linear(4, 5), input_shape=(4,))
        >>> found.equal, found.totals["parameters"], found.changes[0].what["weight"]
        (False, (15, 25), ('3×4 float32', '5×4 float32'))
    """
    sources = [made_of(side, given) for side, given in zip((a, b), arguments, strict=True)]
    shape = shape_of(input_shape)
    modules = [built(source, given, input_shape=shape) for source, given in sources]

    def measured(module: nn.Module) -> tuple[Sample, Anatomy]:
        sample = sample_of(module, input_shape, input_dtype)
        return sample, passed(module, sample, batch_size)

    records: list[Anatomy] = []
    inputs: list[str] = []
    untraced = None
    try:
        for module, (source, given) in zip(modules, sources, strict=True):
            sample, record = on_values(
                module,
                partial(with_values, source, given, input_shape=shape),
                measured,
                lambda found: found[1].computed,
            )
            records.append(record)
            inputs.append(f"{sample}, batch {record.batch_size}")
    except ModelspaceError as error:
        if input_shape is not None:
            raise
        untraced, records = str(error), []
    first, second = (
        facts_of(module, record) for module, record in zip(modules, records or [None, None], strict=True)
    )
    pairs = aligned(first, second)
    changes = tuple(change for pair in pairs if (change := _change(pair)))
    held = [counts(module) for module in modules]
    totals = {
        name: (getattr(held[0], name), getattr(held[1], name))
        for name in ("parameters", "trainable", "frozen", "buffers")
    }
    totals["modules"] = (len(first), len(second))
    if records:
        for name in ("forward_flops", "backward_flops", "saved_bytes", "peak_bytes"):
            totals[name] = (getattr(records[0], name), getattr(records[1], name))
    ties = [set(side.tied.items()) for side in held]
    return Difference(
        titles=(title_of(*sources[0]), title_of(*sources[1])),
        changes=changes,
        same=len(pairs) - len(changes),
        totals=totals,
        ties=(
            *((alias, name, "first") for alias, name in sorted(ties[0] - ties[1])),
            *((alias, name, "second") for alias, name in sorted(ties[1] - ties[0])),
        ),
        inputs=(inputs[0], inputs[1]) if records else None,
        untraced=untraced,
    )


def _change(pair: Pair) -> Change | None:
    a, b = pair
    if a is None and b is not None:
        return Change("added", b.name, None, b.type, (0, b.parameters), {})
    if b is None and a is not None:
        return Change("removed", a.name, a.name, a.type, (a.parameters, 0), {})
    assert a is not None
    assert b is not None
    sides = ((a.structure, b.structure), (a.costs, b.costs))
    both = {name: (x.get(name, "none"), y.get(name, "none")) for x, y in sides for name in {**x, **y}}
    what = {name: (x, y) for name, (x, y) in both.items() if x != y}
    if a.name == b.name and not what:
        return None
    kind = "renamed" if a.name != b.name and not what else "changed"
    return Change(kind, b.name, a.name, b.type, (a.parameters, b.parameters), what)


# Which module of one is which of the other, and what is known of each.


def aligned(a: Mapping[str, Facts], b: Mapping[str, Facts]) -> list[Pair]:
    """Pairs of modules, in the order of the second architecture; those only in the first follow their neighbour.

    Modules of one name are a pair. Of the others, those are that are the same in class, arguments and tensors, in
    runs in the same order: a renamed part is found as a whole.

    Args:
        a: The first architecture's modules by name.
        b: The second's.

    Example:
        >>> made = lambda **kinds: {n: Facts(n, t, 0, {"type": t}, {}) for n, t in kinds.items()}
        >>> old, new = made(conv="Conv2d", fc="Linear"), made(conv="Conv2d", head="Linear")
        >>> [(x and x.name, y and y.name) for x, y in aligned(old, new)]
        [('conv', 'conv'), ('fc', 'head')]
    """
    partner = {name: name for name in b if name in a}
    left = [name for name in a if name not in b]
    right = [name for name in b if name not in a]
    matcher = SequenceMatcher(
        None,
        [tuple(a[name].structure.items()) for name in left],
        [tuple(b[name].structure.items()) for name in right],
        autojunk=False,
    )
    for i, j, length in matcher.get_matching_blocks():
        partner.update(zip(right[j : j + length], left[i : i + length], strict=True))
    taken = set(partner.values())
    pairs: list[Pair] = []
    waiting = list(a)
    for name, facts in b.items():
        own = partner.get(name)
        if own is not None:
            while waiting and waiting[0] != own and waiting[0] not in taken:
                pairs.append((a[waiting.pop(0)], None))
            if waiting and waiting[0] == own:
                waiting.pop(0)
        pairs.append((None if own is None else a[own], facts))
    pairs.extend((a[name], None) for name in waiting if name not in taken)
    return pairs


def facts_of(module: nn.Module, record: Anatomy | None) -> dict[str, Facts]:
    """Every module's facts by its name, in the order in which they were made; no costs where there is no pass."""
    outputs: dict[str, list[str]] = defaultdict(list)
    costs: dict[str, Counter[str]] = defaultdict(Counter)
    for call in record.calls if record is not None else ():
        outputs[call.name].append(shape_text(call.output_shape) if call.output_shape else "no tensor")
        costs[call.name].update({quantity: getattr(call, quantity) for quantity in _COSTS})
    found = {}
    for name, layer in module.named_modules():
        structure = {"type": type(layer).__name__, "arguments": layer.extra_repr()}
        for own, p in layer.named_parameters(recurse=False):
            structure[own] = _text(p) + ("" if p.requires_grad else " frozen")
        structure |= {own: f"{_text(b)} buffer" for own, b in layer.named_buffers(recurse=False)}
        count = sum(p.numel() for p in layer.parameters(recurse=False))
        called = {"output": ", ".join(outputs[name]) or "not called"}
        called |= {heading: f"{costs[name][quantity]:,}" for quantity, heading in _COSTS.items()}
        found[name] = Facts(name, type(layer).__name__, count, structure, called)
    return found


def _text(tensor: Tensor) -> str:
    return f"{shape_text(tuple(tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"
