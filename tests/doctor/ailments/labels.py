"""Labels coded for another loss, and losses taken for another formula."""

import torch
from doctor.ailments import made
from doctor.ailments.fault import Fault, under
from torch import nn


def scores():
    """One score a sample, as [N]."""
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))


def probabilities():
    """One probability a sample, as [N]."""
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1), nn.Sigmoid(), nn.Flatten(0))


def regression():
    return nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 2))


def text_classifier():
    return nn.Sequential(nn.EmbeddingBag(20, 8), nn.Tanh(), nn.Linear(8, 3))


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(54, 4)

    def forward(self, x):
        return self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))


def one_hot(samples, generator):
    return torch.eye(4)[torch.arange(samples) % 4]


FAULTS = (
    *under(
        "label-coding",
        # Every sample of the class 0 has the constant loss ln 2 and no gradient.
        Fault(
            "labels 0 and 1 given to the logistic loss",
            scores,
            scores,
            (5,),
            loss="logistic",
            data=lambda: made.data((5,), made.zeros_and_ones()),
            corrected_data=lambda: made.data((5,), made.plus_minus_one()),
        ),
        # The loss falls below zero without end, and nothing raises.
        Fault(
            "labels ±1 given to BCEWithLogitsLoss",
            scores,
            scores,
            (5,),
            loss=nn.BCEWithLogitsLoss(),
            data=lambda: made.data((5,), made.plus_minus_one()),
            corrected_data=lambda: made.data((5,), made.zeros_and_ones()),
        ),
        # pytorch/pytorch#15666: Assertion `t >= 0 && t < n_classes` failed.
        Fault(
            "classes numbered from 1",
            SmallCNN,
            SmallCNN,
            (1, 8, 8),
            loss=nn.CrossEntropyLoss(),
            classes=4,
            data=lambda: made.data((1, 8, 8), made.classes(4, first=1)),
            corrected_data=lambda: made.data((1, 8, 8), made.classes(4)),
        ),
        # EricFillion/happy-transformer#248: Target -1 is out of bounds.
        Fault(
            "sentiment -1, 0, 1 given to cross-entropy",
            text_classifier,
            text_classifier,
            (6,),
            classes=3,
            tokens=20,
            data=lambda: made.data((6,), made.classes(3, first=-1), tokens=20),
            corrected_data=lambda: made.data((6,), made.classes(3), tokens=20),
        ),
        # catalyst-team/catalyst#644: Sizes of target and input don't match.
        Fault(
            "one-hot labels given to a margin loss by class",
            SmallCNN,
            SmallCNN,
            (1, 8, 8),
            loss="multi_margin_loss",
            classes=4,
            data=lambda: made.data((1, 8, 8), one_hot),
            corrected_data=lambda: made.data((1, 8, 8), made.classes(4)),
        ),
    ),
    *under(
        "not-the-formula",
        # Every gradient is twice what the derivation says.
        Fault(
            "MSELoss for half the squared error",
            regression,
            regression,
            (4,),
            loss=nn.MSELoss(),
            corrected_loss="least_squares",
            formula="least_squares",
        ),
        # It expects log-probabilities and a class, and raises on one score a sample.
        Fault(
            "NLLLoss for the logistic loss",
            scores,
            scores,
            (5,),
            loss=nn.NLLLoss(),
            corrected_loss=nn.SoftMarginLoss(),
            formula="logistic",
        ),
        # all elements of input should be between 0 and 1.
        Fault(
            "BCELoss for the hinge loss",
            scores,
            scores,
            (5,),
            loss=nn.BCELoss(),
            corrected_loss="hinge",
            formula="hinge",
        ),
        # For y = 1 it is the score itself: the loss falls to minus infinity.
        Fault(
            "HingeEmbeddingLoss for the hinge loss",
            scores,
            scores,
            (5,),
            loss=nn.HingeEmbeddingLoss(),
            corrected_loss="hinge",
            formula="hinge",
        ),
        # It takes the batch for the classes, and says nothing.
        Fault(
            "CrossEntropyLoss for the binary cross-entropy of [N]",
            probabilities,
            probabilities,
            (5,),
            loss=nn.CrossEntropyLoss(),
            corrected_loss=nn.BCELoss(),
            formula="cross_entropy",
        ),
    ),
)
