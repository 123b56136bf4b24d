"""Twelve small architectures whose parameters and FLOP are written out by hand, each hard for some counter."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

from cost.published import GPT  # noqa: E402
from dummynet import DummyNet  # noqa: E402


@dataclass(frozen=True)
class Subject:
    """An architecture with its true counts for a batch of one.

    Attributes:
        name: What it is called in the table.
        make: What makes it.
        shape: One sample's shape.
        parameters: By hand; a tied tensor counts once.
        flops: FLOP of the forward by hand: products, convolutions, attention; a multiply-and-add is two.
        tokens: Samples are integers below this; numbers where None.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    parameters: int
    flops: int
    tokens: int | None = None

    def sample(self) -> torch.Tensor:
        """A batch of one."""
        torch.manual_seed(0)
        if self.tokens is not None:
            return torch.randint(self.tokens, (1, *self.shape))
        return torch.randn(1, *self.shape)


class Thrice(nn.Module):
    """One layer used three times."""

    def __init__(self, width: int):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):  # noqa: D102
        for _ in range(3):
            x = torch.tanh(self.fc(x))
        return x


class TiedAutoencoder(nn.Module):
    """The decoder is the encoder's matrix, transposed, as a function."""

    def __init__(self, width: int, code: int):
        super().__init__()
        self.encoder = nn.Linear(width, code, bias=False)

    def forward(self, x):  # noqa: D102
        return F.linear(torch.relu(self.encoder(x)), self.encoder.weight.t())


class ByHand(nn.Module):
    """Softmax attention in plain products and an einsum."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x):  # noqa: D102
        q, k, v = self.qkv(x).chunk(3, -1)
        return torch.einsum("bst,btd->bsd", (q @ k.transpose(1, 2)).softmax(-1), v)


class Fused(nn.Module):
    """Attention by PyTorch's own fused function."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):  # noqa: D102
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Self(nn.Module):
    """``nn.MultiheadAttention`` of a sequence on itself."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):  # noqa: D102
        return self.attention(x, x, x, need_weights=False)[0]


def _recurrent(kind: type[nn.RNNBase]) -> Callable[[], nn.Module]:
    return lambda: kind(16, 32, num_layers=2, batch_first=True)


def _gates(gates: int) -> int:
    """The elements of a two-layer recurrence's matrices, 16 → 32 → 32."""
    return gates * 32 * (16 + 32 + 32 + 32)


def subjects() -> list[Subject]:
    """The twelve."""
    d, t = 64, 50
    vocabulary, length, width, depth = 1000, 64, 64, 4
    blocks = depth * 12 * width * width
    gpt_biases = depth * (4 * width + (3 + 1 + 4 + 1) * width) + 2 * width
    return [
        Subject("DummyNet", DummyNet, (3, 7, 7), 2512, 2 * (9 * 27 * 25 + 225 * 10)),
        Subject(
            "MLP 64-64-64-10",
            lambda: nn.Sequential(
                nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
            ),
            (64,),
            2 * 65 * 64 + 650,
            2 * (2 * 64 * 64 + 640),
        ),
        Subject(
            "depthwise, dilated",
            lambda: nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False), nn.Conv2d(8, 16, 1)),
            (8, 20, 20),
            8 * 9 + 8 * 16 + 16,
            2 * 16 * 16 * (8 * 9 + 8 * 16),
        ),
        Subject(
            "transposed convolution",
            lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False),
            (4, 9, 9),
            4 * 6 * 9,
            2 * 81 * 4 * 6 * 9,
        ),
        Subject("one layer used thrice", lambda: Thrice(d), (d,), d * d + d, 3 * 2 * d * d),
        Subject("tied autoencoder", lambda: TiedAutoencoder(d, 16), (d,), 16 * d, 2 * 2 * 16 * d),
        Subject(
            "attention by products", lambda: ByHand(d), (t, d), 3 * d * d, 2 * t * 3 * d * d + 4 * t * t * d
        ),
        Subject(
            "attention, fused",
            lambda: Fused(d, 4),
            (t, d),
            4 * (d * d + d),
            2 * t * 4 * d * d + 4 * t * t * d,
        ),
        Subject(
            "nn.MultiheadAttention",
            lambda: Self(d, 4),
            (t, d),
            4 * (d * d + d),
            2 * t * 4 * d * d + 4 * t * t * d,
        ),
        Subject(
            "LSTM, two layers", _recurrent(nn.LSTM), (t, 16), _gates(4) + 2 * 2 * 4 * 32, 2 * t * _gates(4)
        ),
        Subject(
            "GRU, two layers", _recurrent(nn.GRU), (t, 16), _gates(3) + 2 * 2 * 3 * 32, 2 * t * _gates(3)
        ),
        Subject(
            "GPT, head tied",
            lambda: GPT(vocabulary, length, width, depth, 4),
            (length,),
            vocabulary * width + length * width + blocks + gpt_biases,
            2 * length * (blocks + vocabulary * width) + depth * 4 * length * length * width,
            vocabulary,
        ),
    ]
