"""Methods that an object offers and a layer above it performs.

``space.sample()`` is what a user types, yet sampling many points is the population's work, and a layer never
imports one above it. So the lower layer *calls by name*, and the upper one says under which name it performs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
_performers: dict[str, Callable[..., Any]] = {}


def performs(name: str) -> Callable[[_Function], _Function]:
    """A decorator: the function is what ``perform(name, …)`` calls."""

    def register(function: _Function) -> _Function:
        _performers[name] = function
        return function

    return register


def perform(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call the function that a layer above has registered under ``name``."""
    return _performers[name](*args, **kwargs)
