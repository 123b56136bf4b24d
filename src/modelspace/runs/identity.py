"""What a run is, in plain values: two runs of one spec may share their members."""

import hashlib
import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.code import code_of, python_version
from modelspace.data import Data
from modelspace.nest import named_leaves
from modelspace.space import ModelSpace
from modelspace.tensorfile import bytes_of

_SOME = 1024  # numbers of a parameter
_AT_ONCE = 2**22  # bytes of the samples


def describe(
    space: ModelSpace,
    device: torch.device,
    data: Data,
    keep: str | int,
    settings: Mapping[str, Any],
    executed: Iterable[Any],
    tensors: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Return what a run is, read before anything of it is executed: a forward may change what it reads.

    Args:
        space: The space.
        device: Where its points are trained.
        data: The data.
        keep: Whose points are kept.
        settings: The fit's, as plain values.
        executed: What computes beside the architecture: loss, metrics, optimizer, schedule.
        tensors: What the loss holds, class weights for instance.

    Returns:
        Plain values for the catalogue. Under ``spec``: everything that members' results depend on beside themselves
        and the number of epochs. Under ``code``: of the hashes in it that stand for code, the hash of each part.
    """
    held = {"tensors of the loss": tensors} if tensors else {}
    code = code_of(*(each for each in executed if _top(each) != "modelspace"), **held)
    packages = {f"Python {python_version()}", *space.code.packages, *code.packages}
    file = _file(space)
    spec = {
        "space": space.title,
        "architecture": architecture_hash(space),
        "code": space.code.hash,
        "first point": _first_point(space),
        "frozen": _short_hash(bytes_of(value) for value in space.shared.values()),
        "type": str(space.dtype),
        "data": data.name,
        "samples": _short_hash(_samples(data)),
        "code of loss and metrics": code.hash,
        "packages": ", ".join(sorted(packages)),
        "keep": keep,
        **{name: value for name, value in settings.items() if name != "epochs"},
    }
    return {
        "spec": spec,
        "code": {"code": space.code.parts, "code of loss and metrics": code.parts},
        "target": target_of(space),
        "source": None if file is None else content_hash(Path(file)),
        "hyperparameters": space.hyperparameters,
        "input_shape": space.input_shape,
        "input_type": str(space.input_dtype).removeprefix("torch."),
        "settings": dict(settings),
        "environment": environment(device, space),
    }


def architecture_hash(space: ModelSpace) -> str:
    """Changes with the architecture's arguments and coordinates; its code is an entry of its own."""
    return _short_hash([f"{space.title}\n{list(space.layout)!r}".encode()])


def content_hash(file: Path) -> str | None:
    """The hash of a file's bytes; None where it can't be read."""
    try:
        return _short_hash([file.read_bytes()])
    except OSError:
        return None


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
    file = _file(space)
    found = sys.modules.get(module)
    if found is None or getattr(found, name, None) is not source:
        return None
    importable = module != "__main__" and getattr(found, "__spec__", None) is not None
    if importable and not module.startswith("modelspace_user_"):
        return f"{module}:{name}"
    return None if file is None else f"{os.path.abspath(file)}:{name}"


def _commit(space: ModelSpace) -> str | None:
    file = _file(space)
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


def _file(space: ModelSpace) -> str | None:
    try:
        return inspect.getsourcefile(space.architecture)  # pyright: ignore[reportArgumentType]
    except (OSError, TypeError):
        return None


def _first_point(space: ModelSpace) -> str:
    """The hash of what the architecture's code reads from elsewhere, a file of values say, and puts into its tensors.

    Of the parameters some numbers tell enough. A module that was given has its own, which no point is.
    """
    template = space.template
    values = {**dict(template.named_buffers()), **dict(_tensors(template))}
    if not isinstance(space.architecture, nn.Module):
        drawn = {name: p.detach().reshape(-1) for name, p in template.named_parameters()}
        values |= {name: p[:: max(1, len(p) // _SOME)] for name, p in drawn.items()}
    return code_of(values=values).hash


def _tensors(template: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors in plain attributes."""
    for path, layer in template.named_modules():
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}", value


def _top(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _samples(data: Data) -> Iterator[bytes]:
    """The bytes of all samples and the paths of their parts, a piece at a time: they may be larger than memory."""
    for split in data.splits.values():
        if not split.whole:
            yield split.counted.encode()
        groups = () if split.groups is None else named_leaves(split.groups)
        for path, part in (*named_leaves(split.inputs), *named_leaves(split.labels), *groups):
            yield path.encode()
            size = max(1, _AT_ONCE // max(1, part[:1].nbytes))
            yield from (bytes_of(part[begin : begin + size]) for begin in range(0, len(part), size))
    yield from (ids.tobytes() for ids in data.tasks.values())


def _short_hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
