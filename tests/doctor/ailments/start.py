"""What is wrong before the first step: the loss, the units, the gradient."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class NormalInit(nn.Module):
    std = 1.0

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(32, 64)
        self.fc2 = nn.Linear(64, 10)
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=self.std * layer.in_features**-self.power)

    power = 0.0

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class ScaledInit(NormalInit):
    power = 0.5


class TiedLanguageModel(nn.Module):
    """Embeddings of variance one are also the output's weights."""

    std = 1.0

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(20, 48)
        nn.init.normal_(self.wte.weight, std=self.std)
        self.mlp = nn.Sequential(nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 48))
        self.ln_f = nn.LayerNorm(48)
        self.lm_head = nn.Linear(48, 20, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx):
        x = self.wte(idx)
        x = x + self.mlp(x)
        return self.lm_head(self.ln_f(x)).transpose(1, 2)


class TiedLanguageModelSmall(TiedLanguageModel):
    std = 0.05


class CosineHead(nn.Module):
    def __init__(self, temperature, classes=6):
        super().__init__()
        self.temperature = temperature
        self.encoder = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 16))
        self.prototypes = nn.Parameter(torch.randn(classes, 16))

    def forward(self, x):
        cosine = F.normalize(self.encoder(x), dim=1) @ F.normalize(self.prototypes, dim=1).T
        return cosine / self.temperature


def with_hidden_bias(value):
    hidden = nn.Linear(8, 16)
    nn.init.constant_(hidden.bias, value)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(16, 3))


class ZeroedGate(nn.Module):
    """A branch that is meant to begin at zero, and stays there."""

    def __init__(self, start):
        super().__init__()
        self.stem = nn.Linear(6, 12)
        self.branch = nn.Linear(12, 12, bias=False)
        start(self.branch.weight)
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        return self.out(x + F.relu(self.branch(x)))


class ConcatenatedReLU(nn.Module):
    """Both halves of an activation; the negative half is taken of what is positive already."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.fc = nn.Linear(12, 3)

    def both(self, x):
        x = F.relu(x)
        return torch.cat([x, F.relu(-x)], 1)

    def forward(self, x):
        return self.fc(self.both(self.conv(x)).mean((2, 3)))


class ConcatenatedReLUOfBoth(ConcatenatedReLU):
    def both(self, x):
        return torch.cat([F.relu(x), F.relu(-x)], 1)


class NormalisedTarget(nn.Module):
    """LayerNorm of a single number is zero."""

    def __init__(self, *last):
        super().__init__()
        self.lstm = nn.LSTM(3, 12, batch_first=True)
        self.head = nn.Sequential(nn.Linear(12, 1), *last)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1]).squeeze(1)


class TwiceZero(nn.Module):
    """A zero gate in front of a zero layer: each waits for the other."""

    def __init__(self, start):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 16), nn.Tanh())
        self.out = nn.Linear(16, 4)
        self.gate = nn.Parameter(torch.tensor(start))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        return self.gate * self.out(self.body(x))


FAULTS = (
    *under(
        "initial-loss",
        # The first loss is in the tens, and an epoch goes by bringing it back to ln 10.
        Fault("weights drawn with deviation one", NormalInit, ScaledInit, (32,), classes=10),
        # pytorch/pytorch#3121: The network does not train for hours; the values are too large.
        Fault(
            "tied embedding of deviation one",
            TiedLanguageModel,
            TiedLanguageModelSmall,
            (6,),
            classes=20,
            tokens=20,
        ),
        # The softmax begins as an argmax, and the first loss is in the tens.
        Fault(
            "cosines divided by a temperature of 0.01",
            lambda: CosineHead(0.01),
            lambda: CosineHead(0.25),
            (10,),
            classes=6,
        ),
    ),
    *under(
        "dead-units",
        # facebookresearch/dlrm#358: Every derivative behind the ReLU is zero.
        Fault("hidden biases of -10", lambda: with_hidden_bias(-10.0), lambda: with_hidden_bias(0.0), (8,)),
        # lucidrains/deep-cross-attention#2: No gradient moves the branch off zero, ever.
        Fault(
            "zero weights before ReLU",
            lambda: ZeroedGate(nn.init.zeros_),
            lambda: ZeroedGate(nn.init.xavier_uniform_),
            (6,),
        ),
        # Half of the features are zero.
        Fault(
            "negative half of an activated convolution", ConcatenatedReLU, ConcatenatedReLUOfBoth, (1, 6, 6)
        ),
    ),
    *under(
        "cannot-overfit",
        # ExplainableML/czsl#30: Scores lie between -1 and 1: probabilities stay flat, and the loss above 1.2.
        Fault(
            "cosine head of twenty classes without scale",
            lambda: CosineHead(1.0, classes=20),
            lambda: CosineHead(0.25, classes=20),
            (10,),
            classes=20,
        ),
        # The forecast is the same for every input.
        Fault(
            "LayerNorm over a single output",
            lambda: NormalisedTarget(nn.LayerNorm(1)),
            NormalisedTarget,
            (6, 3),
            loss="mse_loss",
        ),
        # The loss is ln 4 from the first step to the last.
        Fault("zero gate before a zero layer", lambda: TwiceZero(0.0), lambda: TwiceZero(1.0), (7,)),
    ),
)
