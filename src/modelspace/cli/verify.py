"""``modelspace verify``: is the population the plain loop, for this architecture?"""

import argparse

import torch

from modelspace.cli.arguments import add_data, add_json, add_target, load_data, load_space
from modelspace.cli.results import print_json
from modelspace.show import say
from modelspace.verify import verify

USAGE = "%(prog)s TARGET (--input SHAPE | --data DATA) [options]"
DESCRIPTION = """\
Train a few members of your own architecture twice: as one population, in several ways, and one by one as anyone
would: torch.manual_seed, your class, an ordinary PyTorch loop with torch.optim (SGD, Adam and --optimizer). Print
the relative error after each step in float64 and float32, of buffers and of outputs in evaluation mode, how each
operation is carried out, what is computed one member at a time and why, where the two sides part if they do, and
how much faster the population is on this machine. A network that grows rounding by itself is measured, and not
called different for it. Without --data, samples and labels are random."""
EPILOG = """\
examples:
  modelspace verify examples/dummynet.py:DummyNet --input 3x7x7
  modelspace verify nets.py:CharGPT --input 32 --tokens 65 --compile
  modelspace verify nets.py:MLP --data digits --loss cross_entropy --json

exit status: 0 if every error is within its tolerance, 1 if not"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_target(parser)
    add_data(parser, required=False)
    parser.add_argument("--loss", help="a loss by name (cross_entropy for class labels, else mse)")
    parser.add_argument("--optimizer", help="tried beside sgd and adam: adamw, rmsprop")
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="the samples are integers below N, as an embedding takes them"
    )
    parser.add_argument("--members", type=int, default=3, metavar="N", help="members trained both ways (3)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="updates of each (10)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="samples a step (8)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="hold the compiled step against the loop; takes ten seconds or more",
    )
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Verify, print, and tell by the exit status."""
    data = load_data(options)
    space = load_space(options, data, input_dtype=torch.long if options.tokens else None)
    found = verify(
        space,
        data,
        loss=options.loss,
        optimizer=options.optimizer,
        members=options.members,
        steps=options.steps,
        batch_size=options.batch_size,
        tokens=options.tokens,
        compile=options.compile,
    )
    if options.json:
        print_json(found, "equivalent", "max_relative_error", "speedup", plan=str(found.plan))
    else:
        say(repr(found))
    return 0 if found.equivalent else 1
