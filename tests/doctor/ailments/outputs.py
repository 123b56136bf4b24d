"""How many outputs there are."""

import torch
import torch.nn.functional as F
from doctor.ailments import made
from doctor.ailments.fault import Fault, under
from torch import nn


class Backbone(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
        )
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.features(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class JointIntent(nn.Module):
    """The intent of a sentence."""

    def __init__(self, intents):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
        self.intent = nn.Linear(16, intents)

    def forward(self, words):
        out, _ = self.lstm(self.embedding(words))
        return self.intent(out.mean(1))


def multilayer(outputs):
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs))


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(
            nn.Conv2d(i, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
        )


class UNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.inc = DoubleConv(1, 8)
        self.down = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 16))
        self.up = nn.Upsample(scale_factor=2)
        self.conv = DoubleConv(24, 8)
        self.outc = nn.Conv2d(8, n_classes, 1)

    def forward(self, x):
        skip = self.inc(x)
        x = self.up(self.down(skip))
        return self.outc(self.conv(torch.cat([skip, x], dim=1)))


class Siamese(nn.Module):
    """A sample is a pair of vectors; the class is whether they belong together."""

    def __init__(self, outputs):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(5, 12), nn.Tanh())
        self.out = nn.Linear(12, outputs)

    def forward(self, pair):
        left, right = self.branch(pair[:, 0]), self.branch(pair[:, 1])
        return self.out((left - right).abs())


FAULTS = (
    *under(
        "output-count",
        # It trains, and spends probability on seven classes that don't exist.
        Fault(
            "head of the pre-trained network keeps its ten outputs",
            Backbone,
            lambda: Backbone(num_classes=3),
            (3, 8, 8),
            classes=3,
        ),
        # IndexError: Target 4 is out of bounds.
        Fault(
            "five labels for four outputs",
            lambda: multilayer(4),
            lambda: multilayer(5),
            (6,),
            data=lambda: made.data((6,), made.classes(5)),
        ),
        # monologg/JointBERT#28: IndexError: Target is out of bounds, some batches into the first epoch.
        Fault(
            "three intents configured, seven in the data",
            lambda: JointIntent(3),
            lambda: JointIntent(7),
            (5,),
            loss=nn.CrossEntropyLoss(),
            classes=7,
            tokens=30,
            data=lambda: made.data((5,), made.classes(7), tokens=30),
        ),
        # The third class never appears in a mask; training raises at the first pixel of it.
        Fault(
            "segmentation forgets the background class",
            lambda: UNet(2),
            lambda: UNet(3),
            (1, 8, 8),
            classes=3,
        ),
    ),
    *under(
        "single-output",
        # darioizzo/dcgp#86: The loss is 0.0 from the first step.
        Fault(
            "yes-or-no perceptron with one output and cross-entropy",
            lambda: multilayer(1),
            lambda: multilayer(2),
            (6,),
            loss=nn.CrossEntropyLoss(),
        ),
        # milesial/Pytorch-UNet#291: The loss is 0 or raises; the masks stay as they were.
        Fault(
            "U-Net of one class trained with CrossEntropyLoss", lambda: UNet(1), lambda: UNet(2), (1, 8, 8)
        ),
        # Loss 0, gradient 0.
        Fault(
            "siamese network with one output and cross-entropy",
            lambda: Siamese(1),
            lambda: Siamese(2),
            (2, 5),
        ),
    ),
)
