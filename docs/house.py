"""Draw the house into ``house.svg``: its rooms by layer, their sizes and imports: ``python docs/house.py``.

Layers and imports are what ``tests/test_architecture.py`` reads and holds. An import that follows from others is
faint: ``cli`` imports ``fit``, but so does ``explore``, which it imports. Everything stands on the first layer:
arrows to it are left out.
"""

import importlib.util
from collections import defaultdict
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).with_name("house.svg")
WIDTH, LEFT, RIGHT, TOP = 800, 34, 12, 8
BOX, HEIGHT, ROW = 114, 38, 74  # a room, and from one layer to the next
GAP, LANE = 14, 12  # between rooms; what an arrow takes that passes by
COLUMNS, CHIP = 4, 24  # of the first layer
TRIALS = 60  # first orders from which an arrangement is looked for


def read():
    """Read the layers, bottom first, who imports whom, and each room's files and lines."""
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "tests" / "test_architecture.py")
    held = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(held)
    sizes, imports = defaultdict(lambda: (0, 0)), defaultdict(set)
    for path in held.FILES:
        room = held.part(path)
        files, lines = sizes[room]
        sizes[room] = files + 1, lines + len(path.read_text(encoding="utf-8").splitlines())
        imports[room] |= {other for other in held.arrows(path) if other in held.LEVEL and other != room}
    return held.LAYERS, imports, sizes


def reduced(imports):
    """Leave out the imports that follow from others."""

    def reached(room):
        return imports[room] | {below for other in imports[room] for below in reached(other)}

    return {
        room: {x for x in targets if not any(x in reached(other) for other in targets - {x})}
        for room, targets in imports.items()
    }


def arranged(layers, arrows):
    """Arrange rooms and arrows so that arrows are short and few cross.

    Args:
        layers: The rooms by layer, bottom first.
        arrows: Pairs of rooms.

    Returns:
        The middle of each node: a room, or where an arrow passes a layer; each node's layer; and each arrow's nodes.
    """
    rows = [list(layer) for layer in layers]
    row_of = {room: i for i, layer in enumerate(layers) for room in layer}
    paths = {}
    for a, b in arrows:
        if row_of[a] == row_of[b]:
            continue
        passing = {(a, b, i): i for i in range(row_of[a] - 1, row_of[b], -1)}
        paths[a, b] = [a, *passing, b]
        row_of |= passing
        for node, i in passing.items():
            rows[i].append(node)
    links = [link for path in paths.values() for link in pairwise(path)]
    draws, best = Random(0), None
    for _ in range(TRIALS):
        for row in rows:
            draws.shuffle(row)
        x = placed(rows, links)
        crossed = sum(
            row_of[a] == row_of[c] and (x[a] - x[c]) * (x[b] - x[d]) < 0
            for (a, b), (c, d) in combinations(links, 2)
        )
        within = [(a, b) for a, b in arrows if row_of[a] == row_of[b]]
        cost = 60 * crossed + sum(abs(x[a] - x[b]) for a, b in links + within)
        if best is None or cost < best[0]:
            best = cost, x
    return best[1], row_of, paths


def placed(rows, links):
    """Place nodes from a first order: each near its neighbours, row by row, down and up; at last in a fixed order."""
    below, above, beside = defaultdict(list), defaultdict(list), defaultdict(list)
    for upper, lower in links:
        below[upper].append(lower)
        above[lower].append(upper)
        beside[upper].append(lower)
        beside[lower].append(upper)
    x = {node: (i + 0.5) * WIDTH / len(row) for row in rows for i, node in enumerate(row)}
    for near in [above, below] * 6 + [beside] * 10:
        for row in rows if near is below else reversed(rows):
            wanted = {
                node: sum(x[n] for n in near[node] or [node]) / len(near[node] or [node]) for node in row
            }
            if near is not beside:
                row.sort(key=wanted.get)
            x.update(apart(row, wanted))
    return x


def apart(row, wanted):
    """Place a row's nodes as near as can be to where they are wanted, in their order and apart from each other."""
    half = [(BOX + GAP) / 2 if isinstance(node, str) else LANE / 2 for node in row]
    offset = [0.0]
    for left, right in pairwise(half):
        offset.append(offset[-1] + left + right)
    blocks = []  # least squares in a given order: neighbours that would overlap share their mean
    for node, shift in zip(row, offset, strict=True):
        blocks.append((wanted[node] - shift, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
    low, high = LEFT + half[0], WIDTH - RIGHT - half[-1] - offset[-1]
    places = [min(max(value, low), max(low, high)) for value, count in blocks for _ in range(count)]
    return {node: place + shift for node, place, shift in zip(row, places, offset, strict=True)}


def curve(points, kind):
    """Draw a line through points, upright at each."""
    (x, y), *rest = points
    steps = [f"M{x:.0f} {y:.0f}"]
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        steps.append(f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
    return f'<path class="{kind}" d="{" ".join(steps)}"/>'


STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1d2733; }
.room { fill: #fff; stroke: #3b5b7d; stroke-width: 1.2; }
.name { font-size: 13px; font-weight: 600; text-anchor: middle; }
.size { font-size: 9.5px; fill: #4c5763; text-anchor: middle; }
.layer { font-size: 11px; fill: #6b7580; text-anchor: middle; }
.band { fill: #f3f6f9; }
.ground { fill: #e6edf4; stroke: #b9c7d6; }
.chip { font-size: 12px; font-weight: 600; }
.chip tspan { font-size: 9.5px; font-weight: 400; fill: #4c5763; }
.arrow { fill: none; stroke: #3b5b7d; stroke-width: 1.4; marker-end: url(#head); }
.follows { fill: none; stroke: #c3cfdb; stroke-width: 0.7; }
"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="6.5" markerHeight="6.5" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#3b5b7d"/></marker>'
)


def drawn():
    """Draw the house as the text of an SVG."""
    (ground, *layers), imports, sizes = read()
    above = sorted(room for layer in layers for room in layer)
    imports = {room: imports[room] & set(above) for room in above}
    strong = reduced(imports)
    arrows = [(a, b) for a in above for b in sorted(strong[a])]
    x, row_of, paths = arranged(layers, arrows)
    bottom = TOP + len(layers) * ROW
    top = {node: bottom - (row + 1) * ROW + (ROW - HEIGHT) / 2 for node, row in row_of.items()}

    parts = []
    for row in range(len(layers)):
        y = bottom - (row + 1) * ROW
        if row % 2:
            parts.append(f'<rect class="band" x="0" y="{y}" width="{WIDTH}" height="{ROW}"/>')
        parts.append(f'<text class="layer" x="17" y="{y + ROW / 2 + 4:.0f}">{row + 2}</text>')
    for a in above:
        for b in sorted(imports[a] - strong[a]):
            parts.append(curve([(x[a], top[a] + HEIGHT), (x[b], top[b])], "follows"))
    for a, b in arrows:
        if row_of[a] == row_of[b]:  # one of a few siblings that may: along the floor
            floor, way = top[a] + HEIGHT, 1 if x[a] < x[b] else -1
            start, end = x[a] + way * BOX / 4, x[b] - way * BOX / 4
            bend = f"C{start:.0f} {floor + 18:.0f} {end:.0f} {floor + 18:.0f} {end:.0f} {floor + 5:.0f}"
            parts.append(f'<path class="arrow" d="M{start:.0f} {floor:.0f} {bend}"/>')
            continue
        through = [(x[node], top[node] + side) for node in paths[a, b][1:-1] for side in (0, HEIGHT)]
        parts.append(curve([(x[a], top[a] + HEIGHT), *through, (x[b], top[b] - 5)], "arrow"))
    for room in above:
        middle, y, (files, lines) = x[room], top[room], sizes[room]
        parts += [
            f'<rect class="room" x="{middle - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{HEIGHT}" rx="5"/>',
            f'<text class="name" x="{middle:.0f}" y="{y + 16:.0f}">{room}</text>',
            f'<text class="size" x="{middle:.0f}" y="{y + 30:.0f}">'
            f"{files} file{'s' if files > 1 else ''}, {lines:,} lines</text>",
        ]
    deep, wide = -(-len(ground) // COLUMNS) * CHIP + 12, WIDTH - LEFT - RIGHT
    parts += [
        f'<rect class="ground" x="{LEFT}" y="{bottom + 6}" width="{wide}" height="{deep}" rx="5"/>',
        f'<text class="layer" x="17" y="{bottom + deep / 2 + 10:.0f}">1</text>',
    ]
    for i, room in enumerate(sorted(ground)):
        left, y = LEFT + 16 + i % COLUMNS * (wide - 16) / COLUMNS, bottom + i // COLUMNS * CHIP + 28
        size = f'<tspan dx="6">{sizes[room][1]:,} lines</tspan>'
        parts.append(f'<text class="chip" x="{left:.0f}" y="{y:.0f}">{room}{size}</text>')
    height = bottom + deep + 18
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}">',
            "<title>The rooms of modelspace by layer; each imports from those below</title>",
            f"<style>{STYLE}</style>",
            f'<defs>{HEAD}</defs><rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
