import math
from contextlib import ExitStack

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from support.drawing import assert_same_in_any_packing, drawn, drawn_together
from torch import distributions as D
from torch import nn

from modelspace.engine.lowerings import lowered
from modelspace.engine.lowerings.surroundings import swapped
from modelspace.engine.program import compiled
from modelspace.engine.randomness import Draws

N = 200_000


def full(value, dtype):
    return torch.full((N,), value, dtype=dtype)


def empty(dtype):
    return torch.empty(N, dtype=dtype)


CONTINUOUS = {
    "rand": (lambda d: torch.rand(N, dtype=d), stats.uniform()),
    "rand_like": (lambda d: torch.rand_like(empty(d)), stats.uniform()),
    "randn": (lambda d: torch.randn((N,), dtype=d), stats.norm()),
    "randn_like": (lambda d: torch.randn_like(empty(d)), stats.norm()),
    "normal of tensors": (lambda d: torch.normal(full(1.0, d), full(3.0, d)), stats.norm(1, 3)),
    "normal of a tensor and a number": (lambda d: torch.normal(full(1.0, d), 3), stats.norm(1, 3)),
    "normal of a number and a tensor": (lambda d: torch.normal(1.0, full(3.0, d)), stats.norm(1, 3)),
    "normal of numbers": (lambda d: torch.normal(1.0, 3.0, (N,), dtype=d), stats.norm(1, 3)),
    "normal_": (lambda d: empty(d).normal_(1, 3), stats.norm(1, 3)),
    "uniform_": (lambda d: empty(d).uniform_(-2, 3), stats.uniform(-2, 5)),
    "exponential_": (lambda d: empty(d).exponential_(0.5), stats.expon(scale=2)),
    "log_normal_": (lambda d: empty(d).log_normal_(0.3, 0.5), stats.lognorm(0.5, scale=math.exp(0.3))),
    "cauchy_": (lambda d: empty(d).cauchy_(1, 2), stats.cauchy(1, 2)),
    "rrelu": (lambda d: torch.rrelu(full(-1.0, d), 0.2, 0.7, True), stats.uniform(-0.7, 0.5)),
    "Normal": (lambda d: D.Normal(full(1.0, d), 3).rsample(), stats.norm(1, 3)),
    "Uniform": (lambda d: D.Uniform(full(-2.0, d), 3).rsample(), stats.uniform(-2, 5)),
    "Exponential": (lambda d: D.Exponential(full(0.5, d)).rsample(), stats.expon(scale=2)),
    "Laplace": (lambda d: D.Laplace(full(1.0, d), 2).rsample(), stats.laplace(1, 2)),
    "Gumbel": (lambda d: D.Gumbel(full(1.0, d), 2).rsample(), stats.gumbel_r(1, 2)),
    "Gamma": (lambda d: D.Gamma(full(2.0, d), 3.0).rsample(), stats.gamma(2, scale=1 / 3)),
    "Beta": (lambda d: D.Beta(full(2.0, d), 3.0).rsample(), stats.beta(2, 3)),
    "nn.init.uniform_": (lambda d: nn.init.uniform_(empty(d), -2, 3), stats.uniform(-2, 5)),
    "nn.init.normal_": (lambda d: nn.init.normal_(empty(d), 1, 3), stats.norm(1, 3)),
    "nn.init.kaiming_uniform_": (
        lambda d: nn.init.kaiming_uniform_(empty(d).view(-1, 50), a=5**0.5).view(-1),
        stats.uniform(-(50**-0.5), 2 * 50**-0.5),
    ),
    "nn.init.xavier_normal_": (
        lambda d: nn.init.xavier_normal_(empty(d).view(-1, 500)).view(-1),
        stats.norm(0, (2 / 900) ** 0.5),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_numbers_have_their_distribution(name, dtype):
    make, distribution = CONTINUOUS[name]
    numbers = drawn(make, dtype)
    assert numbers.dtype is dtype
    assert numbers.shape == (N,)
    assert numbers.isfinite().all()
    values = numbers.double().numpy()
    # At the level 10⁻⁴; the numbers are fixed, so this passes always or never.
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-4
    if np.isfinite(distribution.std()):
        assert abs(values.mean() - distribution.mean()) < 4 * distribution.std() / N**0.5
        kurtosis = float(distribution.stats(moments="k")) + 3
        assert abs(values.var() / distribution.var() - 1) < 4 * ((kurtosis - 1) / N) ** 0.5


@pytest.mark.parametrize("name", ["rand", "exponential_", "normal_", "cauchy_"])
@pytest.mark.parametrize("other", [{"seed": 4}, {"step": 1}, {"site": 1}], ids=str)
def test_seed_step_and_site_give_other_numbers(name, other):
    make, distribution = CONTINUOUS[name]
    first, second = (distribution.cdf(drawn(make, torch.float32, **kind).numpy()) for kind in ({}, other))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / N**0.5
    assert np.array_equal(first, distribution.cdf(drawn(make, torch.float32).numpy()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_numbers_of_half_precision(dtype):
    uniform = drawn(lambda: torch.rand(N, dtype=dtype))
    normal = drawn(lambda: torch.randn(N, dtype=dtype))
    waiting = drawn(lambda: torch.empty(N, dtype=dtype).exponential_())
    assert {x.dtype for x in (uniform, normal, waiting)} == {dtype}
    assert uniform.max() < 1
    assert uniform.min() >= 0
    assert waiting.min() > 0
    assert waiting.isfinite().all()
    step = torch.finfo(dtype).eps / 4  # numbers in [0, 1) are rounded down
    assert abs(float(uniform.double().mean()) - 0.5) < step + 4 / (12 * N) ** 0.5
    assert abs(float(normal.double().mean())) < 4 / N**0.5
    assert abs(float(normal.double().var()) - 1) < 4 * (2 / N) ** 0.5 + torch.finfo(dtype).eps
    assert abs(float(waiting.double().mean()) - 1) < 4 / N**0.5 + torch.finfo(dtype).eps


def test_complex_numbers_have_unit_variance():
    numbers = drawn(lambda: torch.randn(N, dtype=torch.complex64))
    parts = torch.view_as_real(numbers).numpy()
    assert numbers.dtype is torch.complex64
    for part in parts.T:
        assert stats.kstest(part, stats.norm(scale=0.5**0.5).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(parts.T)[0, 1]) < 4 / N**0.5
    assert drawn(lambda: torch.rand(3, 2, dtype=torch.complex128)).shape == (3, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.rand(2, 3),
        lambda: torch.rand((2, 3)),
        lambda: torch.rand([2, 3], dtype=torch.float64),
        lambda: torch.rand(size=(2, 3)),
        lambda: torch.rand(torch.Size([2, 3]), device="cpu", pin_memory=False),
        lambda: torch.randn(2, 3, requires_grad=True),
        lambda: torch.randn(2, 3, out=torch.empty(2, 3, dtype=torch.float64)),
        lambda: torch.rand_like(torch.zeros(2, 3), dtype=torch.float64, memory_format=torch.preserve_format),
        lambda: torch.randn_like(input=torch.zeros(2, 3), requires_grad=True),
        lambda: torch.normal(mean=torch.zeros(3), std=torch.ones(2, 1)),
        lambda: torch.normal(torch.zeros(2, 3)),
        lambda: torch.normal(0.0, 1.0, size=(2, 3), dtype=torch.float64),
        lambda: torch.zeros(2, 3).uniform_(to=3),
        lambda: torch.zeros(2, 3).uniform_(**{"from": -1, "to": 3}),
        lambda: torch.zeros(2, 3, dtype=torch.float16).normal_(std=2),
    ],
)
def test_shape_type_and_options_are_torch_s(make):
    ours, theirs = drawn(make), make() if make.__code__.co_names[:2] != ("torch", "normal") else drawn(make)
    assert (ours.shape, ours.dtype, ours.requires_grad) == ((2, 3), theirs.dtype, theirs.requires_grad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: torch.rand(3, dtype=torch.int64),
            "uniform numbers are floating-point; received dtype torch.int64",
        ),
        (lambda: torch.zeros(3, dtype=torch.int64).normal_(), "normal numbers are floating-point"),
        (lambda: torch.zeros(3).normal_(0, -1), "std >= 0.0, but found std=-1"),
        (lambda: torch.normal(torch.zeros(3), -1), "std >= 0.0, but found std -1"),
        (lambda: torch.zeros(3).uniform_(2, 1), "from=2 > to=1"),
        (lambda: torch.zeros(3).exponential_(0), "lambda=0"),
        (lambda: torch.zeros(3).geometric_(1.5), "p=1.5"),
        (lambda: torch.zeros(3).cauchy_(0, 0), "sigma=0"),
        (lambda: torch.zeros(3).log_normal_(0, 0), "std=0"),
    ],
)
def test_a_range_that_torch_refuses_is_refused(make, message):
    with pytest.raises(RuntimeError, match=message):
        drawn(make)
    with pytest.raises((RuntimeError, NotImplementedError)):
        make()


X = torch.linspace(-1.5, 1.5, 36).view(3, 4, 3)
OPERATIONS = {
    "rand": lambda x: torch.rand(5),
    "rand float64": lambda x: torch.rand(5, dtype=torch.float64),
    "randn": lambda x: torch.randn(2, 5),
    "randn complex": lambda x: torch.view_as_real(torch.randn(5, dtype=torch.complex64)),
    "rand_like": lambda x: torch.rand_like(x),
    "randn_like": lambda x: x + torch.randn_like(x),
    "normal": lambda x: torch.normal(x, x.exp()),
    "normal_ of a tensor made here": lambda x: torch.empty(7).normal_(2, 3),
    "normal_": lambda x: torch.empty_like(x).normal_(),
    "uniform_": lambda x: x.clone().uniform_(-1, 1),
    "log_normal_": lambda x: torch.empty_like(x).log_normal_(),
    "exponential_": lambda x: torch.empty_like(x).exponential_(),
    "cauchy_": lambda x: torch.empty_like(x).cauchy_(),
    "geometric_": lambda x: torch.empty_like(x).geometric_(0.3),
    "F.rrelu": lambda x: F.rrelu(x, training=True),
    "F.rrelu in evaluation": lambda x: F.rrelu(x),
    "nn.RReLU in place": lambda x: nn.RReLU(inplace=True)(x.clone()),
    "F.gumbel_softmax": lambda x: F.gumbel_softmax(x, hard=True),
    "nn.init.kaiming_uniform_": lambda x: nn.init.kaiming_uniform_(torch.empty(4, 5)),
    "nn.init.kaiming_normal_": lambda x: nn.init.kaiming_normal_(torch.empty(4, 5)),
    "nn.init.xavier_uniform_": lambda x: nn.init.xavier_uniform_(torch.empty(4, 5)),
    "nn.init.orthogonal_": lambda x: nn.init.orthogonal_(torch.empty(4, 5)),
    "Normal": lambda x: D.Normal(x, x.exp()).sample((2,)),
    "Normal, by its parameters": lambda x: D.Normal(x, x.exp()).rsample((2,)),
    "Uniform": lambda x: D.Uniform(x, x + 1).rsample(),
    "Exponential": lambda x: D.Exponential(x.exp()).rsample(),
    "Laplace": lambda x: D.Laplace(x, x.exp()).rsample(),
    "Gumbel": lambda x: D.Gumbel(x, x.exp()).rsample(),
    "MultivariateNormal": lambda x: D.MultivariateNormal(x, torch.eye(3)).rsample(),
    "two sites": lambda x: torch.rand_like(x) - torch.rand_like(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_draw_the_same_in_any_packing(name):
    # Batched or not, logarithms and sines may differ in the last digit; cot magnifies that near its pole.
    stacked = assert_same_in_any_packing(OPERATIONS[name], X, atol=1e-3 if "cauchy" in name else 1e-5)
    if "evaluation" not in name:
        assert not torch.allclose(stacked[0] - X[0].mean(), stacked[1] - X[1].mean(), atol=1e-3)


@pytest.mark.slow
def test_compiled_numbers_are_the_same():
    names = ["rand", "rand float64", "randn_like", "exponential_", "F.rrelu"]

    def together(seeds, step, x):
        def one(seed, x):
            with lowered(Draws(seed, step), batched=True):
                return {name: OPERATIONS[name](x) for name in names}

        return torch.vmap(one)(seeds, x)

    seeds = torch.tensor([0, 7, 2**63 - 1])
    program = compiled(together, seeds, torch.tensor(4), X)
    for step in (torch.tensor(4), torch.tensor(5)):
        for name, values in program(seeds, step, X).items():
            assert torch.allclose(values, together(seeds, step, X)[name], atol=1e-5), (name, step)


def test_in_place_writes_into_the_tensor():
    x = torch.zeros(4, 5)
    for fill in ("uniform_", "normal_", "exponential_", "cauchy_", "log_normal_"):
        before = x.clone()
        assert drawn(lambda x, fill=fill: getattr(x, fill)(), x) is x
        assert not torch.equal(x, before)


def test_a_shared_tensor_is_not_written_into_by_members():
    x = torch.zeros(5)
    with pytest.raises(RuntimeError, match="is not possible because there exists a Tensor"):
        torch.vmap(lambda seed: _filled(seed, x))(torch.tensor([1, 2]))


def _filled(seed, x):
    with lowered(Draws(seed, torch.tensor(0)), batched=True):
        return x.uniform_()


@pytest.mark.parametrize(
    ("sample", "gradient"),
    [
        (lambda x: torch.normal(x, 1.0), 0.0),
        (lambda x: torch.normal(0.0, x.exp()), 0.0),
        (lambda x: (x * 1).uniform_(), 0.0),
        (lambda x: (x * 1).exponential_(), 0.0),
        (lambda x: D.Normal(x, 1.0).rsample(), 1.0),
        (lambda x: x + torch.randn_like(x), 1.0),
    ],
)
def test_gradients_are_torch_s(sample, gradient):
    x = torch.randn(5, requires_grad=True)
    for value in (sample(x), drawn(sample, x)):
        assert torch.autograd.grad(value.sum(), x)[0].tolist() == [gradient] * 5


def test_rrelu_s_gradient_is_its_slope():
    x = torch.randn(100, requires_grad=True)
    y = drawn(lambda x: F.rrelu(x, 0.1, 0.3, True), x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient, y / x)
    assert torch.equal(gradient > 0.3, x > 0)
    assert gradient.min() >= 0.1


def test_a_distribution_s_broken_parameter_is_its_member_s_alone():
    x = torch.tensor([[1.0], [torch.nan], [2.0]])
    samples = drawn_together(lambda x: D.Normal(x, 1.0).sample(), x)
    assert samples.isnan().flatten().tolist() == [False, True, False]
    drawn(lambda x: D.Normal(x, 1.0).sample(), x[1])
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        D.Normal(x[1], 1.0, validate_args=True)  # Dynamo, once used, switches the default off for the process


def test_blocks_that_end_in_another_order_leave_nothing_behind():
    """As those of two threads do."""
    before = vars(D.Distribution)["_validate_args"]
    with ExitStack() as late:
        with ExitStack() as early:
            early.enter_context(swapped((D.Distribution, "_validate_args", 1)))
            late.enter_context(swapped((D.Distribution, "_validate_args", 2)))
        assert D.Distribution._validate_args == 2
        with swapped((D.Distribution, "_validate_args", 3)):
            assert D.Distribution._validate_args == 3
        assert D.Distribution._validate_args == 2
    assert vars(D.Distribution)["_validate_args"] is before


def test_a_network_in_evaluation_draws_by_torch_s_generator():
    torch.manual_seed(1)
    expected = torch.randn(10)
    torch.manual_seed(1)
    with lowered(None, batched=False):
        assert torch.equal(torch.randn(10), expected)


P = 0.3
LAYERS = {
    "dropout": (nn.Dropout, (40, 50)),
    "dropout1d": (nn.Dropout1d, (40, 50, 3)),
    "dropout2d": (nn.Dropout2d, (40, 50, 3, 2)),
    "dropout3d": (nn.Dropout3d, (40, 50, 2, 3, 2)),
    "alpha": (nn.AlphaDropout, (40, 50)),
    "feature alpha": (nn.FeatureAlphaDropout, (40, 50, 3)),
}
every_layer = pytest.mark.parametrize("layer", LAYERS)


def applied(layer, x, seed=3, step=0):
    with lowered(Draws(torch.tensor(seed), torch.tensor(step)), batched=False):
        return layer(x)


@every_layer
def test_rate_and_scale_are_torch_s(layer):
    kind, shape = LAYERS[layer]
    x = torch.ones(shape)
    ours, theirs = applied(kind(P), x), kind(P)(x)
    # One value where kept and one where dropped, the same two as torch's; kept at the rate 1 − p.
    assert torch.allclose(ours.unique(), theirs.unique(), atol=1e-6)
    kept = (ours == ours.max()).double()
    independent = kept.flatten(2)[..., 0] if kept.dim() > 2 else kept
    if kept.dim() > 2:
        assert (kept.flatten(2) == independent[..., None]).all(), "a channel is dropped whole or not at all"
    error = (P * (1 - P) / independent.numel()) ** 0.5
    assert abs(float(independent.mean()) - (1 - P)) < 4 * error


@pytest.mark.parametrize("layer", ["alpha", "feature alpha"])
def test_alpha_dropout_keeps_mean_and_variance(layer):
    kind, _ = LAYERS[layer]
    x = torch.randn(400, 500, 1) if layer == "feature alpha" else torch.randn(400, 500)
    y = applied(kind(P), x)
    assert abs(float(y.mean())) < 0.02
    assert abs(float(y.var()) - 1) < 0.02


@every_layer
def test_nothing_is_dropped_in_evaluation_or_at_rate_zero(layer):
    kind, shape = LAYERS[layer]
    x = torch.randn(shape)
    assert torch.equal(applied(kind(P).eval(), x), x)
    assert torch.equal(applied(kind(0.0), x), x)


@every_layer
def test_everything_is_dropped_at_rate_one(layer):
    kind, shape = LAYERS[layer]
    x = torch.randn(shape)
    assert torch.equal(applied(kind(1.0), x), kind(1.0)(x))


@pytest.mark.parametrize(
    "function",
    [F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout],
    ids=lambda f: f.__name__,
)
def test_in_place_writes_into_its_input(function):
    x = torch.randn(4, 5, 3, 2, 2) if function is F.dropout3d else torch.randn(4, 5, 3, 2)
    x = x[..., 0] if function is F.dropout1d else x
    expected = applied(lambda x: function(x, P, True), x)
    y = x.clone()
    assert applied(lambda y: function(y, P, True, inplace=True), y) is y
    assert torch.equal(y, expected)


def test_masks_are_a_function_of_seed_step_and_site():
    x = torch.ones(200)

    def twice(x):
        return torch.stack([F.dropout(x), F.dropout(x)])

    first = applied(twice, x)
    assert torch.equal(applied(twice, x), first)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(applied(twice, x, seed=4), first)
    assert not torch.equal(applied(twice, x, step=1), first)


def test_no_generator_is_touched():
    state = torch.random.get_rng_state()
    applied(nn.Dropout(), torch.ones(5))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_seed_torch_s_own_generator_draws():
    torch.manual_seed(1)
    expected = F.dropout(torch.ones(100))
    torch.manual_seed(1)
    with lowered(None, batched=False):
        assert torch.equal(F.dropout(torch.ones(100)), expected)


BUILTINS = {
    "dropout": nn.Dropout,
    "feature_dropout": nn.Dropout2d,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
}


@pytest.mark.parametrize("name", BUILTINS)
def test_torch_s_own_functions_are_lowered_too(name):
    x = torch.ones(10, 20, 3, 3)
    expected = applied(BUILTINS[name](P), x)
    assert torch.equal(applied(lambda x: getattr(torch, name)(x, P, True), x), expected)
    y = x.clone()
    assert applied(lambda y: getattr(torch, f"{name}_")(y, P, True), y) is y
    assert torch.equal(y, expected)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("p", [0.0, P, 1.0])
def test_native_dropout_gives_its_mask(p, train):
    x = torch.ones(100)
    output, mask = applied(lambda x: torch.native_dropout(x, p, train), x)
    kept = 1 / (1 - p) if train and p < 1 else 1.0
    assert torch.equal(output, mask * kept)
    assert torch.equal(output, applied(lambda x: torch.dropout(x, p, train), x))


def test_a_probability_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        applied(lambda x: F.dropout(x, 1.5), torch.ones(3))
    with pytest.raises(RuntimeError, match=r"between 0 and 1, but got 1\.5"):
        applied(lambda x: torch.dropout(x, 1.5, True), torch.ones(3))
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        applied(lambda x: torch.feature_dropout(x, P, True), torch.ones(3))


def test_three_dimensions_are_samples_channels_and_length_to_dropout2d():
    with pytest.warns(UserWarning, match="1D dropout behavior is desired"):
        y = applied(lambda x: F.dropout2d(x, P), torch.ones(40, 50, 3))
    assert (y == y[..., :1]).all()
    assert len(y[..., 0].unique()) == 2
    one = applied(lambda x: F.dropout1d(x, P), torch.ones(50, 3))
    assert (one == one[..., :1]).all()


@every_layer
def test_vmap_over_members_is_member_by_member(layer):
    kind, shape = LAYERS[layer]
    x, seeds = torch.randn(3, *shape), torch.tensor([0, 7, 2**63 - 1])

    def one(x, seed):
        with lowered(Draws(seed, torch.tensor(4)), batched=True):
            return kind(P)(x)

    stacked = torch.vmap(one)(x, seeds)
    for k, seed in enumerate(seeds.tolist()):
        assert torch.allclose(stacked[k], applied(kind(P), x[k], seed, 4), atol=1e-6)


def test_the_gradient_passes_where_kept():
    x = torch.randn(100, requires_grad=True)
    y = applied(nn.Dropout(P), x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient, (y != 0) / (1 - P))
