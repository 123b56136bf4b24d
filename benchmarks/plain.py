"""The other side: ordinary PyTorch, one network after another."""

import time
import warnings
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device import synchronise
from benchmarks.loop import fresh, train
from benchmarks.workloads import Workload
from modelspace.data import Data, epoch_indices

_FIRST_STEPS = 10


class PlainLoop:
    """Steps of one network, over batches that lie ready.

    There is no data loader, so that nothing is timed which a careful user would not also pay.

    Args:
        workload: Network and batch size.
        data: Its data.
        device: Where the network and its batches lie before the clock starts.
    """

    def __init__(self, workload: Workload, data: Data, device: str = "cpu"):
        self._workload, self._device = workload, device
        self.batches = batches(data, workload.batch, epoch=0, device=device)
        self._step_ms = self._timed(_FIRST_STEPS, seed=0)

    def milliseconds(self, seconds: float, seed: int) -> float:
        """The time a step of a fresh network, over about so many seconds."""
        steps = max(_FIRST_STEPS, round(seconds * 1e3 / self._step_ms))
        self._step_ms = self._timed(steps, seed)
        return self._step_ms

    def _timed(self, steps: int, seed: int) -> float:
        """After three steps that warm up and make Adam's state."""
        network, optimizer = fresh(self._workload.architecture, seed, self._device)
        train(network, optimizer, self.batches[:3])
        stretch = list(islice(cycle(self.batches), steps))
        synchronise(self._device)
        began = time.perf_counter()
        train(network, optimizer, stretch)
        synchronise(self._device)
        return (time.perf_counter() - began) * 1e3 / steps


def batches(data: Data, size: int, epoch: int, device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """One epoch's batches, gathered, on a device."""
    inputs, labels = data.train.inputs.to(device), data.train.labels.to(device)
    order = epoch_indices(len(data.train), size, seed=0, epoch=epoch)
    return [(inputs[index], labels[index]) for index in order.to(device)]


def whole_network_seconds(
    workload: Workload, data: Data, epochs: int, seed: int, *, test: bool, device: str = "cpu"
) -> float:
    """One network from its seed to its scores: made, trained, validated after each epoch as ``fit`` does.

    Args:
        workload: Network and batch size.
        data: Its data. Its batches are gathered before the clock starts.
        epochs: Passes over the training split.
        seed: The network's.
        test: Whether it is scored on the test split at the end.
        device: Where it is made and trained; its samples lie there before the clock starts.
    """
    gathered = [batches(data, workload.batch, epoch, device) for epoch in range(epochs)]
    scored = [(part.inputs.to(device), part.labels.to(device)) for part in (data.validation, data.test)]
    synchronise(device)
    began = time.perf_counter()
    network, optimizer = fresh(workload.architecture, seed, device)
    for epoch in range(epochs):
        network.train()
        train(network, optimizer, gathered[epoch])
        _scores(network, *scored[0])
    if test:
        _scores(network, *scored[1])
    synchronise(device)
    return time.perf_counter() - began


def _scores(network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    network.eval()
    with torch.no_grad():
        outputs = network(inputs)
        loss = F.cross_entropy(outputs, labels)
        accuracy = (outputs.argmax(1) == labels).double().mean()
    return loss.item(), accuracy.item()


def step_flop(workload: Workload, data: Data) -> int:
    """Useful floating-point operations of one network's step: the products of forward and backward.

    Counted on the plain step by ``torch.utils.flop_counter`` (a multiplication and an addition are two),
    which leaves out elementwise work, Adam's included. Fused attention and the fused LSTM, which it does not
    know, are taken apart for the count.
    """
    network = workload.architecture()
    inputs, labels = batches(data, workload.batch, epoch=0)[0]
    with warnings.catch_warnings():
        # Setting the flags warns about a device that is not there.
        warnings.simplefilter("ignore")
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
            FlopCounterMode(display=False) as counter,
        ):
            F.cross_entropy(network(inputs), labels).backward()
    return counter.get_total_flops()
