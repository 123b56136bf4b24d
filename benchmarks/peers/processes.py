"""One process a member: the plain loop with one thread, as many processes at once as cores, or four on a GPU.

Its imports are those of a script that trains one network, so that starting costs what it would cost there.
"""

import time

import torch
from torch import Tensor

from benchmarks.device import synchronise, use
from benchmarks.loop import fresh, train
from benchmarks.networks import NETWORKS
from benchmarks.peers.samples import read


class Peer:
    """One member after the other, each trained from its seed for all of its updates.

    Args:
        network: Its name.
        batches: The file of the batches.
        steps: Updates of a member.
        device: Where.
    """

    def __init__(self, network: str, batches: str, steps: int, device: str = "cpu"):
        use(device)
        self.facts = {"members": 1, "steps": steps}
        self._architecture, self._device = NETWORKS[network], device
        samples = [(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)) for x, y in read(batches)]
        self._samples = [samples[i % len(samples)] for i in range(steps)]
        self._seed = 0
        # A process's first step is longer; a process that trains one member pays for it, so it belongs to starting.
        self._train(self._samples[:1])

    def milliseconds(self, seconds: float) -> float:
        """A step of one whole member, however many seconds it takes."""
        del seconds
        began = time.perf_counter()
        self._train(self._samples)
        self._seed += 1
        return (time.perf_counter() - began) * 1e3 / len(self._samples)

    def _train(self, samples: list[tuple[Tensor, Tensor]]) -> None:
        train(*fresh(self._architecture, self._seed, self._device), samples)
        synchronise(self._device)
