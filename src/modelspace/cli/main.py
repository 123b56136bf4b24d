"""Parse the command line, call the verb, turn mistakes into one line and an exit status."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from modelspace import __version__
from modelspace.cli.parser import Parser, as_flags, parse_known
from modelspace.errors import ModelspaceError, printable, the_users_told, unknown_name

# Each verb's module is imported when it is called: PyTorch alone takes a second to import.
_VERBS = {
    "explore": "measure, sample, fit, choose, test and compare: the whole journey",
    "inspect": "measure an architecture: parameters, shapes, FLOP, memory, layer by layer",
    "diff": "how two architectures differ: modules, shapes, counts, costs",
    "family": "measure a family: n, FLOP and memory by hyper-parameter, as formulas; find the member for a budget",
    "doctor": "find mistakes in a model and its loss in seconds, before training",
    "verify": "hold the population against the plain PyTorch loop, on your own architecture",
    "search": "hyper-parameters under a budget: every trial over seeds, the winner confirmed on fresh ones",
    "fit": "train seeds × columns as one program",
    "predict": "what the members of a run say of new samples together, and how unsure they are",
    "compare": "two points: same space, same point, how different as functions",
    "versus": "which of two or more ways to train is better, in pairs of fresh seeds until it is sure",
    "landscape": "the loss over planes and lines between trained points, with barriers and bands over members",
    "curvature": "how the loss bends at trained points: eigenvalues, traces, densities, each with its error",
    "losses": "the catalogue of losses: formulas, properties, curves",
    "report": "draw report.html again from a run's folder",
    "runs": "list, show, compare and export what fit and explore wrote down",
}
_HOMES = {"diff": "inspect", "doctor": "checks", "verify": "checks", "compare": "checks", "report": "fit"}
_HOMES |= {"landscape": "ground", "curvature": "ground"}
_DESCRIPTION = """\
A PyTorch architecture as a space of functions, H = { f_p : p in R^n }:
measure it, train thousands of its points as one program, compare them honestly."""
_EPILOG = """\
examples:
  modelspace inspect modelspace.examples:DummyNet --input 3x7x7
  modelspace diff torchvision:resnet18 torchvision:resnet34
  modelspace family nets.py:MLP --model.width 16,32,64 --input 64 --solve parameters=1e6
  modelspace doctor modelspace.examples:DummyNet --input 3x7x7 --loss cross_entropy
  modelspace verify modelspace.examples:DummyNet --input 3x7x7
  modelspace explore                    # the built-in example, and a report of it in runs/dummynet
  modelspace explore mynet.py:CNN --data digits --lr 1e-4:1e-1:12 --out runs/cnn
  modelspace search mynet.py:MLP --data digits --over lr=1e-4:1e-1 --over width=8:128 --out runs/search
  modelspace fit mynet.py:MLP --model.width 64 --data mydata.npz --seeds 256 --lr 1e-3 --out runs/mlp
  modelspace compare modelspace.examples:DummyNet seed:0 seed:1 --data digits-7x7
  modelspace predict runs/mlp --data new.npz --trust --out predictions.csv
  modelspace versus nets.py:Relu nets.py:Tanh --data digits --lr 1e-4:1e-1:8
  modelspace landscape runs/mlp --trust --plane seeds --out runs/ground
  modelspace curvature runs/mlp --trust --members 16 --density
  modelspace losses --kind margin --convex
  modelspace runs

exit status: 0, or 1 where a check found something (doctor, verify, diff), or 2 for a mistake in what was given
(one line says which), or 130 after Ctrl-C"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; those of the process where None.

    Returns:
        The exit status.
    """
    if sys.stdout is None:  # closed before we began
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (to the end of the process)
    parser = None  # the verb's
    try:
        try:
            words = [*(sys.argv[1:] if arguments is None else arguments)]
            options = parse_known(_parser(words), words)
            parser = options.parser
            with the_users_told(own_kinds=True):
                return options.call(options)
        finally:  # after --help too
            sys.stdout.flush()  # what can't be written is said here, and not by the interpreter as it ends
    except (ModelspaceError, UnicodeEncodeError) as error:
        return _refused(as_flags(str(error), parser))
    except KeyboardInterrupt:
        sys.stderr.write("modelspace: interrupted before anything was finished\n")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`… | head`): say nothing more.
        _write_nothing_more()
        return 0
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return 0  # rich ends with 1 then, as if a check had found something
    except OSError as error:  # of a name too long, a folder in the way, a full disk under standard output
        _write_nothing_more()
        named = f"'{error.filename}': " if error.filename is not None else ""
        return _refused(f"{named}{error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        sys.stderr.write(
            "modelspace: out of memory: give fewer --seeds, a smaller --batch-size or a smaller --shard\n"
        )
        return 2


def _parser(words: Sequence[str]) -> Parser:
    """Make the parser of every verb's name and of the chosen verb's arguments.

    Raises:
        ModelspaceError: there is no such verb; the nearest one is named.
    """
    parser = Parser(
        prog="modelspace",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"modelspace {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is not None and chosen not in _VERBS:
        raise unknown_name("verb", chosen, _VERBS)
    for name, line in _VERBS.items():
        sub = verbs.add_parser(name, help=line, formatter_class=_Formatter, allow_abbrev=False)
        if name == chosen:
            home = import_module(f"modelspace.cli.{_HOMES.get(name, name)}")
            verb = home.VERBS[name]
            sub.usage, sub.description, sub.epilog = verb.usage, verb.description, verb.epilog
            verb.configure(sub)
            sub.set_defaults(call=verb.call, parser=sub, words=[*words])
    return parser


def _refused(reason: str) -> int:
    """Say in one line why nothing comes of it; the exit status."""
    sys.stderr.write(f"modelspace: {printable(' '.join(reason.split()))}\n")
    return 2


def _write_nothing_more() -> None:
    """Send what standard output still holds nowhere, so that the interpreter doesn't try again as it ends."""
    with suppress(OSError, ValueError):  # it is closed, or no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps paragraphs as written, in lines of at most 100 columns."""

    def __init__(self, prog: str):
        width = min(100, max(60, os.get_terminal_size().columns if sys.stdout.isatty() else 100))
        super().__init__(prog, max_help_position=30, width=width)
