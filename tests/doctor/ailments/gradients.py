"""Parameters that the forward uses, cut from the loss."""

import numpy as np
import torch
from doctor.ailments.fault import Fault, under
from torch import nn


class Captioner(nn.Module):
    """Features come from a hook-like extractor."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.words = nn.Linear(6, 5)

    def extract(self, x):
        return self.encoder(x).detach()

    def forward(self, x):
        return self.words(self.extract(x))


class CaptionerAttached(Captioner):
    def extract(self, x):
        return self.encoder(x)


class OldStyle(nn.Module):
    """``.data``, from the days of Variable."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 10, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, x):
        _, h = self.rnn(x)
        return self.out(h.data[-1])


class OldStyleAttached(OldStyle):
    def forward(self, x):
        _, h = self.rnn(x)
        return self.out(h[-1])


class FineTuned(nn.Module):
    """The guard of the frozen phase was left in."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.GELU())
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


class FineTunedThroughout(FineTuned):
    def forward(self, x):
        return self.head(self.backbone(x))


class HardGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Linear(6, 12)
        self.gate = nn.Linear(6, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        open_ = (self.gate(x) > 0).float()
        return self.out(open_ * torch.tanh(self.value(x)))


class SoftGate(HardGate):
    def forward(self, x):
        open_ = torch.sigmoid(self.gate(x))
        return self.out(open_ * torch.tanh(self.value(x)))


class ThroughNumpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 12)
        self.fc2 = nn.Linear(12, 2)

    def forward(self, x):
        h = np.tanh(self.fc1(x).detach().numpy())
        return self.fc2(torch.from_numpy(h))


class WithoutNumpy(ThroughNumpy):
    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class LearntTemperature(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.body(x) / self.temperature.item()


class LearntTemperatureAttached(LearntTemperature):
    def forward(self, x):
        return self.body(x) / self.temperature


FAULTS = (
    *under(
        "detached-parameters",
        # lucidrains/CoCa-pytorch#6: The gradient does not reach the image encoder.
        Fault("extractor detaches the features", Captioner, CaptionerAttached, (1, 6, 6)),
        # The recurrent layer stays random; accuracy is that of a random projection.
        Fault("hidden state through .data", OldStyle, OldStyleAttached, (5, 4)),
        # Fine-tuning is no better than a linear probe.
        Fault("no_grad left around the backbone", FineTuned, FineTunedThroughout, (8,)),
        # The gate's weights never change.
        Fault("gate by comparison", HardGate, SoftGate, (6,)),
        # The first layer has no gradient.
        Fault("hidden layer through NumPy", ThroughNumpy, WithoutNumpy, (5,), loss="mse_loss"),
        # The temperature stays at its start.
        Fault("learnt temperature read by .item()", LearntTemperature, LearntTemperatureAttached, (6,)),
    ),
)
