"""Regression losses equal their formulas, other libraries, and themselves as columns of a population."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses.regression.formulas import (
    CASES,
    LOCATION_SCALES,
    LOG_MEANS,
    OF_RESIDUALS,
    formula,
    gaussian,
    labels,
    laplace,
)
from scipy import special
from sklearn._loss import loss as sklearn_loss
from sklearn.linear_model import _sgd_fast
from sklearn.metrics import mean_tweedie_deviance
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.errors import ModelspaceError
from modelspace.losses import (
    CATALOGUE,
    Absolute,
    Cauchy,
    EpsilonInsensitive,
    Gamma,
    Gaussian,
    Huber,
    Laplace,
    LeastSquares,
    LogCosh,
    Pinball,
    Poisson,
    PseudoHuber,
    Tukey,
    Tweedie,
)
from modelspace.losses.catalogue import REGRESSION

# No residual of a label above is at a kink.
OUTPUTS = torch.linspace(-5, 5, 121, dtype=torch.float64) + 0.01237
Y = torch.tensor([0.0, 1.0, 3.0, 2.0, 7.0]).double()
Z = torch.tensor([0.5, -1.0, 1.2, 0.0, 2.0]).double()


def each(loss, z, y):
    return loss(z, torch.full_like(z, y), reduction="none")


def test_every_regression_loss_has_a_case():
    assert {type(loss) for loss in [*CASES, *LOCATION_SCALES]} == set(REGRESSION)
    for loss in [*CASES, *LOCATION_SCALES]:
        assert type(CATALOGUE[loss.name]) is type(loss)


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_equals_its_formula(loss):
    for y in labels(loss):
        expected = torch.from_numpy(formula(loss)(OUTPUTS.numpy(), y))
        torch.testing.assert_close(each(loss, OUTPUTS, y), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_gradient_and_curvature_equal_central_differences_of_the_formula(loss):
    z, value = OUTPUTS.numpy(), formula(loss)
    for y in labels(loss):
        first = grad(lambda z, y=y: each(loss, z, y).sum())
        second = grad(lambda z, first=first: first(z).sum())
        h = 1e-5
        slope = (value(z + h, y) - value(z - h, y)) / (2 * h)
        np.testing.assert_allclose(first(OUTPUTS).numpy(), slope, rtol=1e-6, atol=1e-7)
        h = 1e-4
        curvature = (value(z + h, y) - 2 * value(z, y) + value(z - h, y)) / h**2
        np.testing.assert_allclose(second(OUTPUTS).numpy(), curvature, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "loss", [LeastSquares(), Huber(), PseudoHuber(), LogCosh(), Cauchy(), Tukey()], ids=str
)
def test_at_nought_the_slope_is_0_and_the_curvature_1(loss):
    zero = torch.zeros(1, dtype=torch.float64)
    first = grad(lambda z: each(loss, z, 0.0).sum())
    assert first(zero).item() == 0
    assert grad(lambda z: first(z).sum())(zero).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [PseudoHuber(), LogCosh(), Cauchy(), Tukey()], ids=str)
def test_small_residuals_do_not_cancel_in_single_precision(loss):
    z = torch.tensor([1e-6, 1e-3, -1e-4])
    torch.testing.assert_close(each(loss, z, 0.0), z.square() / 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", LOCATION_SCALES, ids=str)
def test_likelihoods_of_two_outputs_equal_formula_and_distribution(loss):
    z = torch.randn(6, 2, 3, dtype=torch.float64)
    y = torch.randn(6, 3, dtype=torch.float64)
    found = loss(z, y, reduction="none")
    density = gaussian if loss.name == "gaussian" else laplace
    torch.testing.assert_close(found, torch.from_numpy(density(z[:, 0].numpy(), z[:, 1].numpy(), y.numpy())))
    if loss.name == "gaussian":
        known = torch.distributions.Normal(z[:, 0], (z[:, 1] / 2).exp())
        torch_s = F.gaussian_nll_loss(z[:, 0], y, z[:, 1].exp(), full=True, reduction="none")
        torch.testing.assert_close(found, torch_s)
    else:
        known = torch.distributions.Laplace(z[:, 0], z[:, 1].exp())
    torch.testing.assert_close(found, -known.log_prob(y))
    assert torch.autograd.gradcheck(lambda z: loss(z, y), z.requires_grad_())


def test_likelihoods_of_a_log_mean_equal_the_distributions():
    torch.testing.assert_close(
        Poisson()(Z, Y, reduction="none"), -torch.distributions.Poisson(Z.exp()).log_prob(Y)
    )
    positive = Y + 0.5
    for shape in (0.5, 1.0, 3.0):
        known = torch.distributions.Gamma(torch.tensor(shape).double(), shape / Z.exp())
        torch.testing.assert_close(Gamma(shape)(Z, positive, reduction="none"), -known.log_prob(positive))


def test_equals_torch():
    pairs = [
        (Absolute(), F.l1_loss(Z, Y, reduction="none")),
        (LeastSquares(), F.mse_loss(Z, Y, reduction="none") / 2),
        (Huber(0.7), F.huber_loss(Z, Y, delta=0.7, reduction="none")),
        (Huber(0.7), 0.7 * F.smooth_l1_loss(Z, Y, beta=0.7, reduction="none")),
        (Poisson(full=False), F.poisson_nll_loss(Z, Y, reduction="none")),
    ]
    for loss, expected in pairs:
        torch.testing.assert_close(loss(Z, Y, reduction="none"), expected)


def test_equals_scipy():
    r = (Y - Z).numpy()
    for delta in (0.5, 2.0):
        for loss, function in ((Huber(delta), special.huber), (PseudoHuber(delta), special.pseudo_huber)):
            np.testing.assert_allclose(loss(Z, Y, reduction="none").numpy(), function(delta, r), rtol=1e-12)


def test_equals_scikit_learn_up_to_what_labels_alone_decide():
    positive, raw = (Y + 0.6).numpy(), Z.numpy()
    pairs = [
        (LeastSquares(), sklearn_loss.HalfSquaredError()),
        (Absolute(), sklearn_loss.AbsoluteError()),
        (Pinball(0.8), sklearn_loss.PinballLoss(quantile=0.8)),
        (Poisson(full=False), sklearn_loss.HalfPoissonLoss()),
        (Gamma(1.0), sklearn_loss.HalfGammaLoss()),
        (Tweedie(1.3), sklearn_loss.HalfTweedieLoss(power=1.3)),
    ]
    for loss, reference in pairs:
        value, slope = reference.loss_gradient(positive, raw)
        found = loss(Z, torch.from_numpy(positive), reduction="none").numpy()
        origin = loss(torch.zeros_like(Z), torch.from_numpy(positive), reduction="none").numpy()
        there = reference.loss(positive, np.zeros_like(raw))
        np.testing.assert_allclose(found - origin, value - there, rtol=1e-10, atol=1e-12)
        own = grad(lambda z, loss=loss: loss(z, torch.from_numpy(positive), reduction="sum"))(Z)
        np.testing.assert_allclose(own.numpy(), slope, rtol=1e-10, atol=1e-12)


def test_equals_scikit_learn_s_epsilon_insensitive_loss():
    loss, reference = EpsilonInsensitive(0.25), _sgd_fast.EpsilonInsensitive(0.25)
    own = loss(Z, Y, reduction="none")
    slope = grad(lambda z: loss(z, Y, reduction="sum"))(Z)
    for k in range(len(Z)):
        assert own[k].item() == pytest.approx(reference.py_loss(Y[k].item(), Z[k].item()))
        assert slope[k].item() == reference.py_dloss(Z[k].item(), Y[k].item())


def test_equals_half_the_tweedie_deviance_up_to_what_labels_alone_decide():
    y = torch.tensor([0.0, 0.5, 3.0]).double()
    a, b = torch.tensor([0.1, -0.4, 1.0]).double(), torch.tensor([0.7, 0.2, -0.3]).double()
    for power in (1.2, 1.5, 1.8):
        deviances = [mean_tweedie_deviance(y.numpy(), z.exp().numpy(), power=power) / 2 for z in (a, b)]
        loss = Tweedie(power)
        assert (loss(a, y) - loss(b, y)).item() == pytest.approx(deviances[0] - deviances[1])


def test_equals_optax():
    optax = pytest.importorskip("optax")
    z, y = Z.float(), Y.float()
    pairs = [
        (LeastSquares(), optax.losses.l2_loss),
        (LogCosh(), optax.losses.log_cosh),
        (Huber(0.7), lambda z, y: optax.losses.huber_loss(z, y, delta=0.7)),
    ]
    for loss, reference in pairs:
        expected = torch.tensor(np.asarray(reference(z.numpy(), y.numpy())))
        torch.testing.assert_close(loss(z, y, reduction="none"), expected, rtol=1e-5, atol=1e-6)


COLUMNS = [
    (Huber(), {"delta": [0.3, 1.0, 4.0]}),
    (PseudoHuber(), {"delta": [0.3, 1.0, 4.0]}),
    (Pinball(), {"quantile": [0.1, 0.5, 0.9]}),
    (EpsilonInsensitive(), {"epsilon": [0.0, 0.3, 2.0]}),
    (Cauchy(), {"scale": [0.3, 1.0, 4.0]}),
    (Tukey(), {"scale": [0.3, 1.0, 4.0]}),
    (Gamma(), {"shape": [0.3, 1.0, 4.0]}),
    (Tweedie(), {"power": [1.2, 1.5, 1.9]}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "values"), COLUMNS, ids=lambda x: getattr(x, "name", ""))
def test_parameters_as_columns_equal_the_loop(loss, values, dtype):
    z, y = torch.randn(3, 7, dtype=dtype), torch.rand(7, dtype=dtype) + 0.1
    columns = {name: torch.tensor(column, dtype=torch.float64) for name, column in values.items()}

    def slope(z, columns):
        return grad(lambda z: loss.at(columns)(z, y))(z)

    loop = torch.stack(
        [
            grad(lambda z, k=k: replace(loss, **{n: c[k] for n, c in values.items()})(z, y))(z[k])
            for k in range(3)
        ]
    )
    batched = vmap(slope)
    found = batched(z, columns)
    assert found.dtype is dtype
    torch.testing.assert_close(found, loop)
    torch.testing.assert_close(make_fx(batched)(z, columns)(z, columns), loop)


DTYPES = pytest.mark.parametrize(
    ("dtype", "largest"),
    [(torch.float16, 1e3), (torch.bfloat16, 1e4), (torch.float32, 1e4), (torch.float64, 1e4)],
)


def extremes(dtype, largest):
    sizes = torch.logspace(-8, math.log10(largest), 40, dtype=torch.float64).clamp(max=largest).to(dtype)
    return torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes])


@DTYPES
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_finite_at_extreme_outputs(loss, dtype, largest):
    z = extremes(dtype, largest).requires_grad_()
    for y in (*labels(loss), 20.0):
        value = each(loss, z, y)
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert value.isfinite().all()
        assert slope.isfinite().all()
        assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)


@DTYPES
@pytest.mark.parametrize("loss", LOCATION_SCALES, ids=str)
def test_likelihoods_of_two_outputs_are_finite_at_extreme_ones(loss, dtype, largest):
    each_way = extremes(dtype, largest)
    z = torch.cartesian_prod(each_way, each_way).requires_grad_()
    for y in (-3.0, 0.0, 20.0):
        value = loss(z, torch.full((len(z),), y, dtype=dtype), reduction="none")
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert value.isfinite().all()
        assert slope.isfinite().all()


def test_torch_s_own_squared_error_overflows_in_float16_where_ours_does_not():
    z, y = torch.tensor([1000.0], dtype=torch.float16), torch.zeros(1, dtype=torch.float16)
    assert F.mse_loss(z, y).item() == math.inf
    assert LeastSquares()(z, y).item() == 500_000
    assert math.isinf(F.poisson_nll_loss(torch.tensor([1000.0]), torch.zeros(1)).item())
    assert Poisson()(torch.tensor([1000.0]), torch.zeros(1)).isfinite()


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_nothing_broadcasts(loss):
    with pytest.raises(ModelspaceError, match=rf"{loss.name} received .*\[4, 1\].*\[4\].*squeeze\(-1\)"):
        loss(torch.ones(4, 1), torch.ones(4))


@pytest.mark.parametrize("loss", LOCATION_SCALES, ids=str)
@pytest.mark.parametrize(
    ("outputs", "given"), [((4,), (4,)), ((4, 1), (4,)), ((4, 2), (4, 1)), ((4, 2), (3,)), ((4, 3), (4,))]
)
def test_two_outputs_for_each_label_or_an_error(loss, outputs, given):
    message = (
        rf"{loss.name} received outputs .*\[N, 2, ...\].*two outputs for each label, or use 'least_squares'"
    )
    with pytest.raises(ModelspaceError, match=message):
        loss(torch.ones(outputs), torch.ones(given))
    assert loss(torch.ones(4, 2, 5), torch.ones(4, 5), reduction="none").shape == (4, 5)


@pytest.mark.parametrize(
    ("loss", "given", "message"),
    [
        (Poisson(), [0.0, -1.0, 2.0], "poisson expects counts, at least 0, and the smallest label is -1"),
        (
            Gamma(),
            [1.0, 0.0, -2.0],
            r"gamma expects labels above 0: 2 of 3 .*the first is 0\); 'tweedie' allows",
        ),
        (Gamma(), [1.0, math.nan, 2.0], r"1 of 3 are not \(the first is nan\)"),
        (
            Tweedie(),
            [1.0, 0.0, -2.0],
            r"tweedie expects labels of at least 0: 1 of 3 .*-2\); 'least_squares'",
        ),
    ],
)
def test_labels_out_of_range_are_refused(loss, given, message):
    with pytest.raises(ModelspaceError, match=message):
        loss.check(torch.zeros(3), torch.tensor(given))


@pytest.mark.parametrize("loss", [*OF_RESIDUALS, *LOG_MEANS], ids=str)
def test_labels_in_range_are_accepted(loss):
    given = torch.tensor([1, 2, 3])
    loss.check(torch.zeros(3), given)
    for loss in (Poisson(), Tweedie()):
        loss.check(torch.zeros(3), given - 1)
    for loss in (Gaussian(), Laplace()):
        loss.check(torch.zeros(3, 2), given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(delta=0.0), "delta must be a positive number; received 0"),
        (lambda: PseudoHuber(delta=-1.0), "delta must be a positive number"),
        (lambda: Pinball(quantile=1.0), "quantile must be above 0 and below 1; received 1"),
        (lambda: EpsilonInsensitive(epsilon=-0.1), "epsilon must be a number of at least 0"),
        (lambda: Cauchy(scale=0.0), "scale must be a positive number"),
        (lambda: Tukey(scale=math.inf), "scale must be a positive number; received inf"),
        (lambda: Gamma(shape=0.0), "shape must be a positive number"),
        (lambda: Tweedie(power=2.0), "power must be above 1 and below 2; received 2"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ModelspaceError, match=message):
        make()


def test_poisson_without_its_constant_says_so():
    assert str(Poisson()) == "poisson"
    assert str(Poisson(full=False)) == "poisson(full=False)"
    assert Poisson(full=False).hyperparameters() == {}
    assert r"\log y!" not in Poisson(full=False).properties.formula
