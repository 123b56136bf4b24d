"""``modelspace family``: what every member of a family costs, by which law, and which one fits a budget."""

import argparse
from pathlib import Path
from typing import Any

import torch

from modelspace.cli import values
from modelspace.cli.arguments import add_json, checked_batch, keep_free, output_folder, varied
from modelspace.cli.parser import Verb, typed
from modelspace.cli.results import print_json
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.family import Family, Solution
from modelspace.loading import load_architecture
from modelspace.plain import plain
from modelspace.show import say

_DTYPES = ("float32", "float64", "bfloat16")
USAGE = "%(prog)s TARGET --model.KEY V1,V2[,…] [--input SHAPE] [--solve NAME=VALUE --over KEY] [options]"
DESCRIPTION = """\
A family is one architecture with hyper-parameters that change its size. Each --model.KEY with several values, with
commas between them, varies; with one value it is fixed ([3,3] in brackets is one value). Printed are the laws
(parameters and FLOP as exact polynomials in the integer hyper-parameters, found from a few small members and checked
on others), and a table of all members. Where there is no law, the reason is given and each member is traced; peak
memory is a maximum, and traced. Nothing is allocated: members are built on PyTorch's meta device.

--solve parameters=1e6 --over width finds the integer width whose member comes nearest to a million parameters, and
prints its neighbours as the proof. flops is of forward and backward over the batch, memory the peak in bytes."""
EPILOG = """\
examples:
  modelspace family nets.py:MLP --model.width 16,32,64 --model.depth 1,2,3 --input 64
  modelspace family nets.py:MLP --model.width 16,32 --model.depth 1,2 --input 64 \\
      --solve parameters=1e6 --over width --at depth=3
  modelspace family nets.py:MLP --model.width 16,32 --model.depth 1,2 --input 64 \\
      --solve flops=1e9 --ratio width=64,depth=1
  modelspace family nets.py:GPT --model.width 64,128 --model.depth 2,4 --model.heads 4 \\
      --input 32 --input-dtype long --plot scaling.html --json"""


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="the architecture: file.py:Name or package.module:Name, a class or a factory. The file is executed: "
        "name only files you trust",
    )
    parser.add_argument(
        "--input",
        type=typed(values.shape, "shape"),
        metavar="3x7x7",
        help="one sample's shape without the batch (without it only n is known)",
    )
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        help="cast the members (default: as they are built)",
    )
    parser.add_argument(
        "--input-dtype",
        choices=["float", "long"],
        default="float",
        help="the samples' type: long for integers, as an embedding takes them (float)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="samples that FLOP and memory are for (1, or 2 with BatchNorm)",
    )
    parser.add_argument(
        "--no-memory", action="store_true", help="leave peak memory out, which is traced member by member"
    )
    solve = parser.add_argument_group("finding a member")
    solve.add_argument(
        "--solve", metavar="NAME=VALUE", help="the budget: parameters=1e6, flops=1e9 or memory=2e9"
    )
    solve.add_argument(
        "--over",
        metavar="KEY[,KEY]",
        help="the unknown (the only open integer); of several, the first is solved for at each value of the others",
    )
    solve.add_argument(
        "--ratio", metavar="KEY=A,KEY=B", help="several unknowns that keep this ratio: width=64,depth=1"
    )
    solve.add_argument(
        "--prefer",
        metavar="KEY",
        help="of several unknowns, take the member with the most of it; -KEY: the least",
    )
    solve.add_argument(
        "--within",
        type=float,
        default=0.05,
        metavar="X",
        help="the relative distance that --prefer may cost (0.05)",
    )
    solve.add_argument("--at", metavar="KEY=V,…", help="values of the hyper-parameters that aren't unknown")
    parser.add_argument("--plot", metavar="FILE", help="draw scaling plots: FILE.html, .png, .svg or .pdf")
    add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Print laws and table, or the solution."""
    _check(options)
    family = Family(
        load_architecture(options.target),
        input_shape=options.input,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
        input_dtype=torch.long if options.input_dtype == "long" else torch.float32,
        batch_size=options.batch_size,
        memory=not options.no_memory,
        **varied(options.model),
    )
    solution = family.solve(**_question(options)) if options.solve else None
    if options.plot:
        output_folder(str(Path(options.plot).parent))
        family.plot(options.plot)
    if options.json:
        print_json(_summary(family, solution))
    else:
        say(repr(solution or family))
    return 0


def _check(options: argparse.Namespace) -> None:
    checked_batch(options)
    keep_free(options, "input_shape", "dtype", "input_dtype", "batch_size", "memory")
    if not options.solve:
        alone = [name for name in ("over", "ratio", "prefer", "at") if getattr(options, name)]
        if alone:
            raise ModelspaceError(f"--{alone[0]} goes with --solve: --solve parameters=1e6")


def _question(options: argparse.Namespace) -> dict[str, Any]:
    targets = _pairs("--solve", options.solve)
    for name in targets:
        if name not in ("parameters", "flops", "memory"):
            raise unknown_name("budget", name, ("parameters", "flops", "memory"))
    question: dict[str, Any] = {**targets, "prefer": options.prefer, "within": options.within}
    if options.over:
        question["over"] = options.over.split(",")
    if options.ratio:
        question["ratio"] = _pairs("--ratio", options.ratio)
    given = _pairs("--at", options.at) if options.at else {}
    if set(given) & set(question):
        raise ModelspaceError(f"--at {options.at}: an option of solve can't be given here")
    return {**question, **given}


def _pairs(flag: str, text: str) -> dict[str, Any]:
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise ModelspaceError(f"{flag} {text}: write NAME=VALUE")
        found[name.replace("-", "_")] = values.argument(value)
    if flag != "--at":
        odd = [v for v in found.values() if not isinstance(v, int | float) or isinstance(v, bool)]
        if odd:
            raise ModelspaceError(f"{flag} {text}: '{odd[0]}' is not a number")
    return found


def _summary(family: Family, solution: Solution | None) -> dict[str, Any]:
    """The family as plain values; with a solution, that and the laws, and no table."""
    found: dict[str, Any] = {"architecture": family.title, "quantities": family.quantities}
    if solution is not None:
        found["solution"] = {**plain(solution.member), **plain(solution, "distance", "hyperparameters")}
    else:
        table = enumerate(family.table.astype("object").to_dict("records"))
        found["members"] = [
            {n: None if i in family.refused and n in family.quantities else v for n, v in row.items()}
            for i, row in table
        ]
        found["refused"] = family.refused
    counts = [quantity for quantity in family.quantities if quantity != "peak_bytes"]
    found["laws"] = {
        quantity: [
            {
                **plain(piece, "formula"),
                "polynomial": str(piece.polynomial),
                "terms": None if piece.polynomial is None else _terms(piece.polynomial),
                "where": piece.conditions,
            }
            for piece in family.laws[quantity].pieces
        ]
        for quantity in counts
    }
    return {**found, "batch_size": family.batch_size}


def _terms(polynomial: Any) -> list[dict[str, Any]]:
    """Each term for a program: its coefficient, ``"-1/2"``, and the exponents that aren't zero."""
    return [
        {
            "coefficient": str(coefficient),
            "exponents": {str(x): e for x, e in zip(polynomial.gens, exponents, strict=True) if e},
        }
        for exponents, coefficient in polynomial.terms(order="grlex")
        if coefficient
    ]


VERBS = {"family": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
