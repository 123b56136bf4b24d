"""Tensors that .to(device) leaves behind."""

import math

import torch
from doctor.ailments.fault import Fault, under
from torch import nn


def sinusoids(length, features):
    position = torch.arange(length).unsqueeze(1)
    rate = torch.exp(torch.arange(0, features, 2) * (-math.log(100.0) / features))
    return torch.cat([torch.sin(position * rate), torch.cos(position * rate)], 1)


class PositionalEncoding(nn.Module):
    def __init__(self):
        super().__init__()
        self.keep(sinusoids(6, 8))

    def keep(self, table):
        self.pe = table

    def forward(self, x):
        return x + self.pe[: x.size(1)]


class PositionalEncodingBuffer(PositionalEncoding):
    def keep(self, table):
        self.register_buffer("pe", table)


class Encoder(nn.Module):
    def __init__(self, positions):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.positions = positions
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.layer(self.positions(self.embedding(x))).mean(1))


class InitialState(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 10, batch_first=True)
        self.out = nn.Linear(10, 4)

    def init_hidden(self, x):
        return torch.zeros(1, x.size(0), 10)

    def forward(self, x):
        _, h = self.gru(x, self.init_hidden(x))
        return self.out(h[-1])


class InitialStateOnDevice(InitialState):
    def init_hidden(self, x):
        return torch.zeros(1, x.size(0), 10, device=x.device)


class InitialStateOnCuda(InitialState):
    def init_hidden(self, x):
        h = torch.zeros(1, x.size(0), 10)
        return h.cuda() if torch.cuda.is_available() else h


class Normalised(nn.Module):
    """The mean and deviation of the pictures."""

    def __init__(self):
        super().__init__()
        self.keep("mean", torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
        self.keep("std", torch.tensor([0.9, 1.0, 1.1]).view(3, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        )

    def keep(self, name, value):
        setattr(self, name, value)

    def forward(self, x):
        return self.body((x - self.mean) / self.std)


class NormalisedBuffers(Normalised):
    def keep(self, name, value):
        self.register_buffer(name, value)


class FourierFeatures(nn.Module):
    """Random features for a regression on coordinates."""

    def __init__(self):
        super().__init__()
        self.keep(torch.randn(2, 12))
        self.net = nn.Sequential(nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 3))

    def keep(self, b):
        self.b = b

    def forward(self, x):
        angle = x @ self.b
        return self.net(torch.cat([torch.sin(angle), torch.cos(angle)], -1))


class FourierFeaturesBuffer(FourierFeatures):
    def keep(self, b):
        self.register_buffer("b", b)


class LearntPositions(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(12, 8)
        self.position = nn.Embedding(5, 8)
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 12)

    def where(self, x):
        return torch.arange(x.size(1), device="cpu")

    def forward(self, x):
        h = self.token(x) + self.position(self.where(x))
        return self.fc2(torch.tanh(self.fc1(h))).transpose(1, 2)


class LearntPositionsOnDevice(LearntPositions):
    def where(self, x):
        return torch.arange(x.size(1), device=x.device)


FAULTS = (
    *under(
        "unregistered-constant",
        # lyuwenyu/RT-DETR#677: Expected all tensors to be on the same device; .half() leaves it in float32.
        Fault(
            "positional encoding as a plain attribute",
            lambda: Encoder(PositionalEncoding()),
            lambda: Encoder(PositionalEncodingBuffer()),
            (6,),
            tokens=20,
        ),
        # benedekrozemberczki/pytorch_geometric_temporal#20: The hidden state is on the CPU whatever the input is on.
        Fault("initial state made without a device", InitialState, InitialStateOnDevice, (5, 3)),
        # On a machine with two GPUs the second one cannot be used.
        Fault("initial state by .cuda()", InitialStateOnCuda, InitialStateOnDevice, (5, 3)),
        # Fails on the GPU, and the checkpoint does not contain them.
        Fault("mean and deviation as plain attributes", Normalised, NormalisedBuffers, (3, 6, 6)),
        # jmclong/random-fourier-features-pytorch#2: After loading a checkpoint the features are others.
        Fault(
            "random Fourier features as a plain attribute",
            FourierFeatures,
            FourierFeaturesBuffer,
            (2,),
            loss="mse_loss",
        ),
        # Fails on the GPU.
        Fault(
            "positions made on the CPU", LearntPositions, LearntPositionsOnDevice, (5,), classes=12, tokens=12
        ),
    ),
)
