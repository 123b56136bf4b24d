"""How much memory a run may still take, on the machine or on a GPU.

On a CPU the least of three: what the system can give without swapping; what the control groups of this process leave
(containers, batch systems); what ``ulimit -v`` leaves of the address space.
"""

import sys
from pathlib import Path

import psutil
import torch

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device now; without a swap file's help."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return max(0, min(psutil.virtual_memory().available, *_left_by_groups(), *_left_of_addresses()))


def _left_of_addresses() -> list[int]:
    """What the limit on this process's address space leaves, if there is one."""
    if sys.platform == "win32":
        return []
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit - psutil.Process().memory_info().vms]


def _left_by_groups() -> list[int]:
    """What each control group that this process is in leaves, of version 2 and 1."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used = _GROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = _GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            left += _left_by_group(folder, limit, used)
    return left


def _left_by_group(folder: Path, limit: str, used: str) -> list[int]:
    """What one group leaves; file pages that the kernel would drop first count as free."""
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file, or "max"
        return []
    droppable = int(pages.get("total_inactive_file", pages.get("inactive_file", 0)))
    return [most - now + droppable]
