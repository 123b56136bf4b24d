"""Weights meant to be one, and two after all."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class TiedModel(nn.Module):
    """A language model: embedding and output share their matrix."""

    def __init__(self, ntoken=15, ninp=8):
        super().__init__()
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, ninp, batch_first=True)
        self.decoder = nn.Linear(ninp, ntoken)
        self.build()

    def tie_weights(self):
        self.decoder.weight = self.encoder.weight

    def init_weights(self):
        nn.init.uniform_(self.encoder.weight, -0.3, 0.3)
        nn.init.zeros_(self.decoder.bias)

    def build(self):
        self.init_weights()
        self.tie_weights()

    def forward(self, x):
        return self.decoder(self.rnn(self.encoder(x))[0]).transpose(1, 2)


class InitialisedAfterTying(TiedModel):
    def build(self):
        self.tie_weights()
        self.init_weights()
        self.decoder.weight = nn.Parameter(torch.empty_like(self.encoder.weight).uniform_(-0.3, 0.3))


class TiedByData(TiedModel):
    def tie_weights(self):
        self.decoder.weight.data = self.encoder.weight.data


class TiedByParameter(TiedModel):
    def tie_weights(self):
        self.decoder.weight = nn.Parameter(self.encoder.weight)


class Extended(TiedModel):
    """Two special tokens are added to a vocabulary of 13."""

    def __init__(self):
        super().__init__(ntoken=13)
        self.add_tokens(15)

    def add_tokens(self, ntoken):
        self.encoder = self.longer(self.encoder, nn.Embedding(ntoken, 8))
        self.decoder = self.longer(self.decoder, nn.Linear(8, ntoken))

    def longer(self, old, new):
        nn.init.uniform_(new.weight, -0.3, 0.3)
        with torch.no_grad():
            new.weight[: len(old.weight)] = old.weight
        return new


class ExtendedAndTied(Extended):
    def add_tokens(self, ntoken):
        super().add_tokens(ntoken)
        self.tie_weights()


class TiedAutoencoder(nn.Module):
    """The decoder is meant to be the encoder transposed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 6)
        self.decoder = nn.Linear(6, 12)
        self.tie_weights()

    def tie_weights(self):
        self.decoder.weight = nn.Parameter(self.encoder.weight.t())

    def forward(self, x):
        return self.decoder(torch.tanh(self.encoder(x)))


class TransposedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 6)
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x):
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t(), self.bias)


FAULTS = (
    *under(
        "ties-lost",
        # NVIDIA-NeMo/Automodel#2511: The checkpoint leaves out the output layer as tied, and resuming jumps.
        Fault(
            "output initialised anew after tying",
            InitialisedAfterTying,
            TiedModel,
            (6,),
            classes=15,
            tokens=15,
        ),
        # pytorch/xla#2719: Equal until the model is copied or moved; then two matrices.
        Fault("tied by .data", TiedByData, TiedModel, (6,), classes=15, tokens=15),
        # pytorch/pytorch#79788: The optimizer steps twice; a deep copy has two matrices.
        Fault("tied by a second Parameter", TiedByParameter, TiedModel, (6,), classes=15, tokens=15),
        # Embedding and output drift apart.
        Fault("vocabulary extended after tying", Extended, ExtendedAndTied, (6,), classes=15, tokens=15),
        # pytorch/pytorch#79788: Tied on this device, and two matrices on the next.
        Fault(
            "autoencoder tied by a transposed Parameter",
            TiedAutoencoder,
            TransposedAutoencoder,
            (12,),
            loss="mse_loss",
        ),
    ),
)
