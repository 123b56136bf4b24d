"""The most memory that this process has had: resident, or on its GPU."""

import resource
import sys
from pathlib import Path


def peak_mib(device: str = "cpu") -> float:
    """MiB at the highest point so far; processes that it started are not in it.

    On a CUDA device what PyTorch had allocated there (``torch.cuda.max_memory_allocated``), without CUDA's own;
    elsewhere the resident memory of the process.

    On Linux from ``VmHWM``: ``ru_maxrss`` of a child starts at what its parent had when it started it (the
    kernel hands the parent's peak on through ``exec``), so it can be the parent's number.
    """
    if device.startswith("cuda"):
        import torch  # here, for it takes 200 MiB itself

        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
