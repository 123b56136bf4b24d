"""Margin losses equal their formulas, other libraries, and themselves as columns of a population."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses.margin.formulas import CASES, KINKS, formula
from sklearn.linear_model import _sgd_fast
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.errors import ModelspaceError
from modelspace.losses import (
    CATALOGUE,
    Asymmetric,
    BinaryFocal,
    BinaryPoly1,
    Exponential,
    Hinge,
    Logistic,
    ModifiedHuber,
    Perceptron,
    SquaredHinge,
)
from modelspace.losses.catalogue import MARGIN

SIGNS = (1, -1)
# Away from the kinks, and from logit(m), where the asymmetric loss has one.
SCORES = torch.tensor(
    [z for z in np.linspace(-9, 9, 181) + 0.0123 if min(abs(abs(z) - k) for k in KINKS) > 0.01]
)


def each(loss, z, y):
    return loss(z, torch.full_like(z, y), reduction="none")


def test_every_margin_loss_has_a_case():
    assert {type(loss) for loss in CASES} == set(MARGIN)


@pytest.mark.parametrize("y", SIGNS)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_equals_its_formula(loss, y):
    expected = torch.from_numpy(formula(loss)(SCORES.numpy(), y))
    torch.testing.assert_close(each(loss, SCORES, y), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("y", SIGNS)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_gradient_and_curvature_equal_central_differences_of_the_formula(loss, y):
    first = grad(lambda z: each(loss, z, y).sum())
    second = grad(lambda z: first(z).sum())
    z, h, value = SCORES.numpy(), 1e-5, formula(loss)
    slope = (value(z + h, y) - value(z - h, y)) / (2 * h)
    np.testing.assert_allclose(first(SCORES).numpy(), slope, rtol=1e-6, atol=1e-8)
    h = 1e-4
    curvature = (value(z + h, y) - 2 * value(z, y) + value(z - h, y)) / h**2
    np.testing.assert_allclose(second(SCORES).numpy(), curvature, rtol=1e-4, atol=1e-5)


TORCH = {
    "logistic": (Logistic(), lambda z, y: F.soft_margin_loss(z, y, reduction="none")),
    "hinge": (
        Hinge(),
        lambda z, y: F.margin_ranking_loss(z, torch.zeros_like(z), y, margin=1, reduction="none"),
    ),
    "perceptron": (
        Perceptron(),
        lambda z, y: F.margin_ranking_loss(z, torch.zeros_like(z), y, reduction="none"),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name):
    loss, reference = TORCH[name]
    labels = torch.where(torch.arange(len(SCORES)) % 2 == 0, 1.0, -1.0).double()
    torch.testing.assert_close(loss(SCORES, labels, reduction="none"), reference(SCORES, labels))


SKLEARN = {
    "hinge": (Hinge(), lambda: _sgd_fast.Hinge(1.0)),
    "perceptron": (Perceptron(), lambda: _sgd_fast.Hinge(0.0)),
    "squared_hinge": (SquaredHinge(), lambda: _sgd_fast.SquaredHinge(1.0)),
    "modified_huber": (ModifiedHuber(), _sgd_fast.ModifiedHuber),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_equals_scikit_learn_in_value_and_gradient_kinks_included(name):
    loss, make = SKLEARN[name]
    reference = make()
    z = torch.tensor([-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    for y in SIGNS:
        slopes = grad(lambda z, y=y: each(loss, z, y).sum())(z)
        for score, value, slope in zip(z.tolist(), each(loss, z, y).tolist(), slopes.tolist(), strict=True):
            assert value == pytest.approx(reference.py_loss(float(y), score), abs=1e-15)
            assert slope == pytest.approx(reference.py_dloss(score, float(y)), abs=1e-15)


def test_equals_optax():
    optax = pytest.importorskip("optax")
    z, labels = SCORES.float(), torch.ones(len(SCORES))
    pairs = {
        Hinge(): optax.losses.hinge_loss,
        Perceptron(): optax.losses.perceptron_loss,
    }
    for loss, reference in pairs.items():
        expected = torch.tensor(np.asarray(reference(z.numpy(), labels.numpy())))
        torch.testing.assert_close(loss(z, labels, reduction="none"), expected)
    focal = np.asarray(optax.losses.sigmoid_focal_loss(z.numpy(), labels.numpy(), gamma=2.0))
    torch.testing.assert_close(
        BinaryFocal(2.0)(z, labels, reduction="none"), torch.tensor(focal), rtol=1e-4, atol=1e-6
    )


def test_parameters_at_nought_give_the_logistic_loss():
    for y in SIGNS:
        expected = each(Logistic(), SCORES, y)
        for loss in (BinaryFocal(0.0), BinaryPoly1(0.0), Asymmetric(0.0, 0.0, 0.0)):
            torch.testing.assert_close(each(loss, SCORES, y), expected, rtol=1e-12, atol=1e-15)


def test_the_asymmetric_loss_without_asymmetry_is_the_focal_loss():
    for y in SIGNS:
        torch.testing.assert_close(
            each(Asymmetric(2.0, 2.0, 0.0), SCORES, y),
            each(BinaryFocal(2.0), SCORES, y),
            rtol=1e-9,
            atol=1e-14,
        )


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_one_against_the_rest_is_a_sum_over_the_classes(loss):
    z, y = torch.randn(4, 3, 2, dtype=torch.float64), torch.randint(0, 3, (4, 2))
    found, value = loss(z, y, reduction="none"), formula(loss)
    assert found.shape == (4, 2)
    for n in range(4):
        for place in range(2):
            terms = [value(z[n, c, place].item(), 1 if c == y[n, place] else -1) for c in range(3)]
            assert found[n, place].item() == pytest.approx(sum(terms), rel=1e-9)
    assert loss(z, y).item() == pytest.approx(found.mean().item())


PARAMETRISED = [
    (BinaryFocal(), {"gamma": [0.0, 0.5, 3.0]}),
    (BinaryPoly1(), {"epsilon": [0.0, 1.0, 2.5]}),
    (
        Asymmetric(),
        {"gamma_positive": [0.0, 1.0, 0.0], "gamma_negative": [4.0, 0.5, 0.0], "shift": [0.0, 0.05, 0.3]},
    ),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "values"), PARAMETRISED, ids=lambda x: getattr(x, "name", ""))
def test_parameters_as_columns_equal_the_loop(loss, values, dtype):
    z = 3 * torch.randn(3, 7, dtype=dtype)
    y = torch.randint(0, 2, (7,)) * 2 - 1
    columns = {name: torch.tensor(column, dtype=torch.float64) for name, column in values.items()}

    def slope(z, columns):
        return grad(lambda z: loss.at(columns)(z, y))(z)

    loop = torch.stack(
        [
            grad(lambda z, k=k: replace(loss, **{n: c[k] for n, c in values.items()})(z, y))(z[k])
            for k in range(3)
        ]
    )
    assert loop.isfinite().all()
    batched = vmap(slope)
    found = batched(z, columns)
    assert found.dtype is dtype
    torch.testing.assert_close(found, loop)
    torch.testing.assert_close(make_fx(batched)(z, columns)(z, columns), loop)


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [(torch.float16, 1e3), (torch.bfloat16, 1e4), (torch.float32, 1e4), (torch.float64, 1e4)],
)
@pytest.mark.parametrize("loss", [*CASES, Asymmetric(0.3, 0.3, 0.0)], ids=str)
def test_finite_at_extreme_scores(loss, dtype, largest):
    sizes = torch.logspace(-8, math.log10(largest), 60, dtype=torch.float64).clamp(max=largest).to(dtype)
    z = torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes]).requires_grad_()
    for y in SIGNS:
        value = each(loss, z, y)
        (slope,) = torch.autograd.grad(value.sum(), z)
        assert value.isfinite().all()
        assert slope.isfinite().all()
        assert (value >= 0).all()
        assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)


def test_torch_s_own_soft_margin_loss_overflows_where_ours_does_not():
    def torch_s(v, dtype):
        z = torch.tensor([v], dtype=dtype, requires_grad=True)
        value = F.soft_margin_loss(z, torch.ones(1, dtype=dtype))
        return value.item(), torch.autograd.grad(value, z)[0].item()

    assert torch_s(-89.0, torch.float32)[0] == math.inf
    assert torch_s(-12.0, torch.float16)[0] == math.inf
    assert math.isnan(torch_s(-100.0, torch.float32)[1])
    for dtype in (torch.float16, torch.float32):
        z = torch.tensor([-100.0], dtype=dtype, requires_grad=True)
        value = Logistic()(z, torch.ones(1, dtype=dtype))
        assert value.item() == 100.0
        assert torch.autograd.grad(value, z)[0].item() == -1.0


@pytest.mark.parametrize(
    ("dtype", "knee"), [(torch.float16, 8.0), (torch.float32, 64.0), (torch.float64, 512.0)]
)
def test_the_exponential_loss_goes_on_along_its_tangent(dtype, knee):
    z = torch.tensor([-knee + 1, -knee, -knee - 1, -knee - 3], dtype=dtype, requires_grad=True)
    value = each(Exponential(), z, 1)
    top = math.exp(knee)
    expected = torch.tensor([top / math.e, top, 2 * top, 4 * top], dtype=torch.float64)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert slope[2] == slope[3]
    assert slope[3].item() == pytest.approx(-top, rel=2e-3)


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_labels_of_nought_and_one_are_refused_with_the_right_coding(loss):
    with pytest.raises(ModelspaceError, match=rf"{loss.name} expects labels \+1 and -1.*2 \* labels - 1"):
        loss.check(torch.zeros(4), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(ModelspaceError, match=r"labels of shape \[4\].*squeeze\(-1\)"):
        loss.check(torch.zeros(4, 1), torch.ones(4))
    with pytest.raises(ModelspaceError, match=r"3 or more .*the model has 3 outputs"):
        loss.check(torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]))
    loss.check(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2]))
    loss.check(torch.zeros(4), torch.tensor([1, -1, 1, -1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryFocal(gamma=-1.0), "gamma must be a number of at least 0; received -1"),
        (lambda: BinaryPoly1(epsilon=-0.5), "epsilon must be a number of at least 0; received -0.5"),
        (lambda: Asymmetric(shift=1.0), "shift must be at least 0 and below 1; received 1"),
        (
            lambda: Asymmetric(gamma_positive=-1, gamma_negative=-2),
            "gamma_positive must .*; .*gamma_negative",
        ),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ModelspaceError, match=message):
        make()


def test_the_catalogue_has_them_by_name():
    for loss in CASES:
        assert type(CATALOGUE[loss.name]) is type(loss)
