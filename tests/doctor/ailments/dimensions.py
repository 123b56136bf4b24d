"""Along which dimension the classes lie."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class WordModel(nn.Module):
    def __init__(self, words=13):
        super().__init__()
        self.emb = nn.Embedding(words, 8)
        self.rnn = nn.LSTM(8, 16, batch_first=True)
        self.fc = nn.Linear(16, words)

    def forward(self, x):
        out, _ = self.rnn(self.emb(x))
        return self.fc(out)


class WordModelClassesSecond(WordModel):
    def forward(self, x):
        return super().forward(x).transpose(1, 2)


class PixelMLP(nn.Module):
    """A perceptron applied to every pixel, channels last."""

    def __init__(self, classes=4):
        super().__init__()
        self.fc1 = nn.Linear(3, 16)
        self.fc2 = nn.Linear(16, classes)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return self.fc2(F.gelu(self.fc1(x)))


class PixelMLPClassesSecond(PixelMLP):
    def forward(self, x):
        return super().forward(x).permute(0, 3, 1, 2)


class SensorTagger(nn.Module):
    """One state for each instant of a recording."""

    def __init__(self, states=5):
        super().__init__()
        self.gru = nn.GRU(4, 12, batch_first=True)
        self.head = nn.Linear(12, states)

    def forward(self, x):
        return self.head(self.gru(x)[0])


class SensorTaggerClassesSecond(SensorTagger):
    def forward(self, x):
        return super().forward(x).permute(0, 2, 1)


class NextWord(nn.Module):
    """Scores the last position only, and keeps its dimension."""

    def __init__(self, words=16):
        super().__init__()
        self.emb = nn.Embedding(words, 12)
        self.rnn = nn.GRU(12, 12, batch_first=True)
        self.lm_head = nn.Linear(12, words)

    def forward(self, idx):
        return self.lm_head(self.rnn(self.emb(idx))[0][:, [-1], :])


class NextWordFlat(NextWord):
    def forward(self, idx):
        return super().forward(idx).squeeze(1)


class FirstToken(nn.Module):
    """A classifier by its first token, sliced instead of taken."""

    def __init__(self, classes=4):
        super().__init__()
        self.proj = nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = torch.tanh(self.proj(x))
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])[:, :1]


class FirstTokenTaken(FirstToken):
    def forward(self, x):
        return super().forward(x)[:, 0]


FAULTS = (
    *under(
        "class-dimension",
        # Expected target size [N, 16], got [N].
        Fault(
            "language model scores the last position only, [N, 1, C]",
            NextWord,
            NextWordFlat,
            (7,),
            classes=16,
            tokens=16,
        ),
        # The loss is 0 with labels [N, 4] of zeros, and raises with any other.
        Fault(
            "classifier by the first token returns [N, 1, C]", FirstToken, FirstTokenTaken, (6, 5), classes=4
        ),
        # markhliu/DGAI#7: Expected target size [N, 13], got [N, 7].
        Fault(
            "word model returns [N, L, C]",
            WordModel,
            WordModelClassesSecond,
            (7,),
            loss=nn.CrossEntropyLoss(),
            classes=13,
            tokens=13,
        ),
        # Raises, or trains rows of the picture as classes where H and C agree.
        Fault("segmentation returns [N, H, W, C]", PixelMLP, PixelMLPClassesSecond, (3, 6, 8), classes=4),
        # pytorch/pytorch#27626: The softmax runs over time: probabilities don't sum to 1 over the classes.
        Fault("sensor tagger returns [N, L, C]", SensorTagger, SensorTaggerClassesSecond, (9, 4), classes=5),
    ),
)
