from types import BuiltinFunctionType, MethodDescriptorType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from support.drawing import SEEDS, assert_same_in_any_packing, drawn, drawn_together
from torch import distributions as D

from modelspace.engine.lowerings import DRAWN, MEMBER_BY_MEMBER, lowered
from modelspace.engine.lowerings.choices import only_by_generator
from modelspace.engine.program import CompileError, compiled
from modelspace.engine.randomness import Draws

N = 200_000
WEIGHTS = torch.tensor([1.0, 0.0, 2.0, 4.0, 0.0, 0.5])


def assert_distributed(values, probabilities):
    """Pearson's χ² at the level 10⁻⁴: whole numbers 0, 1, … have these probabilities."""
    probabilities = np.asarray(probabilities, dtype=float)
    counts = np.bincount(values.reshape(-1).long().numpy(), minlength=len(probabilities))
    assert len(counts) == len(probabilities), "a number out of range"
    assert counts[probabilities == 0].sum() == 0
    positive = probabilities > 0
    expected = probabilities[positive] / probabilities.sum() * counts.sum()
    assert stats.chisquare(counts[positive], expected).pvalue > 1e-4


def events(make, p):
    """Whether something of probability p happened, N times, has that rate and no memory."""
    values = drawn(make).double()
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert abs(float(values.mean()) - p) < 4 * (p * (1 - p) / N) ** 0.5
    first, second = values[:-1].numpy(), values[1:].numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / N**0.5


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda: torch.randint(10, (N,)), 0, 10),
        (lambda: torch.randint(high=10, size=(N,)), 0, 10),
        (lambda: torch.randint(-3, 4, (N,)), -3, 4),
        (lambda: torch.randint(low=-3, high=4, size=(N,), dtype=torch.int32), -3, 4),
        (lambda: torch.randint(2, high=5, size=[N]), 2, 5),
        (lambda: torch.randint_like(torch.zeros(N), 10), 0, 10),
        (lambda: torch.randint_like(torch.zeros(N), -3, 4), -3, 4),
        (lambda: torch.randint_like(torch.zeros(N), low=-3, high=4), -3, 4),
        (lambda: torch.zeros(N).random_(10), 0, 10),
        (lambda: torch.zeros(N, dtype=torch.int64).random_(-3, 4), -3, 4),
        (lambda: torch.zeros(N).random_(**{"from": -3, "to": 4}), -3, 4),
        (lambda: torch.zeros(N, dtype=torch.uint8).random_(), 0, 256),
        (lambda: torch.zeros(N, dtype=torch.int8).random_(), 0, 128),
        (lambda: torch.zeros(N, dtype=torch.int8).random_(100, None), 100, 128),
        (lambda: torch.zeros(N, dtype=torch.bool).random_(), 0, 2),
        (lambda: torch.zeros(N, dtype=torch.bfloat16).random_(), 0, 257),
    ],
)
def test_integers_are_uniform_and_of_torch_s_range_and_type(make, low, high):
    ours, theirs = drawn(make), make()
    assert (ours.shape, ours.dtype) == ((N,), theirs.dtype)
    assert (theirs.min(), theirs.max()) == (low, high - 1)
    assert_distributed(ours.double() - low, np.ones(high - low))


@pytest.mark.parametrize(
    ("low", "high"),
    [(-(2**63), 2**63 - 1), (-(2**63), 2**62), (-1, 2**63 - 1), (0, 2**63 - 1), (2**62, 2**62 + 2**40)],
)
def test_integers_of_wide_ranges(low, high):
    numbers = drawn(lambda: torch.randint(low, high, (N,)))
    assert low <= int(numbers.min())
    assert int(numbers.max()) < high
    assert float(numbers.double().max() - numbers.double().min()) > 0.999 * (high - low)
    if high - low <= 2**63:  # above, some are twice as likely as others
        assert_distributed((numbers.double() - float(low)) / float(high - low) * 16, np.ones(16))


@pytest.mark.parametrize("low", [-(2**63), -(2**62), 0, 2**62])
def test_integers_up_to_the_largest(low):
    numbers = drawn(lambda: torch.empty(N, dtype=torch.int64).random_(low, None))
    assert low <= int(numbers.min())
    if low in (-(2**63), 0):
        assert_distributed((numbers >> 59) - (low >> 59), np.ones(32 if low else 16))


def test_integers_of_no_bounds_are_the_upper_half():
    ours = drawn(lambda: torch.empty(N, dtype=torch.int64).random_())
    assert torch.equal(ours, drawn(lambda: torch.empty(N, dtype=torch.int64).random_(0, None)))


def test_an_empty_range_is_refused():
    with pytest.raises(RuntimeError, match="from < to; received from=3, to=3"):
        drawn(lambda: torch.randint(3, 3, (2,)))


def test_permutations_are_permutations_and_all_alike():
    orders = drawn_together(lambda: torch.randperm(4), seeds=range(12_000))
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand_as(orders))
    assert orders.dtype is torch.int64
    codes = orders @ torch.tensor([64, 16, 4, 1])
    _, kinds = codes.unique(return_inverse=True)
    assert_distributed(kinds, np.ones(24))
    long = drawn(lambda: torch.randperm(1000, dtype=torch.int32))
    assert long.dtype is torch.int32
    assert torch.equal(long.sort().values, torch.arange(1000, dtype=torch.int32))
    assert abs(np.corrcoef(long.numpy(), np.arange(1000))[0, 1]) < 4 / 1000**0.5
    assert drawn(lambda: torch.randperm(0)).shape == (0,)


@pytest.mark.parametrize("p", [0.2, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_events_have_their_probability(p, dtype):
    chance = torch.full((N,), p, dtype=dtype)
    rate = float(chance[0])
    events(lambda: torch.bernoulli(chance), rate)
    events(lambda: chance.bernoulli(), rate)
    events(lambda: torch.empty(N).bernoulli_(chance), rate)
    events(lambda: torch.zeros(N, dtype=torch.int32).bernoulli_(p), p)
    events(lambda: torch.zeros(N, dtype=dtype).bernoulli(p), p)
    events(lambda: D.Bernoulli(chance).sample(), rate)


def test_events_that_are_certain_or_impossible():
    chance = torch.tensor([0.0, 1.0]).repeat(N)
    assert torch.equal(drawn(lambda: torch.bernoulli(chance)), chance)
    with pytest.raises(RuntimeError, match=r"p=1\.5"):
        drawn(lambda: torch.zeros(3).bernoulli_(1.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_categories_have_their_weights(dtype):
    weights = WEIGHTS.to(dtype)
    assert_distributed(drawn(lambda: torch.multinomial(weights, N, replacement=True)), WEIGHTS)
    rows = torch.stack([weights, weights.flip(0)]).repeat(N // 10, 1)
    for replacement in (True, False):
        found = drawn(lambda replacement=replacement: rows.multinomial(1, replacement))
        assert found.shape == (len(rows), 1)
        assert_distributed(found[::2], WEIGHTS)
        assert_distributed(found[1::2], WEIGHTS.flip(0))
    logits = WEIGHTS.log().to(dtype)
    assert_distributed(drawn(lambda: D.Categorical(logits=logits).sample((N,))), WEIGHTS)
    found = drawn(lambda: F.gumbel_softmax(logits.float().expand(N, 6), hard=True)).argmax(1)
    assert_distributed(found, WEIGHTS)


def test_categories_without_replacement_come_one_after_the_other():
    rows = WEIGHTS.expand(N, 6)
    found = drawn(lambda: torch.multinomial(rows, 3))
    assert (found.sort(1).values.diff() > 0).all()
    p = (WEIGHTS / WEIGHTS.sum()).double().numpy()
    # The first by the weights; the second by the weights of what is left.
    expected = [[p[i] * p[j] / (1 - p[i]) if i != j else 0 for j in range(6)] for i in range(6)]
    assert_distributed(found[:, 0] * 6 + found[:, 1], np.ravel(expected))
    with pytest.raises(RuntimeError, match="7 of 6 categories without replacement"):
        drawn(lambda: torch.multinomial(WEIGHTS, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_waiting_times_are_geometric(dtype):
    numbers = drawn(lambda: torch.empty(N, dtype=dtype).geometric_(0.3))
    assert numbers.dtype is dtype
    assert numbers.min() == 1
    p = stats.geom(0.3).pmf(np.arange(1, 26))
    assert_distributed(numbers.clamp_max(25) - 1, [*p[:-1], 1 - p[:-1].sum()])


def test_gradients_are_torch_s():
    p = torch.rand(5, requires_grad=True)
    for value in (torch.bernoulli(p), drawn(torch.bernoulli, p)):
        assert torch.autograd.grad(value.sum(), p)[0].tolist() == [0] * 5


X = torch.rand(3, 4, 5)
OPERATIONS = {
    "randint": lambda x: torch.randint(1000, (6,)),
    "randint_like": lambda x: torch.randint_like(x, -5, 1000),
    "randperm": lambda x: torch.randperm(20),
    "random_": lambda x: torch.zeros_like(x).random_(1000),
    "bernoulli": lambda x: torch.bernoulli(x),
    "bernoulli float64": lambda x: torch.bernoulli(x.double()),
    "bernoulli with p": lambda x: torch.bernoulli(torch.zeros(50), 0.3),
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.4),
    "bernoulli_ of a shared tensor": lambda x: torch.empty(50).bernoulli_(0.4),
    "multinomial of a row": lambda x: torch.multinomial(x[0], 20, replacement=True),
    "multinomial": lambda x: torch.multinomial(x, 7, replacement=True),
    "multinomial without replacement": lambda x: torch.multinomial(x, 3),
    "multinomial of shared weights": lambda x: torch.multinomial(torch.ones(4, 5), 3),
    "Categorical": lambda x: D.Categorical(logits=x).sample((3,)),
    "Bernoulli": lambda x: D.Bernoulli(logits=x).sample((3,)),
    "Multinomial": lambda x: D.Multinomial(10, logits=x).sample(),
    "a permuted batch": lambda x: x[torch.randperm(4)],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_draw_the_same_in_any_packing(name):
    stacked = assert_same_in_any_packing(OPERATIONS[name], X)
    assert not torch.equal(stacked[0], stacked[1])


@pytest.mark.slow
def test_compiled_choices_are_the_same():
    names = ["randint", "randperm", "bernoulli", "multinomial", "multinomial without replacement"]

    def together(seeds, step, x):
        def one(seed, x):
            with lowered(Draws(seed, step), batched=True):
                return {name: OPERATIONS[name](x) for name in names}

        return torch.vmap(one)(seeds, x)

    seeds = torch.tensor([0, 7, 2**63 - 1])
    program = compiled(together, seeds, torch.tensor(4), X)
    for step in (torch.tensor(4), torch.tensor(5)):
        for name, values in program(seeds, step, X).items():
            assert torch.equal(values, together(seeds, step, X)[name]), (name, step)


Y = torch.rand(3, 4, 5) + 0.5


class Sample(torch.autograd.Function):
    """A custom function without a batching rule, which draws twice; its gradient goes straight through."""

    @staticmethod
    def forward(ctx, p):
        return torch.bernoulli(p / 2) + torch.rand_like(p)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


BY_GENERATOR = {
    "poisson": lambda x: torch.poisson(x),
    "binomial": lambda x: torch.binomial(torch.full((4, 5), 9.0), x / 2),
    "standard gamma": lambda x: torch._standard_gamma(x),
    "dirichlet": lambda x: torch._sample_dirichlet(x),
    "an operator by its name": lambda x: torch.ops.aten.normal_functional(x),
    "an overload by its name": lambda x: torch.ops.aten.bernoulli.p(x, 0.4) + torch.ops.aten.rand_like(x),
    "Gamma": lambda x: D.Gamma(x, 1.0).rsample(),
    "Beta": lambda x: D.Beta(x, x).rsample(),
    "Dirichlet": lambda x: D.Dirichlet(x).rsample((2,)),
    "Poisson": lambda x: D.Poisson(x).sample(),
    "Binomial": lambda x: D.Binomial(9, x / 2).sample(),
    "StudentT": lambda x: D.StudentT(x + 1).rsample(),
    "a custom function": lambda x: Sample.apply(x / 2) + torch.rand_like(x),
}


@pytest.mark.parametrize("name", BY_GENERATOR)
def test_by_a_generator_members_draw_the_same_in_any_packing(name):
    stacked = assert_same_in_any_packing(BY_GENERATOR[name], Y, atol=1e-5)
    assert not torch.equal(stacked[0], stacked[1])


@pytest.mark.parametrize("name", ["poisson", "a custom function"])
def test_seed_step_and_site_give_other_numbers(name):
    first = drawn(BY_GENERATOR[name], Y)
    assert torch.equal(drawn(BY_GENERATOR[name], Y), first)
    for other in ({"seed": 4}, {"step": 1}, {"site": 1}):
        assert not torch.equal(drawn(BY_GENERATOR[name], Y, **other), first)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "StudentT", "a custom function"])
def test_gradients_are_the_same_in_any_packing(name):
    x = Y.double().requires_grad_()
    stacked = drawn_together(BY_GENERATOR[name], x)
    (gradient,) = torch.autograd.grad(stacked.square().sum(), x)
    for k, seed in enumerate(SEEDS):
        alone = drawn(BY_GENERATOR[name], x[k], seed=seed, step=4)
        (expected,) = torch.autograd.grad(alone.square().sum(), x)
        assert torch.allclose(gradient[k], expected[k], rtol=1e-9)
    assert gradient.abs().min() > 0


def test_they_are_said_to_be_member_by_member():
    said = {}
    drawn_together(lambda x: torch.poisson(x) + D.Beta(x, x).rsample() + torch.rand(5), Y, said=said)
    one_by_one = {name for name, how in said.items() if how == MEMBER_BY_MEMBER}
    assert one_by_one == {"poisson", "_Dirichlet"}


@pytest.mark.parametrize(
    ("make", "distribution"),
    [
        (lambda n: torch.poisson(torch.full((n,), 3.0)), stats.poisson(3)),
        (lambda n: torch.binomial(torch.full((n,), 9.0), torch.full((n,), 0.3)), stats.binom(9, 0.3)),
    ],
)
def test_numbers_have_their_distribution(make, distribution):
    count = 200
    numbers = drawn_together(lambda: make(1000), seeds=range(count)).reshape(-1).numpy()
    values, observed = torch.tensor(numbers).clamp_max(8).unique(return_counts=True)
    p = distribution.pmf(values.numpy())
    p[-1] = 1 - p[:-1].sum()
    assert stats.chisquare(observed, p * observed.sum().item()).pvalue > 1e-4


def test_a_compiled_step_can_t_draw_by_a_generator():
    def together(seeds, step, x):
        def one(seed, x):
            with lowered(Draws(seed, step), batched=True):
                return torch.poisson(x)

        return torch.vmap(one)(seeds, x)

    with pytest.raises(CompileError, match="poisson draws by PyTorch's generator: it can't be compiled"):
        compiled(together, torch.tensor(SEEDS), torch.tensor(4), Y)


OWN = {
    "rand": lambda g: torch.rand(4, generator=g),
    "randn_like": lambda g: torch.randn_like(torch.zeros(4), generator=g),
    "randint": lambda g: torch.randint(9, (4,), generator=g),
    "randperm": lambda g: torch.randperm(4, generator=g),
    "normal": lambda g: torch.normal(torch.zeros(4), 1.0, generator=g),
    "uniform_": lambda g: torch.empty(4).uniform_(generator=g),
    "bernoulli_": lambda g: torch.empty(4).bernoulli_(generator=g),
    "multinomial": lambda g: torch.multinomial(torch.ones(4), 2, generator=g),
    "poisson": lambda g: torch.poisson(torch.ones(4), g),
    "normal_": lambda g: torch.nn.init.xavier_normal_(torch.empty(2, 2), generator=g),
    "kaiming_uniform_": lambda g: torch.nn.init.kaiming_uniform_(torch.empty(2, 2), generator=g),
}


@pytest.mark.parametrize("name", OWN)
def test_a_generator_of_the_network_s_own_draws_as_in_plain_pytorch(name):
    make = OWN[name]
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    for _ in range(2):
        assert torch.equal(drawn(make, ours), make(theirs))
    message = f"{name} draws in a generator of the network's own: it can't be batched"
    with pytest.raises(RuntimeError, match=message):
        drawn_together(lambda: make(ours))


def in_its_own_vmap(x):
    return torch.vmap(lambda row: row + torch.rand_like(row), randomness="different")(x)


def test_a_vmap_of_the_network_s_own_draws_different_numbers():
    first = drawn(in_its_own_vmap, torch.zeros(4, 5))
    assert len(first.unique()) == 20
    assert torch.equal(drawn(in_its_own_vmap, torch.zeros(4, 5)), first)
    assert not torch.equal(drawn(in_its_own_vmap, torch.zeros(4, 5), seed=4), first)
    with pytest.raises(RuntimeError, match="rand_like draws in a vmap of the network's own"):
        drawn_together(in_its_own_vmap, Y)


def test_what_draws_nothing_may_be_in_a_vmap_of_the_network_s_own():
    def forward(x):
        return torch.vmap(lambda row: F.dropout(row, 0.5, training=False) + F.dropout(row, 0.0))(x)

    assert torch.equal(drawn_together(forward, Y), torch.stack([drawn(forward, x) for x in Y]))


FILLED = {
    "uniform_": (),
    "normal_": (),
    "exponential_": (),
    "cauchy_": (),
    "log_normal_": (),
    "geometric_": (0.3,),
    "random_": (),
    "bernoulli_": (),
    "bernoulli": (),
    "multinomial": (2,),
}
CALLED = {
    "rand": ((3,),),
    "randn": ((3,),),
    "randint": (9, (3,)),
    "randperm": (9,),
    "rand_like": (Y,),
    "randn_like": (Y,),
    "randint_like": (Y, 9),
    "normal": (Y, 1.0),
    "bernoulli": (Y / 2,),
    "multinomial": (Y[0], 2),
    "rrelu": (-Y, 0.1, 0.3, True),
    "rrelu_": (-Y, 0.1, 0.3, True),
    "poisson": (Y,),
    "binomial": (Y.ceil(), Y / 2),
    "_standard_gamma": (Y,),
    "_sample_dirichlet": (Y,),
    "dropout": (Y, 0.5, True),
    "dropout_": (Y.clone(), 0.5, True),
    "feature_dropout": (Y, 0.5, True),
    "feature_dropout_": (Y.clone(), 0.5, True),
    "alpha_dropout": (Y, 0.5, True),
    "alpha_dropout_": (Y.clone(), 0.5, True),
    "feature_alpha_dropout": (Y, 0.5, True),
    "feature_alpha_dropout_": (Y.clone(), 0.5, True),
    "native_dropout": (Y, 0.5, True),
}
BUILTIN = BuiltinFunctionType | MethodDescriptorType
IN_PARTS = {"lstm", "gru", "rnn_tanh", "rnn_relu"}  # they draw where they drop out, by lowerings of their own


def test_every_function_that_draws_is_known():
    found = set()
    for home in (torch, torch.Tensor):
        for name in dir(home):
            function = getattr(home, name)
            packet = getattr(torch.ops.aten, name, None) if not name.startswith("__") else None
            if not isinstance(packet, torch._ops.OpOverloadPacket) or not isinstance(function, BUILTIN):
                continue
            schemas = [getattr(packet, o) for o in packet.overloads()]
            draws = any(
                torch.Tag.nondeterministic_seeded in o.tags or "Generator" in str(o._schema) for o in schemas
            )
            assert only_by_generator(function) == (draws and name not in IN_PARTS), name
            if draws and name not in IN_PARTS:
                found.add(name)
    public = {name for name in found if not name.startswith("_")}
    assert public - {"rrelu_with_noise", "rrelu_with_noise_", "normal_functional", "miopen_rnn"} <= {
        *FILLED,
        *CALLED,
    }
    assert not only_by_generator(torch.add)
    assert not only_by_generator(torch.nn.functional.dropout)


@pytest.mark.parametrize(
    "call",
    [
        *[(getattr(torch, name), args) for name, args in CALLED.items()],
        *[(getattr(torch.Tensor, name), (Y[0].clone() / 2, *args)) for name, args in FILLED.items()],
    ],
    ids=lambda call: call[0].__name__,
)
def test_no_shared_stream_is_touched(call):
    function, args = call
    assert function in DRAWN or only_by_generator(function)
    state = torch.random.get_rng_state()
    drawn(function, *args)
    assert torch.equal(torch.random.get_rng_state(), state)
