"""Treemaps of an architecture: an area for each module, nested as they call each other."""

from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from modelspace.cost import Node
from modelspace.report.canvas import LIGHT, colour, empty_figure, plain_text
from modelspace.show import bytes_text, number


@dataclass(frozen=True)
class Tile:
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
    """The areas of a quantity; of several alike calls one area, as large as all; those without any are left out.

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
    """A quantity as nested areas; a click on one goes into it."""
    shown = list(tiles(root, quantity))
    write = bytes_text if quantity.endswith("bytes") else number
    figure = empty_figure(460)
    figure.add_trace(
        go.Treemap(
            ids=[tile.key for tile in shown],
            parents=[tile.parent for tile in shown],
            labels=[plain_text(tile.label) for tile in shown],
            values=[tile.value for tile in shown],
            text=[write(tile.value) for tile in shown],
            customdata=[plain_text(tile.type) for tile in shown],
            hovertemplate="%{label}<br>%{customdata}<br>%{text}<br>%{percentRoot:.1%}<extra></extra>",
            textinfo="label+text+percent root",
            branchvalues="total",
            maxdepth=4,
            tiling={"pad": 2},
            marker={
                "colors": [LIGHT["grid"] if tile.branch < 0 else colour(tile.branch) for tile in shown],
                "line": {"color": LIGHT["paper"], "width": 1},
            },
        )
    )
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4})
    return figure
