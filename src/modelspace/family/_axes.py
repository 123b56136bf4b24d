"""The hyper-parameters of a family: which vary, over which values, and which are fixed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError, unknown_name


@dataclass(frozen=True)
class Axes:
    """The hyper-parameters that index a family.

    Attributes:
        listed: The values of each that varies, by name, in the order given.
        fixed: The arguments that all members share.
    """

    listed: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]

    @property
    def count(self) -> int:
        """How many members are listed."""
        return prod(len(values) for values in self.listed.values())

    def members(self) -> Iterator[dict[str, Any]]:
        """Every combination; the last hyper-parameter varies fastest."""
        for values in product(*self.listed.values()):
            yield dict(zip(self.listed, values, strict=True))

    @property
    def integers(self) -> tuple[str, ...]:
        """The hyper-parameters whose values are all integers: those that a law can have as variables."""
        return tuple(name for name, values in self.listed.items() if all(is_integer(v) for v in values))

    def completed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """One value a hyper-parameter, in the family's order; one that has a single value needs none.

        Raises:
            ModelspaceError: a name that isn't one of the family's, or one that is missing.
        """
        for name in given:
            self.require(name)
        alone = {name: values[0] for name, values in self.listed.items() if len(values) == 1}
        full = {**alone, **{name: plain(value) for name, value in given.items()}}
        missing = [name for name in self.listed if name not in full]
        if missing:
            raise ModelspaceError(
                f"{', '.join(missing)} left open: give {', '.join(f'{name}=…' for name in missing)}"
            )
        return {name: full[name] for name in self.listed}

    def require(self, name: str) -> None:
        """Accept the name of a hyper-parameter that varies.

        Raises:
            ModelspaceError: it doesn't.
        """
        if name in self.fixed:
            raise ModelspaceError(
                f"{name} is fixed at {self.fixed[name]!r} in this family: give it as a list to let it vary"
            )
        if name not in self.listed:
            raise unknown_name("hyper-parameter", name, self.listed)


def axes_of(arguments: Mapping[str, Any]) -> Axes:
    """Tell lists, ranges and arrays, over which the family runs, from values that are fixed.

    A tuple is one value (a kernel's size); a list that is one value is given inside a list.

    Raises:
        ModelspaceError: nothing varies, a list is empty, or has a value twice.
    """
    listed: dict[str, tuple[Any, ...]] = {}
    fixed: dict[str, Any] = {}
    for name, value in arguments.items():
        if not isinstance(value, list | range | np.ndarray):
            fixed[name] = value
            continue
        values = tuple(plain(v) for v in value)
        if not values:
            raise ModelspaceError(f"{name} has no values: give at least one, {name}=[…]")
        twice = [
            v for i, v in enumerate(values) if v in values[:i] and type(v) is type(values[values.index(v)])
        ]
        if twice:
            raise ModelspaceError(
                f"{name} has {twice[0]!r} twice: each value makes one space, so list it once"
            )
        listed[name] = values
    if not listed:
        raise ModelspaceError(
            "a family varies at least one hyper-parameter: give a list, width=[16, 32]; "
            "one space is ModelSpace(…)"
        )
    return Axes(listed, fixed)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; True and False are choices, not numbers."""
    return isinstance(value, int) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def said(member: Mapping[str, Any]) -> str:
    """``width=32, depth=2``."""
    return ", ".join(f"{name}={value!r}" for name, value in member.items())
