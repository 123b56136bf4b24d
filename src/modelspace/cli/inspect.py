"""``modelspace inspect``: what an architecture is, before anything is trained."""

import argparse
import json
import sys
from math import prod
from typing import Any

from rich.console import Console
from rich.table import Table

from modelspace.cli.arguments import add_data, add_json, add_target, load_data, load_space
from modelspace.errors import ModelspaceError
from modelspace.space import ModelSpace
from modelspace.space.card import facts, formula, shape_text

USAGE = "%(prog)s TARGET [--input SHAPE] [options]"
HELP = "measure a space: n, layers, shapes, cost"
DESCRIPTION = """\
Measure a space before anything is trained. Nothing is allocated: the module is built on PyTorch's meta device.
FLOP are those of matrix products, convolutions and attention (one multiply-and-add is two); every operation that
ran and has no formula is listed as uncounted."""
EPILOG = """\
examples:
  modelspace inspect examples/dummynet.py:DummyNet --input 3x7x7
  modelspace inspect torchvision.models:resnet18 --input 3x224x224 --batch 32 --json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_target(parser)
    add_data(parser, required=False)
    parser.add_argument(
        "--batch", type=int, metavar="N", help="samples that the cost is for (1, or 2 with BatchNorm)"
    )
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Print the anatomy."""
    if options.batch is not None and options.batch < 1:
        raise ModelspaceError(f"--batch must be at least 1; received {options.batch}")
    space = load_space(options, load_data(options))
    found = summary(space, options.batch)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _print(space, found)
    return 0


def summary(space: ModelSpace, batch: int | None) -> dict[str, Any]:
    """The anatomy as plain values."""
    anatomy = space.anatomy(batch)
    return {
        "architecture": space.title,
        "dimension": space.dimension,
        "trainable": space.dimension,
        "frozen": sum(prod(s) for s in space.frozen_shapes.values()),
        "tied": dict(space.layout.tied),
        "buffers": sum(prod(s) for s in space.buffer_shapes.values()),
        "input_shape": list(anatomy.input_shape),
        "batch": anatomy.batch,
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "parameters": layer.parameters,
                "output_shape": list(layer.output_shape),
                "flops": layer.flops,
            }
            for layer in anatomy.layers
        ],
        "flops": {"forward": anatomy.forward_flops, "backward": anatomy.backward_flops},
        "peak_bytes": anatomy.peak_bytes,
        "uncounted": list(anatomy.uncounted),
    }


def _print(space: ModelSpace, found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(f"[bold]{space.title}[/]   {formula(space.dimension)}", markup=True)
    for name, value in facts(space):
        if name != "cost":
            console.print(f"  {name:<14}{value}", markup=False)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for heading, justify in (
        ("layer", "left"),
        ("type", "left"),
        ("output", "right"),
        ("parameters", "right"),
    ):
        table.add_column(heading, justify=justify)  # pyright: ignore[reportArgumentType]
    table.add_column("FLOP", justify="right")
    for layer in found["layers"]:
        numbers = [f"{layer[k]:,}" if layer[k] else "–" for k in ("parameters", "flops")]
        table.add_row(
            layer["name"] or "(itself)", layer["type"], shape_text(tuple(layer["output_shape"])), *numbers
        )
    console.print(table)
    samples = "a sample" if found["batch"] == 1 else f"a batch of {found['batch']}"
    flops = found["flops"]
    console.print(f"FLOP {samples}: {flops['forward']:,} forward, {flops['backward']:,} backward")
    console.print(f"peak memory of forward and backward: {found['peak_bytes'] / 2**20:,.2f} MiB")
    if found["uncounted"]:
        console.print(f"not counted: {', '.join(found['uncounted'])}", markup=False)
