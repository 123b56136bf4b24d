"""Initial values that another generator than PyTorch's has drawn."""

import random

import numpy as np
import torch
from doctor.ailments.fault import Fault, under
from torch import nn


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(self.drawn())
        self.bias = nn.Parameter(torch.zeros(3))

    def drawn(self):
        return torch.randn(3, 5)

    def forward(self, x):
        return x @ self.weight.T + self.bias


class LinearByNumpy(Linear):
    def drawn(self):
        return torch.from_numpy(np.random.randn(3, 5)).float()  # noqa: NPY002


class LinearByPython(Linear):
    def drawn(self):
        return torch.tensor([[random.gauss(0, 1) for _ in range(5)] for _ in range(3)])


class LinearByAGeneratorOfItsOwn(Linear):
    def drawn(self):
        return torch.from_numpy(np.random.default_rng().normal(size=(3, 5))).float()


class Reservoir(nn.Module):
    """A frozen random layer, and a trained one on top."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(self.drawn(), requires_grad=False)
        self.out = nn.Linear(24, 3)

    def drawn(self):
        return torch.rand(24, 5) - 0.5

    def forward(self, x):
        return self.out(torch.tanh(x @ self.inner.T))


class ReservoirByNumpy(Reservoir):
    def drawn(self):
        return torch.tensor(np.random.uniform(-0.5, 0.5, (24, 5)), dtype=torch.float32)  # noqa: NPY002


class Permuted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", self.drawn())
        self.net = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))

    def drawn(self):
        return torch.randperm(12)

    def forward(self, x):
        return self.net(x[:, self.order])


class PermutedByPython(Permuted):
    def drawn(self):
        return torch.tensor(random.sample(range(12), 12))


FAULTS = (
    *under(
        "unseeded-draws",
        # Novartis/scar#97: torch.manual_seed(0) gives other weights every time.
        Fault("weights drawn by NumPy", LinearByNumpy, Linear, (5,), loss="mse_loss"),
        # No run can be repeated.
        Fault("weights drawn by Python", LinearByPython, Linear, (5,), loss="mse_loss"),
        # Not even np.random.seed reaches it.
        Fault(
            "weights drawn by a generator of NumPy without a seed",
            LinearByAGeneratorOfItsOwn,
            Linear,
            (5,),
            loss="mse_loss",
        ),
        # El3ssar/ResDAG#136: The seeds of a study do not reach the reservoir.
        Fault("frozen reservoir drawn by NumPy", ReservoirByNumpy, Reservoir, (5,), loss="mse_loss"),
        # A checkpoint loads and means another order of the inputs.
        Fault("permutation drawn by Python in a buffer", PermutedByPython, Permuted, (12,), loss="mse_loss"),
    ),
)
