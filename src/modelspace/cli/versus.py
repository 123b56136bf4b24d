"""``modelspace versus``: which of some ways to train is better, and how sure that is."""

import argparse
import inspect
import json

from modelspace.atomic import whole_file
from modelspace.cli import arguments, results
from modelspace.cli.parser import Verb, add_options, chosen
from modelspace.compare import Verdict, versus
from modelspace.errors import ModelspaceError
from modelspace.plain import plain
from modelspace.report import page_of
from modelspace.show import say

USAGE = (
    "%(prog)s TARGET_A TARGET_B … --data DATA [--COLUMN V …] [options]\n       %(prog)s TARGET --by COLUMN …"
)
DESCRIPTION = """\
Which of two or more ways to train is better? Architectures by their names, or the values of a column (--by).
  1. tune: each contestant chooses among its settings (columns of several values) on the *validation* split, with as
     many members as any other;
  2. draw pairs: fresh members of each, which share initialisation, data order and division of the data, all drawn
     anew for every pair, scored on *test*;
  3. judge after 32, 64, 128, … pairs, by an interval of P(A > B) that holds at every number of pairs, and stop when
     it says A, B or equal (P between 0.25 and 0.75); or say about how many more pairs it takes."""
EPILOG = """\
examples:
  modelspace versus nets.py:Relu nets.py:Tanh --data digits --lr 1e-4:1e-1:8
  modelspace versus modelspace.examples:DummyNet --data digits-7x7 --by optimizer --optimizer sgd,adam --lr 1e-3,1e-2
  modelspace versus nets.py:MLP --data mine.csv --target price --by model.width --model.width 16,64 --loss mse
  modelspace versus nets.py:CNN nets.py:MLP --data digits --vary seed,data_seed --equal-within 0.005 --json

exit status: 0 with a verdict, 1 where the contestants are not separable, 2 for a mistake in what was given"""
_OPTIONS = "pairs tuning components threshold equal_within level metric"
_WITHOUT = ("seeds", "keep", "record", "metrics")


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_target(parser, number="+")
    arguments.add_data(parser, required=True)
    how = parser.add_argument_group("verdict")
    how.add_argument(
        "--by", metavar="COLUMN", help="of one TARGET: the column whose values are the contestants"
    )
    how.add_argument("--names", metavar="A,B", help="what the contestants are called")
    default = inspect.signature(versus).parameters["vary"].default
    words = "what is drawn anew for every pair; without split, the data's own test samples serve for all"
    how.add_argument(
        "--vary", default=",".join(default), metavar="WHAT[,WHAT…]", help=f"{words} ({','.join(default)})"
    )
    metric = {"metric": {"metavar": "NAME"}}
    add_options(how, versus, _OPTIONS, **metric)
    how.add_argument(
        "--all-pairs",
        action="store_true",
        help="look once, at all --pairs: the interval is the exact binomial one",
    )
    how.add_argument(
        "--table", choices=["markdown", "latex"], help="print the tables for a paper, and the methods"
    )
    arguments.add_fit(parser, without=_WITHOUT)
    arguments.add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Compare, print, write the folder."""
    folder = arguments.output_folder(options.out)
    device = arguments.load_device(options.device)
    data = arguments.load_data(options)
    spaces = [arguments.load_space(options, data, target) for target in options.target]
    by = options.by.removeprefix("model.") if options.by else None
    if by is None and len(spaces) == 1:
        raise ModelspaceError(
            "a verdict is between two: name another TARGET, or --by a column of several values"
        )
    found = versus(
        *spaces,
        data=data,
        by=by and by.replace("-", "_"),
        columns=arguments.chosen_columns(options),
        names=options.names.split(",") if options.names else None,
        vary=tuple(filter(None, options.vary.split(","))),
        sequential=not options.all_pairs,
        device=device,
        **chosen(options, _OPTIONS),
        **arguments.fit_settings(options),
    )
    if folder:
        page_of(found).keep(folder)
        with whole_file(folder / "verdict.json") as path:
            path.write_text(json.dumps(_plain(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.json:
        results.print_json(_plain(found))
    elif options.table:
        say(f"{getattr(found, options.table)()}\n\n{found.methods()}")
    else:
        say(repr(found))
        if folder:
            say(f"written: {folder}/report.html, verdict.json")
    return int(found.verdict == "not separable")


def _plain(found: Verdict) -> dict[str, object]:
    """The keys of --json."""
    keys = (
        "verdict",
        "p",
        "interval",
        "difference",
        "pairs",
        "more_pairs",
        "test_noise",
        "seed_noise",
        "new_data_error",
    )
    return plain(found, *keys)


VERBS = {"versus": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
