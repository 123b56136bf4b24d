from types import BuiltinFunctionType, MethodDescriptorType

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

X = torch.rand(3, 4, 5) + 0.5


class Sample(torch.autograd.Function):
    """A custom function without a batching rule, which draws twice; its gradient goes straight through."""

    @staticmethod
    def forward(ctx, p):
        return torch.bernoulli(p / 2) + torch.rand_like(p)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


OPERATIONS = {
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


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_draw_the_same_in_any_packing(name):
    stacked = assert_same_in_any_packing(OPERATIONS[name], X, atol=1e-5)
    assert not torch.equal(stacked[0], stacked[1])


@pytest.mark.parametrize("name", ["poisson", "a custom function"])
def test_seed_step_and_site_give_other_numbers(name):
    first = drawn(OPERATIONS[name], X)
    assert torch.equal(drawn(OPERATIONS[name], X), first)
    for other in ({"seed": 4}, {"step": 1}, {"site": 1}):
        assert not torch.equal(drawn(OPERATIONS[name], X, **other), first)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "StudentT", "a custom function"])
def test_gradients_are_the_same_in_any_packing(name):
    x = X.double().requires_grad_()
    stacked = drawn_together(OPERATIONS[name], x)
    (gradient,) = torch.autograd.grad(stacked.square().sum(), x)
    for k, seed in enumerate(SEEDS):
        alone = drawn(OPERATIONS[name], x[k], seed=seed, step=4)
        (expected,) = torch.autograd.grad(alone.square().sum(), x)
        assert torch.allclose(gradient[k], expected[k], rtol=1e-9)
    assert gradient.abs().min() > 0


def test_they_are_said_to_be_member_by_member():
    said = {}
    drawn_together(lambda x: torch.poisson(x) + D.Beta(x, x).rsample() + torch.rand(5), X, said=said)
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
        compiled(together, torch.tensor(SEEDS), torch.tensor(4), X)


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
        drawn_together(in_its_own_vmap, X)


def test_what_draws_nothing_may_be_in_a_vmap_of_the_network_s_own():
    def forward(x):
        return torch.vmap(lambda row: F.dropout(row, 0.5, training=False) + F.dropout(row, 0.0))(x)

    assert torch.equal(drawn_together(forward, X), torch.stack([drawn(forward, x) for x in X]))


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
    "rand_like": (X,),
    "randn_like": (X,),
    "randint_like": (X, 9),
    "normal": (X, 1.0),
    "bernoulli": (X / 2,),
    "multinomial": (X[0], 2),
    "rrelu": (-X, 0.1, 0.3, True),
    "rrelu_": (-X, 0.1, 0.3, True),
    "poisson": (X,),
    "binomial": (X.ceil(), X / 2),
    "_standard_gamma": (X,),
    "_sample_dirichlet": (X,),
    "dropout": (X, 0.5, True),
    "dropout_": (X.clone(), 0.5, True),
    "feature_dropout": (X, 0.5, True),
    "feature_dropout_": (X.clone(), 0.5, True),
    "alpha_dropout": (X, 0.5, True),
    "alpha_dropout_": (X.clone(), 0.5, True),
    "feature_alpha_dropout": (X, 0.5, True),
    "feature_alpha_dropout_": (X.clone(), 0.5, True),
    "native_dropout": (X, 0.5, True),
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
        *[(getattr(torch.Tensor, name), (X[0].clone() / 2, *args)) for name, args in FILLED.items()],
    ],
    ids=lambda call: call[0].__name__,
)
def test_no_shared_stream_is_touched(call):
    function, args = call
    assert function in DRAWN or only_by_generator(function)
    state = torch.random.get_rng_state()
    drawn(function, *args)
    assert torch.equal(torch.random.get_rng_state(), state)
