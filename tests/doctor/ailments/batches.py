"""Samples of a batch that see each other, and batches of a single sample."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class EncoderClassifier(nn.Module):
    """Samples are [instant, feature]."""

    def __init__(self, batch_first=False):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=16, dropout=0.0, batch_first=batch_first
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.encoder(x).mean(1))


class DigitRNN(nn.Module):
    """A picture read row by row."""

    def __init__(self, batch_first=False):
        super().__init__()
        self.lstm = nn.LSTM(6, 10, batch_first=batch_first)
        self.classifier = nn.Linear(10, 4)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.classifier(out[:, -1, :])


class LastState(nn.Module):
    def __init__(self, batch_first=False):
        super().__init__()
        self.gru = nn.GRU(5, 10, batch_first=batch_first)
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        return self.fc(self.gru(x)[1][-1])


class Unbatched(nn.Module):
    def __init__(self, timed=lambda x: x):
        super().__init__()
        self.timed = timed
        self.lstm = nn.LSTM(7, 10, batch_first=True)
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        return self.fc(self.lstm(self.timed(x))[0].reshape(len(x), -1))


class TransposedTwice(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.lstm = nn.LSTM(5, 10, batch_first=batch_first)
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        out, _ = self.lstm(x.transpose(0, 1))
        return self.fc(out[-1])


class AttentionPooling(nn.Module):
    def __init__(self, dim=0):
        super().__init__()
        self.embedding = nn.Linear(5, 8)
        self.score = nn.Linear(8, 1, bias=False)
        self.out = nn.Linear(8, 3)
        self.softmax = nn.Softmax(dim=dim)

    def forward(self, x):
        h = torch.tanh(self.embedding(x))
        weights = self.softmax(self.score(h))
        return self.out((weights * h).sum(1))


class Standardised(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        x = (x - x.mean(0)) / (x.std(0) + 1e-5)
        return self.fc2(F.relu(self.fc1(x)))


class StandardisedBySample(Standardised):
    def forward(self, x):
        x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
        return self.fc2(F.relu(self.fc1(x)))


class WordsThroughView(nn.Module):
    """``view`` where ``transpose`` was meant: the recurrent layer wants time first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.gru = nn.GRU(8, 10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        e = self.embed(x)
        e = e.view(e.size(1), e.size(0), -1)
        _, h = self.gru(e)
        return self.fc(h[-1])


class WordsTransposed(WordsThroughView):
    def forward(self, x):
        e = self.embed(x).transpose(0, 1)
        _, h = self.gru(e)
        return self.fc(h[-1])


class ImagePooling(nn.Module):
    """The branch of the whole picture in a pyramid of poolings."""

    def __init__(self, norm):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.conv = nn.Conv2d(8, 8, 1, bias=False)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1, bias=False), norm, nn.SiLU())
        self.project = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        whole = F.interpolate(self.pool(x), size=x.shape[-2:])
        return self.project(torch.cat([F.silu(self.conv(x)), whole], 1))


def tabular(norm):
    return nn.Sequential(nn.Linear(10, 16, bias=False), norm, nn.ReLU(), nn.Linear(16, 3))


class Descriptor(nn.Module):
    """Point cloud to class, with a normalisation after the global maximum."""

    def __init__(self, norm):
        super().__init__()
        self.point = nn.Conv1d(3, 16, 1)
        self.fc1 = nn.Linear(16, 12, bias=False)
        self.bn = norm
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x):
        x = torch.relu(self.point(x)).max(-1).values
        return self.fc2(torch.tanh(self.bn(self.fc1(x))))


FAULTS = (
    *under(
        "batch-first",
        # Exorust/TorchLeet#5: High training loss and test error; the answer depends on the neighbours in the batch.
        Fault(
            "transformer layer without batch_first",
            EncoderClassifier,
            lambda: EncoderClassifier(batch_first=True),
            (5, 8),
        ),
        # pytorch/pytorch#1538: Another result with batch_first than without.
        Fault("LSTM over the batch", DigitRNN, lambda: DigitRNN(batch_first=True), (6, 6)),
        # The last state is that of the last sample, and the rows are instants.
        Fault("GRU whose last state is taken", LastState, lambda: LastState(batch_first=True), (6, 5)),
        # An LSTM that is given [batch, features] reads one sequence of samples.
        Fault("LSTM without time", Unbatched, lambda: Unbatched(lambda x: x.unsqueeze(1)), (7,)),
        # Time first by hand, and batch_first=True by the template.
        Fault("transposed twice", TransposedTwice, lambda: TransposedTwice(batch_first=False), (6, 5)),
    ),
    *under(
        "batch-mixing",
        # PetrochukM/PyTorch-NLP#2: The weights are always 1 where the batch has one sample.
        Fault(
            "attention weights sum to one over the batch",
            AttentionPooling,
            lambda: AttentionPooling(dim=1),
            (4, 5),
        ),
        # A single sample gives NaN, and a prediction changes with its neighbours.
        Fault("inputs standardised over the batch in the forward", Standardised, StandardisedBySample, (6,)),
        # zhouhaoyi/Informer2020#59: Words of different sentences are read as one.
        Fault("view in place of transpose before a GRU", WordsThroughView, WordsTransposed, (6,), tokens=30),
    ),
    *under(
        "batch-norm-single",
        # YudeWang/deeplabv3plus-pytorch#34: Expected more than 1 value per channel, in the last batch of the epoch.
        Fault(
            "BatchNorm after global pooling in a pyramid",
            lambda: ImagePooling(nn.BatchNorm2d(8)),
            lambda: ImagePooling(nn.GroupNorm(2, 8)),
            (3, 6, 6),
        ),
        # sksq96/pytorch-summary#4: Expected more than 1 value per channel when training, got input size [1, 256].
        Fault(
            "BatchNorm1d in a perceptron",
            lambda: tabular(nn.BatchNorm1d(16)),
            lambda: tabular(nn.LayerNorm(16)),
            (10,),
        ),
        # Training stops at the last, incomplete batch.
        Fault(
            "BatchNorm1d after the maximum over points",
            lambda: Descriptor(nn.BatchNorm1d(12)),
            lambda: Descriptor(nn.LayerNorm(12)),
            (3, 10),
        ),
    ),
)
