"""Every way in which a network may not be a function of parameters, buffers, batch and draws: right, or named."""

import copy
import random
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.networks import (
    CLASSES,
    Clipped,
    Closures,
    HookedActivation,
    HookedLayer,
    HookedParameter,
    Target,
)
from support.plans import fit
from torch import nn

import modelspace as ms
from modelspace.engine import Gradient, real_modules, witness
from modelspace.errors import ModelspaceError

SAMPLES, STEPS, RATE = 24, 6, 0.05
generator = torch.Generator().manual_seed(0)
X = torch.randn(SAMPLES, 6, generator=generator, dtype=torch.float64)
Y = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
DATA = ms.data.load((X, Y), splits=(1, 0, 0))


def plain(make, seed):
    """Full batches, so that the order of the samples is irrelevant."""
    torch.manual_seed(seed)
    module = make().double().train()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(module(X), Y).backward()
        optimizer.step()
    return module


def fitted(make, **settings):
    space = ms.ModelSpace(make, input_shape=(6,), dtype=torch.float64)
    settings = {
        "epochs": STEPS,
        "batch_size": SAMPLES,
        "compile": False,
        "workers": 1,
        "metrics": [],
        **settings,
    }
    return fit(space.sample([0, 1], lr=RATE), DATA, optimizer="sgd", **settings)


def away(make, **settings):
    run = fitted(make, **settings)
    found = []
    for seed, module in zip([0, 1], run.population.modules(), strict=True):
        expected, received = plain(make, seed).state_dict(), module.state_dict()
        assert received.keys() == expected.keys()
        found += [float((received[n].double() - value.double()).abs().max()) for n, value in expected.items()]
    return max(found)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))


# Right, whatever the lowering


class PatchedForward(Net):
    """``forward`` of a layer is replaced on the instance."""

    def __init__(self):
        super().__init__()
        first = self.first
        self.first.forward = lambda x: 2 * F.linear(x, first.weight)


class Parent(Net):
    """A child finds its parent by a weak reference."""

    def __init__(self):
        super().__init__()
        self.parent = weakref.ref(self)

    def forward(self, x):
        return self.parent().head(torch.tanh(self.parent().first(x)))


class ParameterInAClosure(Net):
    """The forward reaches a parameter otherwise than by its name."""

    def __init__(self):
        super().__init__()
        weight = self.first.weight
        self.product = lambda x: x @ weight.T

    def forward(self, x):
        return self.head(torch.tanh(self.product(x)))


class ReplacedData(Net):
    """A max-norm by assigning ``.data``, as braindecode does."""

    def forward(self, x):
        self.head.weight.data = torch.renorm(self.head.weight.data, 2, 0, 0.3)
        return super().forward(x)


class DataDependent(Net):
    """The first batch decides about the scale, which a buffer remembers (ActNorm)."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, x):
        if not self.begun:
            with torch.no_grad():
                self.scale.copy_(1 / x.std(0))
                self.begun.fill_(True)
        return super().forward(x * self.scale)


class AfterAccumulation(Net):
    """A hook on the gradient once it is accumulated."""

    def __init__(self):
        super().__init__()
        self.head.weight.register_post_accumulate_grad_hook(self.halved)

    def halved(self, parameter):
        parameter.grad.mul_(0.5)


class ZeroTarget(Net):
    """A frozen parameter that all seeds have alike, and that the forward moves."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(6), requires_grad=False)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean(0) + self.first.weight.mean(0), 0.1)
        return super().forward(x - self.mean)


class PreHooked(Net):
    """A pre-hook with a method of the network."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.head.register_forward_pre_hook(self.shifted)

    def shifted(self, layer, given):
        self.seen.add_(1)
        return (given[0] + self.first.bias,)


class Scripted(nn.Module):
    """A part is TorchScript."""

    def __init__(self):
        super().__init__()
        self.body, self.head = (
            torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.Tanh())),
            nn.Linear(8, CLASSES),
        )

    def forward(self, x):
        return self.head(self.body(x))


WHOLE = [
    Closures,
    HookedActivation,
    HookedParameter,
    HookedLayer,
    Clipped,
    Target,
    PatchedForward,
    Parent,
    ParameterInAClosure,
    ReplacedData,
    DataDependent,
    AfterAccumulation,
    ZeroTarget,
    PreHooked,
    Scripted,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lowering", [None, "loop"])
@pytest.mark.parametrize("make", WHOLE, ids=lambda make: make.__name__)
def test_a_member_is_the_plain_loop_s(make, lowering):
    assert away(make, lowering=lowering) < 1e-12


@pytest.mark.filterwarnings("ignore:.*members are computed one after the other")
def test_under_vmap_it_is_refused_by_name_where_it_is_another():
    for make, why in [
        (HookedActivation, r"a hook on an activation \(line \d+ of .*networks\.py.*\) is not run under vmap"),
        (HookedParameter, r"the hook on parameter first\.weight is not run"),
        (HookedLayer, r"the backward hook of layer head is not run"),
        (ParameterInAClosure, r"under vmap first\.weight takes no part in the loss, unlike in the module's"),
    ]:
        with pytest.raises(ModelspaceError, match=rf"can't be batched \(vmap\): {why}"):
            fitted(make, lowering="vmap")


def test_members_never_write_into_each_other_or_the_space():
    space = ms.ModelSpace(Target, input_shape=(6,), dtype=torch.float64)
    before = copy.deepcopy(space.template.state_dict())

    def row(seeds, k):
        run = fit(
            space.sample(seeds, lr=0.1), DATA, optimizer="sgd", epochs=3, batch_size=SAMPLES, metrics=[]
        )
        return run.population.state_dict(k)

    alone, beside = row([1], 0), row([0, 1], 1)
    assert all(torch.equal(alone[name], value) for name, value in beside.items())
    assert all(torch.equal(before[name], value) for name, value in space.template.state_dict().items())


# Refused, and named


class Counter(Net):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) / self.calls


class HookThatCounts(Net):
    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(8)
        self.first.register_forward_hook(self.centred)

    def centred(self, layer, given, out):
        self.seen = 0.9 * self.seen + 0.1 * out.detach().mean(0)
        return out - self.seen


class OwnGenerator(Net):
    def __init__(self):
        super().__init__()
        self.draws = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x + torch.from_numpy(self.draws.normal(size=6)))


class UnregisteredMatrix(Net):
    def __init__(self):
        super().__init__()
        self.mix = torch.randn(6, 6, dtype=torch.float64)

    def forward(self, x):
        return super().forward(x @ self.mix)


class LazyBuffer(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)

    def forward(self, x):
        if self.training:
            self.mean = (
                x.mean(0).detach() if self.mean is None else 0.9 * self.mean + 0.1 * x.mean(0).detach()
            )
        return super().forward(x if self.mean is None else x - self.mean)


class GrowingBuffer(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, 6))

    def forward(self, x):
        self.bank = torch.cat([self.bank, x.detach().mean(0, keepdim=True)])
        return super().forward(x - self.bank.mean(0))


REFUSED = [
    (Counter, "its forward depends on what it keeps in calls, neither parameter nor buffer"),
    (HookThatCounts, "its forward depends on what it keeps in seen, neither parameter nor buffer"),
    (OwnGenerator, "its forward depends on what it keeps in draws, neither parameter nor buffer"),
    (UnregisteredMatrix, "mix differs from seed to seed and is neither parameter nor buffer"),
    (LazyBuffer, r"buffer mean is None before the first forward .* register it with its shape, \(6,\)"),
    (GrowingBuffer, r"changes the shape of buffer bank from \(0, 6\) to \(1, 6\)"),
]


@pytest.mark.parametrize(("make", "why"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_function_of_its_numbers_is_refused(make, why):
    with pytest.raises(ModelspaceError, match=f"{make.__name__} can't be a population: .*{why}"):
        fitted(make)


def test_a_counter_on_which_nothing_depends_yet_is_said(capsys):
    class Late(Net):
        def __init__(self):
            super().__init__()
            self.calls, self.last = 0, None

        def forward(self, x):
            self.calls += 1
            self.last = self.first(x).detach()
            return super().forward(x) * (2 if self.calls > 10**6 else 1)

    fitted(Late)
    said = capsys.readouterr().err
    assert "Late: its forward changes calls, no parameter and no buffer" in said
    assert "last" not in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, when it first loads its compiler
@pytest.mark.parametrize("wrapped", [torch.compile, nn.DataParallel], ids=["compile", "DataParallel"])
def test_a_wrapped_module_is_refused_by_name(wrapped):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = wrapped(nn.Linear(6, CLASSES))

        def forward(self, x):
            return self.body(x)

    with pytest.raises(ModelspaceError, match=r"layer body is wrapped by .* give the module inside"):
        ms.ModelSpace(Part, input_shape=(6,))
    with pytest.raises(ModelspaceError, match="is wrapped by"):
        ms.ModelSpace(lambda: wrapped(Net()), input_shape=(6,))


def test_outputs_in_evaluation_are_held_against_the_module_too():
    class Shifting(Net):
        def __init__(self):
            super().__init__()
            self.shift = torch.randn(6)

        def forward(self, x):
            return super().forward(x if self.training else x + self.shift)

    space = ms.ModelSpace(Shifting, input_shape=(6,))
    with pytest.raises(
        ModelspaceError, match="Shifting can't be a population: in evaluation its outputs depend"
    ):
        ms.evaluate(space.sample([0, 1]), (X.float(), Y), split="train")


# A module given


def test_a_module_given_is_used_itself_and_restored():
    net = Net()
    net.head.bias.grad = torch.ones(CLASSES)
    before, version = copy.deepcopy(net.state_dict()), net.head.bias.grad.clone()
    space = ms.ModelSpace(net, input_shape=(6,))
    fit(space.sample([0, 1], lr=RATE), (X.float(), Y), epochs=1, metrics=[])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(net.head.bias.grad, version)
    assert net.training


def test_a_module_whose_copy_is_another_function_is_refused():
    space = ms.ModelSpace(Closures(), input_shape=(6,))
    with pytest.raises(ModelspaceError, match=r"a copy of it computes something else .*; give its class"):
        fit(space.sample([0, 1], lr=RATE), (X.float(), Y), epochs=1)


def test_hooks_on_the_parameters_of_a_module_given_are_kept():
    net = Net()
    net.first.weight.register_hook(lambda gradient: gradient * 0)
    space = ms.ModelSpace(net, input_shape=(6,))
    start = space.sample([0, 1], lr=RATE)
    with pytest.warns(UserWarning, match="the hook on parameter first.weight is not run under vmap"):
        run = fit(start, (X.float(), Y), epochs=2)
    moved = (run.population.points - start.points).abs()
    assert moved[:, :48].max() == 0
    assert moved[:, 48:].max() > 0


# Generators outside PyTorch


def test_seeds_reach_python_s_and_numpy_s_generators():
    class Drawn(Net):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(random.random()))
            self.shift = nn.Parameter(torch.from_numpy(np.random.rand(3)).float())  # noqa: NPY002

    space = ms.ModelSpace(Drawn)
    states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    points = space.sample([0, 1, 2**63 - 1]).points
    assert torch.equal(space.sample([2**63 - 1, 0]).points, points[[2, 0]])
    assert len({float(row[0]) for row in points}) == 3
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in Drawn().parameters()]), points[1])
    assert states[0] != random.getstate()
    random.setstate(states[0])


def test_a_draw_that_no_seed_reaches_is_refused():
    class Entropy(Net):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.from_numpy(np.random.default_rng().normal(size=3)).float())

    with pytest.raises(
        ModelspaceError, match="made twice with one seed has two different shift: it is drawn by"
    ):
        ms.ModelSpace(Entropy).sample([0, 1]).points


@pytest.mark.filterwarnings("ignore:.*the forward draws from random")
def test_coins_of_python_are_each_member_s_own_in_any_packing():
    class Coin(Net):
        def forward(self, x):
            return super().forward(x) if self.training and random.random() < 0.5 else self.head(self.first(x))

    def points(seeds):
        space = ms.ModelSpace(Coin, input_shape=(6,))
        run = fit(space.sample(seeds, lr=0.1), (X.float(), Y), epochs=4, batch_size=4, metrics=[], workers=1)
        return run.population.points

    state = random.getstate()
    assert torch.equal(points([0, 1, 2])[1:], points([1, 2]))
    assert random.getstate() == state
    space = ms.ModelSpace(Coin, input_shape=(6,))
    with pytest.raises(ModelspaceError, match="can't be compiled: the forward draws from random"):
        fit(space.sample(2, lr=0.1), (X.float(), Y), epochs=1, compile=True)


# The witness itself


def test_a_network_that_amplifies_rounding_is_no_fault(monkeypatch):
    class Amplifying(nn.Module):
        def __init__(self):
            super().__init__()
            # So wide that the batched product adds in another order.
            self.first, self.head = nn.Linear(600, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(torch.sin(3000 * self.first(x.repeat(1, 100))))

    asked = []
    looked = witness._rounding
    monkeypatch.setattr(witness, "_rounding", lambda trial: asked.append(looked(trial)) or asked[-1])
    space = ms.ModelSpace(Amplifying, input_shape=(6,))
    run = fit(space.sample([0, 1], lr=1e-4), (X.float(), Y), epochs=1, lowering="vmap", workers=1, metrics=[])
    assert asked == [True]  # in float32 the two sides are apart
    assert run.plan.lowering == "vmap"


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
def test_what_scoring_writes_into_parameters_is_not_kept(lowering):
    class Shrinking(Net):
        def forward(self, x):
            with torch.no_grad():
                self.first.weight.mul_(0.9)
            return super().forward(x)

    def points(validation):
        data = ms.data.of_splits((X.float(), Y), validation, validation)
        population = ms.ModelSpace(Shrinking, input_shape=(6,)).sample(2, lr=0.1)
        run = fit(population, data, epochs=3, lowering=lowering, workers=1, metrics=[])
        assert run.plan.lowering == lowering
        return run.population.points

    assert torch.equal(points((X.float(), Y)), points((X[:0].float(), Y[:0])))


def test_another_point_left_behind_is_a_difference():
    population = ms.ModelSpace(Net, input_shape=(6,)).sample(1)
    loss = ms.losses.resolve("cross_entropy")
    trial = real_modules.Trial(population, loss, [(X.float(), Y)], [0], {})
    ((step,),) = real_modules.observed(trial)
    gradient = torch.cat([value.reshape(-1) for value in step.gradient.values()])
    made = Gradient(step.value, gradient, None, {}, {})
    assert witness._difference(population.space, step, made, population.points[0]) is None
    moved = population.points[0].clone()
    moved[-1] += 1
    assert "another head.bias is left behind" in witness._difference(population.space, step, made, moved)


def test_networks_that_are_built_with_one_tensor_do_not_write_into_each_other():
    shared = torch.zeros(CLASSES)

    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", shared)

        def forward(self, x):
            self.seen += 1
            return super().forward(x) + self.seen

    space = ms.ModelSpace(Counting, input_shape=(6,))
    run = fit(space.sample(2, lr=0.1), (X.float(), Y), epochs=2, batch_size=4, metrics=[], workers=1)
    assert (run.population.buffers["seen"] == run.steps[0]).all()
    assert (space.sample(2).buffers["seen"] == 0).all()


def test_real_modules_are_built_by_the_user_s_own_callable_with_their_seeds(monkeypatch):
    built = []

    def make():
        built.append(torch.initial_seed())
        return Net()

    population = ms.ModelSpace(make, input_shape=(6,)).sample([3, 5], lr=RATE)
    points = population.points.clone()
    built.clear()
    # The judge takes nothing of the accused.
    for way in ("draw", "fresh"):
        monkeypatch.setattr(ms.ModelSpace, way, None)
    with real_modules.real_module(population, 1) as module:
        assert built[0] == 5
        assert torch.equal(torch.cat([p.detach().reshape(-1) for p in module.parameters()]), points[1])


class Overwriting(nn.Module):
    """Writes into what its backward needs."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, x):
        z = torch.sigmoid(self.a(x))
        z.mul_(0.5)
        return z.sigmoid_()


class Odd(torch.autograd.Function):
    """Has a backward that fails."""

    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        return gradient @ torch.zeros(7, 7)


class OnlyInTraining(nn.Linear):
    """Fails in training mode alone."""

    def forward(self, x):
        return super().forward(x) if not self.training else {}["missing"]


class ByOdd(nn.Linear):
    """Goes through a function whose backward fails."""

    def forward(self, x):
        return Odd.apply(super().forward(x))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Overwriting, r"its backward fails: .*inplace operation.*test_witness\.py: z"),
        (lambda: OnlyInTraining(4, 3), r"KeyError: 'missing'.*test_witness\.py: return super"),
        (lambda: ByOdd(4, 3), r"its backward fails: RuntimeError: .*test_witness\.py: return gradient @"),
    ],
)
def test_what_fails_only_in_training_is_one_line_that_names_the_user_s(make, says):
    data = torch.zeros(20, 4), torch.arange(20) % 3
    with pytest.raises(ModelspaceError, match=says) as caught:
        fit(ms.ModelSpace(make).sample(2), data, epochs=1)
    assert "\n" not in str(caught.value)
