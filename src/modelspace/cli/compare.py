"""``modelspace compare``: two points held against each other."""

import argparse

from torch import nn

from modelspace.cli.arguments import add_data, add_json, add_target, load_data, load_space
from modelspace.cli.results import print_json
from modelspace.compare import compare
from modelspace.errors import ModelspaceError
from modelspace.population import load, read_checkpoint
from modelspace.show import say
from modelspace.space import ModelSpace

USAGE = "%(prog)s TARGET POINT POINT [options]"
DESCRIPTION = """\
Hold two networks against each other: whether they are points of the same space, how far apart their parameters
are, and with --data how far apart their functions are: output distance, disagreement of predictions, and the loss
along the straight line between the two points, all on the test split.

A point is seed:7 (drawn, untrained), a state dict in safetensors (net.safetensors), or member 3 of a population
that fit or explore saved (runs/dummynet/points.safetensors:3)."""
EPILOG = """\
examples:
  modelspace compare examples/dummynet.py:DummyNet seed:0 seed:1 --data digits-7x7
  modelspace compare examples/dummynet.py:DummyNet runs/dummynet/points.safetensors:192 \\
      runs/dummynet/points.safetensors:193 --data digits-7x7
  modelspace compare nets.py:Small seed:0 seed:0 --with nets.py:Large"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_target(parser)
    parser.add_argument("points", nargs=2, metavar="POINT", help="two points: seed:7, FILE, or FILE:MEMBER")
    parser.add_argument(
        "--with", dest="other", metavar="TARGET", help="the second point's architecture, if another"
    )
    add_data(parser, required=False)
    parser.add_argument("--loss", default="cross_entropy", help="the loss along the line (cross_entropy)")
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Print the comparison."""
    data = load_data(options)
    space = load_space(options, data)
    other = load_space(options, data, options.other) if options.other else space
    first, second = _point(space, options.points[0]), _point(other, options.points[1])
    a, b = options.points
    found = compare(
        first,
        second,
        inputs=data.test.inputs if data else None,
        labels=data.test.labels if data else None,
        loss=options.loss,
        names=(a, b) if a != b else (f"first {a}", f"second {b}"),
        space=None if options.other else space,
    )
    if options.json:
        print_json(found)
        return 0
    say(f"{space.title}: {a} and {b}\n{found!r}")
    if found.blocks and not found.same_point:
        width = max(len(block.name) for block in found.blocks)
        say(f"\n{'block'.ljust(width)}        L2  relative  cosine")
        for block in found.blocks:
            say(f"{block.name.ljust(width)}  {block.l2:8.4f}  {block.relative:8.3f}  {block.cosine:+6.3f}")
    return 0


def _point(space: ModelSpace, text: str) -> nn.Module:
    kind, colon, rest = text.rpartition(":")
    if colon and kind == "seed":
        if not rest.isdigit():
            raise ModelspaceError(f"'{text}': a seed is a whole number, like seed:7")
        return space.sample([int(rest)]).module(0)
    if colon and rest.isdigit():
        return load(kind, space).module(int(rest))
    reading = space.read(read_checkpoint(text))
    return space.module(reading.point, reading.buffers)
