"""Twelve small architectures whose parameters and FLOP are written out by hand, each hard for some counter."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from cost.published import GPT
from torch import nn

from benchmarks.plain import DummyNet, mlp


class Subject(NamedTuple):
    """An architecture with its true counts for a batch of one.

    Parameters are counted by hand, a tied tensor once; so are the FLOP of the forward: products, convolutions,
    attention, where a multiply-and-add is two. Samples are integers below ``tokens``, or numbers where that is None.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    make: Callable[[], nn.Module]
    tokens: int | None = None

    def sample(self) -> torch.Tensor:
        """A batch of one."""
        torch.manual_seed(0)
        shape = (1, *self.shape)
        return torch.randn(shape) if self.tokens is None else torch.randint(self.tokens, shape)


class Composed(nn.Module):
    """Layers by name, and what is computed with them."""

    def __init__(self, compute: Callable[[Any, torch.Tensor], torch.Tensor], **layers: nn.Module):
        super().__init__()
        self._compute = compute
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._compute(self, x)


def _thrice(m: Any, x: torch.Tensor) -> torch.Tensor:
    for _ in range(3):
        x = torch.tanh(m.fc(x))
    return x


def _tied(m: Any, x: torch.Tensor) -> torch.Tensor:
    """The decoder is the encoder's matrix, transposed, as a function."""
    return F.linear(torch.relu(m.encoder(x)), m.encoder.weight.t())


def _by_products(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Softmax attention in plain products and an einsum."""
    q, k, v = m.qkv(x).chunk(3, -1)
    return torch.einsum("bst,btd->bsd", (q @ k.transpose(1, 2)).softmax(-1), v)


def _fused(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention with four heads by PyTorch's own fused function."""
    batch, length, width = x.shape
    q, k, v = m.qkv(x).view(batch, length, 3, 4, -1).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v)
    return m.out(y.transpose(1, 2).reshape(batch, length, width))


def _self(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.attention(x, x, x, need_weights=False)[0]


def subjects() -> list[Subject]:
    """The twelve."""
    d, t = 64, 50
    tokens, length, width, depth = 1000, 64, 64, 4
    blocks = depth * 12 * width * width
    biases = depth * (4 * width + (3 + 1 + 4 + 1) * width) + 2 * width
    gpt = tokens * width + length * width + blocks + biases
    gpt_flops = 2 * length * (blocks + tokens * width) + depth * 4 * length * length * width
    attention = 4 * (d * d + d), 2 * t * 4 * d * d + 4 * t * t * d
    gate = 32 * (16 + 32 + 32 + 32)  # elements of the matrices of two layers, 16 → 32 → 32
    one, grouped = 8 * 9, 8 * 16

    def depthwise() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False), nn.Conv2d(8, 16, 1))

    def fused() -> nn.Module:
        return Composed(_fused, qkv=nn.Linear(d, 3 * d), out=nn.Linear(d, d))

    def own_attention() -> nn.Module:
        return Composed(_self, attention=nn.MultiheadAttention(d, 4, batch_first=True))

    def recurrent(kind: type[nn.RNNBase]) -> Callable[[], nn.Module]:
        return lambda: kind(16, 32, num_layers=2, batch_first=True)

    return [
        Subject("DummyNet", (3, 7, 7), 2512, 2 * (9 * 27 * 25 + 225 * 10), DummyNet),
        Subject("MLP 64-64-64-10", (64,), 2 * 65 * 64 + 650, 2 * (2 * 64 * 64 + 640), mlp),
        Subject("depthwise, dilated", (8, 20, 20), one + grouped + 16, 2 * 256 * (one + grouped), depthwise),
        Subject("transposed convolution", (4, 9, 9), 4 * 6 * 9, 2 * 81 * 4 * 6 * 9,
                lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False)),
        Subject("one layer used thrice", (d,), d * d + d, 3 * 2 * d * d,
                lambda: Composed(_thrice, fc=nn.Linear(d, d))),
        Subject("tied autoencoder", (d,), 16 * d, 2 * 2 * 16 * d,
                lambda: Composed(_tied, encoder=nn.Linear(d, 16, bias=False))),
        Subject("attention by products", (t, d), 3 * d * d, 2 * t * 3 * d * d + 4 * t * t * d,
                lambda: Composed(_by_products, qkv=nn.Linear(d, 3 * d, bias=False))),
        Subject("attention, fused", (t, d), *attention, fused),
        Subject("nn.MultiheadAttention", (t, d), *attention, own_attention),
        Subject("LSTM, two layers", (t, 16), 4 * gate + 2 * 2 * 4 * 32, 2 * t * 4 * gate, recurrent(nn.LSTM)),
        Subject("GRU, two layers", (t, 16), 3 * gate + 2 * 2 * 3 * 32, 2 * t * 3 * gate, recurrent(nn.GRU)),
        Subject("GPT, head tied", (length,), gpt, gpt_flops,
                lambda: GPT(tokens, length, width, depth, 4), tokens),
    ]  # fmt: skip
