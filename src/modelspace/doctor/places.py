"""Where findings are in the user's source: the line that a phrase names, or the one that builds its layer."""

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from modelspace.doctor.trace import source_of

_LINE = re.compile(r"(?:^|[,;] |then )([^,;]*\.py):(\d+)")
_LAYER = re.compile(r"^([\w.]+)")


def located(where: str, root: nn.Module, source: Any) -> tuple[str, int]:
    """Return file and line of a finding's phrase; an empty name and 0 where neither it nor the model has a source.

    Args:
        where: The phrase: ``conv1 (Conv2d), net.py:12``, ``conv1 (Conv2d)``, or a parameter's name.
        root: The module.
        source: The class, function or module that it was made of.
    """
    named = _LINE.search(where)
    file = _file(named[1], root) if named else None
    if named and file:
        return file, int(named[2])
    layer = _LAYER.match(where)
    built = built_at(root, layer[1]) if layer else []
    found = built[0] if built else _definition(source)
    return (shown(found[0]), found[1]) if found else ("", 0)


def shown(file: str) -> str:
    """Return a file's path as seen from the working folder, or whole where it lies elsewhere."""
    path, here = Path(file).resolve(), Path.cwd().resolve()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _file(name: str, root: nn.Module) -> str | None:
    """Find the file that a phrase calls by its path from here, or outside by its name alone."""
    if Path(name).is_file():
        return shown(name)
    # By their dictionaries: some packages' modules import something when they are asked.
    loaded = [
        vars(module).get("__file__") for module in [*sys.modules.values()] if isinstance(module, ModuleType)
    ]
    named = {file for file in loaded if isinstance(file, str) and Path(file).name == name}
    own = {inspect.getsourcefile(type(layer)) for layer in root.modules() if not of_torch(type(layer))}
    chosen = named if len(named) == 1 else named & own
    return shown(chosen.pop()) if len(chosen) == 1 else None


def of_torch(kind: type) -> bool:
    """Tell whether a class is PyTorch's."""
    return kind.__module__.partition(".")[0] == "torch"


def built_at(root: nn.Module, path: str) -> list[tuple[str, int]]:
    """List file and line of the assignments, ``self.NAME = …``, that build a layer or attribute, inmost class first.

    Args:
        root: The whole module.
        path: ``encoder.layers.0`` of it; what stands behind a layer's name, such as ``weight``, is passed over.
    """
    found: list[tuple[str, int]] = []
    owner: Any = root
    for name in path.split("."):
        if not isinstance(owner, nn.Module):
            break
        found = list(_assigned(type(owner), name)) or found
        owner = getattr(owner, name, None)
    return found


def _assigned(kind: type, name: str) -> Iterator[tuple[str, int]]:
    for base in kind.__mro__:
        if base in (object, nn.Module) or of_torch(base):
            continue
        lines = []
        for method in filter(inspect.isfunction, vars(base).values()):
            for node, line in source_of(method):
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if any(isinstance(t, ast.Attribute) and _is_own(t, name) for t in targets):
                    lines.append((inspect.getsourcefile(method) or "", line))
        if lines:
            yield from sorted(lines)
            return


def _is_own(target: ast.Attribute, name: str) -> bool:
    return target.attr == name and isinstance(target.value, ast.Name) and target.value.id == "self"


def _definition(source: Any) -> tuple[str, int] | None:
    while isinstance(source, functools.partial):
        source = source.func
    made = type(source) if isinstance(source, nn.Module) else source
    if isinstance(made, type) and of_torch(made):
        return None
    try:
        return inspect.getsourcefile(made) or "", inspect.getsourcelines(made)[1]
    except (OSError, TypeError):  # typed in, or made by something else
        return None
