"""The page of an inspection: its facts, treemaps of nested calls, and the whole tree as a table, in one file."""

from collections.abc import Iterator
from typing import NamedTuple

import plotly.graph_objects as go

from modelspace.cost import COLUMNS, Inspection, Node, headings
from modelspace.report._canvas import LIGHT, colour, empty_figure, plain_text
from modelspace.report._document import Page, Plot, Section, Table
from modelspace.show import bytes_text, number

_DEEP = 99
_SHOWN = (
    ("parameters", "Parameters", "by the module that uses them first; tied ones count once"),
    ("flops", "FLOP of the forward", "by the module whose forward they are; a multiply-and-add is two"),
    ("peak_bytes", "Memory at the peak of a training step", "in bytes, by the module whose tensors they are"),
    ("saved_bytes", "Activations kept for the backward", "in bytes, by the module that made them"),
)


def inspection_page(inspection: Inspection) -> Page:
    """Return the page of an inspection."""
    names = [name for name in COLUMNS if name != "memory" or inspection.memory is not None]
    rows = list(inspection.rows(names, _DEEP))
    plots = [
        Plot(
            quantity,
            f"{name}, {how}. Equal blocks in a row are one area; a click goes into one, and out again.",
            f"Treemap: {name}. Its numbers are in the table below.",
            treemap(inspection.tree, quantity),
        )
        for quantity, name, how in _SHOWN
        if getattr(inspection.tree, quantity)
    ]
    sections = (
        Section("What it is", inspection.totals(), facts=inspection.facts()),
        Section("Where it is", plots=plots),
        Section("Layer by layer", tables=[Table("Every module call", headings(names), rows, 2, tree=True)]),
    )
    kind, digits = "Anatomy of an architecture", str(inspection.dimension)
    return Page(kind, inspection.title, (), sections, digits, inspection.highlights())


class Tile(NamedTuple):
    """One area of a treemap.

    Attributes:
        key: Its own name in the figure; ``parent`` is that of the area around it, "" for the outermost.
        label: What stands in it.
        value: Its size: the quantity of all calls that it stands for, those within included.
        type: The module's class.
        branch: Which of the outermost module's parts it belongs to, which gives its colour.
    """

    key: str
    parent: str
    label: str
    value: int
    type: str
    branch: int


def tiles(root: Node, quantity: str) -> Iterator[Tile]:
    """Yield the areas of a quantity; alike calls are one area, as large as all; those without any are left out.

    Args:
        root: The tree of calls.
        quantity: One of the tree's: ``"parameters"``, ``"flops"``, ``"peak_bytes"``.
    """

    def below(node: Node, key: str, parent: str, times: int, branch: int) -> Iterator[Tile]:
        times *= node.times
        value = getattr(node, quantity) * times
        if not value:
            return
        many = f" × {node.times}" if node.times > 1 else ""
        yield Tile(key, parent, (node.label or node.type) + many, value, node.type, branch)
        for i, child in enumerate(node.children):
            yield from below(child, f"{key}/{i}", key, times, i if branch < 0 else branch)

    yield from below(root, "0", "", 1, -1)


def treemap(root: Node, quantity: str) -> go.Figure:
    """Draw a quantity as nested areas; a click on one goes into it."""
    keys, parents, labels, values, types, branches = zip(*tiles(root, quantity), strict=True)
    write = bytes_text if quantity.endswith("bytes") else number
    colours = [LIGHT["grid"] if branch < 0 else colour(branch) for branch in branches]
    figure = empty_figure(460)
    figure.add_treemap(
        ids=keys,
        parents=parents,
        labels=[plain_text(label) for label in labels],
        values=values,
        text=[write(value) for value in values],
        customdata=[plain_text(kind) for kind in types],
        hovertemplate="%{label}<br>%{customdata}<br>%{text}<br>%{percentRoot:.1%}<extra></extra>",
        textinfo="label+text+percent root",
        branchvalues="total",
        maxdepth=4,
        tiling={"pad": 2},
        marker={"colors": colours, "line": {"color": LIGHT["paper"], "width": 1}},
    )
    return figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4})
