"""Where a run was made: versions and hardware, nothing that names the machine or its owner."""

import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import modelspace


def environment() -> dict[str, Any]:
    """Versions, processor, threads and the time, for the record."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jax": _installed("jax"),
        "equinox": _installed("equinox"),
        "optax": _installed("optax"),
        "modelspace": modelspace.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _installed(package: str) -> str | None:
    """Its version, without importing it; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as its maker gives it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def file_name(environment: dict[str, Any]) -> str:
    """``2026-01-31-amd-epyc-2threads.json``."""
    device = re.sub(r"[^a-z0-9]+", "-", environment["device"].lower()).strip("-")
    return f"{environment['date'][:10]}-{device}-{environment['threads']}threads.json"
