"""The machine: its devices, the memory that a process took, its limit and its name; new processes on it."""

import json
import os
import pkgutil
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from benchmarks import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def use(device: str) -> None:
    """Make a device this process's own, where there may be several."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)


def synchronise(device: str) -> None:
    """Return when everything that was started there is done; on a CPU it is done already."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """The time until some work, and what it started on the device, is done."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def peak_mib(device: str = "cpu") -> float:
    """The most MiB that this process has had: resident, or on CUDA what PyTorch had allocated there.

    On Linux from ``VmHWM``: ``ru_maxrss`` of a child starts at what its parent had when it started it (the
    kernel hands the parent's peak on through ``exec``), so it can be the parent's number.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "linux":
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def product_gflops(seconds: float, device: str = "cpu", size: int | None = None) -> float:
    """The machine's limit: 10⁹ FLOP a second of a float32 matrix product, the best of about so many seconds.

    It is so large that starting and packing no longer count: three matrices of 16 MiB, of 256 MiB on a GPU. PyTorch's
    products are float32 throughout there too, unless it is told otherwise.
    """
    size = size or (2048 if device == "cpu" else 8192)
    generator = torch.Generator(device).manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator, device=device).unbind()
    out = torch.mm(a, b)  # warms up
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        times.append(seconds_of(lambda: torch.mm(a, b, out=out), device))
    return 2 * size**3 / min(times) / 1e9


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, device, processor, threads and the time, for the record."""
    import modelspace

    name, kind = processor(), torch.device(device).type
    title = torch.cuda.get_device_name(device) if kind == "cuda" else f"{name} MPS"
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": name if kind == "cpu" else title,
        "processor": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **versions("jax", "equinox", "optax"),
        "modelspace": modelspace.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*packages: str) -> dict[str, str | None]:
    """The versions of packages, without importing them; None where one is missing."""
    found = {distribution.name: distribution.version for distribution in distributions()}
    return {package: found.get(package) for package in packages}


def processor() -> str:
    """The processor's name, as its maker gives it."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    line = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return line[1].strip() if line else platform.processor() or platform.machine()


def on_gpu(environment: dict[str, Any]) -> bool:
    """Whether a recorded run was one on a GPU; the oldest records name the processor as the device, and only so."""
    return environment.get("processor", environment["device"]) != environment["device"]


def file_name(environment: dict[str, Any]) -> str:
    """``2026-01-31-amd-epyc-2threads.json``; of a GPU ``2026-01-31-nvidia-h100-80gb-hbm3.json``."""
    device = re.sub(r"[^a-z0-9]+", "-", environment["device"].lower()).strip("-")
    threads = "" if on_gpu(environment) else f"-{environment['threads']}threads"
    return f"{environment['date'][:10]}-{device}{threads}.json"


def in_fresh_process(measurement: str, device: str, threads: int | None = None, **arguments: Any) -> Any:
    """Return what a measurement (``"fits:whole"``) returns in a new process, with as many threads where None is said.

    Nothing is allocated before it; compiled programs and earlier measurements are looked for in new, empty folders,
    so compiling and planning cost what they cost.

    Raises:
        subprocess.CalledProcessError: it failed; its message is on standard error.
    """
    threads = threads or torch.get_num_threads()
    command = [sys.executable, "-m", "benchmarks.machine", measurement, device, str(threads)]
    with tempfile.TemporaryDirectory(prefix="modelspace-bench-", ignore_cleanup_errors=True) as folder:
        caches = {name: f"{folder}/{name}" for name in ("TORCHINDUCTOR_CACHE_DIR", "MODELSPACE_CACHE")}
        where = {"cwd": ROOT, "env": os.environ | caches | {"OMP_NUM_THREADS": str(threads)}}
        command.append(json.dumps(arguments))
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **where)
    return json.loads(done.stdout.splitlines()[-1])


def main(measurement: str, device: str, threads: str, arguments: str) -> None:
    """The new process's side: what the measurement returns, as one line of JSON."""
    torch.set_num_threads(int(threads))
    use(device)
    function = pkgutil.resolve_name(f"benchmarks.{measurement}")
    print(json.dumps(function(device=device, **json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
