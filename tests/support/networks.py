"""Small networks of every kind that people build: each uses something that a batched forward may stumble over."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

CLASSES = 3


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.bottom = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.join = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        high = torch.tanh(self.down(x))
        low = torch.tanh(self.bottom(F.avg_pool2d(high, 2)))
        joined = torch.cat([high, self.up(low)], 1)
        return self.head(torch.tanh(self.join(joined)).mean((2, 3)))


class Mixer(nn.Module):
    """MLP-Mixer: products along the patches, then along the channels."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, stride=4)
        self.norm1, self.norm2 = nn.LayerNorm(6), nn.LayerNorm(6)
        self.tokens = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
        self.channels = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(x.mean(1))


def depthwise_separable():
    return nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1, groups=2),
        nn.Conv2d(2, 6, 1),
        nn.SiLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 4, 1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


class SqueezeExcitation(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        x = torch.tanh(self.conv(x))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * gate).mean((2, 3)))


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(2, 4, 2, stride=2),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1, groups=1),
        nn.Tanh(),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Flatten(),
        nn.Linear(192, CLASSES),
    )


class StackedLSTM(nn.Module):
    """Two layers in both directions, with dropout between them."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.lstm(x)[0].mean(1))


class ProjectedLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 6, proj_size=4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.lstm(x.transpose(0, 1))[1][0][-1])


class GRUCells(nn.Module):
    """A recurrence written out step by step."""

    def __init__(self):
        super().__init__()
        self.gru, self.lstm = nn.GRUCell(3, 4), nn.LSTMCell(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        h = x.new_zeros(len(x), 4)
        state = (h, h)
        for moment in x.unbind(1):
            h = self.gru(moment, h)
            state = self.lstm(h, state)
        return self.head(state[0])


class Seq2Seq(nn.Module):
    """A GRU reads tokens, another writes them, fed with what it has written: soft, so that it is differentiable."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.encoder, self.decoder = nn.GRU(4, 5, batch_first=True), nn.GRU(4, 5, batch_first=True)
        self.output = nn.Linear(5, 7)

    def forward(self, tokens):
        _, state = self.encoder(self.embedding(tokens))
        word = self.embedding.weight.new_zeros(len(tokens), 1, 4)
        for _ in range(3):
            written, state = self.decoder(word, state)
            scores = self.output(written)
            word = scores.softmax(-1) @ self.embedding.weight
        return scores[:, 0]


class Packed(nn.Module):
    """Sequences of different lengths, packed."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(3, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        lengths = torch.tensor([1 + i % x.shape[1] for i in range(len(x))])
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(outputs.sum(1))


class GPT(nn.Module):
    """Two causal blocks; the embedding is the output layer too. Keys have no bias, whose gradient would be noise."""

    def __init__(self, width=8, heads=2, length=6, tokens=7):
        super().__init__()
        self.heads = heads
        self.embedding, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width, bias=False),
                    "out": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "mlp": nn.Sequential(
                        nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width), nn.Dropout(0.1)
                    ),
                }
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, tokens, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in block["qkv"](block["norm1"](x)).chunk(3, -1)
            )
            p = 0.1 if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
            x = x + block["out"](mixed.transpose(1, 2).flatten(2))
            x = x + block["mlp"](block["norm2"](x))
        return self.output(self.norm(x))[:, -1]


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8) * 0.02)
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class GraphConvolution(nn.Module):
    """Messages along fixed edges, added up by scatter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]]))
        self.first, self.second = nn.Linear(3, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def gathered(self, x):
        source, target = self.edges
        index = target[None, :, None].expand(len(x), -1, x.shape[-1])
        return torch.zeros_like(x).scatter_add(1, index, x[:, source])

    def forward(self, x):
        x = torch.tanh(self.gathered(self.first(x)))
        x = torch.tanh(x + self.gathered(self.second(x)))
        return self.head(x.mean(1))


class HyperNetwork(nn.Module):
    """One network makes another's weights, sample by sample."""

    def __init__(self):
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4 * CLASSES))

    def forward(self, x):
        weights = self.maker(x[:, :2]).view(-1, CLASSES, 4)
        return torch.bmm(weights, x[:, 2:, None]).squeeze(-1)


class Sine(torch.autograd.Function):
    """sin x, without a batching rule."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return x.cos() * gradient


class SineByRule(torch.autograd.Function):
    """sin x, with one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return x.cos() * gradient


class Custom(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head(self.function.apply(self.first(x)))


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class Bags(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 5, mode=mode)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, tokens):
        return self.head(torch.tanh(self.bag(tokens)))


class Instances(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).flatten(1))


class FrozenNorm(nn.Module):
    """BatchNorm that stays in evaluation mode, as in fine-tuning."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(16, CLASSES)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).flatten(1))


class Written(nn.Module):
    """It makes a tensor and writes into it, piece by piece."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 4), nn.Linear(8, CLASSES)

    def forward(self, x):
        hidden = torch.zeros(len(x), 8, dtype=x.dtype, device=x.device)
        first = self.first(x)
        hidden[:, :4] = torch.tanh(first)
        hidden[:, 4:] += first**2
        hidden *= 0.5
        return self.head(hidden)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2))
        self.second = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = checkpoint(self.second, self.first(x), use_reentrant=False)
        return self.head(x)


class FractionalPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.pool = nn.FractionalMaxPool2d(2, output_size=2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.pool(torch.tanh(self.conv(x))).flatten(1))


class RandomSlopes(nn.Module):
    """RReLU, and units kept by coin tosses."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.rrelu(self.first(x), training=self.training)
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x, 0.8))
        return self.head(x)


class LoRA(nn.Module):
    """A frozen layer with an adapter of rank 2."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(6, 8).requires_grad_(False)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 8, bias=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + self.up(self.down(x))))


def weight_normalised():
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, CLASSES)),
    )


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Bilinear(3, 3, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.mix(x[:, :3], x[:, 3:])))


class Routed(nn.Module):
    """Each sample goes to one expert, found by ``nonzero``: how many an expert gets depends on the data."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Linear(6, CLASSES) for _ in range(2))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        chosen = weights.argmax(-1)
        outputs = x.new_zeros(len(x), CLASSES)
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero()[:, 0]
            outputs = outputs.index_add(0, rows, expert(x[rows]) * weights[rows, i, None])
        return outputs


class MixtureOfExperts(nn.Module):
    """A soft mixture, by einsum."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 4)
        self.experts = nn.Parameter(torch.randn(4, 6, CLASSES) * 0.3)

    def forward(self, x):
        return torch.einsum("be,bi,eio->bo", self.gate(x).softmax(-1), x, self.experts)


# What a copy of a module loses, or a forward does beside computing


class Closures(nn.Module):
    """Its stages are closures over its own layers: those of a copy are the original's."""

    def __init__(self):
        super().__init__()
        self.lift, self.read = nn.Linear(6, 8), nn.Linear(8, CLASSES)
        lift, read = self.lift, self.read
        self.stages = [lambda x: torch.tanh(lift(x)), lambda x: read(x)]

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


class Tapped(nn.Module):
    """A forward hook puts features into a dictionary that the forward reads."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.taps = nn.Linear(6, 8), nn.Linear(8, CLASSES), {}
        self.first.register_forward_hook(lambda module, given, out: self.taps.__setitem__("first", out))

    def forward(self, x):
        return self.head(torch.tanh(self.first(x))) + self.taps["first"][:, :CLASSES]


class HookedActivation(nn.Module):
    """The gradient of an activation is limited by a hook."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        hidden = self.first(x)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
        return self.head(torch.tanh(hidden))


class HookedParameter(nn.Module):
    """The gradient of a parameter is masked by a hook."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)
        self.first.weight.register_hook(self.masked)

    def masked(self, gradient):
        return torch.cat([torch.zeros_like(gradient[:4]), gradient[4:]])

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))


class HookedLayer(nn.Module):
    """A full backward hook halves the gradient that goes into a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)
        self.head.register_full_backward_hook(lambda layer, given, out: (given[0] / 2,))

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))


class Clipped(nn.Module):
    """Its forward in training clips its parameters, as a Wasserstein critic does."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.clamp_(-0.2, 0.2)
        return self.head(torch.tanh(self.first(x)))


class ClippedData(Clipped):
    """The same by ``.data``, which no version counter sees."""

    def forward(self, x):
        if self.training:
            for parameter in self.parameters():
                parameter.data.clamp_(-0.2, 0.2)
        return self.head(torch.tanh(self.first(x)))


class Target(nn.Module):
    """A frozen twin follows its layer by moving average, as in BYOL."""

    def __init__(self):
        super().__init__()
        self.online = nn.Linear(6, 8)
        self.target = nn.Linear(6, 8).requires_grad_(False)
        self.target.load_state_dict(self.online.state_dict())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                    slow.mul_(0.9).add_(fast, alpha=0.1)
        return self.head(torch.tanh(self.online(x)) + torch.tanh(self.target(x)))


class RandomFeatures(nn.Module):
    """A frozen layer, another for every seed."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(6, 16).requires_grad_(False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.features(x)))


class DrawnByNumPy(nn.Module):
    """Initial values by NumPy, a permutation by Python."""

    def __init__(self):
        super().__init__()
        values = np.random.randn(CLASSES, 6)  # noqa: NPY002 (what it is about)
        self.weight = nn.Parameter(torch.from_numpy(values).float())
        self.register_buffer("order", torch.tensor(random.sample(range(6), 6)))

    def forward(self, x):
        return x[:, self.order] @ self.weight.T


class LayerDrop(nn.Module):
    """Python tosses a coin for each layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        for layer in (self.first, self.second):
            if not self.training or random.random() > 0.5:
                x = x + torch.tanh(layer(x))
        return self.head(x)


class SparseGraph(nn.Module):
    """The adjacency is a sparse buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)
        at = torch.stack([torch.arange(8), (torch.arange(8) + 1) % 8])
        self.register_buffer("adjacency", torch.sparse_coo_tensor(at, torch.ones(8), (8, 8)))

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.head(torch.sparse.mm(self.adjacency.to(x.dtype), hidden.T).T)


class PaddedTransformer(nn.Module):
    """A transformer with a padding mask, of which PyTorch has an inference path with nested tensors."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 8, padding_idx=0), nn.Linear(8, CLASSES)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, tokens):
        encoded = self.encoder(self.embedding(tokens), src_key_padding_mask=tokens == 6)
        return self.head(encoded.mean(1))
