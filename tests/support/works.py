"""Works that need more than one tensor in and a loss of outputs and labels: architectures, batches and objectives.

A batch is made of a number of samples and a generator; an objective is a function of (model, batch).
"""

import itertools
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3


def mlp(*sizes, activation=nn.Tanh):
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def labels_of(n, g):
    return torch.randint(CLASSES, (n,), generator=g)


def vectors(n, g, size=6):
    return torch.randn(n, size, generator=g)


def labelled(n, g):
    return vectors(n, g), labels_of(n, g)


# Nests in, and a loss


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 8), nn.Linear(2, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, first, second):
        return self.head(torch.tanh(self.left(first) + self.right(second)))


def pairs(n, g):
    return vectors(n, g, 4), vectors(n, g, 2), labels_of(n, g)


class MaskedTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids, attention_mask):
        x = self.layer(self.embedding(input_ids), src_key_padding_mask=~attention_mask)
        kept = attention_mask[..., None].to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1))


def sentences(n, g):
    lengths = torch.randint(2, 6, (n, 1), generator=g)
    ids = torch.randint(9, (n, 5), generator=g)
    return {"input_ids": ids, "attention_mask": torch.arange(5) < lengths, "labels": labels_of(n, g)}


class Particle(NamedTuple):
    position: Tensor
    charge: Tensor


class Tupled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(4, 8, CLASSES)

    def forward(self, particle):
        return self.net(torch.cat([particle.position, particle.charge[:, None]], 1))


def particles(n, g):
    return Particle(vectors(n, g, 3), torch.randn(n, generator=g)), labels_of(n, g)


@dataclass
class Graph:
    nodes: Tensor
    edges: Tensor


class OfGraphs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 8), nn.Linear(8, CLASSES)

    def forward(self, graph):
        near = graph.edges.to(graph.nodes.dtype)
        near = near / near.sum(-1, keepdim=True).clamp(min=1)
        return self.head(torch.tanh(near @ self.first(graph.nodes)).mean(1))


def graphs(n, g):
    return Graph(torch.randn(n, 4, 3, generator=g), torch.rand(n, 4, 4, generator=g) < 0.5), labels_of(n, g)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.kind, self.size = nn.Linear(6, 8), nn.Linear(8, CLASSES), nn.Linear(8, 1)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        return {"kind": self.kind(x), "size": self.size(x)[:, 0]}


def two_targets(n, g):
    return vectors(n, g), {"kind": labels_of(n, g), "size": torch.randn(n, generator=g)}


def two_losses(outputs, labels):
    kind = F.cross_entropy(outputs["kind"], labels["kind"], label_smoothing=0.1)
    return kind + 0.5 * F.mse_loss(outputs["size"], labels["size"].to(outputs["size"].dtype))


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor | None = None
    loss: Tensor | None = None


class WithLogits(nn.Module):
    """Its output is a dataclass, with the loss where labels are given: as Hugging Face's models have it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, values, labels=None):
        hidden = torch.tanh(self.body(values))
        logits = self.head(hidden)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return Output(logits, hidden, loss)


def keywords(n, g):
    return {"values": vectors(n, g), "labels": labels_of(n, g)}


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(8, 8, CLASSES)

    def forward(self, spectrum):
        parts = torch.view_as_real(spectrum).flatten(1)
        return self.net(parts.to(self.net[0].weight.dtype))


def spectra(n, g):
    return {"spectrum": torch.randn(n, 4, generator=g, dtype=torch.complex64), "labels": labels_of(n, g)}


class Rows(nn.Module):
    """A table's row: categories by embeddings, numbers, which of them are missing."""

    def __init__(self):
        super().__init__()
        self.shop, self.day = nn.Embedding(5, 3), nn.Embedding(7, 2)
        self.net = mlp(8, 8, 1)

    def forward(self, shop, day, numbers, missing):
        numbers = numbers.masked_fill(missing, 0.0)
        return self.net(torch.cat([self.shop(shop), self.day(day), numbers], 1))[:, 0]


def rows(n, g):
    inputs = {
        "shop": torch.randint(5, (n,), generator=g),
        "day": torch.randint(7, (n,), generator=g),
        "numbers": vectors(n, g, 3),
        "missing": torch.rand(n, 3, generator=g) < 0.2,
    }
    return inputs, torch.randn(n, generator=g)


class PaddedGRU(nn.Module):
    """The state at the last real step of each series."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(2, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, series, lengths):
        states, _ = self.gru(series)
        last = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        return self.head(states.gather(1, last)[:, 0])[:, 0]


class PackedGRU(PaddedGRU):
    """The same by PyTorch's packed sequences, which ask the lengths for their values."""

    def forward(self, series, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            series, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.head(self.gru(packed)[1][0])[:, 0]


def padded(n, g):
    inputs = {
        "series": torch.randn(n, 6, 2, generator=g),
        "lengths": torch.randint(1, 7, (n,), generator=g),
    }
    return inputs, torch.randn(n, generator=g)


def weighted(n, g):
    return vectors(n, g), {"target": labels_of(n, g), "weight": torch.rand(n, generator=g)}


def weighted_loss(outputs, labels):
    weight = labels["weight"].to(outputs.dtype)
    return (F.cross_entropy(outputs, labels["target"], reduction="none") * weight).sum() / weight.sum()


# Objectives


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(6, 8, 4), mlp(2, 8, 6)

    def forward(self, x):
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(z), mean, log_var


def evidence_bound(model, x, beta=1.0):
    decoded, mean, log_var = model(x)
    rec = (decoded - x).square().mean()
    kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).mean()
    return {"loss": rec + beta * kl, "rec": rec, "kl": kl}


def denoising(model, x, sigma=0.3):
    return F.mse_loss(model(x + sigma * torch.randn_like(x)), x)


def contrastive(model, x, temperature=0.5):
    """SimCLR: two random views of each sample, NT-Xent over the batch (Chen et al. 2020)."""

    def view():
        kept = torch.rand_like(x) > 0.2
        return F.normalize(model(x * kept + 0.1 * torch.randn_like(x)), dim=-1)

    z, n = torch.cat([view(), view()]), len(x)
    scores = (z @ z.T / temperature).masked_fill(
        torch.eye(2 * n, dtype=torch.bool, device=x.device), -torch.inf
    )
    return F.cross_entropy(scores, torch.arange(2 * n, device=x.device).roll(n))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(9, 6), nn.GRU(6, 8, batch_first=True)
        self.head = nn.Linear(8, 9)

    def forward(self, input_ids):
        return Output(self.head(self.rnn(self.embedding(input_ids))[0]))


def texts(n, g):
    ids = torch.randint(9, (n, 6), generator=g)
    return {"input_ids": ids, "labels": ids.masked_fill(torch.arange(6) < 2, -100)}


def next_token(model, batch):
    logits = model(batch["input_ids"]).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100)


def coordinates(n, g):
    return 2 * torch.rand(n, 2, generator=g) - 1


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(2, 8, 8, 1)

    def forward(self, x):
        return self.net(x)[..., 0]


def advection(model, x, speed=1.0):
    """u_t + speed u_x = 0 by torch.func, u(x, 0) = sin πx."""
    slopes = torch.vmap(torch.func.grad(lambda point: model(point)))(x)
    start = torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], 1)
    pde = (slopes[:, 1] + speed * slopes[:, 0]).square().mean()
    initial = (model(start) - torch.sin(torch.pi * x[:, 0])).square().mean()
    return {"loss": pde + initial, "pde": pde, "initial": initial}


def heat(model, x, diffusivity=0.1):
    """u_t = diffusivity u_xx by autograd, as most physics-informed networks are written."""
    x.requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)
    (bent,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
    pde = (slope[:, 1] - diffusivity * bent[:, 0]).square().mean()
    start = torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], 1)
    initial = (model(start) - torch.sin(torch.pi * x[:, 0])).square().mean()
    return {"loss": pde + initial, "pde": pde}


class Inverse(Field):
    """A coefficient of the equation is learned with the solution."""

    def __init__(self):
        super().__init__()
        self.log_rate = nn.Parameter(torch.zeros(()))


def measured(n, g):
    x = coordinates(n, g)
    return x, torch.exp(-x[:, 1]) * torch.sin(torch.pi * x[:, 0])


def decay(model, batch):
    x, u = batch
    x.requires_grad_(True)
    found = model(x)
    slope = torch.autograd.grad(found.sum(), x, create_graph=True)[0]
    rate = model.log_rate.exp()
    fit = (found - u).square().mean()
    return {"loss": fit + (slope[:, 1] + rate * found).square().mean(), "rate": rate}


class Siren(nn.Module):
    """Sines of a high frequency (Sitzmann et al. 2020)."""

    def __init__(self, frequency=3.0):
        super().__init__()
        self.frequency = frequency
        self.first, self.second, self.last = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        for layer in (self.second, self.last):
            nn.init.uniform_(layer.weight, -((6 / 8) ** 0.5) / frequency, (6 / 8) ** 0.5 / frequency)

    def forward(self, x):
        x = torch.sin(self.frequency * self.first(x))
        return self.last(torch.sin(self.frequency * self.second(x)))


def pixels(n, g):
    return coordinates(n, g), torch.rand(n, 3, generator=g)


def picture(model, batch):
    where, colour = batch
    error = (model(where) - colour).square().mean()
    return {"loss": error, "psnr": -10 * torch.log10(error)}


def _teacher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mlp(6, 12, CLASSES).double().requires_grad_(False)


def _distilling(teacher):
    def distilled(model, batch, temperature=2.0):
        x, y = batch
        with torch.no_grad():
            target = F.softmax(teacher(x.double()).to(x.dtype) / temperature, -1)
        outputs = model(x)
        soft = F.kl_div(F.log_softmax(outputs / temperature, -1), target, reduction="batchmean")
        return temperature**2 * soft + F.cross_entropy(outputs, y)

    return distilled


distilled = _distilling(_teacher())


class Agent(nn.Module):
    """A network of values; its target, which follows slowly, is each member's buffers."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 8, 2)
        for name, value in self.net.named_parameters():
            self.register_buffer("target_" + name.replace(".", "_"), value.detach().clone())

    def forward(self, state):
        return self.net(state)

    def target(self, state):
        named = {n: getattr(self, "target_" + n.replace(".", "_")) for n, _ in self.net.named_parameters()}
        return torch.func.functional_call(self.net, named, (state,))

    @torch.no_grad()
    def follow(self, rate):
        for name, value in self.net.named_parameters():
            getattr(self, "target_" + name.replace(".", "_")).lerp_(value.detach(), rate)


def transitions(n, g):
    return {
        "state": vectors(n, g, 4),
        "action": torch.randint(2, (n,), generator=g),
        "reward": torch.randn(n, generator=g),
        "after": vectors(n, g, 4),
        "done": torch.rand(n, generator=g) < 0.1,
    }


def temporal_difference(model, batch, discount=0.9):
    value = model(batch["state"]).gather(1, batch["action"][:, None])[:, 0]
    with torch.no_grad():
        best = model.target(batch["after"]).amax(1)
        goal = batch["reward"] + discount * best * ~batch["done"]
    if model.training:
        model.follow(0.2)
    return F.smooth_l1_loss(value, goal)


def masked_autoencoding(model, x, share=0.4):
    hidden = torch.rand_like(x) < share
    decoded = model(x.masked_fill(hidden, 0.0))
    return ((decoded - x).square() * hidden).sum() / hidden.sum().clamp(min=1)


def incomplete(n, g):
    return vectors(n, g), {
        "target": torch.randn(n, 2, generator=g),
        "known": torch.rand(n, 2, generator=g) < 0.7,
    }


def of_the_known(model, batch):
    x, labels = batch
    off = (model(x) - labels["target"]).square() * labels["known"]
    return {"loss": off.sum() / labels["known"].sum().clamp(min=1), "largest": off.amax()}


class Module(nn.Module):
    """As much of a Lightning module as one needs."""

    def __init__(self):
        super().__init__()
        self.net = mlp(6, 8, CLASSES)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        outputs = self(x)
        loss = F.cross_entropy(outputs, y)
        self.log("train_acc", (outputs.argmax(-1) == y).float().mean(), prog_bar=True)
        self.log_dict({"norm": self.net[0].weight.norm()})
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def triplets(n, g):
    return {name: vectors(n, g) for name in ("anchor", "positive", "negative")}


def triplet(model, batch, margin=1.0):
    a, p, q = (model(batch[name]) for name in ("anchor", "positive", "negative"))
    near, far = (a - p).square().sum(-1), (a - q).square().sum(-1)
    return F.softplus(near - far + margin).mean()


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(6, 5, 3), mlp(3, 5, 6)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def energy(self, x):
        return (self.scale * self.encoder(x)).square().sum(-1)


def reconstruction(model, x):
    return F.mse_loss(model(x), x)


def of_the_encoder(model, batch):
    x, y = batch
    return {"loss": F.cross_entropy(model.encoder(x), y), "samples": len(x)}


def with_the_scale(model, x, weight=0.1):
    return F.mse_loss(model.scale * model(x), x) + weight * model.scale.square()


def energies(model, x):
    """Low energies of the data, high ones of noise, by a method of the model's own."""
    far = model.energy(torch.randn_like(x))
    return F.softplus(model.energy(x) - 1).mean() + F.softplus(1 - far).mean()


class Bootstrapped(nn.Module):
    """An online network that predicts a frozen one, of which every member has its own (random distillation)."""

    def __init__(self):
        super().__init__()
        self.online, self.frozen = mlp(6, 8, 3), mlp(6, 8, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.online(x)


def random_distillation(model, x):
    return F.mse_loss(model(x), model.frozen(x))


def branching(model, batch):
    x, y = batch
    loss = F.cross_entropy(model(x), y)
    return loss if loss > 1.0 else 2 * loss


def by_python(model, batch):
    x, y = batch
    return F.cross_entropy(model(x * (0.5 + random.random())), y)
