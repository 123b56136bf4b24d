"""What looks like a mistake and is none: each is passed in silence by the rule that it could mislead."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from doctor.ailments.inplace import MultiRes
from torch import nn

import modelspace as ms
from modelspace.doctor import RULES


def seen(rule, net, shape, **given):
    found = ms.doctor(net, inputs=shape, only=[rule], **given)
    assert found.checked == (rule,), found.skipped
    return found.of(rule)


class Shifted(nn.Module):
    """Outputs in the unit interval by chance are no sigmoid."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)
        nn.init.constant_(self.fc.bias, 0.5)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x):
        return self.fc(x)


class SumsToOne(nn.Linear):
    """Scores of either sign that sum to 1 are no probabilities."""

    def forward(self, x):
        z = super().forward(x)
        return z - z.mean(1, keepdim=True) + 1 / z.shape[1]


class DeadAtOneSeed(nn.Sequential):
    """Units that are dead at the first draw alone are so by chance."""

    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        if torch.initial_seed() == 0:
            nn.init.constant_(self[0].bias, -100.0)


class Attention(nn.Module):
    """Over time it does not mix, over the batch it does."""

    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0].mean(1)


class Depth(nn.Module):
    """Stochastic depth that keeps the mean leaves no gap."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        kept = torch.bernoulli(x.new_full((len(x), 1), 0.8)) / 0.8 if self.training else 1.0
        return self.head(x + kept * self.branch(x).tanh())


class Skip(nn.Module):
    """A hidden layer that is used twice is no linear chain."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.first(x)
        return self.second(x) + x.tanh()


class AdaptedBeside(nn.Module):
    """Adapters beside a frozen network: no frozen head."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(32, 32), nn.Linear(32, 3)
        self.requires_grad_(False)
        self.down, self.up = nn.Linear(32, 2), nn.Linear(2, 32)

    def forward(self, x):
        return self.head(self.base(x) + self.up(self.down(x)))


class Experts(nn.Module):
    """An expert that gets no sample is not unused."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 8)
        self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(8))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        value, chosen = weights.max(-1)
        rows = [self.experts[int(i)](row) * v for i, row, v in zip(chosen, x, value, strict=True)]
        return torch.stack(rows)


class Careful(nn.Module):
    """A cast that is taken back is no leak."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x).double().softmax(1).float()


class Following(nn.Module):
    """Tensors that are made on the input's device follow it."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(3, 4)

    def forward(self, x):
        h = torch.zeros(len(x), 4, device=x.device)
        g = torch.ones(4).to(x)
        for moment in x.unbind(1):
            h = self.cell(moment, h) * g
        return h


class Keeping(nn.Module):
    """What a forward keeps for later is no constant."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.last = None

    def forward(self, x):
        self.last = x.tanh()
        return self.fc(self.last)


class PerFrame(nn.Module):
    """A reshape within the forward may be undone."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        frames = self.fc(x.reshape(-1, 4))
        return frames.view(len(x), -1, 3).mean(1)


class HiddenState(nn.Module):
    """It requires a gradient, and is no parameter."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 8, batch_first=True)

    def forward(self, x):
        start = torch.zeros(1, x.size(0), 8, device=x.device).requires_grad_()
        return self.gru(x, start)[0][:, -1]


def energy():
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


class Points(nn.Module):
    """Collocation points of the forward's own are no parameter where it differentiates by them."""

    def __init__(self, differentiated):
        super().__init__()
        self.net, self.differentiated = energy(), differentiated

    def forward(self, x):
        points = torch.linspace(0, 1, 24, device=x.device).view(4, 6).requires_grad_()
        value = self.net(points)
        if self.differentiated:
            value = torch.autograd.grad(value.sum(), points, create_graph=True)[0]
        return self.net(x) + value.square().mean()


class Reference(Points):
    """A copy of one sample, of a shape that does not follow the batch."""

    def forward(self, x):
        return self.net(x) + self.net(x[:1].detach().requires_grad_()).square().mean()


def zeroed(*layers):
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class Residual(nn.Module):
    """Branches and head that begin at zero, as in a diffusion transformer, scales of 1 and a layer of identity."""

    def __init__(self):
        super().__init__()
        self.stem, self.eye, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.norm, self.gate = nn.LayerNorm(16), nn.Linear(6, 32)
        self.branch = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.scale = nn.Parameter(torch.ones(16))
        zeroed(self.head, self.gate, self.branch[2], self.eye)
        nn.init.eye_(self.eye.weight)

    def forward(self, x):
        shift, gate = self.gate(x).chunk(2, -1)
        x = torch.tanh(self.eye(self.stem(x)))
        x = x + gate * self.branch(self.norm(x) + shift) + self.scale * self.branch(x)
        return self.head(x)


class Adapted(nn.Module):
    """A low-rank update that begins at zero, of a frozen layer."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(6, 16).requires_grad_(False), nn.Linear(16, 3)
        self.down, self.up = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.zeros(16, 4))

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + x @ self.down.T @ self.up.T))


class Pooled(nn.Module):
    """Averages by convolutions of constants: a frozen one, and a trained one of each channel by itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)
        self.frozen, self.trained = (nn.Conv2d(8, 8, 2, 2, groups=8, bias=False) for _ in range(2))
        for layer in (self.frozen, self.trained):
            nn.init.constant_(layer.weight, 0.25)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.head(self.trained(self.frozen(F.relu(self.conv(x)))).mean((2, 3)))


class ConstantAndRandom(nn.Module):
    """Constant incoming weights and random outgoing ones: the units part in the first step."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)
        nn.init.constant_(self.a.weight, 0.1)
        nn.init.zeros_(self.a.bias)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class PaddedAndUnseen(nn.Module):
    """Positions that begin at 0, and embeddings of tokens that no sample has."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(500, 8, padding_idx=0), nn.Linear(8, 3)
        self.positions = nn.Parameter(torch.zeros(9, 8))
        with torch.no_grad():
            self.emb.weight[100:] = 0.0
        self.table = nn.Parameter(self.emb.weight.detach().clone())  # looked up without a layer

    def forward(self, x):
        x = self.emb(x) + self.table[x] + self.positions
        return self.head(torch.tanh(x).mean(1))


def alike():
    """Layers that begin alike are not tied."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def drawn_by(generator):
    """A generator of the model's own that is seeded draws what it did."""
    state = copy.deepcopy(generator)

    def make():
        net = nn.Linear(6, 3)
        net.weight.data = torch.from_numpy(copy.deepcopy(state).normal(size=(3, 6))).float()
        return net

    return make


def seeded_in_the_constructor():
    np.random.seed(3)  # noqa: NPY002
    net = nn.Linear(6, 3)
    net.weight.data = torch.from_numpy(np.random.randn(3, 6)).float()  # noqa: NPY002
    return net


FIVE = [layer for _ in range(5) for layer in (nn.Linear(32, 32), nn.ReLU())]
NORMED = (nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
IMAGES = torch.rand(16, 8)
AUTOENCODER = nn.Sequential(nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 8), nn.Sigmoid())
# Whether a rule fires on a model, with the shape of a sample (or the samples) and what else is given.
TRAPS = [
    (
        False,
        "softmax-before-cross-entropy",
        nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)),
        (4,),
        "cross_entropy",
    ),
    (False, "softmax-before-cross-entropy", lambda: SumsToOne(4, 3), (4,), "cross_entropy"),
    (False, "dead-units", DeadAtOneSeed, (4,)),
    (True, "inplace-backward", MultiRes, (2, 6, 6)),
    (False, "backward-fails", MultiRes, (2, 6, 6)),  # which says less of it
    (False, "sigmoid-twice", Shifted, (4,), "binary_cross_entropy_with_logits"),
    *(
        (False, rule, nn.Sequential(*NORMED), (4,))
        for rule in ("batch-mixing", "train-eval-gap", "nondeterminism")
    ),
    (False, "batch-first", lambda: Attention(True), (6, 4)),
    (True, "batch-first", lambda: Attention(False), (6, 4)),
    (False, "batch-mixing", lambda: Attention(False), (6, 4)),  # batch-first says more
    (False, "train-eval-gap", Depth, (6,)),
    (False, "linear-chain", nn.Sequential(nn.Linear(16, 2), nn.Linear(2, 16)), (16,)),
    (False, "linear-chain", nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)), (4, 6, 6)),
    (False, "linear-chain", nn.Sequential(nn.Linear(16, 16).requires_grad_(False), nn.Linear(16, 16)), (16,)),
    (True, "linear-chain", nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), (16,)),
    (False, "linear-chain", Skip, (4,)),
    (False, "frozen-parameters", AdaptedBeside, (32,)),
    (False, "unused-parameters", Experts, (4,)),
    (False, "detached-parameters", Experts, (4,)),
    (False, "saturating-output", AUTOENCODER, IMAGES, "mse", IMAGES),
    (True, "saturating-output", AUTOENCODER, IMAGES, "mse", IMAGES - 1),
    (False, "double-precision", Careful, (4,)),
    (False, "ties-lost", alike, (5, 8)),
    (False, "unregistered-constant", Following, (5, 3)),
    (False, "unregistered-constant", Keeping, (4,)),
    (False, "signal-by-depth", nn.Sequential(*FIVE, nn.Linear(32, 3)), (32,)),
    (False, "batch-reshape", PerFrame, (5, 4)),
    (False, "unregistered-layers", HiddenState, (5, 4)),
    (False, "unregistered-layers", lambda: Reference(True), (6,)),
    (False, "unregistered-layers", lambda: Points(True), (6,)),
    (True, "unregistered-layers", lambda: Points(False), (6,)),
    *((False, "equal-units", make, (6,)) for make in (Residual, Adapted, ConstantAndRandom)),
    (False, "equal-units", Pooled, (3, 8, 8)),
    (False, "equal-units", PaddedAndUnseen, (9,), None, None, 50),
    (False, "unseeded-draws", drawn_by(np.random.default_rng(0)), (6,)),
    (False, "unseeded-draws", drawn_by(np.random.RandomState(0)), (6,)),
    (False, "unseeded-draws", seeded_in_the_constructor, (6,)),
    (False, "unseeded-draws", lambda: nn.Linear(6, 3), (6,)),
]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap[1])
def test_a_rule_fires_where_it_should_and_is_silent_where_it_could_be_misled(trap):
    fires, rule, make, shape, *given = trap
    given = dict(zip(("loss", "labels", "tokens"), given, strict=False))
    assert bool(seen(rule, make, shape, **given)) == fires


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_floor_that_is_named_is_the_least_loss_of_probabilities(classes):
    net = nn.Sequential(nn.Linear(4, classes), nn.Softmax(1))
    found = seen("softmax-before-cross-entropy", net, (4,), loss="cross_entropy")
    best = F.cross_entropy(torch.eye(classes), torch.arange(classes))
    assert f"below {float(best):.3f}" in found[0].evidence


@pytest.mark.parametrize(
    "loss", [name for name, each in ms.losses.CATALOGUE.items() if each.outputs is not None]
)
def test_a_sound_model_is_sound_under_every_loss(loss):
    """Likelihoods whose least value is not 0, losses that start at theirs, labels of every shape: no false alarm."""
    taken = ms.losses.resolve(loss)
    wide = {"logits": 3, "embedding": 4, "log-probability": 3}.get(str(taken.outputs), 1)
    outputs = 2 if taken.labels_shape((5, 2)) == (5,) and wide == 1 else wide
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs)]
    ends = {"probability": [nn.Sigmoid()], "log-probability": [nn.LogSoftmax(1)], "positive": [nn.Softplus()]}
    flat = [nn.Flatten(0)] if outputs == 1 else []
    net = nn.Sequential(*layers, *ends.get(str(taken.outputs), []), *flat)
    # What another rule says of the network is no matter of the loss.
    of_losses = [rule.name for rule in RULES if "loss" in rule.needs]
    found = ms.doctor(net, inputs=(6,), loss=loss, only=[*of_losses, "backward-fails"])
    assert found.healthy, str(found)


class Differentiated(nn.Module):
    """The derivative of an energy by what ``leaf`` makes of the inputs."""

    def __init__(self, leaf):
        super().__init__()
        self.net, self.leaf = energy(), leaf

    def forward(self, x):
        with torch.enable_grad():
            x = self.leaf(x)
            value = self.net(x)
            slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        return torch.cat([value, -slope], 1)


LEAVES = {
    "detached": lambda x: x.detach().requires_grad_(True),
    "cloned": lambda x: x.clone().requires_grad_(True),
    "detached and scaled": lambda x: ((x - 0.5) * 2).detach().requires_grad_(),
    "data": lambda x: x.data.requires_grad_(),
    "variable": lambda x: torch.autograd.Variable(x, requires_grad=True),
    "parameter": lambda x: nn.Parameter(x.clone()),
    "by way of a list": lambda x: torch.tensor(x.tolist(), requires_grad=True),
    "latent": lambda x: torch.zeros_like(x).requires_grad_(),
    "latent of any batch": lambda x: torch.ones(len(x), 6, requires_grad=True),
    "points of its own": lambda x: torch.linspace(0, 1, 6).expand(len(x), 6).clone().requires_grad_(),
    "the input itself": lambda x: x.requires_grad_(),
}


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_a_forward_differentiates_by_is_no_parameter(leaf):
    def make():
        return Differentiated(LEAVES[leaf])

    for rule in ("unregistered-layers", "detached-parameters", "unused-parameters"):
        assert not seen(rule, make, (6,), loss="mse")


@pytest.mark.parametrize("derivative", ["grad", "jacrev", "jvp"])
def test_a_constant_that_a_derivative_loses_is_worth_an_info(derivative):
    class Slope(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1, bias=bias))

        def forward(self, x):
            if derivative == "jvp":
                return torch.func.jvp(self.net, (x,), (torch.ones_like(x),))[1]
            if derivative == "jacrev":
                return torch.func.vmap(torch.func.jacrev(self.net))(x)[:, 0]
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]

    found = seen("unused-parameters", lambda: Slope(True), (6,))
    assert [f.severity for f in found] == ["info"]
    assert "net.2.bias: 1 numbers that move no output" in found[0].evidence
    assert not seen("detached-parameters", lambda: Slope(True), (6,))
    assert not seen("unused-parameters", lambda: Slope(False), (6,))


def test_a_gradient_without_its_graph_cuts_the_parameters_off():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = energy()

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(self.net(x).sum(), x)[0]

    (found,) = seen("detached-parameters", Force, (6,))
    assert "create_graph=True" in found.evidence


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
def test_parameters_behind_a_checkpoint_are_reached(reentrant, dummy):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
            self.block = nn.Sequential(nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.1))
            self.dummy = torch.ones(
                1, requires_grad=True
            )  # makes a checkpoint of the first layer differentiable

        def forward(self, x):
            def saved(function, *given):
                return torch.utils.checkpoint.checkpoint(function, *given, use_reentrant=reentrant)

            x = saved(lambda x, _: self.stem(x), x, self.dummy) if dummy else self.stem(x)
            return self.head(saved(self.block, x))

    found = ms.doctor(
        Checkpointed, inputs=(6,), loss="cross_entropy", ignore=["cannot-overfit", "unregistered-constant"]
    )
    assert found.healthy, str(found)


NORMS = {
    "spectral hook": nn.utils.spectral_norm,
    "spectral": nn.utils.parametrizations.spectral_norm,
    "weight": nn.utils.parametrizations.weight_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_weights_raises_no_alarm(norm):
    def critic():
        made = NORMS[norm]
        if norm == "orthogonal":  # of convolutions it is one for each pair of channels, and the signal grows
            hidden = [layer for _ in range(5) for layer in (made(nn.Linear(16, 16)), nn.LeakyReLU(0.2))]
            return nn.Sequential(
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                made(nn.Linear(12, 16)),
                nn.ReLU(),
                *hidden,
                nn.Linear(16, 1),
            )
        layers = [made(nn.Conv2d(3, 8, 3)), nn.LeakyReLU(0.2)]
        layers += [
            layer for _ in range(5) for layer in (made(nn.Conv2d(8, 8, 3, padding=1)), nn.LeakyReLU(0.2))
        ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), made(nn.Linear(8, 1)))

    found = ms.doctor(
        critic, inputs=(3, 8, 8), loss="binary_cross_entropy_with_logits", ignore=["cannot-overfit"]
    )
    assert found.healthy, str(found)


def test_the_first_training_loss_is_judged_where_training_writes_state():
    class Scaled(nn.Module):
        """Divides by a scale that the first training forward measures, from a start of ``scale``."""

        def __init__(self, factor):
            super().__init__()
            self.fc, self.factor = nn.Linear(6, 3), factor
            self.register_buffer("scale", torch.tensor(1e-3))

        def forward(self, x):
            z = self.fc(x)
            if self.training:
                self.scale = z.detach().std()
            return self.factor * z / self.scale

    assert not seen("initial-loss", lambda: Scaled(1.0), (6,), loss="cross_entropy")
    (found,) = seen("initial-loss", lambda: Scaled(50.0), (6,), loss="cross_entropy")
    torch.manual_seed(0)
    module = Scaled(50.0).train()
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    first = float(F.cross_entropy(module(inputs), torch.arange(64) % 3))
    assert f"the loss is {first:.3g} before" in found.evidence


def shaped(shape):
    """A model whose outputs for inputs [N, L, 4] are numbers of the given shape: "L" stands for the length."""

    class Shaped(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x):
            z = torch.tanh(self.fc(x))
            sizes = [len(x) if s == "N" else x.size(1) if s == "L" else s for s in shape]
            z = z.reshape(len(x), -1).mean(1)
            z = z.reshape([-1 if s == "N" else 1 for s in shape]) if shape else z.mean()
            return z.expand(sizes).clone()

    return Shaped


@pytest.mark.parametrize(
    ("shape", "classes", "rule"),
    [
        (("N",), None, "single-output"),
        (("N", 1), None, "single-output"),
        (("N", 1, 1), None, "single-output"),
        (("N", 1, "L"), None, "single-output"),
        (("N", 1, "L"), 7, "single-output"),  # a length that is the number of classes by chance
        (("N", "L", 1), None, "single-output"),
        (("N", "L", 1), 7, None),  # a score for each of seven candidates
        (("N", 1, 5), None, "class-dimension"),
        (("N", 1, 5), 5, "class-dimension"),
        (("N", 1, 1, 5), 5, "class-dimension"),
        (("N", "L", 5), None, "class-dimension"),
        (("N", "L", "L", 5), None, "class-dimension"),
        (("N", 5, "L"), None, None),
        (("N", 5, 1), None, None),
        (("N", 5, 1), 5, None),
        (("N", 5, 1, 1), 5, None),
        (("N", 5), 5, None),
        ((1, "N", 5), 5, "batch-reshape"),
        (("L", "N", 5), 5, "batch-reshape"),
        ((), None, "batch-reshape"),
    ],
)
def test_each_shape_of_outputs_gets_its_rule(shape, classes, rule):
    rules = ("single-output", "class-dimension", "output-count", "batch-reshape")
    found = ms.doctor(shaped(shape), inputs=(7, 4), loss="cross_entropy", classes=classes, only=rules)
    assert [f.rule for f in found.findings] == ([] if rule is None else [rule]), str(found)


def test_equal_units_are_counted():
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3))
    with torch.no_grad():  # units 0, 1, 2 are one, 3 and 4 another, the rest their own
        for copy, original in ((1, 0), (2, 0), (4, 3)):
            net[0].weight[copy], net[0].bias[copy] = net[0].weight[original], net[0].bias[original]
            net[3].weight[:, copy] = net[3].weight[:, original]
    (found,) = seen("equal-units", net, (6,))
    assert "5 of 16 rows of 0.weight, which count as 2" in found.evidence
    assert found.where == "0 (Linear)"


def test_what_is_drawn_by_numpy_is_named_and_the_generators_are_as_they_were():
    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            self.order = np.random.permutation(6)  # noqa: NPY002
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(x[:, self.order])

    before = str(np.random.get_state()), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    (found,) = seen("unseeded-draws", Drawn, (6,))
    assert "NumPy's global generator drew numbers" in found.evidence
    assert "outputs that differ" in found.evidence
    assert (str(np.random.get_state()), random.getstate()) == before[:2]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
