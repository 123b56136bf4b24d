"""Architectures built from public figures, for counts known in closed form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import modelspace as ms


class Attention(nn.Module):
    """Causal attention whose keys and values are shared by groups of heads."""

    def __init__(self, width, heads, groups, bias):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * groups * self.size, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x):
        batch, length, width = x.shape
        q = self.q(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        kv = self.kv(x).view(batch, length, self.groups, 2 * self.size).transpose(1, 2)
        k, v = kv.chunk(2, -1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.groups < self.heads)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class GPTBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, heads, bias=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """GPT-2: learned positions, the head tied to the token table. Small: 12 blocks of width 768, 12 heads."""

    def __init__(self, vocabulary=50257, length=1024, width=768, depth=12, heads=12):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(GPTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        y = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class LlamaBlock(nn.Module):
    def __init__(self, width, inner, heads, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, groups, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Llama 2; its 70B: 80 blocks of width 8192, inner width 28672, 64 heads in 8 groups."""

    def __init__(self, vocabulary=32000, width=8192, depth=80, inner=28672, heads=64, groups=8):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, inner, heads, groups) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        y = self.tokens(x)
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class Experts(nn.Module):
    """A router that sends each token to its ``chosen`` best experts, whose products are grouped."""

    def __init__(self, width, inner, experts, chosen):
        super().__init__()
        self.chosen = chosen
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.empty(experts, width, 2 * inner, dtype=torch.bfloat16))
        self.down = nn.Parameter(torch.empty(experts, inner, width, dtype=torch.bfloat16))

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weights, places = self.router(flat).softmax(-1).topk(self.chosen, -1)
        order = places.flatten().argsort()
        ends = torch.zeros(self.router.out_features, dtype=torch.int32, device=x.device)
        ends = ends.scatter_add(0, places.flatten(), torch.ones_like(places.flatten(), dtype=torch.int32))
        ends = ends.cumsum(0, dtype=torch.int32)
        rows = flat[order // self.chosen].to(torch.bfloat16)
        gate, up = torch._grouped_mm(rows, self.up, offs=ends).chunk(2, -1)
        found = torch._grouped_mm(F.silu(gate) * up, self.down, offs=ends)
        weighted = found * weights.flatten()[order, None]
        return (
            torch.zeros_like(flat).index_add(0, order // self.chosen, weighted.to(flat.dtype)).view(x.shape)
        )


class MixtureBlock(nn.Module):
    def __init__(self, width, inner, heads, groups, experts, chosen):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, groups, bias=False)
        self.experts = Experts(width, inner, experts, chosen)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.experts(self.norm2(x))


class Mixture(nn.Module):
    """A mixture of experts; with the defaults 10¹² parameters, of which each token meets about 30 · 10⁹."""

    def __init__(
        self,
        vocabulary=128000,
        width=7168,
        depth=61,
        inner=2048,
        heads=56,
        groups=8,
        experts=370,
        chosen=8,
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            MixtureBlock(width, inner, heads, groups, experts, chosen) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        y = self.tokens(x)
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class LatentAttention(nn.Module):
    """Attention whose queries, keys and values come from narrow latent vectors; the rotation moves no product."""

    def __init__(self, width, heads=128, query=1536, latent=512, plain=128, rotated=64, value=128):
        super().__init__()
        self.heads, self.plain, self.rotated, self.value, self.latent = heads, plain, rotated, value, latent
        self.q_down, self.q_norm = nn.Linear(width, query, bias=False), nn.RMSNorm(query)
        self.q_up = nn.Linear(query, heads * (plain + rotated), bias=False)
        self.kv_down, self.kv_norm = nn.Linear(width, latent + rotated, bias=False), nn.RMSNorm(latent)
        self.kv_up = nn.Linear(latent, heads * (plain + value), bias=False)
        self.out = nn.Linear(heads * value, width, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        q = self.q_up(self.q_norm(self.q_down(x))).view(batch, length, self.heads, -1).transpose(1, 2)
        latent, rotated = self.kv_down(x).split([self.latent, self.rotated], -1)
        kv = self.kv_up(self.kv_norm(latent)).view(batch, length, self.heads, -1).transpose(1, 2)
        k, v = kv.split([self.plain, self.value], -1)
        k = torch.cat([k, rotated[:, None].expand(-1, self.heads, -1, -1)], -1)
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).reshape(batch, length, -1))


class GatedUnit(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DeepSeekBlock(nn.Module):
    def __init__(self, width, dense):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = LatentAttention(width)
        self.shared = GatedUnit(width, 18432 if dense else 2048)
        self.experts = None if dense else Experts(width, 2048, 256, 8)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.shared(y) + (0 if self.experts is None else self.experts(y))


class DeepSeek(nn.Module):
    """DeepSeek-V3: 61 blocks of width 7168, the first three without experts; 671 B parameters."""

    def __init__(self, vocabulary=129280, width=7168, depth=61, dense=3):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(DeepSeekBlock(width, layer < dense) for layer in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        y = self.tokens(x)
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


@dataclass(frozen=True)
class Published:
    """An architecture at its published size, the defaults of what makes it, as one member of a family.

    Attributes:
        make: Makes a member.
        tokens: The sequence's length.
        small: Depths from which the family's laws are found, none above ten blocks.
        size: The published member.
        dtype: One type for the members of a family; None where they have one as built. No count depends on it.
    """

    make: Callable[..., nn.Module]
    tokens: int
    small: tuple[int, ...]
    size: Mapping[str, int]
    dtype: torch.dtype | None = None

    def family(self) -> ms.Family:
        """The family over depth; nothing of it is built yet."""
        return ms.Family(
            self.make,
            depth=list(self.small),
            input_shape=(self.tokens,),
            input_dtype=torch.long,
            dtype=self.dtype,
            batch_size=1,
            memory=False,
        )


PUBLISHED = {
    "gpt-2": Published(GPT, 1024, (1, 2), {"depth": 12}),
    "llama-70b": Published(Llama, 4096, (1, 2), {"depth": 80}),
    # Its first three blocks are others.
    "deepseek-v3": Published(DeepSeek, 4096, (4, 5), {"depth": 61}, torch.bfloat16),
    "mixture-1t": Published(Mixture, 4096, (1, 2), {"depth": 61}, torch.bfloat16),
}
