"""The peers of one workload, started one after the other, idle until it is their turn."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import is_gpu
from benchmarks.peers.contender import Contender
from benchmarks.peers.samples import keep
from benchmarks.plain import batches
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from modelspace.data import Data

_ON_ONE_GPU = 4  # processes of one member each


@contextmanager
def contenders(workload: Workload, data: Data, settings: Settings) -> Iterator[list[Contender]]:
    """The peers that the settings name, at their own sizes. All of them end with the block.

    Args:
        workload: Network and batch size.
        data: Its data.
        settings: Which peers, how large.
    """
    sizes: dict[str, dict[str, Any]] = {
        "torch.func": {"members": settings.ensemble_members},
        "jax": {"sizes": settings.jax_members},
        "processes": {"steps": settings.member_steps},
    }
    chosen = {name: sizes[name] for name in settings.peers}
    with _running(workload, data, chosen, settings.device) as running:
        yield running


@contextmanager
def contenders_of_size(
    workload: Workload, data: Data, names: Sequence[str], members: int, device: str = "cpu"
) -> Iterator[list[Contender]]:
    """Those of the peers that train K members at once, at one K."""
    sizes: dict[str, dict[str, Any]] = {"torch.func": {"members": members}, "jax": {"sizes": [members]}}
    chosen = {name: sizes[name] for name in names if name in sizes}
    with _running(workload, data, chosen, device) as running:
        yield running


@contextmanager
def _running(
    workload: Workload, data: Data, arguments: dict[str, dict[str, Any]], device: str
) -> Iterator[list[Contender]]:
    cores = torch.get_num_threads()
    alone = _ON_ONE_GPU if is_gpu(device) else cores
    with tempfile.TemporaryDirectory(prefix="modelspace-bench-") as folder, ExitStack() as ending:
        path = Path(folder) / "batches.npz"
        keep(batches(data, workload.batch, epoch=0), path)
        running: list[Contender] = []
        for name, own in arguments.items():
            processes, threads = (alone, 1) if name == "processes" else (1, cores)
            contender = Contender(
                name,
                processes,
                threads,
                device,
                network=workload.network,
                batches=str(path),
                **own,
            )
            ending.callback(contender.close)
            running.append(contender)
        yield running
