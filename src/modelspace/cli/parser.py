"""The parser of the command line: complaints in one line, and the architecture's own arguments."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from modelspace.cli import values
from modelspace.errors import ModelspaceError, nearest, printable

_MODEL = "--model."
# Past these a command would take the machine's processes or memory, or years, before it failed.
_MOST = {"threads": 4096, "workers": 4096, "members": 10_000, "steps": 1_000_000}


class Parser(argparse.ArgumentParser):
    """A parser whose every complaint is one line, and whose whole numbers fit 64 bits."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register("type", int, typed(values.integer, "int"))

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error and exit with status 2."""
        line = " ".join(printable(f"{self.prog}: {message} (see {self.prog} --help)").split())
        self.exit(2, f"{line}\n")


def typed(convert: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    """A converter whose complaint argparse shows."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ModelspaceError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    converted.__name__ = name
    return converted


def parse_known(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse, collecting ``--model.KEY VALUE`` (or ``--model.KEY=VALUE``) into ``options.model``.

    Raises:
        ModelspaceError: an option that nobody knows (the nearest one is named), or a key without a value.
    """
    options, rest = parser.parse_known_args(arguments)
    options.model = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith(_MODEL):
            near = nearest(word.partition("=")[0], options.parser._option_string_actions)
            hint = f": did you mean {near}?" if near else ""
            raise ModelspaceError(f"unknown argument '{word}'{hint} (see {options.parser.prog} --help)")
        key, equals, value = word.removeprefix(_MODEL).partition("=")
        if not equals:
            if not rest:
                raise ModelspaceError(f"{word} needs a value")
            value = rest.pop(0)
        options.model[key.replace("-", "_")] = values.argument(value)
    if options.model and not hasattr(options, "target"):
        raise ModelspaceError(f"{options.verb} takes no --model arguments")
    for name, most in _MOST.items():
        if (getattr(options, name, None) or 0) > most:
            raise ModelspaceError(f"--{name} is at most {most:,}; received {getattr(options, name):,}")
    return options
