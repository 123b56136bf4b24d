"""An architecture measured before anything is trained, as one frozen record with its text."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from math import prod
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelspace.cost._anatomy import Anatomy
from modelspace.cost._counts import Counts
from modelspace.cost._largest import LargestBatch
from modelspace.cost._memory import StepMemory
from modelspace.cost._roofline import TimeBound
from modelspace.cost._sample import Sample
from modelspace.cost._tree import Node, highlights, tree
from modelspace.errors import unknown_name
from modelspace.show import Terminal, bytes_text, formula, number, percent, seconds_text, shape_text

DEFAULT_COLUMNS = ("output", "parameters", "flops", "activations")


class Column(NamedTuple):
    """A column of the tree: its heading, the node's quantity, how it is written, whether a share goes with it."""

    heading: str
    quantity: str
    write: Callable[[int], str]
    share: bool


COLUMNS: dict[str, Column] = {
    "output": Column("output", "output_shape", str, False),
    "parameters": Column("parameters", "parameters", number, True),
    "flops": Column("FLOP", "flops", number, True),
    "backward": Column("FLOP backward", "backward_flops", number, False),
    "activations": Column("activations", "saved_bytes", bytes_text, True),
    "memory": Column("at the peak", "peak_bytes", bytes_text, True),
    "bytes": Column("bytes moved", "bytes", bytes_text, False),
    "intensity": Column("FLOP/byte", "intensity", str, False),
}


def checked_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns.

    Raises:
        ModelspaceError: one is unknown; the nearest is named.
    """
    for name in names:
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS)
    return tuple(dict.fromkeys(names))


def headings(columns: Sequence[str]) -> tuple[str, ...]:
    """The headings of `rows`; a share has none."""
    found = ["layer", "type"]
    for name in columns:
        found += [COLUMNS[name].heading, *([""] if COLUMNS[name].share else [])]
    return tuple(found)


@dataclass(frozen=True)
class Inspection:
    """What an architecture holds, does and costs.

    Attributes:
        title: The architecture's name with its arguments.
        sample: One sample of its inputs, and whether it was guessed.
        anatomy: The record of one forward and backward.
        optimizer: The optimizer of the step whose memory was traced; None where none was.
        precision: The number format of that step.
        memory: The memory of that step; None where none was traced.
        largest: The largest batch for a memory; None where none was asked for.
        bound: The least time of the pass on a device; None where none was named.
    """

    title: str
    sample: Sample
    anatomy: Anatomy
    optimizer: str | None = None
    precision: str = "32"
    memory: StepMemory | None = None
    largest: LargestBatch | None = None
    bound: TimeBound | None = None

    @property
    def counts(self) -> Counts:
        """What the module holds."""
        return self.anatomy.counts

    @property
    def dimension(self) -> int:
        """n, the trainable parameters; a tied one counts once."""
        return self.counts.trainable

    @cached_property
    def tree(self) -> Node:
        """The pass as a tree of calls, alike ones folded."""
        return tree(self.anatomy, None if self.memory is None else self.memory.by_module)

    def facts(self) -> list[tuple[str, str]]:
        """What it is and on what it was measured, as (name, value) pairs."""
        counts, sample = self.counts, self.sample
        rows = [("parameters", f"{counts.parameters:,}")]
        if counts.frozen:
            rows.append(("trainable", f"n = {counts.trainable:,}; {counts.frozen:,} frozen"))
        if counts.buffers:
            rows.append(("buffers", f"{counts.buffers:,}"))
        why = f"   (guessed: {sample.guessed})" if sample.guessed else ""
        rows.append(("input", f"{sample} a sample, batch {self.anatomy.batch_size}{why}"))
        return rows

    def highlights(self) -> tuple[str, ...]:
        """At most three sentences, the most consequential first.

        Example:
            >>> from torch import nn
            >>> from modelspace import inspect
            >>> inspect(nn.Sequential(nn.Linear(4, 90), nn.ReLU(), nn.Linear(90, 2))).highlights()[0]
            '0 (Linear) holds 71 % of the parameters: 450 of 632'
        """
        return highlights(self.anatomy, self.tree, self.memory)

    def totals(self) -> list[str]:
        """The lines below the tree."""
        found = self.anatomy
        samples = "a sample" if found.batch_size == 1 else f"a batch of {found.batch_size}"
        lines = [
            f"FLOP {samples}: {found.forward_flops:,} forward, {found.backward_flops:,} backward "
            "(a multiply-and-add is two; a MAC is FLOP / 2)",
            f"peak memory of forward and backward: {bytes_text(found.peak_bytes)}, "
            f"of which activations kept for the backward: {bytes_text(found.saved_bytes)}",
        ]
        if found.recomputed_flops:
            lines.append(f"of the backward's FLOP {found.recomputed_flops:,} are recomputed (checkpointing)")
        step = self.memory
        if step is not None:
            kinds = ", ".join(f"{kind} {bytes_text(held)}" for kind, held in step.by_kind.items() if held)
            lines.append(
                f"peak memory of a training step ({self.optimizer}, precision {self.precision}): "
                f"{bytes_text(step.peak_bytes)} in its {step.phase}: {kinds}"
            )
        if self.largest is not None:
            most = self.largest
            above = (
                "" if most.next_peak_bytes is None else f"; one sample more takes {most.next_peak_bytes:,} B"
            )
            lines.append(f"largest batch: {most.batch_size:,}, with a peak of {most.peak_bytes:,} B{above}")
        bound = self.bound
        if bound is not None:
            lines.append(
                f"no pass on {bound.device} is faster than {seconds_text(bound.seconds)} (a bound, not an estimate): "
                f"{seconds_text(bound.compute_seconds)} of products at its peak; "
                f"{percent(bound.traffic_share, 1)} of the time waits for memory"
            )
        if found.workspaces:
            lines.append(f"memory unknown to any shape, on top: of {', '.join(found.workspaces)}")
        if found.uncounted:
            lines.append(
                "not counted: " + ", ".join(f"{k} × {times}" for k, times in found.uncounted.items())
            )
        return lines

    def rows(self, columns: Sequence[str], depth: int, sort: str | None = None) -> Iterator[tuple[str, ...]]:
        """A row for each layer as text, the tree drawn in its first cell; or sorted, without a tree."""
        root = self.tree
        for label, node in _by_tree(root, depth) if sort is None else _sorted(self, sort):
            cells = [cell for name in columns for cell in _cells(node, root, COLUMNS[name])]
            yield label + (" (again)" if node.again else ""), node.type, *cells

    def text(
        self,
        *,
        columns: Sequence[str] = DEFAULT_COLUMNS,
        depth: int = 3,
        sort: str | None = None,
        width: int = 160,
    ) -> str:
        """Return all of it as plain text.

        Args:
            columns: Names of ``COLUMNS``, in the order in which they are shown.
            depth: Levels of the tree below the module itself; deeper calls are within their parents' numbers.
            sort: A column: instead of the tree, every layer by itself, the most of it first.
            width: Characters in a line.

        Raises:
            ModelspaceError: an unknown column.
        """
        stream = io.StringIO()
        self.write(Terminal(file=stream, width=width), columns, depth, sort)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def write(
        self,
        console: Console,
        columns: Sequence[str] = DEFAULT_COLUMNS,
        depth: int = 3,
        sort: str | None = None,
    ) -> None:
        """Print it on a console, in colour where that has any."""
        columns = checked_columns(columns)
        if sort is not None:
            checked_columns([sort])
        console.print(Text(f"{self.title}   {formula(self.dimension)}", style="bold"))
        for name, value in self.facts():
            console.print(Text.assemble((f"  {name:<14}", "dim"), value))
        for sentence in self.highlights():
            console.print(Text.assemble(("  • ", "bold"), sentence))
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("layer", no_wrap=True, overflow="ellipsis", min_width=12)
        table.add_column("type", no_wrap=True, overflow="ellipsis")
        for heading in headings(columns)[2:]:
            table.add_column(heading, justify="right", no_wrap=True, style="" if heading else "dim")
        for row in self.rows(columns, depth, sort):
            table.add_row(*map(Text, row))
        console.print(table)
        for line in self.totals():
            console.print(Text(line))

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text())}</pre>"


def _cells(node: Node, root: Node, column: Column) -> list[str]:
    value = getattr(node, column.quantity)
    if column.quantity == "output_shape":
        return [shape_text(value) if value else "–"]
    if column.quantity == "intensity":
        return [f"{value:,.1f}" if value else "–"]
    many = f"{node.times} × " if node.times > 1 else ""
    cells = [many + column.write(value) if value else "–"]
    if column.share:
        cells.append(percent(value * node.times, getattr(root, column.quantity)) if value else "")
    return cells


def _by_tree(root: Node, depth: int) -> Iterator[tuple[str, Node]]:
    yield root.name or "(itself)", root

    def below(node: Node, level: int, lead: str) -> Iterator[tuple[str, Node]]:
        if level > depth:
            return
        shown = [child for child in node.children if child.type != "Identity"]
        for child in shown:
            last = child is shown[-1]
            many = f" × {child.times}" if child.times > 1 else ""
            yield f"{lead}{'└─ ' if last else '├─ '}{child.label}{many}", child
            yield from below(child, level + 1, lead + ("   " if last else "│  "))

    yield from below(root, 1, "")


def _sorted(inspection: Inspection, sort: str) -> Iterator[tuple[str, Node]]:
    """Every call with something of its own, or nothing within, by what is its own."""
    quantity = COLUMNS[sort].quantity
    peaks = None if inspection.memory is None else inspection.memory.by_module
    alone = [
        Node(**{**vars(node), **node.own, "children": ()})
        for node in tree(inspection.anatomy, peaks, fold=False).walk()
        if not node.children or any(node.own.values())
    ]

    def size(node: Node) -> float:
        value = getattr(node, quantity)
        return (prod(value) if value else 0) if isinstance(value, tuple) else value

    for node in sorted(alone, key=size, reverse=True):
        yield node.name or "(itself)", node
