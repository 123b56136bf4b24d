import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelspace.engine.lowerings import lowered
from modelspace.engine.randomness import Draws

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
