"""The lowerings of recurrent networks against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered, tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

import modelspace as ms
from modelspace.engine import Batch, Function, loop_gradient, vmap_gradient
from modelspace.engine.lowerings import lowered
from modelspace.engine.program import compiled
from modelspace.engine.randomness import Draws

TIME, BATCH, FEATURES, HIDDEN = 4, 2, 3, 5
KINDS = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN tanh": nn.RNN,
    "RNN relu": lambda *args, **kwargs: nn.RNN(*args, nonlinearity="relu", **kwargs),
}
CELLS = {
    "LSTM": nn.LSTMCell,
    "GRU": nn.GRUCell,
    "RNN tanh": nn.RNNCell,
    "RNN relu": lambda *args, **kwargs: nn.RNNCell(*args, nonlinearity="relu", **kwargs),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def members(make):
    """One module, and every member's parameters, stacked."""
    modules = [make().double() for _ in range(MEMBERS)]
    names = dict(modules[0].named_parameters())
    stacked = {n: torch.stack([m.get_parameter(n).detach() for m in modules]).requires_grad_() for n in names}
    return modules[0], stacked


def assert_same(function, parameters, *arguments):
    """``function`` under ``vmap`` is ``function`` of each member: values and all gradients.

    An argument is (tensors, whether they have a member axis).
    """
    names, (leaves, structure) = list(parameters), pytree.tree_flatten([value for value, _ in arguments])
    own = [True] * len(names) + [axis for value, axis in arguments for _ in pytree.tree_leaves(value)]
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def of_tensors(*given):
        filled = list(leaves)
        for place, tensor in zip(places, given[len(names) :], strict=True):
            filled[place] = tensor
        return function(dict(zip(names, given, strict=False)), *pytree.tree_unflatten(filled, structure))

    given = [*parameters.values(), *(leaves[i] for i in places)]
    own = own[: len(names)] + [own[len(names) + i] for i in places]
    assert assert_lowered(of_tensors, given, own, 1e-12) == ()


@st.composite
def problems(draw):
    kind = draw(st.sampled_from(list(KINDS)))
    return {
        "kind": kind,
        "options": {
            "num_layers": draw(st.integers(1, 3)),
            "bidirectional": draw(st.booleans()),
            "bias": draw(st.booleans()),
            "batch_first": draw(st.booleans()),
            **({"proj_size": draw(st.integers(0, 2))} if kind == "LSTM" else {}),
        },
        "unbatched": draw(st.booleans()),
        "own": draw(st.booleans()),
        "state": draw(st.sampled_from([None, "shared", "own"])),
    }


def arguments_of(problem):
    """The input and the first state of a problem, each with whether it has a member axis."""
    options = problem["options"]
    sizes = (TIME,) if problem["unbatched"] else (BATCH, TIME) if options["batch_first"] else (TIME, BATCH)
    inputs = normal(*(MEMBERS,) * problem["own"], *sizes, FEATURES)
    if problem["state"] is None:
        return (inputs, problem["own"]), (None, False)
    own = problem["state"] == "own"
    batch = () if problem["unbatched"] else (BATCH,)
    lead = (*(MEMBERS,) * own, options["num_layers"] * (1 + options["bidirectional"]), *batch)
    h = normal(*lead, options.get("proj_size") or HIDDEN)
    return (inputs, problem["own"]), ((h, normal(*lead, HIDDEN)) if problem["kind"] == "LSTM" else h, own)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_values_and_gradients_are_torch_s(problem):
    module, parameters = members(lambda: KINDS[problem["kind"]](FEATURES, HIDDEN, **problem["options"]))
    assert_same(lambda p, x, hx: functional_call(module, p, (x, hx)), parameters, *arguments_of(problem))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("own", [True, False], ids=["own input", "shared input"])
@every_kind
def test_cells_are_torch_s(kind, own, bias):
    module, parameters = members(lambda: CELLS[kind](FEATURES, HIDDEN, bias=bias))

    def function(p, x):
        state = functional_call(module, p, (x,))
        return functional_call(module, p, (torch.sin(x), state))

    assert_same(function, parameters, (normal(*(MEMBERS,) * own, BATCH, FEATURES), own))


@every_kind
def test_weights_that_all_members_share(kind):
    module, _ = members(lambda: KINDS[kind](FEATURES, HIDDEN, num_layers=2, bidirectional=True))
    module.requires_grad_(False)
    scale = normal(MEMBERS)
    assert_same(lambda p, x: module(x * p["scale"]), {"scale": scale}, (normal(TIME, BATCH, FEATURES), False))


def test_some_weights_shared():
    module, parameters = members(lambda: nn.GRU(FEATURES, HIDDEN))
    shared = parameters.pop("weight_hh_l0")[0].detach()
    x = normal(MEMBERS, TIME, BATCH, FEATURES)
    assert_same(
        lambda p, x: functional_call(module, {**p, "weight_hh_l0": shared}, (x,)), parameters, (x, True)
    )


def test_nothing_of_the_members():
    module = nn.LSTM(FEATURES, HIDDEN).requires_grad_(False)
    x = torch.randn(TIME, BATCH, FEATURES)

    def one(scale):
        with lowered(None, batched=True):
            return module(x)[0] * scale

    assert torch.equal(torch.vmap(one)(torch.ones(2))[1], module(x)[0])


@pytest.mark.parametrize(("training", "p"), [(True, 0.0), (False, 0.5)], ids=["no dropout", "evaluation"])
@every_kind
def test_the_loop_calls_torch_itself(kind, training, p):
    module = KINDS[kind](FEATURES, HIDDEN, num_layers=2, dropout=p, bidirectional=True).train(training)
    x = torch.randn(TIME, BATCH, FEATURES)
    with lowered(Draws(torch.tensor(1), torch.tensor(0)), batched=False):
        ours = tensors(module(x))
    assert all(map(torch.equal, ours, tensors(module(x))))


class Classifier(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.recurrent = kind(FEATURES, HIDDEN, **options)
        self.head = nn.Linear(HIDDEN * (1 + self.recurrent.bidirectional), 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0].mean(1))


def gradients(make, shape=(TIME, FEATURES), own=False):
    """What a batched step and the loop yield, in float64."""
    space = ms.ModelSpace(make, input_shape=shape, dtype=torch.float64)
    population = space.sample(seeds=MEMBERS, lr=[0.05])
    lead = (*(MEMBERS,) * own, 6)
    batch = Batch(torch.randn(*lead, *shape, dtype=torch.float64), torch.randint(3, lead), own)
    seeds = torch.tensor(population.table["seed"].to_numpy())
    results = []
    for compute in (vmap_gradient, loop_gradient):
        function = Function(space)
        results.append(
            compute(
                function,
                F.cross_entropy,
                population.points,
                population.buffers,
                batch,
                seeds,
                torch.tensor(2),
            )
        )
        assert function.one_by_one == ()
    return results


@pytest.mark.parametrize("own", [False, True], ids=["shared batch", "own batches"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@every_kind
def test_a_step_with_dropout_is_the_loop_s(kind, batch_first, own):
    options = {"num_layers": 3, "dropout": 0.3, "bidirectional": True, "batch_first": batch_first}
    batched, looped = gradients(lambda: Classifier(KINDS[kind], **options), own=own)
    assert torch.allclose(batched.losses, looped.losses, rtol=1e-12)
    assert torch.allclose(batched.gradient, looped.gradient, rtol=1e-10, atol=1e-13)


def outputs_with(module, x, seed, step=0):
    with lowered(Draws(torch.tensor(seed), torch.tensor(step)), batched=False):
        return module(x)[0]


def test_dropout_is_a_function_of_seed_and_step():
    module, x = nn.LSTM(FEATURES, 50, num_layers=2, dropout=0.4), torch.randn(TIME, BATCH, FEATURES)
    first = outputs_with(module, x, 3)
    assert torch.equal(outputs_with(module, x, 3), first)
    assert not torch.equal(outputs_with(module, x, 4), first)
    assert not torch.equal(outputs_with(module, x, 3, step=1), first)


def test_dropout_falls_between_the_layers():
    """The second layer of this network passes its input on: at the rate p, zeros, and the rest divided by 1 − p."""
    p, wide = 0.3, 400
    module = nn.RNN(1, wide, num_layers=2, nonlinearity="relu", bias=False, dropout=p)
    with torch.no_grad():
        module.weight_ih_l0.fill_(1)
        module.weight_ih_l1.copy_(torch.eye(wide))
        module.weight_hh_l0.zero_()
        module.weight_hh_l1.zero_()
    output = outputs_with(module, torch.ones(TIME, BATCH, 1), 3)
    kept = output != 0
    assert torch.allclose(output[kept], torch.tensor(1 / (1 - p)))
    error = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 4 * error


def test_everything_is_dropped_at_rate_one():
    module, x = nn.GRU(FEATURES, HIDDEN, num_layers=2, dropout=1.0), torch.randn(TIME, BATCH, FEATURES)
    top = nn.GRU(HIDDEN, HIDDEN)
    top.load_state_dict({n[:-1] + "0": p for n, p in module.state_dict().items() if n.endswith("1")})
    assert torch.allclose(outputs_with(module, x, 3), top(torch.zeros(TIME, BATCH, HIDDEN))[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_compiled_step_is_the_eager_one(kind):
    make = lambda: Classifier(KINDS[kind], num_layers=2, bidirectional=True, dropout=0.3, batch_first=True)  # noqa: E731
    space = ms.ModelSpace(make, input_shape=(TIME, FEATURES))
    population = space.sample(seeds=MEMBERS)
    seeds = torch.tensor(population.table["seed"].to_numpy())
    function = Function(space)

    def step(points, inputs, labels, number):
        batch = Batch(inputs, labels, own=False)
        found = vmap_gradient(function, F.cross_entropy, points, {}, batch, seeds, number)
        points.copy_(points - 0.1 * found.gradient)
        return found.losses

    fixed = (torch.randn(BATCH, TIME, FEATURES), torch.randint(3, (BATCH,)), torch.tensor(5))
    program = compiled(step, population.points, *fixed)
    ours, theirs = population.points.clone(), population.points.clone()
    for _ in range(3):
        assert torch.allclose(program(ours, *fixed), step(theirs, *fixed), atol=1e-6)
    assert torch.allclose(ours, theirs, atol=1e-6)
