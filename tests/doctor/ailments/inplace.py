"""In-place operations: those that break the backward, those that overwrite what a hook has kept."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class XceptionBlock(nn.Module):
    """The shortcut's convolution keeps its input, and the ReLU overwrites it."""

    inplace = True

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.skip = nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU(inplace=self.inplace)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        identity = self.skip(x)
        x = self.conv(self.relu(x))
        return self.fc(torch.tanh(x + identity).mean((2, 3)))


class XceptionBlockCopying(XceptionBlock):
    inplace = False


class MultiRes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 3, 1)

    def forward(self, x):
        a = torch.sigmoid(self.conv1(x))
        b = torch.tanh(self.conv2(a))
        a += b
        return self.out(a)


class MultiResAdding(MultiRes):
    def forward(self, x):
        a = torch.sigmoid(self.conv1(x))
        b = torch.tanh(self.conv2(a))
        a = a + b
        return self.out(a)


class FeaturePyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        first = F.relu(self.down1(x))
        laterals = [first, F.relu(self.down2(first))]
        laterals[0] += F.interpolate(laterals[1], scale_factor=2, mode="nearest")
        return self.head(laterals[0])


class FeaturePyramidAdding(FeaturePyramid):
    def forward(self, x):
        first = F.relu(self.down1(x))
        laterals = [first, F.relu(self.down2(first))]
        laterals[0] = laterals[0] + F.interpolate(laterals[1], scale_factor=2, mode="nearest")
        return self.head(laterals[0])


class MaskedAttention(nn.Module):
    """The mask is written into the weights after the softmax."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 6)
        self.value = nn.Linear(6, 6)
        self.out = nn.Linear(6, 3)

    def weights(self, scores):
        weights = torch.softmax(scores, -1)
        weights[:, :, -1] = 0
        return weights

    def forward(self, x):
        scores = self.query(x) @ x.transpose(1, 2) / 6**0.5
        return self.out(torch.tanh(self.weights(scores) @ self.value(x)).mean(1))


class MaskedBeforeSoftmax(MaskedAttention):
    def weights(self, scores):
        last = torch.arange(scores.size(-1), device=scores.device) == scores.size(-1) - 1
        return torch.softmax(scores.masked_fill(last, -1e9), -1)


class LectureNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.fc1 = nn.Linear(150, 5)

    def forward(self, x):
        x = F.relu(self.conv1(x), inplace=True)
        return self.fc1(x.flatten(1))


class LectureNetCopying(LectureNet):
    def forward(self, x):
        x = F.relu(self.conv1(x))
        return self.fc1(x.flatten(1))


class BasicBlock(nn.Module):
    """As in the reference ResNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        identity = torch.relu(self.stem(x))
        out = self.bn(self.conv(identity))
        out += identity
        return self.fc(torch.relu(out).mean((2, 3)))


class BasicBlockAdding(BasicBlock):
    def forward(self, x):
        identity = torch.relu(self.stem(x))
        out = self.bn(self.conv(identity))
        out = out + identity
        return self.fc(torch.relu(out).mean((2, 3)))


def perceptron(inplace):
    return nn.Sequential(nn.Linear(6, 16), nn.ELU(inplace=inplace), nn.Linear(16, 3))


FAULTS = (
    *under(
        "inplace-backward",
        # osmr/imgclsmob#13: One of the variables needed for gradient computation has been modified.
        Fault("in-place ReLU on the input of a shortcut", XceptionBlock, XceptionBlockCopying, (1, 6, 6)),
        # j-sripad/mulitresunet-pytorch#3: One of the variables needed for gradient computation has been modified.
        Fault("+= on a sigmoid's output", MultiRes, MultiResAdding, (2, 6, 6)),
        # lyongo/NWPU-MOC#4: The backward raises; setting inplace=False everywhere does not help.
        Fault("+= into a lateral of a feature pyramid", FeaturePyramid, FeaturePyramidAdding, (1, 8, 8)),
        # The output of the softmax is at version 1; expected version 0.
        Fault("mask written into attention weights", MaskedAttention, MaskedBeforeSoftmax, (5, 6)),
    ),
    *under(
        "inplace-hook",
        # A forward hook on conv1 keeps activations without a negative number.
        Fault("in-place ReLU after conv1", LectureNet, LectureNetCopying, (3, 7, 7)),
        # What a hook kept of bn is the sum with the shortcut.
        Fault("+= on the output of BatchNorm", BasicBlock, BasicBlockAdding, (2, 6, 6)),
        # Activations collected by hooks look the same before and after it.
        Fault(
            "in-place ELU in a perceptron",
            lambda: perceptron(inplace=True),
            lambda: perceptron(inplace=False),
            (6,),
        ),
    ),
)
