"""``modelspace diff``: how two architectures differ."""

import argparse
from typing import Any

from modelspace.cli import values
from modelspace.cli.arguments import add_json
from modelspace.cli.inspect import add_sample, measured
from modelspace.cli.parser import typed
from modelspace.cli.results import print_json
from modelspace.cost import Difference, diff
from modelspace.errors import ModelspaceError
from modelspace.loading import load_architecture
from modelspace.show import say

USAGE = "%(prog)s TARGET TARGET [--input SHAPE] [options]"
DESCRIPTION = """\
Put two architectures side by side: which modules were added, removed, renamed or changed, and what parameters,
shapes, FLOP and memory become. Modules are aligned by their names, the others by class, arguments and tensors.
Nothing is allocated, and no values are compared: for two points of one space see compare."""
EPILOG = """\
examples:
  modelspace diff old.py:Net new.py:Net --input 3x32x32
  modelspace diff torchvision:resnet18 torchvision:resnet34
  modelspace diff nets.py:MLP nets.py:MLP --model.width 32,64 --json

exit status: 0 if they are equal, 1 if they differ, 2 for a mistake in what was given"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    for name in ("first", "second"):
        parser.add_argument(
            name,
            metavar="TARGET",
            help=f"the {name} architecture, as inspect takes it. Arguments of both: --model.KEY VALUE; of each its "
            "own: --model.KEY VALUE,VALUE",
        )
    parser.add_argument(
        "--input",
        type=typed(values.shape, "shape"),
        metavar="3x7x7",
        help="one sample's shape without the batch, for both (default: guessed for each)",
    )
    add_sample(parser)
    # What inspect casts to is left out: a cast would hide a difference.
    parser.set_defaults(dtype=None, target=None)
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Print the difference, and tell by the exit status."""
    sides = [_arguments(options.model, side) for side in (0, 1)]
    options.model = {}
    common = measured(options)
    found = diff(
        load_architecture(options.first),
        load_architecture(options.second),
        input_shape=common["input_shape"],
        batch=common["batch"],
        input_dtype=common["input_dtype"],
        arguments=(sides[0], sides[1]),
    )
    if options.json:
        print_json(summary(found))
    else:
        say(repr(found))
    return 0 if found.equal else 1


def _arguments(model: dict[str, Any], side: int) -> dict[str, Any]:
    """One side's arguments: of two values with a comma between them its own."""
    found = {}
    for name, value in model.items():
        both: Any = value.split(",") if isinstance(value, str) and "," in value else value
        if isinstance(value, str) and "," in value:
            both = tuple(values.argument(part) for part in both)
        if isinstance(both, tuple):
            if len(both) != 2:
                raise ModelspaceError(
                    f"--model.{name} {value}: give one value, or two with a comma between them, one for each side"
                )
            found[name] = both[side]
        else:
            found[name] = both
    return found


def summary(found: Difference) -> dict[str, Any]:
    """The difference as plain values."""
    return {
        "equal": found.equal,
        "architectures": list(found.titles),
        "same": found.same,
        "changes": [
            {
                "kind": change.kind,
                "name": change.name,
                "before": change.before,
                "type": change.type,
                "parameters": list(change.parameters),
                "what": {name: list(sides) for name, sides in change.what.items()},
            }
            for change in found.changes
        ],
        "totals": {name: list(sides) for name, sides in found.totals.items()},
        "ties": [{"name": alias, "of": name, "only_in": side} for alias, name, side in found.ties],
        "inputs": None if found.inputs is None else list(found.inputs),
        "untraced": found.untraced,
    }
