"""The card of a space: H, n, and where each coordinate belongs."""

from html import escape
from math import prod
from typing import TYPE_CHECKING

from modelspace.errors import ModelspaceError
from modelspace.show import formula, shape_text

if TYPE_CHECKING:
    from modelspace.space._space import ModelSpace


def facts(space: "ModelSpace") -> list[tuple[str, str]]:
    """What a reader wants to know first, as (name, value) pairs."""
    own = frozenset(space.own_frozen)
    frozen = sum(prod(s) for name, s in space.frozen_shapes.items() if name not in own)
    apart = sum(prod(space.frozen_shapes[name]) for name in own)
    buffers = sum(prod(s) for s in space.buffer_shapes.values()) - apart
    rows = [("coordinates", f"n = {space.dimension:,} in {len(space.layout)} blocks, {_dtype(space)}")]
    if frozen:
        rows.append(("frozen", f"{frozen:,} shared by all points"))
    if apart:
        why = "they differ from seed to seed, or the forward writes into them"
        rows.append(("frozen", f"{apart:,} of each point's own: {why}"))
    if space.layout.tied:
        pairs = ", ".join(f"{alias} = {name}" for alias, name in space.layout.tied.items())
        rows.append(("tied", pairs))
    if buffers:
        rows.append(
            ("buffers", f"{buffers:,} in {len(space.buffer_shapes) - len(own)} tensors, one set a point")
        )
    if space.input_shape is not None:
        rows.append(("input", shape_text(space.input_shape)))
        try:
            cost = space.anatomy()
        except ModelspaceError as error:
            rows.append(("cost", f"unknown: {error}"))
        else:
            rows.append(
                (
                    "cost",
                    f"{cost.forward_flops // cost.batch:,} FLOP forward, "
                    f"{cost.backward_flops // cost.batch:,} backward a sample "
                    "(matrix products and convolutions)",
                )
            )
    return rows


def _layers(space: "ModelSpace") -> list[tuple[str, str, str, str]]:
    rows = [
        (b.name, shape_text(b.shape), f"{b.size:,}", f"p[{b.start}:{b.stop}]") for b in space.layout.blocks
    ]
    rows += [(n, shape_text(s), f"{prod(s):,}", "frozen") for n, s in space.frozen_shapes.items()]
    rows += [
        (n, shape_text(s), f"{prod(s):,}", "buffer")
        for n, s in space.buffer_shapes.items()
        if n not in space.frozen_shapes
    ]
    return rows


def text_card(space: "ModelSpace", limit: int = 24) -> str:
    """The card as text; the middle of a long list of blocks is folded."""
    rows = _layers(space)
    folded = len(rows) - limit
    if folded > 1:
        middle = (f"… {folded} more", "", "", "")
        rows = [*rows[: limit // 2], middle, *rows[len(rows) - limit // 2 :]]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [f"{space.title}   {formula(space.dimension)}"]
    lines += [f"  {name:<14}{value}" for name, value in facts(space)]
    for name, shape, size, place in rows:
        cells = (name.ljust(widths[0]), shape.rjust(widths[1]), size.rjust(widths[2]), place)
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def html_card(space: "ModelSpace") -> str:
    """The card for a notebook; every string is escaped."""
    listed = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts(space)
    )
    blocks = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _layers(space)
    )
    return (
        f"<div><p><strong>{escape(space.title)}</strong> &nbsp; {escape(formula(space.dimension))}</p>"
        f"<table>{listed}</table><details open><summary>{len(space.layout)} coordinate blocks</summary>"
        "<table><thead><tr><th>name</th><th>shape</th><th>numbers</th><th>place</th></tr></thead>"
        f"<tbody>{blocks}</tbody></table></details></div>"
    )


def _dtype(space: "ModelSpace") -> str:
    return str(space.dtype).removeprefix("torch.")
