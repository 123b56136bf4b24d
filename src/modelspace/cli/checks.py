"""``modelspace doctor``, ``verify``, ``compare``: a model, a population, a point held against what it should be."""

import argparse
import sys
from contextlib import redirect_stdout

import torch
from torch import nn

from modelspace.cli.arguments import (
    add_data,
    add_json,
    add_target,
    built_with,
    function_named,
    load_data,
    load_space,
    sample_shape,
)
from modelspace.cli.parser import Verb, add_options, as_flags, chosen
from modelspace.cli.results import print_json
from modelspace.compare import compare
from modelspace.construction import Architecture
from modelspace.doctor import RULES, doctor
from modelspace.errors import ModelspaceError
from modelspace.loading import load_architecture
from modelspace.population import load, read_checkpoint
from modelspace.show import say
from modelspace.space import ModelSpace
from modelspace.verify import verify

_DOCTOR = "%(prog)s TARGET [--input SHAPE | --data DATA] [--loss NAME] [options]"
_DOCTOR_DESCRIPTION = """\
Find in seconds what costs days: a softmax before cross-entropy, a view that mixes samples, layers in a Python list, a
head that doesn't fit its loss. Each rule is a probe: the model is run on random samples (or on your data), in both
modes, backwards and at other sizes. What could not be checked is listed with the reason."""
_DOCTOR_EPILOG = """\
examples:
  modelspace doctor modelspace.examples:DummyNet --input 3x7x7 --loss cross_entropy --classes 10
  modelspace doctor modelspace.examples:DummyNet --data digits-7x7 --loss cross_entropy --ignore batch-reshape
  modelspace doctor nets.py:CharGPT --input 32 --tokens 65 --loss cross_entropy --json
  modelspace doctor --rules

exit status: 0 without findings above info, 1 with, 2 for a mistake in what was given"""
_EXAMINED = "loss formula classes tokens only ignore seed"


class _Rules(argparse.Action):
    """Print the rules and end, as --version does."""

    def __call__(self, parser, namespace, values, option_string=None):
        width = max(len(rule.name) for rule in RULES)
        sys.stdout.write("".join(f"{r.severity:<8} {r.name:<{width}}  {r.statement}\n" for r in RULES))
        parser.exit(0)


def _names(text: str) -> list[str]:
    """Names of rules with commas between."""
    return [name for name in text.split(",") if name]


def _configure_doctor(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_data(parser, required=False)
    name, rules = {"metavar": "NAME"}, {"metavar": "RULE,…", "type": _names}
    add_options(parser, doctor, _EXAMINED, loss=name, formula=name, only=rules, ignore=rules)
    parser.add_argument("--rules", action=_Rules, nargs=0, help="list all rules and end")
    add_json(parser)


def _doctor(options: argparse.Namespace) -> int:
    # What a model prints while it runs is no part of the diagnosis.
    with redirect_stdout(sys.stderr):
        data = load_data(options)
        sampled = torch.float32 if data is None else data.input_dtype
        # No space: a model that has nothing to train makes none, and has a finding.
        architecture = Architecture(
            load_architecture(options.target),
            built_with(options),
            sample_shape(options, data),
            getattr(torch, options.dtype) if options.dtype else None,
            torch.long if options.tokens else sampled,
        )
        found = doctor(architecture, data=data, **chosen(options, _EXAMINED))
    if options.json:
        print_json(found, architecture=found.title)
    else:
        say(as_flags(str(found), options.parser))
    return 0 if found.healthy else 1


_VERIFY = "%(prog)s TARGET (--input SHAPE | --data DATA) [options]"
_VERIFY_DESCRIPTION = """\
Train a few members of your own architecture twice: as one population, in several ways, and one by one as anyone
would: torch.manual_seed, your class, an ordinary PyTorch loop with torch.optim (SGD, Adam and --optimizer). Print
the relative error after each step in float64 and float32, of buffers and of outputs in evaluation mode, how each
operation is carried out, what is computed one member at a time and why, where the two sides part if they do, and
how much faster the population is on this machine. A network that grows rounding by itself is measured, and not
called different for it. Without --data, samples and labels are random."""
_VERIFY_EPILOG = """\
examples:
  modelspace verify modelspace.examples:DummyNet --input 3x7x7
  modelspace verify nets.py:CharGPT --input 32 --tokens 65 --compile
  modelspace verify nets.py:MLP --data digits --loss cross_entropy --json

exit status: 0 if every error is within its tolerance, 1 if not"""
_VERIFIED = "loss objective optimizer tokens members steps batch_size compile"


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_data(parser, required=False)
    named = {name: {"metavar": "NAME"} for name in ("loss", "optimizer")}
    add_options(parser, verify, _VERIFIED, objective={"metavar": "FILE.py:NAME"}, **named)
    add_json(parser)


def _verify(options: argparse.Namespace) -> int:
    data = load_data(options)
    space = load_space(options, data, input_dtype=torch.long if options.tokens else None)
    settings = chosen(options, _VERIFIED)
    settings["objective"] = options.objective and function_named(options.objective)
    found = verify(space, data, **settings)
    if options.json:
        print_json(found, "equivalent", "max_relative_error", "speedup", plan=str(found.plan))
    else:
        say(repr(found))
    return 0 if found.equivalent else 1


_COMPARE = "%(prog)s TARGET POINT POINT [options]"
_COMPARE_DESCRIPTION = """\
Hold two networks against each other: whether they are points of the same space, how far apart their parameters
are, and with --data how far apart their functions are: output distance, disagreement of predictions, and the loss
along the straight line between the two points, all on the test split.

A point is seed:7 (drawn, untrained), a state dict in safetensors (net.safetensors), or member 3 of a population
that fit or explore saved (runs/dummynet/points.safetensors:3)."""
_COMPARE_EPILOG = """\
examples:
  modelspace compare modelspace.examples:DummyNet seed:0 seed:1 --data digits-7x7
  modelspace compare modelspace.examples:DummyNet runs/dummynet/points.safetensors:192 \\
      runs/dummynet/points.safetensors:193 --data digits-7x7
  modelspace compare nets.py:Small seed:0 seed:0 --with nets.py:Large"""


def _configure_compare(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("points", nargs=2, metavar="POINT", help="two points: seed:7, FILE, or FILE:MEMBER")
    parser.add_argument(
        "--with", dest="other", metavar="TARGET", help="the second point's architecture, if another"
    )
    add_data(parser, required=False)
    parser.add_argument("--loss", default="cross_entropy", help="the loss along the line (cross_entropy)")
    add_json(parser)


def _compare(options: argparse.Namespace) -> int:
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


VERBS = {
    "doctor": Verb(_DOCTOR, _DOCTOR_DESCRIPTION, _DOCTOR_EPILOG, _configure_doctor, _doctor),
    "verify": Verb(_VERIFY, _VERIFY_DESCRIPTION, _VERIFY_EPILOG, _configure_verify, _verify),
    "compare": Verb(_COMPARE, _COMPARE_DESCRIPTION, _COMPARE_EPILOG, _configure_compare, _compare),
}
