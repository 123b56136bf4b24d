"""The plain loop's training, in the tutorial's order of calls; it needs PyTorch and nothing else."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LR = 1e-3


def fresh(
    architecture: Callable[[], nn.Module], seed: int, device: str = "cpu"
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network drawn from a seed and put on a device, with ``torch.optim.Adam`` as it comes."""
    torch.manual_seed(seed)
    network = architecture().to(device)
    return network, torch.optim.Adam(network.parameters(), lr=LR)


def train(
    network: nn.Module, optimizer: torch.optim.Optimizer, stretch: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """One step a batch."""
    for inputs, labels in stretch:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
