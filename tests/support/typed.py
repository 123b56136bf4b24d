"""jaxtyping's signatures of ``modelspace``, checked while the tests run: ``conftest.py`` installs it.

What is checked is what they say of arrays: kind of number, dimensions, and that those of one name are of one size.
Other annotations are left to pyright: what a user may get wrong is answered by the function itself, with a message
that tests provoke, and would be answered here before. Functions without an array in their signature are left alone,
four in five, since the check costs some 50 µs a call.
"""

from dataclasses import is_dataclass
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

# An int is a float, as everywhere in Python's typing.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install():
    """Check the signatures of every module of ``modelspace`` that is imported from here on."""
    jaxtyped = jaxtyping.jaxtyped

    def of_arrays(**how):
        check = jaxtyped(**how)
        return lambda defined: check(defined) if _has_arrays(defined) else defined

    jaxtyping.jaxtyped = of_arrays  # which the hook puts before every function and class
    jaxtyping.install_import_hook("modelspace", "support.typed.arrays_checked")


def arrays_checked(function):
    """Check the arguments and the result that are annotated as arrays, or as nests of such."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _is_array(hint) else Any for name, hint in hints.items()}
    return _checked(function)


def _has_arrays(defined):
    if isinstance(defined, type) and not is_dataclass(defined):
        return False
    inner = getattr(defined, "fget", None) or getattr(defined, "__func__", defined)
    return any(map(_is_array, getattr(inner, "__annotations__", {}).values()))


def _is_array(hint):
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_is_array, get_args(hint)))
