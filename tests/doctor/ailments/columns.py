"""Outputs (N, 1) against labels (N): every output is compared with every label."""

import torch
from doctor.ailments import made
from doctor.ailments.fault import Fault, under
from torch import nn


class HousePrice(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 16)
        self.predict = nn.Linear(16, 1)

    def forward(self, x):
        return self.predict(torch.relu(self.hidden(x)))


class HousePriceFlat(HousePrice):
    def forward(self, x):
        return super().forward(x).squeeze(-1)


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 12, batch_first=True)
        self.linear = nn.Linear(12, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.linear(out[:, -1, :])


class ForecasterFlat(Forecaster):
    def forward(self, x):
        return super().forward(x).squeeze(1)


def counter(*last):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 1),
        *last,
    )


def click_model():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


FAULTS = (
    *under(
        "column-broadcast",
        # pytorch/pytorch#16045: All predictions go to the mean of the labels; one warning, easily missed.
        Fault(
            "house price of shape (N, 1) against (N)",
            HousePrice,
            HousePriceFlat,
            (6,),
            loss=nn.MSELoss(),
            data=lambda: made.data((6,), made.reals()),
        ),
        # pytorch/pytorch#19699: The forecast is a flat line at the median.
        Fault(
            "LSTM forecast of shape (N, 1) against (N)",
            Forecaster,
            ForecasterFlat,
            (7, 2),
            loss=nn.L1Loss(),
            data=lambda: made.data((7, 2), made.reals()),
        ),
        # No word at all: this loss broadcasts in silence.
        Fault(
            "counting network against (N), Poisson loss",
            counter,
            lambda: counter(nn.Flatten(0)),
            (1, 8, 8),
            loss=nn.PoissonNLLLoss(),
            data=lambda: made.data((1, 8, 8), made.counts()),
        ),
        # pytorch/pytorch#1939: Target size must be the same as input size.
        Fault(
            "click model of shape (N, 1) against (N)",
            click_model,
            click_model,
            (8,),
            loss="binary_cross_entropy_with_logits",
            data=lambda: made.data((8,), made.zeros_and_ones()),
            corrected_data=lambda: made.data((8,), made.zeros_and_ones(1)),
        ),
    ),
)
