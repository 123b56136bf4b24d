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


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, device, processor, threads and the time, for the record."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": _title(device),
        "processor": processor(),
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


def on_gpu(environment: dict[str, Any]) -> bool:
    """Whether a recorded run was one on a GPU; the oldest records name the processor as the device, and only so."""
    return environment.get("processor", environment["device"]) != environment["device"]


def _title(device: str) -> str:
    """The device's name, as its maker gives it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return processor() if kind == "cpu" else f"{processor()} {kind.upper()}"


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
    """``2026-01-31-amd-epyc-2threads.json``; of a GPU ``2026-01-31-nvidia-h100-80gb-hbm3.json``."""
    device = re.sub(r"[^a-z0-9]+", "-", environment["device"].lower()).strip("-")
    threads = "" if on_gpu(environment) else f"-{environment['threads']}threads"
    return f"{environment['date'][:10]}-{device}{threads}.json"
