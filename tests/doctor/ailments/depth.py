"""Signals that fade or swell from layer to layer, and layers that are one."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


def stack(activation, start, depth=10, width=32):
    layers = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        start(linear.weight)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def he(weight):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def small(weight):
    nn.init.normal_(weight, std=0.01)


def tanh_like(weight):
    nn.init.xavier_normal_(weight, gain=1.1)


def plain_cnn(start, depth=10, channels=8):
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    for layer in layers[::2]:
        start(layer.weight)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(channels * 4, 3))


def large(weight):
    nn.init.normal_(weight, std=0.5)


class TrajectoryHead(nn.Module):
    """A picture's features and the state of the vehicle."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc1 = nn.Linear(8, 24)
        self.fc2 = nn.Linear(24, 6)

    def forward(self, x):
        return self.fc2(self.fc1(self.backbone(x)))


class TrajectoryHeadActivated(TrajectoryHead):
    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(self.backbone(x))))


def sixty_minutes(*between):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 24),
        *between,
        nn.Linear(24, 5),
    )


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = self.expand(self.reduce(x))
        return self.fc(F.relu(x).mean((2, 3)))


class BottleneckActivated(Bottleneck):
    def forward(self, x):
        x = self.expand(F.relu(self.reduce(x)))
        return self.fc(F.relu(x).mean((2, 3)))


def dropout_only(*between):
    return nn.Sequential(nn.Linear(9, 32), *between, nn.Dropout(0.2), nn.Linear(32, 3))


def double_conv(bias):
    return [
        nn.Conv2d(2, 8, 3, padding=1, bias=bias),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=bias),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    ]


class Temporal(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3, bias=bias)
        self.bn = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean(2))


def stylise(bias):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=bias),
        nn.InstanceNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )


FAULTS = (
    *under(
        "signal-by-depth",
        # The first layers' gradients are a millionth of the last one's.
        Fault("ten layers of sigmoid", lambda: stack(nn.Sigmoid, he), lambda: stack(nn.LeakyReLU, he), (32,)),
        # The outputs are the same for all inputs.
        Fault(
            "ten layers of tanh drawn with deviation 0.01",
            lambda: stack(nn.Tanh, small),
            lambda: stack(nn.Tanh, tanh_like),
            (32,),
        ),
        # Activations of ten thousands, then NaN.
        Fault(
            "deep CNN drawn with deviation 0.5", lambda: plain_cnn(large), lambda: plain_cnn(he), (3, 6, 6)
        ),
    ),
    *under(
        "linear-chain",
        # nutonomy/nuscenes-devkit#728: The two layers can be merged into one.
        Fault(
            "two linear layers in the trajectory head",
            TrajectoryHead,
            TrajectoryHeadActivated,
            (1, 6, 6),
            loss="smooth_l1_loss",
        ),
        # soumith/cvpr2015#6: The head is still a linear function of its input.
        Fault(
            "LeNet without non-linearity between its linear layers",
            sixty_minutes,
            lambda: sixty_minutes(nn.Sigmoid()),
            (1, 8, 8),
        ),
        # As if there were one convolution with a larger kernel.
        Fault("two convolutions in a row", Bottleneck, BottleneckActivated, (3, 6, 6)),
        # Nota-NetsPresso/netspresso-trainer#320: No better than a linear classifier.
        Fault("only dropout between linear layers", dropout_only, lambda: dropout_only(nn.ReLU()), (9,)),
    ),
    *under(
        "bias-before-norm",
        # milesial/Pytorch-UNet#325: Parameters that change nothing.
        Fault(
            "convolutions with a bias before BatchNorm",
            lambda: nn.Sequential(*double_conv(bias=True)),
            lambda: nn.Sequential(*double_conv(bias=False)),
            (2, 6, 6),
        ),
        # LAION-AI/phenaki#3: Parameters that change nothing.
        Fault(
            "temporal convolution with a bias before BatchNorm",
            Temporal,
            lambda: Temporal(bias=False),
            (2, 10),
        ),
        # Parameters that change nothing.
        Fault(
            "convolution with a bias before InstanceNorm",
            lambda: stylise(bias=True),
            lambda: stylise(bias=False),
            (3, 8, 8),
            loss="l1_loss",
        ),
    ),
)
