"""What a run is, in plain values: two runs of the same identity may share their members."""

import hashlib
import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from modelspace.data import Data
from modelspace.fit.recipe import Recipe
from modelspace.population.tensorfile import bytes_of
from modelspace.space import ModelSpace


def spec_of(space: ModelSpace, data: Data, recipe: Recipe, keep: str | int) -> dict[str, Any]:
    """Everything that members' outcomes depend on beside themselves and the number of epochs."""
    settings = recipe.describe()
    del settings["epochs"]
    functions = (*recipe.loss.code, *(metric.function for metric in recipe.metrics))
    code = "".join(map(_code, functions))
    return {
        "space": space.title,
        "architecture": architecture_hash(space),
        "frozen": _short_hash(*(bytes_of(value) for value in space.shared.values())),
        "type": str(space.dtype),
        "data": data.name,
        "samples": _short_hash(
            *(bytes_of(part) for split in data.splits.values() for part in (split.inputs, split.labels))
        ),
        "code of loss and metrics": _short_hash(code.encode()),
        "keep": keep,
        **settings,
    }


def architecture_hash(space: ModelSpace) -> str:
    """Changes with the architecture's modules, shapes and code."""
    return _short_hash(space.signature().encode())


def environment(device: torch.device, space: ModelSpace) -> dict[str, Any]:
    """Versions, machine, and the commit of the architecture's code, if it is in a git repository."""
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.processor() or platform.machine(),
        "device": on,
        "threads": torch.get_num_threads(),
        "commit": _commit(space),
    }


def target_of(space: ModelSpace) -> str | None:
    """How the architecture is named on the command line; None where it has no name there."""
    source = space.architecture
    name, module = getattr(source, "__qualname__", None), getattr(source, "__module__", None)
    if not isinstance(name, str) or not name.isidentifier() or module is None:
        return None
    try:
        file = inspect.getsourcefile(source)  # pyright: ignore[reportArgumentType]
    except (OSError, TypeError):
        return None
    found = sys.modules.get(module)
    if found is None or getattr(found, name, None) is not source:
        return None
    importable = module != "__main__" and getattr(found, "__spec__", None) is not None
    if importable and not module.startswith("modelspace_user_"):
        return f"{module}:{name}"
    return None if file is None else f"{os.path.abspath(file)}:{name}"


def _commit(space: ModelSpace) -> str | None:
    try:
        file = inspect.getsourcefile(space.architecture)  # pyright: ignore[reportArgumentType]
    except (OSError, TypeError):
        return None
    if file is None or "site-packages" in Path(file).parts:
        return None
    git = ["git", "-C", os.path.dirname(os.path.abspath(file))]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def _code(function: Callable[..., Any]) -> str:
    """A function's or a callable object's source; its name where there is none."""
    if isinstance(function, torch.nn.Module):
        return repr(function)
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return getattr(function, "__qualname__", type(function).__qualname__)


def _short_hash(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
