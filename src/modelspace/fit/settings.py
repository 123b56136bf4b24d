"""A setting is written once: a field with its type, default, range and a line of documentation.

From it follow the argument of ``fit`` with its type, its check, its lines in ``help(ms.fit)``, the flag of the
command line and the key under which it is stored.
"""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Concatenate, ParamSpec, TypeVar, dataclass_transform, overload

from modelspace.errors import ModelspaceError, unknown_name

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Given = TypeVar("Given")
Value = TypeVar("Value")
_MARK = re.compile(r"^ +options: .*\n", re.M)


@overload
def setting(*, default: T, doc: str, at_least: float | None = None, choices: tuple[Any, ...] = ()) -> T: ...
@overload
def setting(
    *, default: Given, doc: str, converter: Callable[[Given], Value], choices: tuple[Any, ...] = ()
) -> Value: ...
def setting(
    *,
    default: Any,
    doc: str,
    converter: Callable[[Any], Any] | None = None,
    at_least: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Make the field of a setting.

    Args:
        default: What holds where nothing is given.
        doc: What it is.
        converter: Makes the value of what is given, of which the type is its parameter's; and refuses what is none.
        at_least: The least number that it may be.
        choices: The names that it may have, for the command line.
    """
    told = {"doc": doc, "converter": converter, "at_least": at_least, "choices": choices}
    return field(default=default, metadata=told)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def settings(cls: type[T]) -> type[T]:
    """Make a frozen dataclass of settings, which converts and checks what it is given."""

    def resolve(self: Any) -> None:
        problems = []
        for each in fields(self):
            convert, least = each.metadata["converter"], each.metadata["at_least"]
            value = getattr(self, each.name)
            if least is not None and value is not None and value < least:
                problems.append(f"{each.name} is at least {least}; received {value}")
            elif convert is not None:
                object.__setattr__(self, each.name, convert(value))
        if problems:
            raise ModelspaceError("; ".join(problems))

    cls.__post_init__ = resolve  # pyright: ignore[reportAttributeAccessIssue]
    return dataclass(frozen=True, kw_only=True)(cls)


def made(options: Callable[..., T], given: Mapping[str, Any], taker: str) -> T:
    """Make settings of what was given by name.

    Raises:
        ModelspaceError: a name is none of theirs, or a value is refused.
    """
    names = [each.name for each in fields(options)]  # pyright: ignore[reportArgumentType]
    for name in given:
        if name not in names:
            raise unknown_name(f"setting of {taker}", name, names)
    return options(**given)


def takes(
    options: Callable[P, T],
) -> Callable[
    [Callable[[Given, Any, T], R]],
    Callable[Concatenate[Given, Any, P], R],
]:
    """Let a function of (population, data, options) take each of the options by its name.

    Args:
        options: The class of settings. Its fields make the function's signature, and in its docstring the entries
            that take the place of ``options:``.
    """

    def decorate(function: Callable[[Given, Any, T], R]) -> Callable[Concatenate[Given, Any, P], R]:
        known: Iterable[Field[Any]] = fields(options)  # pyright: ignore[reportArgumentType]

        @functools.wraps(function)
        def called(population: Given, data: Any, *nothing: P.args, **given: P.kwargs) -> R:
            return function(population, data, made(options, given, function.__name__))

        signature = inspect.signature(function)
        shared = list(signature.parameters.values())[:2]
        called.__signature__ = signature.replace(  # pyright: ignore[reportAttributeAccessIssue]
            parameters=[*shared, *map(_parameter, known)]
        )
        lines = [f"{each.name}: {each.metadata['doc']}" for each in known]
        called.__doc__ = _MARK.sub("".join(map(_entry, lines)), function.__doc__ or "")
        return called

    return decorate


def _parameter(each: Field[Any]) -> inspect.Parameter:
    kind = each.type
    if each.metadata["converter"] is not None:
        kind = next(iter(inspect.signature(each.metadata["converter"]).parameters.values())).annotation
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(each.name, keyword, default=each.default, annotation=kind)


def _entry(line: str) -> str:
    """An entry of a docstring's Args."""
    return textwrap.fill(line, 110, initial_indent=" " * 8, subsequent_indent=" " * 12) + "\n"
