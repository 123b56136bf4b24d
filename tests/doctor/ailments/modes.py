"""Training and evaluation that differ by more than they should, and evaluation by chance."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault
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


class DropoutMadeInForward(nn.Module):
    """Its dropout is a new module each time, and a new module is in training mode."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        _, h = self.gru(self.embedding(x))
        return self.out(nn.Dropout(0.2)(h[-1]))


class DropoutMadeOnce(DropoutMadeInForward):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        _, h = self.gru(self.embedding(x))
        return self.out(self.dropout(h[-1]))


class VAE(nn.Module):
    """Gives the reconstruction only."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.mu = nn.Linear(16, 3)
        self.logvar = nn.Linear(16, 3)
        nn.init.constant_(self.logvar.bias, -4.0)
        self.decode = nn.Sequential(nn.Tanh(), nn.Linear(3, 16), nn.ELU(), nn.Linear(16, 12))

    def reparameterise(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        return self.decode(self.reparameterise(self.mu(h), self.logvar(h)))


class VAEMeanAtTest(VAE):
    def reparameterise(self, mu, logvar):
        return super().reparameterise(mu, logvar) if self.training else mu


class RandomCentroids(nn.Module):
    """A point cloud thinned out by chance, at test time too."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv1d(3, 16, 1), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def keep(self, x):
        points = x.size(2)
        return torch.randperm(points, device=x.device)[: points // 2]

    def forward(self, x):
        x = x[:, :, self.keep(x)]
        return self.head(self.mlp(x).mean(2))


class AllPointsAtTest(RandomCentroids):
    def keep(self, x):
        return super().keep(x) if self.training else torch.arange(x.size(2), device=x.device)


class SimpleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU())
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        out = self.features(x)
        out = F.max_pool2d(out, kernel_size=out.size()[2:])
        out = F.dropout2d(out, 0.1, training=True)
        return self.classifier(out.view(out.size(0), -1))


class SimpleNetInItsMode(SimpleNet):
    def forward(self, x):
        out = self.features(x)
        out = F.max_pool2d(out, kernel_size=out.size()[2:])
        out = F.dropout2d(out, 0.1, training=self.training)
        return self.classifier(out.view(out.size(0), -1))


FAULTS = (
    Fault(
        "F.dropout with training=True",
        "train-eval-gap",
        AlwaysDropping,
        DroppingInTraining,
        (8,),
        source="pytorch/pytorch#26338",
        note="Test accuracy fluctuates from one evaluation to the next.",
    ),
    Fault(
        "softmax in evaluation only",
        "train-eval-gap",
        SoftmaxAtTest,
        ScoresAlways,
        (6,),
        note="The validation loss stays near ln C whatever the accuracy.",
    ),
    Fault(
        "BatchNorm with momentum 0",
        "train-eval-gap",
        lambda: BasicConv(momentum=0.0),
        lambda: BasicConv(momentum=0.1),
        (2, 6, 6),
        source="Cadene/pretrained-models.pytorch#5",
        note="Running statistics never move: training fits, evaluation is bad.",
    ),
    Fault(
        "own dropout without rescaling",
        "train-eval-gap",
        lambda: with_dropout(OwnDropout(0.5)),
        lambda: with_dropout(OwnDropoutRescaled(0.5)),
        (6,),
        note="Evaluation sees activations twice as large as training.",
    ),
    Fault(
        "residual branch in training only",
        "train-eval-gap",
        MaskedOnlyInTraining,
        BranchInBothModes,
        (5,),
        note="Training loss falls, validation loss does not follow.",
    ),
    Fault(
        "nn.Dropout made in the forward",
        "nondeterminism",
        DropoutMadeInForward,
        DropoutMadeOnce,
        (5,),
        tokens=20,
        source="RUCAIBox/RecBole#1946",
        note="Embeddings differ each time they are computed, after model.eval().",
    ),
    Fault(
        "VAE samples in evaluation",
        "nondeterminism",
        VAE,
        VAEMeanAtTest,
        (12,),
        loss="mse_loss",
        source="Lightning-Universe/lightning-bolts#566",
        note="Two forwards of one input differ.",
    ),
    Fault(
        "point cloud thinned out by chance in evaluation",
        "nondeterminism",
        RandomCentroids,
        AllPointsAtTest,
        (3, 16),
        note="Accuracy differs between two evaluations of one checkpoint.",
    ),
    Fault(
        "F.dropout2d always on",
        "nondeterminism",
        SimpleNet,
        SimpleNetInItsMode,
        (1, 6, 6),
        source="Coderx7/SimpleNet#2",
        note="A trained network gives another output on every run.",
    ),
)
