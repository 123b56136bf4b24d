"""``modelspace doctor``, ``verify``, ``compare``: a model, a population, a point held against what it should be."""

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from difflib import unified_diff

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
from modelspace.doctor import (
    RULES,
    Diagnosis,
    Repairs,
    annotations,
    doctor,
    repairs,
    sarif,
    write_baseline,
    write_whole,
)
from modelspace.errors import ModelspaceError
from modelspace.loading import file_of_target, load_architecture
from modelspace.plain import structured
from modelspace.population import load, read_checkpoint
from modelspace.show import say
from modelspace.space import ModelSpace
from modelspace.verify import verify

_DOCTOR = "%(prog)s TARGET [--input SHAPE | --data DATA] [--loss NAME] [options]"
_DOCTOR_DESCRIPTION = """\
Find in seconds what costs days: a softmax before cross-entropy, a view that mixes samples, layers in a Python list, a
head that doesn't fit its loss, a mask that is ignored, parameters that the optimizer hasn't got. Each rule is a
probe: the model is run on random samples (or on your data), in both modes, backwards and at other sizes. What could
not be checked is listed with the reason."""
_DOCTOR_EPILOG = """\
examples:
  modelspace doctor modelspace.examples:DummyNet --input 3x7x7 --loss cross_entropy --classes 10
  modelspace doctor modelspace.examples:DummyNet --data digits-7x7 --loss cross_entropy --ignore batch-reshape
  modelspace doctor nets.py:CharGPT --input 32 --tokens 65 --loss cross_entropy --json
  modelspace doctor nets.py:Net --input 3x7x7 --optimizer train.py:make_optimizer
  modelspace doctor nets.py:Net --input 3x7x7 --diff        # what --fix would write
  modelspace doctor nets.py:Net --input 3x7x7 --format sarif > doctor.sarif
  modelspace doctor nets.py:Net --input 3x7x7 --baseline doctor.json --write-baseline
  modelspace doctor nets.py:Net --input 3x7x7 --baseline doctor.json --format github
  modelspace doctor --rules

The same words stand in args: of the pre-commit hook modelspace-doctor, and in the pytest setting modelspace_doctor,
where each line is a test.

exit status: 0 without findings above info that the baseline doesn't know, 1 with, 2 for a mistake in what
was given"""
_EXAMINED = "loss formula optimizer classes tokens only ignore baseline seed"
_FORMATS = ("text", "json", "sarif", "github")


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
    file = {"metavar": "FILE", "help": "findings that are known and fail nothing; see --write-baseline"}
    made = {
        "metavar": "FILE.py:NAME",
        "help": "a function of the module that returns its torch.optim optimizer",
    }
    add_options(
        parser,
        doctor,
        _EXAMINED,
        loss=name,
        formula=name,
        only=rules,
        ignore=rules,
        baseline=file,
        optimizer=made,
    )
    parser.add_argument(
        "--write-baseline",
        action="store_true",
        help="write what is found into the --baseline file, as known; end with 0",
    )
    parser.add_argument("--diff", action="store_true", help="print what --fix would write, and write nothing")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write fixes of one token into your source (flatten(1), nn.ModuleList, batch_first) "
        "and examine again; what doesn't help is taken back",
    )
    parser.add_argument("--rules", action=_Rules, nargs=0, help="list all rules and end")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--format",
        choices=_FORMATS,
        default="text",
        help="what goes to standard output: text, one JSON object, SARIF 2.1.0 for code scanning, or GitHub's "
        "annotations (text)",
    )
    add_json(output)


def _doctor(options: argparse.Namespace) -> int:
    if options.write_baseline and options.baseline is None:
        raise ModelspaceError("--write-baseline needs a file: --baseline FILE")
    given = chosen(options, _EXAMINED)
    if options.write_baseline:
        given["baseline"] = None
    # What a model prints while it runs is no part of the diagnosis.
    with redirect_stdout(sys.stderr):
        given["optimizer"] = options.optimizer and function_named(options.optimizer)
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
        found = doctor(architecture, data=data, **given)
    found = _placed(found, options.target)
    if options.write_baseline:
        write_baseline(found, options.baseline)
    if options.diff or options.fix:
        return _repaired(options, found, architecture)
    _print(options, found)
    return 0 if found.healthy or options.write_baseline else 1


def _placed(found: Diagnosis, target: str) -> Diagnosis:
    """Give findings that have no source, as of layers that PyTorch wrote, the line that has the target's name."""
    file = file_of_target(target)
    if file is None or all(f.file for f in found.findings):
        return found
    name = re.escape(target.rpartition(":")[2])
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    named = (i for i, text in enumerate(lines, 1) if re.match(rf"(?:def |class )?{name}\b", text))
    place = {"file": os.path.relpath(file), "line": next(named, 0)}
    return replace(found, findings=tuple(f if f.file else replace(f, **place) for f in found.findings))


def _print(options: argparse.Namespace, found: Diagnosis) -> None:
    if options.json or options.format == "json":
        print_json(found, architecture=found.title)
    elif options.format == "sarif":
        sys.stdout.write(json.dumps(sarif(found), indent=1) + "\n")
    elif options.format == "github":
        say(annotations(found))
    else:
        say(as_flags(str(found), options.parser))


def _repaired(options: argparse.Namespace, found: Diagnosis, architecture: Architecture) -> int:
    """Print the fixes as a diff, or write them and examine again, in a process that has the new source."""
    with redirect_stdout(sys.stderr):
        made = repairs(found, architecture.as_given())
    said = [f"not fixed: {finding.rule} at {finding.where}: {why}" for finding, why in made.left]
    if options.diff:
        for path, new in made.after.items():
            old, new = (text.decode().splitlines(keepends=True) for text in (made.before[path], new))
            sys.stdout.writelines(
                unified_diff(old, new, f"a/{os.path.relpath(path)}", f"b/{os.path.relpath(path)}")
            )
    elif made.after:
        said = [f"fixed: {finding.rule} at {finding.where}" for finding in made.fixed] + said
        write_whole(made.after)
        try:
            found = _again(options, found, made)
        except BaseException as error:
            write_whole(made.before)
            if not isinstance(error, ModelspaceError):
                raise
            files = ", ".join(path.name for path in made.after)
            raise ModelspaceError(
                f"the fixes are taken back, {files} is as it was: with them, {error}"
            ) from error
    sys.stderr.write("".join(f"modelspace: {line}\n" for line in said))
    if not options.diff:
        _print(options, found)
    return 0 if found.healthy else 1


def _again(options: argparse.Namespace, found: Diagnosis, made: Repairs) -> Diagnosis:
    """Examine what has been written.

    Raises:
        ModelspaceError: the model no longer runs, a finding has stayed, or another has come.
    """
    words = [word for word in options.words if word not in ("--fix", "--json")] + ["--format", "json"]
    code = "import sys; from modelspace.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise ModelspaceError(done.stderr.strip().rpartition("\n")[2] or "the examination ended at once")
    after = structured(json.loads(done.stdout), Diagnosis, "the diagnosis")
    old = {f.fingerprint for f in (*found.findings, *found.known)} - {f.fingerprint for f in made.fixed}
    rules = sorted({f.rule for f in after.findings if f.fingerprint not in old and f.severity != "info"})
    if rules:
        raise ModelspaceError(f"{', '.join(rules)} would be found")
    return after


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
