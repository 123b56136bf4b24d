"""Layers that the optimizer knows and the forward doesn't use."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class ForgottenSecond(nn.Module):
    """``layer1`` twice, by copy and paste."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(4, 4, 3, padding=1)
        self.layer2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = F.leaky_relu(self.layer1(x))
        x = F.leaky_relu(self.layer1(x))
        return self.fc(x.mean((2, 3)))


class BothLayers(ForgottenSecond):
    def forward(self, x):
        x = F.leaky_relu(self.layer1(x))
        x = F.leaky_relu(self.layer2(x))
        return self.fc(x.mean((2, 3)))


class OverwrittenBatchNorm(nn.BatchNorm2d):
    """Its forward only applies the activation."""

    def forward(self, input):
        return F.leaky_relu(input)


class ActivatedBatchNorm(nn.BatchNorm2d):
    def forward(self, input):
        return F.leaky_relu(super().forward(input))


def fast_attention_block(norm):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), norm(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


class DiscardedLoop(nn.Module):
    """The loop computes what nobody reads."""

    def __init__(self):
        super().__init__()
        self.units = nn.ModuleList([nn.Linear(12, 12) for _ in range(2)])
        self.stem = nn.Linear(5, 12)
        self.output = nn.Linear(12, 3)

    def forward(self, x):
        x = out = torch.tanh(self.stem(x))
        for unit in self.units:
            out = torch.tanh(unit(x))
        return self.output(out)


class ThreadedLoop(DiscardedLoop):
    def forward(self, x):
        out = torch.tanh(self.stem(x))
        for unit in self.units:
            out = torch.tanh(unit(out))
        return self.output(out)


class DecoderBypassed(nn.Module):
    """An autoencoder whose second decoder layer is written and not called."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(10, 6)
        self.dec1 = nn.Linear(6, 10)
        self.dec2 = nn.Linear(10, 10)

    def forward(self, x):
        z = torch.tanh(self.enc(x))
        return self.dec1(z)


class DecoderComplete(DecoderBypassed):
    def forward(self, x):
        z = torch.tanh(self.enc(x))
        return self.dec2(torch.tanh(self.dec1(z)))


FAULTS = (
    *under(
        "unused-parameters",
        # inria-thoth/HySUPP#3: Distributed training raises: parameters that were not used in producing loss.
        Fault("first layer called twice, second never", ForgottenSecond, BothLayers, (4, 5, 5)),
        # feinanshan/FANet#5: Nothing is normalised; its weight and bias stay at 1 and 0.
        Fault(
            "BatchNorm whose forward is overridden",
            lambda: fast_attention_block(OverwrittenBatchNorm),
            lambda: fast_attention_block(ActivatedBatchNorm),
            (3, 6, 6),
        ),
        # thomasjpfan/pytorch_refinenet#2: Only the last unit has an effect.
        Fault("loop whose results are discarded", DiscardedLoop, ThreadedLoop, (5,)),
        # Its gradient is None.
        Fault("second decoder layer never called", DecoderBypassed, DecoderComplete, (10,), loss="mse_loss"),
    ),
)
