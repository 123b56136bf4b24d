"""Parse the command line, call the verb, turn mistakes into one line and an exit status."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from modelspace import __version__
from modelspace.cli import compare, diff, doctor, explore, family, fit, inspect, losses, report, runs, verify
from modelspace.cli.arguments import Parser, parse_known
from modelspace.errors import ModelspaceError, printable, the_users_told

_VERBS = (explore, inspect, diff, family, doctor, verify, fit, compare, losses, report, runs)
_DESCRIPTION = """\
A PyTorch architecture as a space of functions, H = { f_p : p in R^n }:
measure it, train thousands of its points as one program, compare them honestly."""
_EPILOG = """\
examples:
  modelspace inspect examples/dummynet.py:DummyNet --input 3x7x7
  modelspace diff torchvision:resnet18 torchvision:resnet34
  modelspace family nets.py:MLP --model.width 16,32,64 --input 64 --solve parameters=1e6
  modelspace doctor examples/dummynet.py:DummyNet --input 3x7x7 --loss cross_entropy
  modelspace verify examples/dummynet.py:DummyNet --input 3x7x7
  modelspace explore examples/dummynet.py:DummyNet --data digits-7x7 --lr 1e-4:1e-1:12 --out runs/dummynet
  modelspace fit mynet.py:MLP --model.width 64 --data mydata.npz --seeds 256 --lr 1e-3 --out runs/mlp
  modelspace compare examples/dummynet.py:DummyNet seed:0 seed:1 --data digits-7x7
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
    parser = Parser(
        prog="modelspace",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_formatter(),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"modelspace {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for verb in _VERBS:
        name = verb.__name__.rpartition(".")[2]
        sub = verbs.add_parser(
            name,
            usage=verb.USAGE,
            help=verb.HELP,
            description=verb.DESCRIPTION,
            epilog=verb.EPILOG,
            formatter_class=_formatter(),
            allow_abbrev=False,
        )
        verb.configure(sub)
        sub.set_defaults(call=verb.call)
    try:
        try:
            options = parse_known(parser, sys.argv[1:] if arguments is None else arguments)
            with the_users_told(own_kinds=True):
                return options.call(options)
        finally:  # after --help too
            sys.stdout.flush()  # what can't be written is said here, and not by the interpreter as it ends
    except (ModelspaceError, UnicodeEncodeError) as error:
        return _refused(str(error))
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
            "modelspace: out of memory: give fewer --seeds, a smaller --batch or a smaller --shard\n"
        )
        return 2


def _refused(reason: str) -> int:
    """Say in one line why nothing comes of it; the exit status."""
    sys.stderr.write(f"modelspace: {printable(' '.join(reason.split()))}\n")
    return 2


def _write_nothing_more() -> None:
    """Send what standard output still holds nowhere, so that the interpreter doesn't try again as it ends."""
    with suppress(OSError, ValueError):  # it is closed, or no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _formatter() -> type:
    import argparse

    class Formatter(argparse.RawDescriptionHelpFormatter):
        """Keeps paragraphs as written, in lines of at most 100 columns."""

        def __init__(self, prog: str):
            width = min(100, max(60, os.get_terminal_size().columns if sys.stdout.isatty() else 100))
            super().__init__(prog, max_help_position=30, width=width)

    return Formatter
