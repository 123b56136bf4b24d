"""What a search may choose, written the same way in Python and on the command line.

| written | as text | means |
|---|---|---|
| ``(1e-4, 1e-1)`` | ``1e-4:1e-1`` | any number between, on a logarithmic axis where both ends are positive |
| ``(0.1, 0.5, "linear")`` | ``0.1:0.5:linear`` | any number between, on a linear axis |
| ``(8, 128)`` | ``8:128`` | any whole number between, ends included |
| ``[16, 32]`` | ``16,32`` | one of these |
| ``{"sgd": {"momentum": (0.5, 0.99)}, "adam": {}}`` | ``sgd,adam`` and ``momentum@optimizer=sgd`` | one of these, \
with what is chosen only there |
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import check
from modelspace.losses import ranges
from modelspace.optimizers import RANGES

_SCALES = ("log", "linear")
# What is no choice: randomness, and conditions under which scores can't be compared, of which one value may hold.
_RANDOM = ("seed", "data_seed", "fold", "bootstrap", "task", "source", "phase")
_CONDITIONS = ("samples", "label_noise")


@dataclass(frozen=True)
class Span:
    """All numbers between two.

    Attributes:
        low: The least.
        high: The largest.
        log: Whether equal ratios count alike, not equal differences.
        whole: Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        ends = f"{self.low:g}:{self.high:g}"
        return ends if self.log == (self.low > 0) else f"{ends}:{_SCALES[not self.log]}"


@dataclass(frozen=True)
class Parameter:
    """One thing that is chosen.

    Attributes:
        name: The column, or the architecture's argument, that it is.
        values: The numbers between two, or the choices.
        when: The parameter and its value on which this one depends; None where it is always chosen.
    """

    name: str
    values: Span | tuple[Any, ...]
    when: tuple[str, Any] | None = None

    @property
    def key(self) -> str:
        """What tells it apart: ``momentum@optimizer=sgd``."""
        return self.name if self.when is None else f"{self.name}@{self.when[0]}={self.when[1]}"

    def active(self, setting: Mapping[str, Any]) -> bool:
        """Tell whether it is chosen, when those before it have been."""
        return self.when is None or (self.when[0] in setting and setting[self.when[0]] == self.when[1])

    @property
    def ordered(self) -> bool:
        """Whether its choices are numbers, of which neighbours are alike."""
        return isinstance(self.values, tuple) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in self.values
        )

    def __str__(self) -> str:
        values = str(self.values) if isinstance(self.values, Span) else ",".join(map(str, self.values))
        return f"{self.name}={values}" + ("" if self.when is None else f"@{self.when[0]}={self.when[1]}")


def parameters_of(over: Mapping[str, Any]) -> list[Parameter]:
    """Read what a search is over; what others depend on comes first.

    Args:
        over: By name: a range, choices, or choices with what depends on them. A name may say itself what it depends
            on: ``momentum@optimizer=sgd``.

    Raises:
        ModelspaceError: a range that is none, no choices or one twice, a value out of its hyper-parameter's range, a
            name twice, or one that depends on what is not there.

    Example:
        >>> over = {"lr": "1e-4:1e-1", "optimizer": {"adam": {}, "sgd": {"momentum": (0.5, 0.99, "linear")}}}
        >>> for parameter in parameters_of(over):
        ...     print(parameter)
        lr=0.0001:0.1
        optimizer=adam,sgd
        momentum=0.5:0.99:linear@optimizer=sgd
    """
    left: list[Parameter] = []
    for key, given in over.items():
        name, at, condition = key.partition("@")
        left += _read(name, given, _condition(key, condition) if at else None)
    done: list[Parameter] = []
    while left:
        there = {parameter.name: parameter for parameter in done}
        ready = [p for p in left if p.when is None or p.when[0] in there]
        if not ready:
            unknown = {p.when[0] for p in left if p.when} - {p.name for p in left}
            why = f", and {', '.join(sorted(unknown))} is not chosen" if unknown else ""
            raise ModelspaceError(f"{', '.join(p.name for p in left)}: what depends on what{why}?")
        parameter = ready[0]
        if parameter.when is not None:
            parent, value = parameter.when
            values = there[parent].values
            if isinstance(values, Span) or value not in values:
                said = values if isinstance(values, Span) else ", ".join(map(str, values))
                raise ModelspaceError(
                    f"{parameter.name} depends on {parent}={value}, and the choices are {said}"
                )
        same = [other.when for other in done if other.name == parameter.name]
        if same and (None in same or parameter.when is None or parameter.when in same):
            raise ModelspaceError(
                f"{parameter.name} is given twice: once, or once for each value it depends on"
            )
        done.append(parameter)
        left.remove(parameter)
    return done


def _read(name: str, given: Any, when: tuple[str, Any] | None) -> list[Parameter]:
    """A parameter and those that depend on it."""
    below = given if isinstance(given, Mapping) else {}
    values = tuple(given) if isinstance(given, Mapping) else _values(name, given)
    several = isinstance(values, Span) or len(values) > 1
    if not name or name in _RANDOM or (name in _CONDITIONS and several):
        raise ModelspaceError(
            f"{name or 'a parameter without a name'} is no choice: seeds and samples are what scores vary over, "
            "noise a condition; seeds= says how many a setting has"
        )
    allowed = {**RANGES, **ranges()}.get(name)
    numbers = [values.low, values.high] if isinstance(values, Span) else list(values)
    if allowed is not None and (problems := [p for n in numbers for p in check(name, n, allowed)]):
        raise ModelspaceError(problems[0])
    found = [Parameter(name, values, when)]
    for value, own in below.items():
        for inner, inner_given in (own or {}).items():
            found += _read(inner, inner_given, (name, value))
    return found


def _values(name: str, given: Any) -> Span | tuple[Any, ...]:
    """A range or choices."""
    if isinstance(given, Span):
        return given
    if isinstance(given, str):
        parts = given.split(":")
        numbers = [_literal(part) for part in parts[:2]]
        if len(parts) in (2, 3) and all(_is_number(number) for number in numbers):
            return _span(name, (*numbers, *parts[2:]), given)
        # A comma in brackets is one value's own.
        given = [_literal(part) for part in re.split(r",(?![^\[(]*[\])])", given)]
        if "" in given:
            raise ModelspaceError(f"{name}: a value between commas is missing")
    if isinstance(given, tuple):
        return _span(name, given, given)
    values = [given] if not isinstance(given, Iterable) else [_plain(value) for value in given]
    if not values:
        raise ModelspaceError(f"{name} has no values: give a range (low, high) or choices [a, b]")
    for i, value in enumerate(values):
        if any(type(value) is type(other) and value == other for other in values[:i]):
            raise ModelspaceError(f"{name} has {value!r} twice: list each choice once")
    found = Parameter(name, tuple(values))
    return tuple(sorted(values)) if found.ordered else found.values


def _span(name: str, given: Sequence[Any], written: Any) -> Span:
    """A range, of two ends and perhaps the scale."""
    how = f"{name}: a range is (low, high) or low:high, perhaps with log or linear; received {written!r}"
    if len(given) not in (2, 3) or not all(_is_number(end) for end in given[:2]):
        raise ModelspaceError(f"{how}. Choices are a list")
    low, high = (_plain(end) for end in given[:2])
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ModelspaceError(f"{how}. The first is less than the second, and both are finite")
    if len(given) == 3 and given[2] not in _SCALES:
        raise ModelspaceError(f"{how}. How many there are is up to the search: no third number")
    log = given[2] == "log" if len(given) == 3 else low > 0
    if log and low <= 0:
        raise ModelspaceError(f"{how}. A logarithmic range has positive ends: write {low:g}:{high:g}:linear")
    return Span(low, high, log, isinstance(low, int) and isinstance(high, int))


def _condition(key: str, text: str) -> tuple[str, Any]:
    parent, equals, value = text.partition("=")
    if not (parent and equals and value):
        raise ModelspaceError(
            f"'{key}': what depends on another is NAME@OTHER=VALUE, like momentum@optimizer=sgd"
        )
    return parent, _literal(value)


def _is_number(value: Any) -> bool:
    return isinstance(_plain(value), int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """A value as Python's own; a list as a tuple, which can be compared and stored."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return tuple(value) if isinstance(value, list) else value


def _literal(text: str) -> Any:
    """A value as it is typed: a number, True, None, [16,32]; otherwise a word."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return _plain(ast.literal_eval(word))
    except (ValueError, SyntaxError):
        return word
