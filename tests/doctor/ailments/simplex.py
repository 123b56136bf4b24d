"""Heads for classes: probabilities where scores are wanted, scores where log-probabilities are wanted."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class LogisticRegression(nn.Module):
    def __init__(self, input_dim=6, num_classes=4):
        super().__init__()
        self.linear = nn.Linear(input_dim, num_classes)

    def forward(self, x):
        return F.softmax(self.linear(x), dim=1)


class LogisticRegressionOnScores(LogisticRegression):
    def forward(self, x):
        return self.linear(x)


def activity_layers():
    """Three axes of an accelerometer over 16 instants."""
    return [
        nn.Conv1d(3, 8, 5),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(48, 16),
        nn.Tanh(),
        nn.Linear(16, 6),
    ]


class NextToken(nn.Module):
    def __init__(self, vocab_size=11, d_model=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.linear = nn.Sequential(
            nn.Linear(d_model, d_model),
            nn.ReLU(),
            nn.Linear(d_model, vocab_size),
        )

    def forward(self, idx):
        return F.softmax(self.linear(self.embedding(idx)), dim=-1).transpose(1, 2)


class NextTokenOnScores(NextToken):
    def forward(self, idx):
        return self.linear(self.embedding(idx)).transpose(1, 2)


def fully_convolutional_layers():
    return [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)]


class MatchingHead(nn.Module):
    """Similarities to learnt prototypes."""

    def __init__(self, prototypes=5):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.prototypes = nn.Parameter(torch.randn(prototypes, 16) * 0.3)

    def forward(self, x):
        return F.log_softmax(self.encoder(x) @ self.prototypes.T, dim=1).exp()


class MatchingHeadOnScores(MatchingHead):
    def forward(self, x):
        return self.encoder(x) @ self.prototypes.T


class PointNet(nn.Module):
    def __init__(self, k=5):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.fc1 = nn.Linear(16, 16)
        self.fc2 = nn.Linear(16, k)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.leaky_relu(self.conv2(x))
        x = torch.max(x, 2)[0]
        return self.fc2(F.leaky_relu(self.fc1(x)))


class PointNetOfLogProbabilities(PointNet):
    def forward(self, x):
        return F.log_softmax(super().forward(x), dim=1)


class SentenceClassifier(nn.Module):
    def __init__(self, last, tokens=20, classes=3):
        super().__init__()
        self.embed = nn.Embedding(tokens, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.fc = nn.Linear(8, classes)
        self.last = last

    def forward(self, x):
        out, _ = self.lstm(self.embed(x))
        return self.last(self.fc(out[:, -1]))


FAULTS = (
    *under(
        "softmax-before-cross-entropy",
        # Lightning-Universe/lightning-bolts#654: The loss stalls far above zero, and confidence never comes.
        Fault("logistic regression ends in softmax", LogisticRegression, LogisticRegressionOnScores, (6,)),
        # jindongwang/Deep-learning-activity-recognition#10: The loss stops at 1.04 where every sample is right.
        Fault(
            "activity CNN ends in nn.Softmax",
            lambda: nn.Sequential(*activity_layers(), nn.Softmax(dim=1)),
            lambda: nn.Sequential(*activity_layers()),
            (3, 16),
            loss=nn.CrossEntropyLoss(),
            classes=6,
        ),
        # bkitano/llama-from-scratch#5: The loss hardly leaves ln V.
        Fault("language model ends in softmax", NextToken, NextTokenOnScores, (7,), classes=11, tokens=11),
        # Masks stay blurred: no pixel's loss falls below 0.74.
        Fault(
            "segmentation ends in Softmax2d",
            lambda: nn.Sequential(*fully_convolutional_layers(), nn.Softmax2d()),
            lambda: nn.Sequential(*fully_convolutional_layers()),
            (3, 8, 8),
            loss=nn.CrossEntropyLoss(),
            classes=4,
        ),
        # gitabcworld/MatchingNetworks#5: The similarities are squashed twice, and gradients shrink.
        Fault("prototype head returns exp(log_softmax)", MatchingHead, MatchingHeadOnScores, (8,)),
    ),
    *under(
        "log-probabilities-expected",
        # yanx27/Pointnet_Pointnet2_pytorch#30: The loss goes negative and falls without end.
        Fault(
            "PointNet without log_softmax, trained with NLL",
            PointNet,
            PointNetOfLogProbabilities,
            (3, 12),
            loss="nll_loss",
        ),
        # AnubhavGupta3377/Text-Classification-Models-Pytorch#9: The loss is always negative.
        Fault(
            "sentence classifier gives softmax to NLLLoss",
            lambda: SentenceClassifier(nn.Softmax(dim=1)),
            lambda: SentenceClassifier(nn.LogSoftmax(dim=1)),
            (6,),
            loss=nn.NLLLoss(),
            tokens=20,
        ),
        # pytorch/pytorch#12703: The loss is sometimes negative.
        Fault(
            "segmentation without LogSoftmax, trained with NLLLoss",
            lambda: nn.Sequential(*fully_convolutional_layers()),
            lambda: nn.Sequential(*fully_convolutional_layers(), nn.LogSoftmax(dim=1)),
            (3, 8, 8),
            loss=nn.NLLLoss(),
        ),
    ),
)
