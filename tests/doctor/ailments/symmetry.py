"""Units that begin as copies of each other, and stay copies."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)
        self.start()

    def start(self):
        nn.init.zeros_(self.a.bias)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class ConstantClassifier(Classifier):
    def start(self):
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)


class WidenedClassifier(Classifier):
    """Half of the units are copies of the others, incoming and outgoing weights."""

    def start(self):
        with torch.no_grad():
            self.a.weight[8:] = self.a.weight[:8]
            self.a.bias[8:] = self.a.bias[:8]
            self.b.weight[:, 8:] = self.b.weight[:, :8]


class WidenedWithNoise(WidenedClassifier):
    def start(self):
        super().start()
        with torch.no_grad():
            self.b.weight.add_(0.2 * torch.randn_like(self.b.weight))


class Filters(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 3)
        self.start()

    def start(self):
        for layer in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class FiltersOfOnes(Filters):
    def start(self):
        for layer in (self.conv1, self.conv2, self.fc):
            nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)


class Tracker(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 10, batch_first=True)
        self.out = nn.Linear(10, 2)
        self.start()

    def start(self):
        nn.init.orthogonal_(self.lstm.weight_hh_l0)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class ConstantTracker(Tracker):
    def start(self):
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.05)


class Committee(nn.Module):
    """Several experts in one tensor, averaged."""

    def __init__(self, start):
        super().__init__()
        self.weight = nn.Parameter(start())
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return torch.tanh(torch.einsum("ni,mio->nmo", x, self.weight)).mean(1) * 3 + self.bias


FAULTS = (
    *under(
        "equal-units",
        # Sixteen hidden units learn what one would.
        Fault("all weights and biases 0.1", ConstantClassifier, Classifier, (6,), classes=3),
        # The wider network is no better than the narrow one.
        Fault("widened by copies without noise", WidenedClassifier, WidenedWithNoise, (6,), classes=3),
        # All feature maps are the same picture.
        Fault("convolutions of constant filters", FiltersOfOnes, Filters, (2, 7, 7), classes=3),
        # Ten hidden states, always equal.
        Fault("recurrent network of constant weights", ConstantTracker, Tracker, (5, 4), loss="mse_loss"),
        # The committee never disagrees.
        Fault(
            "experts that are copies of one",
            lambda: Committee(lambda: 0.4 * torch.randn(1, 6, 3).repeat(4, 1, 1)),
            lambda: Committee(lambda: 0.4 * torch.randn(4, 6, 3)),
            (6,),
            loss="mse_loss",
        ),
    ),
)
