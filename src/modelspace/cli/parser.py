"""The parser of the command line: complaints in one line, the architecture's arguments, options of a function's."""

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, get_args

from modelspace.cli import values
from modelspace.errors import ModelspaceError, nearest, printable

_MODEL = "--model."
# Past these a command would take the machine's processes or memory, or years, before it failed.
_MOST = {"threads": 4096, "workers": 4096, "members": 10_000, "steps": 1_000_000}
# What the library says in Python, as it is said here where the verb has the option.
_SAID = (
    ("samples in place of their shape", "--data DATA", "--data"),
    ("Spec(shape, torch.long, below=N)", "--tokens N", "--tokens"),
    ("ms.inspect", "modelspace inspect", "--help"),
    ("write_baseline(found, path)", "--write-baseline", "--write-baseline"),
    ("ms.Family", "modelspace family", "--help"),
)


class Verb(NamedTuple):
    """What a module of this package says of one of its verbs.

    Attributes:
        usage: Its usage, with ``%(prog)s``.
        description: What it does.
        epilog: Examples.
        configure: Adds its arguments to its parser.
        call: Does it; the exit status.
    """

    usage: str
    description: str
    epilog: str
    configure: Callable[["Parser"], None]
    call: Callable[[argparse.Namespace], int]


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

    ``--COLUMN.GROUP VALUE`` goes into ``options.grouped`` in the same way, where the verb takes groups; ``--column``
    with a dot in its name is either.

    Raises:
        ModelspaceError: an option that nobody knows (the nearest one is named), or a key without a value.
    """
    options, rest = parser.parse_known_args(arguments)
    options.model, options.grouped = {}, {}
    columns = getattr(options, "column", {})
    rest += [f"--{name}={columns.pop(name)}" for name in [*columns] if "." in name]
    while rest:
        word = rest.pop(0)
        own = re.fullmatch(r"--([a-z][\w-]*)\.([^=]+)(=.*)?", word) if hasattr(options, "group") else None
        if own and not word.startswith(_MODEL):
            if own[3] is None and not rest:
                raise ModelspaceError(f"{word} needs a value")
            options.grouped[f"{own[1].replace('-', '_')}.{own[2]}"] = own[3][1:] if own[3] else rest.pop(0)
            continue
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


def add_options(
    parser: argparse._ActionsContainer, function: Callable[..., Any], names: str, **own: Any
) -> None:
    """Add the options that stand for a function's arguments: name, type, default and help are the function's.

    Args:
        parser: Where.
        function: With annotations and a docstring.
        names: Its arguments, with spaces between.
        own: By argument, what ``add_argument`` is given instead.
    """
    parameters = inspect.signature(function).parameters
    section = inspect.getdoc(function).partition("\nArgs:\n")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    said = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE))
    for name in names.split():
        default, kind = parameters[name].default, parameters[name].annotation
        words = re.sub(
            r"\s+", " ", said[name].replace("``", "").replace(" where None", " by default").replace('"', "")
        ).rstrip(".")
        words = words[0].lower() + words[1:]
        kinds = get_args(kind) or (kind,)
        given: dict[str, Any] = {"default": default, "help": words}
        if default is False:
            given["action"] = "store_true"
        elif int in kinds or float in kinds:
            given |= {"type": int if int in kinds else float, "metavar": "N"}
        if default not in (None, False, ()):
            given["help"] = f"{words} ({default})"
        parser.add_argument(flag(name), **{**given, **own.get(name, {})})


def chosen(options: argparse.Namespace, names: str) -> dict[str, Any]:
    """The values of options that stand for arguments, by their names."""
    return {name: getattr(options, name) for name in names.split()}


def flag(name: str) -> str:
    """An argument's option: ``--batch-size``."""
    return "--" + name.replace("_", "-")


def as_flags(text: str, parser: argparse.ArgumentParser | None) -> str:
    """A message of the library's with its arguments as this verb's options: ``keep='scores'`` as ``--keep scores``.

    Args:
        text: The message.
        parser: The verb's; where None, nothing is changed.
    """
    known = set() if parser is None else {*parser._option_string_actions, "--model"}
    for python, here, needed in _SAID:
        if needed in known:
            text = text.replace(python, here)

    def option(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        word = {"input_shape": "--input", "inputs": "--input", "group": "--data-group"}.get(name, flag(name))
        if word not in known:
            return f"--model.{name} …" if value == "…" and "--model" in known else match[0]
        shape = re.fullmatch(r"\(([\d, ]+?),?\)", value)
        if shape:
            value = shape[1].replace(", ", "x")
        elif value in ("True", "(…)"):
            value = ""
        return " ".join(filter(None, [word, value.strip("'")]))

    return re.sub(
        r"(?<![\w.(-])(?<!, )(?P<name>[a-z]\w*)=(?P<value>'[^']*'|\([^)]*\)|…|[\w.]*\w|)", option, text
    )
