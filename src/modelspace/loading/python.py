"""Objects of the user's own: ``file.py:Name`` or ``package.module:Name``.

Loading such an object *executes* the file, as ``python file.py`` would: name only files you trust.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from modelspace.errors import ModelspaceError, unknown_name


def load_python(target: str) -> Any:
    """The object that ``target`` names.

    Args:
        target: ``path/to/file.py:Name`` or ``package.module:Name``.

    Returns:
        Whatever the name is bound to: a class, a function, a module instance.

    Raises:
        ModelspaceError: the form is wrong, the file or module is missing or fails to import, or it has no
            such name (the nearest one is given).
    """
    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        raise ModelspaceError(
            f"'{target}' names no object: write file.py:Name or package.module:Name "
            "(or torchvision:NAME, timm:NAME, hf:path/to/config.json)"
        )
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module_named(place)
    try:
        return getattr(module, name)
    except AttributeError:
        names = [n for n in vars(module) if not n.startswith("_")]
        raise unknown_name(f"name in {place}", name, names) from None


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
        raise ModelspaceError(f"'{path}' fails when it runs: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module


def _module_named(name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ModelspaceError(
            f"module '{name}' can't be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(folder)
