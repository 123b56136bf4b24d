"""``view(-1, k)``: what does not fit goes into the batch."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class TutorialNet(nn.Module):
    """Right at 8 x 8 only."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.fc1 = nn.Linear(6 * 3 * 3, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = x.view(-1, 6 * 3 * 3)
        return self.fc2(torch.tanh(self.fc1(x)))


class TutorialNetFlattened(TutorialNet):
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc2(torch.tanh(self.fc1(x)))


class WideNet(nn.Module):
    """Its average pooling was written for smaller pictures."""

    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.width = width
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        out = F.relu(self.conv(x))
        out = F.avg_pool2d(out, 4)
        out = out.view(-1, self.width)
        return self.fc(out)


class WideNetPooledToOne(WideNet):
    def forward(self, x):
        out = F.relu(self.conv(x))
        out = F.adaptive_avg_pool2d(out, 1)
        return self.fc(out.view(x.size(0), self.width))


class Pseudo3D(nn.Module):
    """Frames of a video: a sample is [channel, frame, row, column]."""

    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(1, 4, 3, padding=1)
        self.conv2d = nn.Conv2d(4, 8, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.conv3d(x))
        sizes = x.size()
        x = x.view(-1, sizes[1], sizes[3], sizes[4])
        x = torch.tanh(self.conv2d(x)).mean((2, 3))
        return self.fc(x)


class Pseudo3DFramesKept(Pseudo3D):
    def forward(self, x):
        x = torch.tanh(self.conv3d(x))
        frames = x.transpose(1, 2).flatten(0, 1)
        frames = torch.tanh(self.conv2d(frames)).mean((2, 3))
        return self.fc(frames.unflatten(0, (x.size(0), -1)).mean(1))


class Sentiment(nn.Module):
    """One answer a sentence is wanted, one a word comes out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(40, 8)
        self.lstm = nn.LSTM(8, 12, batch_first=True)
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        out, _ = self.lstm(self.embedding(x))
        out = out.contiguous().view(-1, 12)
        return self.fc(out)


class SentimentOfTheLast(Sentiment):
    def forward(self, x):
        out, _ = self.lstm(self.embedding(x))
        return self.fc(out[:, -1])


FAULTS = (
    *under(
        "batch-reshape",
        # At 14 x 14 one picture becomes four answers, and only the loss notices.
        Fault("view(-1, 54) in a small CNN", TutorialNet, TutorialNetFlattened, (1, 8, 8)),
        # uoguelph-mlrg/Cutout#16: Expected input batch_size (128) to match target batch_size (32).
        Fault("wide network pooled for smaller pictures", WideNet, WideNetPooledToOne, (3, 16, 16)),
        # qijiezhao/pseudo-3d-pytorch#28: Expected input batch_size to match target batch_size, at another length.
        Fault("pseudo-3D network folds frames into the batch", Pseudo3D, Pseudo3DFramesKept, (1, 4, 6, 6)),
        # Six times as many answers as sentences.
        Fault("sentiment network folds words into the batch", Sentiment, SentimentOfTheLast, (6,), tokens=40),
    ),
)
