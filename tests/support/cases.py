"""The architectures and works that every contract is held against. One more is one line of ``CASES``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from support import networks, works
from torch import nn

from modelspace import ModelSpace
from modelspace.data import Data, Split, of_splits
from modelspace.examples import DummyNet

SAMPLES, BATCH, CLASSES = 20, 5, 3


@dataclass(frozen=True)
class Case:
    """One architecture, what it is trained for, and what is expected of it.

    Attributes:
        name: Its name in the tests.
        make: What makes it.
        shape: One sample's shape; None where ``batch`` makes them.
        tokens: Samples are integers below this; floating-point numbers where 0.
        classes: Labels are integers below this.
        loss: The loss; None where there is an objective.
        random: Its training draws random numbers.
        fallback: What the plan says where the architecture has no batched form; None where it has one.
        dtype: The type of its coordinates.
        alone: The operations that are computed member by member, the rest batched.
        uncompiled: What is said where compiling is asked for and PyTorch's compiler can't.
        batch: Of a number of samples and a generator, makes them: any nest that ``of_splits`` takes.
        objective: What is minimised in place of a loss.
        columns: Of the objective's hyper-parameters, three members' values.
        named: What the objective names beside its loss.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | None = None
    tokens: int = 0
    classes: int = CLASSES
    loss: Any = "cross_entropy"
    random: bool = False
    fallback: str | None = None
    dtype: torch.dtype = torch.float32
    alone: tuple[str, ...] = ()
    uncompiled: str | None = None
    batch: Callable[[int, torch.Generator], Any] | None = None
    objective: Any = None
    columns: Mapping[str, list[float]] = field(default_factory=dict)
    named: tuple[str, ...] = ()

    def __str__(self):
        return self.name

    @property
    def goal(self):
        """What is minimised, as arguments of ``fit`` and ``evaluate``."""
        return {"loss": self.loss} if self.objective is None else {"objective": self.objective}

    def space(self, dtype=None):
        kind = torch.long if self.tokens else torch.float32
        return ModelSpace(self.make, input_shape=self.shape, dtype=dtype, input_dtype=kind)

    def data(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        if self.batch is not None:
            return of_splits(*(self.batch(n, generator) for n in (SAMPLES, 6, 6)), name=self.name)

        def split(samples):
            shape = (samples, *self.shape)
            if self.tokens:
                inputs = torch.randint(self.tokens, shape, generator=generator)
            else:
                inputs = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)
            if self.loss == "mse":
                return Split(inputs, torch.randn(samples, self.classes, generator=generator).to(self.dtype))
            return Split(inputs, torch.randint(self.classes, (samples,), generator=generator))

        return Data(self.name, split(SAMPLES), split(6), split(6))


def mlp(activation=nn.Tanh, bias=True):
    return nn.Sequential(
        nn.Linear(6, 8, bias=bias),
        activation(),
        nn.Linear(8, 8, bias=bias),
        activation(),
        nn.Linear(8, CLASSES, bias=bias),
    )


def perceptron_with_dropout():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, CLASSES))


def cnn(bias=True):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, CLASSES, bias=bias),
    )


def depthwise_dilated():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, padding="same", dilation=2),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def conv1d():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES)
    )


def conv3d():
    return nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(54, CLASSES))


def transposed():
    return nn.Sequential(
        nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(48, CLASSES)
    )


def normalised():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.LayerNorm(8),
        nn.Tanh(),
        nn.Linear(8, CLASSES),
    )


def lazy():
    return nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(CLASSES))


class Residual(nn.Module):
    """No bias before BatchNorm: its gradient would be rounding noise, which Adam divides by itself."""

    def __init__(self, momentum=0.3):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4, momentum=momentum)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = torch.tanh(self.norm1(self.first(x)))
        x = torch.tanh(x + self.norm2(self.second(x)))
        return self.head(x.mean((2, 3)))


class Dropouts(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.channels = nn.Dropout2d(0.25)
        self.plain = nn.Dropout(0.4)
        self.alpha = nn.AlphaDropout(0.3)
        self.hidden = nn.Linear(16, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.plain(self.channels(torch.tanh(self.conv(x))).flatten(1))
        return self.head(F.dropout(self.alpha(F.selu(self.hidden(x))), 0.1, self.training))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.mix = nn.Linear(5, 5)
        self.output = nn.Linear(5, 7, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        return self.output(torch.tanh(self.mix(self.embedding(tokens).mean(1))))


class Renormalised(nn.Module):
    """Its forward writes into its parameters: rows that are too long are shortened."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 5, max_norm=1.5)
        self.bags = nn.EmbeddingBag(7, 5, mode="mean", padding_idx=2, max_norm=0.8)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens).mean(1) + self.bags(tokens)))


class FrozenBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x))


class Unused(nn.Module):
    """``ghost`` takes no part in the loss: torch.optim leaves it alone, weight decay included."""

    def __init__(self):
        super().__init__()
        self.ghost = nn.Linear(3, 3)
        self.net = mlp()

    def forward(self, x):
        return self.net(x)


class Counting(nn.Module):
    """A buffer that the forward replaces, another that it writes into."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(6))
        self.net = mlp()

    def forward(self, x):
        if self.training:
            self.count = self.count + 1
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return self.net(x - 0.1 * self.mean)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Branching(nn.Module):
    """Its control flow asks a tensor for its value."""

    def __init__(self):
        super().__init__()
        self.first, self.second = mlp(), mlp()

    def forward(self, x):
        return self.first(x) if self.first[0].weight.sum() > 0 else self.second(x)


class Noisy(nn.Module):
    """It draws random numbers of its own."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x + 0.1 * torch.randn_like(x) if self.training else x)


class Attention(nn.Module):
    """Softmax attention by matrix products."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12, bias=False)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)
        return self.head((x + weights @ v).mean(1))


class FusedAttention(nn.Module):
    """A bias of the keys would have a gradient of zero, computed as rounding noise: so there is none."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


ARCHITECTURES = [
    Case("DummyNet", DummyNet, (3, 7, 7), classes=10),
    Case("MLP tanh", mlp, (6,)),
    Case("MLP ReLU", lambda: mlp(nn.ReLU), (6,)),
    Case("MLP without bias", lambda: mlp(bias=False), (6,)),
    Case("MLP regression", mlp, (6,), loss="mse"),
    Case("MLP float64", lambda: mlp().double(), (6,), dtype=torch.float64),
    Case("CNN", cnn, (1, 8, 8)),
    Case("CNN without bias", lambda: cnn(bias=False), (1, 8, 8)),
    Case("residual BatchNorm", Residual, (2, 4, 4)),
    Case("dropout", Dropouts, (2, 4, 4), random=True),
    Case("MLP dropout", perceptron_with_dropout, (6,), random=True),
    Case("tied embedding", Tied, (4,), tokens=7, classes=7),
    Case("renormalised embeddings", Renormalised, (4,), tokens=7),
    Case("frozen backbone", FrozenBackbone, (2, 4, 4)),
    Case("grouped dilated convolution", depthwise_dilated, (2, 4, 4)),
    Case("conv1d", conv1d, (2, 8)),
    Case("conv3d", conv3d, (1, 4, 4, 4)),
    Case("transposed convolution", transposed, (2, 2, 2)),
    Case("LayerNorm GroupNorm", normalised, (2, 4, 4)),
    Case("lazy", lazy, (6,)),
    Case("unused parameter", Unused, (6,)),
    Case("replaced buffer", Counting, (6,)),
    Case("attention", Attention, (5, 4)),
    Case("fused attention", FusedAttention, (5, 4)),
    Case("U-Net", networks.UNet, (1, 8, 8)),
    Case("MLP-Mixer", networks.Mixer, (1, 8, 8)),
    Case("depthwise separable convolution", networks.depthwise_separable, (2, 6, 6)),
    Case("squeeze and excitation", networks.SqueezeExcitation, (2, 4, 4)),
    Case("autoencoder", networks.autoencoder, (2, 4, 4)),
    Case("stacked LSTM", networks.StackedLSTM, (5, 3), random=True),
    Case("projected LSTM", networks.ProjectedLSTM, (5, 3)),
    Case("recurrent cells", networks.GRUCells, (4, 3)),
    Case("GRU seq2seq", networks.Seq2Seq, (5,), tokens=7, classes=7),
    Case("packed RNN", networks.Packed, (4, 3)),
    Case("GPT", networks.GPT, (6,), tokens=7, classes=7, random=True),
    Case("ViT", networks.ViT, (1, 8, 8), random=True),
    Case("transformer layer", networks.EncoderLayer, (5, 8), random=True),
    Case("graph convolution", networks.GraphConvolution, (5, 3)),
    Case("hyper-network", networks.HyperNetwork, (6,)),
    Case("custom function", lambda: networks.Custom(networks.Sine), (6,), alone=("Sine",)),
    Case("custom function with a rule", lambda: networks.Custom(networks.SineByRule), (6,)),
    Case("mean of embeddings", lambda: networks.Bags("mean"), (4,), tokens=7),
    Case("maximum of embeddings", lambda: networks.Bags("max"), (4,), tokens=7),
    Case("InstanceNorm", networks.Instances, (2, 4, 4)),
    Case("frozen BatchNorm", networks.FrozenNorm, (2, 4, 4)),
    Case("written piece by piece", networks.Written, (6,)),
    Case("checkpointed", networks.Checkpointed, (6,), random=True),
    Case("fractional pooling", networks.FractionalPool, (2, 4, 4), random=True),
    Case("random slopes", networks.RandomSlopes, (6,), random=True),
    Case("LoRA", networks.LoRA, (6,)),
    Case("weight norm", networks.weight_normalised, (6,)),
    Case("bilinear", networks.Bilinear, (6,)),
    Case("mixture of experts", networks.MixtureOfExperts, (6,)),
    Case("LSTM", Recurrent, (5, 3)),
    Case("routed experts", networks.Routed, (6,), fallback="no batched form of aten::nonzero"),
    Case("cumulative BatchNorm", lambda: Residual(momentum=None), (2, 4, 4)),
    Case("own noise", Noisy, (6,), random=True),
    Case("closures over layers", networks.Closures, (6,)),
    Case("features kept by a hook", networks.Tapped, (6,)),
    Case("clipped parameters", networks.Clipped, (6,)),
    Case("target by moving average", networks.Target, (6,)),
    Case("random features", networks.RandomFeatures, (6,)),
    Case("drawn by NumPy", networks.DrawnByNumPy, (6,)),
    Case("sparse buffer", networks.SparseGraph, (6,), alone=("_sparse_mm",), uncompiled="SparseTensorImpl"),
    Case("padded transformer", networks.PaddedTransformer, (4,), tokens=7, random=True),
    Case(
        "hook on an activation",
        networks.HookedActivation,
        (6,),
        fallback=r"a hook on an activation \(line .*\) is not run under vmap",
    ),
    Case(
        "hook on a parameter",
        networks.HookedParameter,
        (6,),
        fallback="the hook on parameter first.weight is not run under vmap",
    ),
    Case(
        "backward hook",
        networks.HookedLayer,
        (6,),
        fallback="the backward hook of layer head is not run under vmap",
    ),
    Case("clipped data", networks.ClippedData, (6,), fallback="no batched form: accessing `data` under vmap"),
    Case("layers dropped by Python", networks.LayerDrop, (6,), fallback="the forward draws from random"),
    Case(
        "data-dependent branch", Branching, (6,), fallback=r"no batched form: .*data-dependent control flow"
    ),
]


def work(name, make, batch, objective=None, **expected):
    """A case whose samples are a nest, or that has an objective."""
    loss = {"loss": None} if objective is not None else {}
    return Case(name, make, batch=batch, objective=objective, **{**loss, **expected})


WORKS = [
    work("two inputs", works.Pairs, works.pairs),
    work("padding mask", works.MaskedTransformer, works.sentences, random=True),
    work("named tuple", works.Tupled, works.particles),
    work("dataclass", works.OfGraphs, works.graphs),
    work("two heads", works.Heads, works.two_targets, loss=works.two_losses),
    work("output with logits", works.WithLogits, works.keywords),
    work("complex inputs", works.Spectral, works.spectra),
    work("categories and numbers", works.Rows, works.rows, loss="mse"),
    work("padded series", works.PaddedGRU, works.padded, loss="mse"),
    work("packed series", works.PackedGRU, works.padded, loss="mse", fallback="whose lengths differ between members"),
    work("sample weights", lambda: works.mlp(6, 8, 3), works.weighted, loss=works.weighted_loss),
    work(
        "VAE", works.VAE, works.vectors, works.evidence_bound,
        random=True, columns={"beta": [1.0, 0.1, 4.0]}, named=("rec", "kl"),
    ),
    work(
        "denoising", lambda: works.mlp(6, 8, 6), works.vectors, works.denoising,
        random=True, columns={"sigma": [0.3, 0.0, 1.0]},
    ),
    work(
        "SimCLR", lambda: works.mlp(6, 8, 4), works.vectors, works.contrastive,
        random=True, columns={"temperature": [0.5, 1.0, 0.2]},
    ),
    work("language model", works.LanguageModel, works.texts, works.next_token),
    work(
        "PINN by torch.func", works.Field, works.coordinates, works.advection,
        columns={"speed": [1.0, 0.5, -2.0]}, named=("pde", "initial"),
    ),
    work(
        "PINN by autograd", works.Field, works.coordinates, works.heat,
        columns={"diffusivity": [0.1, 0.0, 1.0]}, named=("pde",),
    ),
    work("inverse problem", works.Inverse, works.measured, works.decay, named=("rate",)),
    work("SIREN", works.Siren, works.pixels, works.picture, named=("psnr",)),
    work(
        "distillation", lambda: works.mlp(6, 4, 3), works.labelled, works.distilled,
        columns={"temperature": [1.0, 2.0, 5.0]},
    ),
    work(
        "temporal difference", works.Agent, works.transitions, works.temporal_difference,
        columns={"discount": [0.9, 0.0, 0.99]},
    ),
    work(
        "masked autoencoder", lambda: works.mlp(6, 8, 6), works.vectors, works.masked_autoencoding,
        random=True, columns={"share": [0.4, 0.7, 0.2]},
    ),
    work("masked regression", lambda: works.mlp(6, 8, 2), works.incomplete, works.of_the_known, named=("largest",)),
    work("training step", works.Module, works.labelled, "model", named=("acc", "norm")),
    work("the model's own loss", works.WithLogits, works.keywords, "model"),
    work(
        "triplets", lambda: works.mlp(6, 8, 3), works.triplets, works.triplet,
        columns={"margin": [1.0, 0.0, 2.0]},
    ),
    work("autoencoder without labels", works.Coder, works.vectors, works.reconstruction),
    work("the encoder alone", works.Coder, works.labelled, works.of_the_encoder, named=("samples",)),
    work("a parameter of the model", works.Coder, works.vectors, works.with_the_scale),
    work("a method of the model", works.Coder, works.vectors, works.energies, random=True),
    work("random distillation", works.Bootstrapped, works.vectors, works.random_distillation),
    work(
        "objective that branches", lambda: works.mlp(6, 8, 3), works.labelled, works.branching,
        fallback="data-dependent control flow",
    ),
    work(
        "objective that draws by Python", lambda: works.mlp(6, 8, 3), works.labelled, works.by_python,
        fallback="draws from random",
    ),
]  # fmt: skip
CASES = [*ARCHITECTURES, *WORKS]
BATCHED = [case for case in CASES if case.fallback is None]
FALLBACKS = [case for case in CASES if case.fallback is not None]


def named(name):
    """The case of this name."""
    return next(case for case in CASES if case.name == name)
