"""A last activation that keeps the outputs from the values that the loss asks for."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class RelationExtractor(nn.Module):
    def __init__(self, *last):
        super().__init__()
        self.embed = nn.Embedding(25, 8)
        self.conv = nn.Conv1d(8, 12, 3, padding=1)
        self.fc = nn.Sequential(nn.Linear(12, 12), nn.LeakyReLU(), nn.Linear(12, 4), *last)

    def forward(self, x):
        x = torch.tanh(self.conv(self.embed(x).transpose(1, 2)))
        return self.fc(x.max(2).values)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.fc1 = nn.Linear(54, 20)
        self.fc2 = nn.Linear(20, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return torch.sigmoid(self.fc2(torch.tanh(self.fc1(x))))


class LeNetOnScores(LeNet):
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return self.fc2(torch.tanh(self.fc1(x)))


def regression(*last):
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2), *last)


class Generator(nn.Module):
    """Reconstructs standardised signals."""

    def __init__(self, last):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv1d(1, 6, 3, padding=1), nn.ReLU())
        self.decode = nn.Conv1d(6, 1, 3, padding=1)
        self.last = last

    def forward(self, x):
        return self.last(self.decode(self.encode(x)))


def margin(*last):
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0), *last)


FAULTS = (
    *under(
        "saturating-output",
        # zjunlp/DeepKE#21: Scores below zero have no gradient; a class can die for good.
        Fault(
            "ReLU on the scores before cross-entropy",
            lambda: RelationExtractor(nn.ReLU()),
            RelationExtractor,
            (6,),
            tokens=25,
        ),
        # eriklindernoren/PyTorch-YOLOv3#108: The loss never becomes zero, even on a single picture.
        Fault(
            "sigmoid on the scores before cross-entropy",
            LeNet,
            LeNetOnScores,
            (1, 8, 8),
            loss=nn.CrossEntropyLoss(),
            classes=5,
        ),
        # jcjohnson/pytorch-examples#30: It cannot predict negative values.
        Fault("regression ends in ReLU", lambda: regression(nn.ReLU()), regression, (6,), loss="mse_loss"),
        # Peaks are cut off at one.
        Fault(
            "reconstruction of standardised signals ends in tanh",
            lambda: Generator(nn.Tanh()),
            lambda: Generator(nn.Identity()),
            (1, 12),
            loss=nn.MSELoss(),
        ),
        # The loss stops at 0.31 where every sample is right.
        Fault("tanh before the logistic loss", lambda: margin(nn.Tanh()), margin, (5,), loss="logistic"),
    ),
)
