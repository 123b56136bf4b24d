"""The largest resident memory of this process."""

import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """MiB at the highest point so far; processes that it started are not in it.

    On Linux from ``VmHWM``: ``ru_maxrss`` of a child starts at what its parent had when it started it (the
    kernel hands the parent's peak on through ``exec``), so it can be the parent's number.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
