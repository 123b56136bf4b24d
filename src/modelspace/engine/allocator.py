"""Keep freed memory in the process between steps.

glibc gives freed memory back to the system as soon as a few hundred kilobytes lie at the end of the heap. A training
step frees and asks again for some megabytes, so that, depending on how the heap happens to lie, every step pays for a
thousand page faults: an MLP's step took 0.038 or 0.12 ms a member from one process to the next, and always 0.038 with
the thresholds raised.
"""

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**29, 2**25  # the second is the largest that glibc takes


@cache
def keep_freed_memory() -> bool:
    """Raise the allocator's thresholds, once; whether this system has them."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
