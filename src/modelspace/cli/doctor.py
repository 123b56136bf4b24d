"""``modelspace doctor``: mistakes in a model and its loss, before anything is trained."""

import argparse
import sys
from contextlib import redirect_stdout

import torch

from modelspace.cli.arguments import add_data, add_json, add_target, load_data, sample_shape
from modelspace.cli.results import print_json
from modelspace.construction import Architecture
from modelspace.data import Data
from modelspace.doctor import RULES, doctor
from modelspace.loading import load_architecture
from modelspace.plain import plain
from modelspace.show import say

USAGE = "%(prog)s TARGET [--input SHAPE | --data DATA] [--loss NAME] [options]"
DESCRIPTION = """\
Find in seconds what costs days: a softmax before cross-entropy, a view that mixes samples, layers in a Python list, a
head that doesn't fit its loss. Each rule is a probe: the model is run on random samples (or on your data), in both
modes, backwards and at other sizes. What could not be checked is listed with the reason."""
EPILOG = """\
examples:
  modelspace doctor examples/dummynet.py:DummyNet --input 3x7x7 --loss cross_entropy --classes 10
  modelspace doctor examples/dummynet.py:DummyNet --data digits-7x7 --loss cross_entropy --ignore batch-reshape
  modelspace doctor nets.py:CharGPT --input 32 --tokens 65 --loss cross_entropy --json
  modelspace doctor --rules

exit status: 0 without findings above info, 1 with, 2 for a mistake in what was given"""


class _Rules(argparse.Action):
    """Print the rules and end, as --version does."""

    def __call__(self, parser, namespace, values, option_string=None):
        width = max(len(rule.name) for rule in RULES)
        sys.stdout.write("".join(f"{r.severity:<8} {r.name:<{width}}  {r.statement}\n" for r in RULES))
        parser.exit(0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_target(parser)
    add_data(parser, required=False)
    parser.add_argument("--loss", metavar="NAME", help="what it is to be trained with: a loss by name")
    parser.add_argument(
        "--formula", metavar="NAME", help="the loss that --loss is meant to be, by name: are they the same?"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="how many classes there are")
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="the samples are integers below N, as an embedding takes them"
    )
    parser.add_argument("--only", type=_names, metavar="RULE,…", help="the rules to try (all)")
    parser.add_argument("--ignore", type=_names, default=(), metavar="RULE,…", help="rules not to try")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the model and the samples (0)")
    parser.add_argument("--rules", action=_Rules, nargs=0, help="list all rules and end")
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Examine, print, and tell by the exit status."""
    # What a model prints while it runs is no part of the diagnosis.
    with redirect_stdout(sys.stderr):
        data = load_data(options)
        found = doctor(
            _architecture(options, data),
            loss=options.loss,
            data=data,
            classes=options.classes,
            formula=options.formula,
            tokens=options.tokens,
            only=options.only,
            ignore=options.ignore,
            seed=options.seed,
        )
    if options.json:
        print_json({"architecture": found.title, **plain(found)})
    else:
        say(str(found))
    return 0 if found.healthy else 1


def _architecture(options: argparse.Namespace, data: Data | None) -> Architecture:
    """What TARGET makes. No space: a model that has nothing to train makes none, and has a finding."""
    sampled = torch.float32 if data is None else data.train.inputs.dtype
    return Architecture(
        load_architecture(options.target),
        options.model,
        sample_shape(options, data),
        getattr(torch, options.dtype) if options.dtype else None,
        torch.long if options.tokens else sampled,
    )


def _names(text: str) -> list[str]:
    """Names of rules with commas between."""
    return [name for name in text.split(",") if name]
