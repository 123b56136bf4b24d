"""Memory: what a run takes, part by part, and how much is free, on the machine or on a GPU.

What is free on a CPU is the least of three: what the system can give without swapping; what the control groups of
this process leave (containers, batch systems); what ``ulimit -v`` leaves of the address space.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from modelspace.show import brief, byte_unit, bytes_text

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_PROCESS = 2**24  # what a worker process writes into beside its shard: 6 to 14 MiB
_HEAP = 2**28  # blocks below 32 MiB come from the heap, which held 40 to 430 MiB more than what was in use


@dataclass(frozen=True)
class Memory:
    """What a fit takes, in bytes; those of a shard are one process's.

    Attributes:
        shared: Frozen parameters, one template, training and validation samples: there when the fit begins.
        points: The shard's points, ``c · n`` numbers; twice that where the result is another: early stopping's best,
            an average.
        gradients: As many; with ``accumulate = a > 1``, of all batches and once more for their mean: ``2a + 1``.
        optimizer: The optimizer's state: two numbers a coordinate for Adam, one for SGD.
        buffers: The shard's buffers, before and after a step.
        coefficients: What the updates of one epoch multiply with, and their losses.
        activations: What forward and backward hold beside those.
        update: New points and state, which stand beside the old ones until a step is taken, and terms on the way.
        scoring: What the forward over validation samples holds, or a function of members that is recorded.
        kept: The points and buffers that the run keeps: of all members, and as many again before training; or of the
            best so many of each setting, for each process; or none.
        curves: The curves of all members, and their table.
        processes: Worker processes, each with a shard; 1 where there are none.
        members: K.
        shard_size: c.
        free: What was free before; on a device, there.
        on_device: Whether the shard is on a device with memory of its own.
        keeps_there: Whether the kept points are there too.
        records: What is recorded of the shard's members, which is never on a device.
        recorded: Of all members, where there is no folder.
    """

    shared: int
    points: int
    gradients: int
    optimizer: int
    buffers: int
    coefficients: int
    activations: int
    update: int
    scoring: int
    kept: int
    curves: int
    processes: int
    members: int
    shard_size: int
    free: int = 0
    on_device: bool = False
    keeps_there: bool = False
    records: int = 0
    recorded: int = 0

    @property
    def phases(self) -> dict[str, int]:
        """What a shard holds in each of its phases, beside what it always holds."""
        return {
            "activations": self.gradients + self.activations,
            "update": self.gradients + self.update,
            "scoring": self.scoring,
        }

    @property
    def tensors(self) -> int:
        """One process's shard, in the phase that takes most."""
        always = self.points + self.optimizer + self.buffers + self.coefficients
        always += 0 if self.on_device else self.records
        return always + max(self.phases.values())

    @property
    def heap(self) -> int:
        """What the system's allocator keeps between blocks, as measured: as much again, up to a limit."""
        return 0 if self.on_device else min(self.tensors, _HEAP)

    @property
    def shard(self) -> int:
        """One process's shard with its share of the heap."""
        return self.tensors + self.heap

    @property
    def shards(self) -> int:
        """Those of all processes."""
        return self.processes * self.shard + (self.processes * _PROCESS if self.processes > 1 else 0)

    @property
    def needed(self) -> int:
        """What has to be free: all but what is there already; on a device, what is needed there."""
        if self.on_device:
            return self.shards + (self.kept if self.keeps_there else 0)
        return self.shards + self.kept + self.curves + self.recorded

    @property
    def total(self) -> int:
        """All of it."""
        return self.shared + self.shards + self.kept + self.curves + self.recorded

    def __str__(self) -> str:
        phase = max(self.phases, key=self.phases.__getitem__)
        parts = {"points": self.points, "optimizer": self.optimizer, "buffers": self.buffers}
        if phase != "scoring":
            parts["gradients"] = self.gradients
        parts[phase] = getattr(self, phase)
        there = 0 if self.on_device else self.records
        parts |= {"coefficients": self.coefficients, "records": there, "heap": self.heap}
        divisor, unit = byte_unit(self.shards)
        inner = ", ".join(
            f"{name} {brief(self.processes * size / divisor)}"
            for name, size in parts.items()
            if self.processes * size / divisor >= 0.05
        )
        more = {
            "kept points": self.kept,
            "curves": self.curves,
            "records": self.recorded,
            "data": self.shared,
        }
        others = [f"{name} {bytes_text(size)}" for name, size in more.items() if size >= 2**16]
        shards = f"shards {brief(self.shards / divisor)} {unit} ({inner})"
        listed = ", ".join([shards, *others])
        return f"memory: {bytes_text(self.total)} of {bytes_text(self.free)} free: {listed}"


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
