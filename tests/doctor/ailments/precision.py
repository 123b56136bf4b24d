"""float64 where float32 was meant: NumPy's default leaks in."""

import numpy as np
import torch
from doctor.ailments.fault import Fault, under
from torch import nn


class PriorCorrected(nn.Module):
    """Scores shifted by the logarithm of the classes' frequencies."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        self.register_buffer("prior", self.tensor(np.log(np.array([0.5, 0.3, 0.2]))))

    def tensor(self, value):
        return torch.from_numpy(value)

    def forward(self, x):
        return self.net(x) + self.prior


class PriorCorrectedFloat(PriorCorrected):
    def tensor(self, value):
        return torch.from_numpy(value).float()


class RadialBasis(nn.Module):
    """A cast was put where it stopped raising."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centres", self.grid())
        self.fc1 = nn.Linear(20, 16)
        self.fc2 = nn.Linear(16, 1)

    def grid(self):
        return torch.linspace(-2, 2, 10, dtype=torch.float64)

    def forward(self, x):
        distance = x.unsqueeze(-1) - self.centres
        basis = torch.exp(-(distance**2)).flatten(1).float()
        return self.fc2(torch.tanh(self.fc1(basis))).squeeze(1)


class RadialBasisFloat(RadialBasis):
    def grid(self):
        return torch.linspace(-2, 2, 10)


class Spectrum(nn.Module):
    """A window from NumPy before the transform."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", self.tensor(np.hanning(16)))
        self.net = nn.Sequential(nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 4))

    def tensor(self, value):
        return torch.tensor(value)

    def forward(self, x):
        power = torch.fft.rfft(x * self.window).abs()
        return self.net(torch.log1p(power).float())


class SpectrumFloat(Spectrum):
    def tensor(self, value):
        return torch.tensor(value, dtype=torch.float32)


FAULTS = (
    *under(
        "double-precision",
        # The outputs are float64; mixed precision is off without a word.
        Fault("class frequencies from NumPy", PriorCorrected, PriorCorrectedFloat, (6,)),
        # The largest tensor of the network is computed in float64: many times slower on a GPU.
        Fault("radial basis on a float64 grid", RadialBasis, RadialBasisFloat, (2,), loss="mse_loss"),
        # The transform runs in complex128.
        Fault("window from NumPy before a Fourier transform", Spectrum, SpectrumFloat, (16,)),
    ),
)
