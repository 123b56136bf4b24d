"""The other side: ordinary PyTorch, one network after another."""

import time
import warnings
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.workloads import Workload
from modelspace.data import Data, epoch_indices

_LR = 1e-3


class PlainLoop:
    """Steps of one network with ``torch.optim.Adam`` as it comes, over batches that lie ready.

    The order of the calls is the tutorial's, and there is no data loader, so that nothing is timed which a
    careful user would not also pay.

    Args:
        workload: Network and batch size.
        data: Its data.
    """

    def __init__(self, workload: Workload, data: Data):
        self._workload = workload
        self.batches = batches(data, workload.batch, epoch=0)

    def milliseconds(self, steps: int, seed: int) -> float:
        """The time a step over so many of a fresh network, after three that warm up and make Adam's state."""
        torch.manual_seed(seed)
        network = self._workload.architecture()
        optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
        train(network, optimizer, self.batches[:3])
        stretch = list(islice(cycle(self.batches), steps))
        began = time.perf_counter()
        train(network, optimizer, stretch)
        return (time.perf_counter() - began) * 1e3 / steps


def batches(data: Data, size: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
    """One epoch's batches, gathered."""
    order = epoch_indices(len(data.train), size, seed=0, epoch=epoch)
    return [(data.train.inputs[index], data.train.labels[index]) for index in order]


def train(network: nn.Module, optimizer: torch.optim.Optimizer, stretch: list[tuple[Tensor, Tensor]]) -> None:
    """One step a batch."""
    for inputs, labels in stretch:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()


def whole_network_seconds(workload: Workload, data: Data, epochs: int, seed: int, *, test: bool) -> float:
    """One network from its seed to its scores: made, trained, validated after each epoch as ``fit`` does.

    Args:
        workload: Network and batch size.
        data: Its data. Its batches are gathered before the clock starts.
        epochs: Passes over the training split.
        seed: The network's.
        test: Whether it is scored on the test split at the end.
    """
    gathered = [batches(data, workload.batch, epoch) for epoch in range(epochs)]
    began = time.perf_counter()
    torch.manual_seed(seed)
    network = workload.architecture()
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
    for epoch in range(epochs):
        network.train()
        train(network, optimizer, gathered[epoch])
        _scores(network, data.validation.inputs, data.validation.labels)
    if test:
        _scores(network, data.test.inputs, data.test.labels)
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
