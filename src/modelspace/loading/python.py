"""Objects of the user's own: ``file.py:Name`` or ``package.module:Name``.

Loading such an object *executes* the file, as ``python file.py`` would: name only files you trust.
"""

import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from modelspace.errors import ModelspaceError, told, unknown_name

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not in C


def load_python(target: str) -> Any:
    """The object that ``target`` names.

    Args:
        target: ``path/to/file.py:Name`` or ``package.module:Name``.

    Returns:
        Whatever the name is bound to: a class, a function, a module instance.

    Raises:
        ModelspaceError: the form is wrong, the file or module is missing or fails to import, or it has no
            such name (the nearest one is given); or it would be called and is Python's own (``os:system``).
    """
    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        raise ModelspaceError(
            f"'{target}' names no object: write file.py:Name or package.module:Name "
            "(or torchvision:NAME, timm:NAME, hf:path/to/config.json)"
        )
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module_named(place)
    try:
        found = getattr(module, name)
    except AttributeError:
        names = [n for n, value in vars(module).items() if not n.startswith("_") and _can_be_called(value)]
        raise unknown_name(f"name in {place}", name, names) from None
    if callable(found) and not _is_of_packages_or_user(found):
        raise ModelspaceError(
            f"'{target}' is Python's own or not written in Python ({_kind(found)}), and is not called: name a class, "
            "a module or a function of yours, or of a package"
        )
    return found


def file_of_target(target: str) -> Path | None:
    """The file that loading a target would execute, without executing it or the packages above it."""
    place = target.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place) if Path(place).is_file() else None
    for folder in (str(Path.cwd()), *sys.path):
        path = Path(folder, *place.split("."))
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def as_architecture(found: Any, target: str) -> Any:
    """The object, if it can be an architecture.

    Raises:
        ModelspaceError: it is a class of something else, or no callable.
    """
    other = isinstance(found, type) and not issubclass(found, nn.Module)
    if other or not callable(found):
        raise ModelspaceError(
            f"'{target}' is {_kind(found)}, and is not called: an architecture is an nn.Module's class, an "
            "nn.Module, or a function that returns one"
        )
    return found


def _can_be_called(found: Any) -> bool:
    return callable(found) and _is_of_packages_or_user(found)


def _is_of_packages_or_user(found: Any) -> bool:
    """Whether what would be called is Python code, and none of Python's own library."""
    if isinstance(found, functools.partial):
        return _is_of_packages_or_user(found.func)
    if isinstance(found, types.MethodType):
        return _is_of_packages_or_user(found.__func__)
    if isinstance(found, types.FunctionType):
        # A decorator's function bears the name of what it wraps, which is what counts.
        return _outside_the_library(found.__module__)
    if not isinstance(found, type) and "__wrapped__" in getattr(found, "__dict__", {}):
        return _is_of_packages_or_user(found.__wrapped__)
    kind = found if isinstance(found, type) else type(found)
    if issubclass(kind, nn.Module):
        return True
    made_by_a_class = bool(kind.__flags__ & _HEAP_TYPE) and _outside_the_library(kind.__module__)
    return made_by_a_class and (isinstance(found, type) or isinstance(kind.__call__, types.FunctionType))


def _outside_the_library(module: Any) -> bool:
    return not isinstance(module, str) or module.partition(".")[0] not in sys.stdlib_module_names


def _kind(found: Any) -> str:
    if isinstance(found, type):
        return f"the class {found.__module__}.{found.__qualname__}"
    return f"a {type(found).__name__}"


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelspaceError(f"no file '{path}' (looked in {Path.cwd()})")
    name = f"modelspace_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelspaceError(f"'{path}' can't be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelspaceError(f"'{path}' fails when it runs: {told(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _module_named(name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ModelspaceError(f"module '{name}' can't be imported: {told(error)}") from error
    finally:
        sys.path.remove(folder)
