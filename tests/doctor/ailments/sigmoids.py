"""Heads for yes or no: a sigmoid too many, a sigmoid too few."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class MatrixFactorisation(nn.Module):
    """A sample is the number of a user and the number of an item."""

    def __init__(self, count=30, factors=8):
        super().__init__()
        self.embed_user = nn.Embedding(count, factors)
        self.embed_item = nn.Embedding(count, factors)
        nn.init.normal_(self.embed_user.weight, std=0.3)
        nn.init.normal_(self.embed_item.weight, std=0.3)

    def forward(self, pairs):
        user, item = self.embed_user(pairs[:, 0]), self.embed_item(pairs[:, 1])
        return torch.sigmoid((user * item).sum(-1))


class MatrixFactorisationOnScores(MatrixFactorisation):
    def forward(self, pairs):
        user, item = self.embed_user(pairs[:, 0]), self.embed_item(pairs[:, 1])
        return (user * item).sum(-1)


class LaneExistence(nn.Module):
    """Which of four lanes are there."""

    def __init__(self):
        super().__init__()
        self.conv8 = nn.Conv2d(2, 5, 1)
        self.fc9 = nn.Linear(80, 16)
        self.fc10 = nn.Linear(16, 4)

    def forward(self, x):
        x = F.max_pool2d(torch.tanh(self.conv8(x)), 2).flatten(1)
        x = F.leaky_relu(self.fc9(x))
        return torch.sigmoid(self.fc10(x))


class LaneExistenceOnScores(LaneExistence):
    def forward(self, x):
        x = F.max_pool2d(torch.tanh(self.conv8(x)), 2).flatten(1)
        x = F.leaky_relu(self.fc9(x))
        return self.fc10(x)


def patch_discriminator_layers():
    return [
        nn.Conv2d(3, 8, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 1, 2),
    ]


def binary_layers():
    return [nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0)]


class Discriminator(nn.Module):
    def __init__(self, *last, features=8):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, features, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(features, 1, 4),
            *last,
        )

    def forward(self, images):
        return self.main(images).flatten(1).squeeze(1)


class Autoencoder(nn.Module):
    """Its targets are images in [0, 1]."""

    def __init__(self, last):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(8, 16), last)

    def forward(self, x):
        return self.decoder(self.encoder(x)).view_as(x)


class MultiLabelTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(25, 8)
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.out = nn.Linear(12, 5)

    def forward(self, words):
        _, hidden = self.gru(self.embedding(words))
        return self.out(hidden[-1])


class MultiLabelTaggerOfProbabilities(MultiLabelTagger):
    def forward(self, words):
        return torch.sigmoid(super().forward(words))


FAULTS = (
    *under(
        "sigmoid-twice",
        # yudi-mars/daisyRec#15: The loss does not converge: no predicted probability is below one half.
        Fault(
            "recommender ends in sigmoid, trained with BCEWithLogitsLoss",
            MatrixFactorisation,
            MatrixFactorisationOnScores,
            (2,),
            loss=nn.BCEWithLogitsLoss(),
            tokens=30,
        ),
        # Turoad/lanedet#32: The loss cannot go below 0.31 where all lanes are there, 0.69 where none is.
        Fault(
            "lane existence head ends in sigmoid, trained on logits",
            LaneExistence,
            LaneExistenceOnScores,
            (2, 8, 8),
            loss="binary_cross_entropy_with_logits",
        ),
        # The discriminator never tells a fake with confidence.
        Fault(
            "patch discriminator ends in sigmoid, trained on logits",
            lambda: nn.Sequential(*patch_discriminator_layers(), nn.Sigmoid()),
            lambda: nn.Sequential(*patch_discriminator_layers()),
            (3, 16, 16),
            loss=nn.BCEWithLogitsLoss(),
        ),
        # Samples of the class -1 keep a loss of at least ln 2.
        Fault(
            "two classes ±1, sigmoid before the logistic loss",
            lambda: nn.Sequential(*binary_layers(), nn.Sigmoid()),
            lambda: nn.Sequential(*binary_layers()),
            (5,),
            loss="logistic",
        ),
    ),
    *under(
        "probabilities-expected",
        # all elements of input should be between 0 and 1.
        Fault(
            "DCGAN discriminator without sigmoid, trained with BCELoss",
            Discriminator,
            lambda: Discriminator(nn.Sigmoid()),
            (1, 8, 8),
            loss=nn.BCELoss(),
        ),
        # The first negative pixel raises.
        Fault(
            "autoencoder of images ends in tanh, trained with BCELoss",
            lambda: Autoencoder(nn.Tanh()),
            lambda: Autoencoder(nn.Sigmoid()),
            (1, 4, 4),
            loss=nn.BCELoss(),
        ),
        # The loss raises, or clamps and stalls where the check is off.
        Fault(
            "multi-label tagger gives scores to binary cross-entropy",
            MultiLabelTagger,
            MultiLabelTaggerOfProbabilities,
            (6,),
            loss="binary_cross_entropy",
            tokens=25,
        ),
    ),
)
