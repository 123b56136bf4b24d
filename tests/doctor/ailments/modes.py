"""Training and evaluation that differ by more than they should."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class AlwaysDropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        x = torch.tanh(self.embedding(x))
        x = F.dropout(x, p=0.3, training=True)
        return self.out(x)


class DroppingInTraining(AlwaysDropping):
    def forward(self, x):
        x = torch.tanh(self.embedding(x))
        x = F.dropout(x, p=0.3, training=self.training)
        return self.out(x)


class SoftmaxAtTest(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        out = self.net(x)
        if not self.training:
            out = F.softmax(out, dim=1)
        return out


class ScoresAlways(SoftmaxAtTest):
    def forward(self, x):
        return self.net(x)


class BasicConv(nn.Module):
    """``momentum`` by the convention of another framework, where 0.9 keeps nine tenths."""

    def __init__(self, momentum):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8, momentum=momentum)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.fc(x.mean((2, 3)))


class OwnDropout(nn.Module):
    """Without the factor 1 / (1 - p)."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full_like(x, 1 - self.p))


class OwnDropoutRescaled(OwnDropout):
    def forward(self, x):
        return super().forward(x) / (1 - self.p) if self.training else x


def with_dropout(dropout):
    return nn.Sequential(nn.Linear(6, 64), nn.GELU(), dropout, nn.Linear(64, 3))


class MaskedOnlyInTraining(nn.Module):
    """A residual branch that evaluation forgets."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 16)
        self.branch = nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        if self.training:
            x = x + torch.tanh(self.branch(x))
        return self.head(x)


class BranchInBothModes(MaskedOnlyInTraining):
    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = x + torch.tanh(self.branch(x))
        return self.head(x)


FAULTS = (
    *under(
        "train-eval-gap",
        # pytorch/pytorch#26338: Test accuracy fluctuates from one evaluation to the next.
        Fault("F.dropout with training=True", AlwaysDropping, DroppingInTraining, (8,)),
        # The validation loss stays near ln C whatever the accuracy.
        Fault("softmax in evaluation only", SoftmaxAtTest, ScoresAlways, (6,)),
        # Cadene/pretrained-models.pytorch#5: Running statistics never move: training fits, evaluation is bad.
        Fault(
            "BatchNorm with momentum 0",
            lambda: BasicConv(momentum=0.0),
            lambda: BasicConv(momentum=0.1),
            (2, 6, 6),
        ),
        # Evaluation sees activations twice as large as training.
        Fault(
            "own dropout without rescaling",
            lambda: with_dropout(OwnDropout(0.5)),
            lambda: with_dropout(OwnDropoutRescaled(0.5)),
            (6,),
        ),
        # Training loss falls, validation loss does not follow.
        Fault("residual branch in training only", MaskedOnlyInTraining, BranchInBothModes, (5,)),
    ),
)
