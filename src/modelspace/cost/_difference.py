"""``diff``: two architectures side by side, as one frozen record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.construction import Made, title_of
from modelspace.cost._alignment import Pair, aligned
from modelspace.cost._anatomy import Anatomy, on_values
from modelspace.cost._batch import Sample
from modelspace.cost._build import built, with_values
from modelspace.cost._counts import counts
from modelspace.cost._facts import Facts, facts_of
from modelspace.cost._inspection import passed, sample_of, shape_of
from modelspace.errors import ModelspaceError
from modelspace.show import shape_text
from modelspace.trace import Spec

Source = nn.Module | Callable[..., nn.Module] | Made


@dataclass(frozen=True)
class Change:
    """One module that is not the same on both sides.

    Attributes:
        kind: ``"added"`` (only in the second), ``"removed"`` (only in the first), ``"renamed"`` (the same under
            another name) or ``"changed"``.
        name: Its name in the second architecture; in the first where it was removed.
        before: Its name in the first; None where it was added.
        type: Its class's name, of the side that ``name`` is of.
        parameters: Elements of its own parameters on both sides.
        what: What differs, by name, as text of both sides.
    """

    kind: str
    name: str
    before: str | None
    type: str
    parameters: tuple[int, int]
    what: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Difference:
    """How two architectures differ in structure and cost; the values of their parameters are not looked at.

    Attributes:
        titles: Their names with their arguments.
        changes: Every module that differs.
        same: How many modules are the same.
        totals: Numbers of the whole by name, both sides; costs are missing where no pass was traced.
        ties: What is tied to what on one side only, with the side, ``"first"`` or ``"second"``.
        inputs: On what each was traced; None where it wasn't.
        untraced: Why no pass was traced; None where it was.
    """

    titles: tuple[str, str]
    changes: tuple[Change, ...]
    same: int
    totals: Mapping[str, tuple[int, int]]
    ties: tuple[tuple[str, str, str], ...]
    inputs: tuple[str, str] | None
    untraced: str | None

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.changes and not self.ties and all(a == b for a, b in self.totals.values())

    def __repr__(self) -> str:
        from modelspace.cost._difference_text import text

        return text(self)

    def _repr_html_(self) -> str:
        from modelspace.cost._difference_text import html

        return html(self)


def diff(
    a: Source,
    b: Source,
    *,
    input_shape: tuple[int, ...] | Spec | Tensor | None = None,
    batch: int | None = None,
    input_dtype: torch.dtype | None = None,
    arguments: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> Difference:
    """How two architectures differ: modules, shapes, counts, costs. Their values are not compared.

    Modules are aligned by name, the others by structure. Costs are of one forward and backward, traced by shapes
    alone; where the input can neither be guessed nor run, only what they hold is compared, and the record says why.

    Args:
        a: A class, a factory, a module or a space.
        b: The other one.
        input_shape: One sample's shape for both, without the batch; guessed for each where None. A `Spec` or samples
            for a forward that reads values, as in ``inspect``.
        batch: Samples that the cost is for; the smallest that trains where None.
        input_dtype: The samples' type; found out where None.
        arguments: The arguments of the two classes or factories.

    Raises:
        ModelspaceError: one can't be built; or ``input_shape`` is given and doesn't run.

    Example:
        >>> found = diff(nn.Linear(4, 3), nn.Linear(4, 5), input_shape=(4,))
        >>> found.equal, found.totals["parameters"], found.changes[0].what["weight"]
        (False, (15, 25), ('3×4 float32', '5×4 float32'))
    """
    sources = [_source(side, given) for side, given in zip((a, b), arguments, strict=True)]
    shape = shape_of(input_shape)
    modules = [built(source, given, input_shape=shape) for source, given in sources]

    def measured(module: nn.Module) -> tuple[Sample, Anatomy]:
        sample = sample_of(module, input_shape, input_dtype)
        return sample, passed(module, sample, batch)

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
            inputs.append(f"{sample}, batch {record.batch}")
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


def _source(side: Source, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(side, Made) and not isinstance(side, nn.Module | type):
        return side.architecture, {**side.hyperparameters, **given}
    return side, given


def _change(pair: Pair) -> Change | None:
    a, b = pair
    if a is None and b is not None:
        return Change("added", b.name, None, b.type, (0, b.parameters), {})
    if b is None and a is not None:
        return Change("removed", a.name, a.name, a.type, (a.parameters, 0), {})
    assert a is not None
    assert b is not None
    what = _what(a, b)
    if a.name == b.name and not what:
        return None
    kind = "renamed" if a.name != b.name and not what else "changed"
    return Change(kind, b.name, a.name, b.type, (a.parameters, b.parameters), what)


def _what(a: Facts, b: Facts) -> dict[str, tuple[str, str]]:
    """Everything that differs between two modules, as text."""
    sides: list[tuple[str, str, str]] = [("type", a.type, b.type), ("arguments", a.arguments, b.arguments)]
    own, other = dict(a.tensors), dict(b.tensors)
    sides += [(name, own.get(name, "none"), other.get(name, "none")) for name in {**own, **other}]
    sides.append(("output", _shapes(a.outputs), _shapes(b.outputs)))
    for name, heading in (
        ("flops", "FLOP forward"),
        ("backward_flops", "FLOP backward"),
        ("saved_bytes", "activations in bytes"),
    ):
        sides.append((heading, f"{getattr(a, name):,}", f"{getattr(b, name):,}"))
    return {name: (x, y) for name, x, y in sides if x != y}


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(shape_text(shape) if shape else "no tensor" for shape in shapes) or "not called"
