"""Evaluation by chance."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


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
    *under(
        "nondeterminism",
        # RUCAIBox/RecBole#1946: Embeddings differ each time they are computed, after model.eval().
        Fault("nn.Dropout made in the forward", DropoutMadeInForward, DropoutMadeOnce, (5,), tokens=20),
        # Lightning-Universe/lightning-bolts#566: Two forwards of one input differ.
        Fault("VAE samples in evaluation", VAE, VAEMeanAtTest, (12,), loss="mse_loss"),
        # Accuracy differs between two evaluations of one checkpoint.
        Fault("point cloud thinned out by chance in evaluation", RandomCentroids, AllPointsAtTest, (3, 16)),
        # Coderx7/SimpleNet#2: A trained network gives another output on every run.
        Fault("F.dropout2d always on", SimpleNet, SimpleNetInItsMode, (1, 6, 6)),
    ),
)
