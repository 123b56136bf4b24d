"""Losses equal those of PyTorch, scikit-learn, SciPy, optax, torch.distributions, and each other's special cases."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses.table import at
from scipy import special
from sklearn._loss import loss as sklearn_loss
from sklearn.linear_model import _sgd_fast
from sklearn.metrics import mean_tweedie_deviance
from torch import nn
from torch.func import grad

from modelspace import losses as ms

G = torch.Generator().manual_seed(0)
V = torch.linspace(-9, 9, 181, dtype=torch.float64) + 0.0123
SIGNS = torch.where(torch.arange(len(V)) % 2 == 0, 1.0, -1.0).double()
Z, Y = at(0.5, -1.0, 1.2, 0.0, 2.0), at(0.0, 1.0, 3.0, 2.0, 7.0)
LOGITS, CLASSES = (
    3 * torch.randn(32, 5, generator=G, dtype=torch.float64),
    torch.randint(5, (32,), generator=G),
)
HOT = F.one_hot(CLASSES, 5).double()
MASKS = torch.randint(2, (32, 5), generator=G)
TAUGHT = torch.randn(32, 5, generator=G, dtype=torch.float64)
POINTS, GROUPS = torch.randn(7, 3, generator=G, dtype=torch.float64), torch.tensor([0, 2, 1, 0, 2, 2, 7])


def each(function, outputs, labels, **more):
    return function(outputs, labels, reduction="none", **more)


def kl(student, teacher, t):
    return t**2 * F.kl_div(
        (student / t).log_softmax(1), (teacher / t).log_softmax(1), log_target=True, reduction="none"
    )


UP, P = (SIGNS + 1) / 2, V.sigmoid()
TWO, MU, S, T = LOGITS[:, :2], *LOGITS[:, :3].unbind(1)
LOGISTIC, ENTROPY = each(ms.Logistic(), V, SIGNS), each(F.cross_entropy, LOGITS, CLASSES)
MULTINOMIAL = sklearn_loss.HalfMultinomialLoss(n_classes=5).loss(CLASSES.double().numpy(), LOGITS.numpy())
normal, laplace, gamma, poisson = (
    getattr(torch.distributions, n) for n in ("Normal", "Laplace", "Gamma", "Poisson")
)
SAME = {  # a loss, outputs, labels, and the same by PyTorch, by another library, or by another loss of ours
    "soft_margin": (ms.Logistic(), V, SIGNS, each(F.soft_margin_loss, V, SIGNS)),
    "ranking": (ms.Hinge(), V, SIGNS, F.margin_ranking_loss(V, 0 * V, SIGNS, margin=1, reduction="none")),
    "ranking at 0": (ms.Perceptron(), V, SIGNS, F.margin_ranking_loss(V, 0 * V, SIGNS, reduction="none")),
    "bce": (ms.BinaryCrossEntropy(), P, UP, each(F.binary_cross_entropy, P, UP)),
    "mse": (ms.LeastSquares(), Z, Y, each(F.mse_loss, Z, Y) / 2),
    "l1": (ms.Absolute(), Z, Y, each(F.l1_loss, Z, Y)),
    "huber": (ms.Huber(0.7), Z, Y, each(F.huber_loss, Z, Y, delta=0.7)),
    "smooth l1": (ms.Huber(0.7), Z, Y, 0.7 * each(F.smooth_l1_loss, Z, Y, beta=0.7)),
    "poisson": (ms.Poisson(full=False), Z, Y, each(F.poisson_nll_loss, Z, Y)),
    "gaussian": (ms.Gaussian(), TWO, T, each(F.gaussian_nll_loss, MU, T, var=S.exp(), full=True)),
    "smoothing": (
        ms.LabelSmoothing(0.3),
        LOGITS,
        CLASSES,
        each(F.cross_entropy, LOGITS, CLASSES, label_smoothing=0.3),
    ),
    "multi margin": (ms.WestonWatkins(), LOGITS, CLASSES, 5 * each(F.multi_margin_loss, LOGITS, CLASSES)),
    "sets": (
        ms.MultilabelLogistic(),
        LOGITS,
        MASKS,
        each(F.binary_cross_entropy_with_logits, LOGITS, MASKS.double()),
    ),
    "kl": (ms.Distillation(3.0), LOGITS, TAUGHT, kl(LOGITS, TAUGHT, 3.0).sum(1)),
    "Poisson's": (ms.Poisson(), Z, Y, -poisson(Z.exp()).log_prob(Y)),
    "gamma's": (ms.Gamma(3.0), Z, Y + 0.5, -gamma(at(3.0), 3.0 / Z.exp()).log_prob(Y + 0.5)),
    "Gauss's": (ms.Gaussian(), TWO, T, -normal(MU, (S / 2).exp()).log_prob(T)),
    "Laplace's": (ms.Laplace(), TWO, T, -laplace(MU, S.exp()).log_prob(T)),
    "SciPy's huber": (ms.Huber(2.0), Z, Y, torch.from_numpy(special.huber(2.0, (Y - Z).numpy()))),
    "SciPy's pseudo": (
        ms.PseudoHuber(2.0),
        Z,
        Y,
        torch.from_numpy(special.pseudo_huber(2.0, (Y - Z).numpy())),
    ),
    "scikit-learn's multinomial": (ms.CrossEntropy(), LOGITS, CLASSES, torch.from_numpy(MULTINOMIAL)),
    "focal at 0": (ms.BinaryFocal(0.0), V, SIGNS, LOGISTIC),
    "poly1 at 0": (ms.BinaryPoly1(0.0), V, SIGNS, LOGISTIC),
    "asymmetric at 0": (ms.Asymmetric(0.0, 0.0, 0.0), V, SIGNS, LOGISTIC),
    "asymmetric alike": (ms.Asymmetric(2.0, 2.0, 0.0), V, SIGNS, each(ms.BinaryFocal(2.0), V, SIGNS)),
    "classes, focal at 0": (ms.Focal(0.0), LOGITS, CLASSES, ENTROPY),
    "classes, poly1 at 0": (ms.Poly1(0.0), LOGITS, CLASSES, ENTROPY),
    "smoothing at 0": (ms.LabelSmoothing(0.0), LOGITS, CLASSES, ENTROPY),
    "q to 0": (ms.GeneralisedCrossEntropy(1e-9), LOGITS, CLASSES, ENTROPY),
    "q at 1": (ms.GeneralisedCrossEntropy(1.0), LOGITS, CLASSES, (LOGITS.softmax(1) - HOT).abs().sum(1) / 2),
    "both ways": (
        ms.SymmetricCrossEntropy(0.5, 0.25),
        LOGITS,
        CLASSES,
        each(ms.Poly1(2.0), LOGITS, CLASSES) / 2,
    ),
    "dice": (ms.Tversky(0.5, 0.5, 0.7), LOGITS, MASKS, each(ms.Dice(1.4), LOGITS, MASKS)),
    "power 1": (
        ms.FocalTversky(0.3, 0.7, 0.7, 1.0),
        LOGITS,
        MASKS,
        each(ms.Tversky(0.3, 0.7, 0.7), LOGITS, MASKS),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_equals_another_s_function(name):
    loss, outputs, labels, expected = SAME[name]
    torch.testing.assert_close(each(loss, outputs, labels), expected, rtol=1e-6, atol=1e-8)


def test_crammer_and_singer_s_loss_is_not_torch_s():
    theirs = each(F.multi_margin_loss, LOGITS, CLASSES)
    assert not torch.allclose(each(ms.CrammerSinger(), LOGITS, CLASSES), 5 * theirs)


def test_none_of_the_lecture_s_classes_is_its_formula():
    z, y = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0])
    assert nn.MSELoss()(z, y) == 2 * ms.LeastSquares()(z, y)
    assert nn.CrossEntropyLoss()(z, y) != ms.BinaryCrossEntropy()(z.clamp(max=1), y)


SKLEARN_MARGINS = {
    "hinge": (ms.Hinge(), lambda: _sgd_fast.Hinge(1.0)),
    "perceptron": (ms.Perceptron(), lambda: _sgd_fast.Hinge(0.0)),
    "squared_hinge": (ms.SquaredHinge(), lambda: _sgd_fast.SquaredHinge(1.0)),
    "modified_huber": (ms.ModifiedHuber(), _sgd_fast.ModifiedHuber),
    "epsilon_insensitive": (ms.EpsilonInsensitive(0.25), lambda: _sgd_fast.EpsilonInsensitive(0.25)),
}


@pytest.mark.parametrize("name", SKLEARN_MARGINS)
def test_equals_scikit_learn_in_value_and_gradient_kinks_included(name):
    loss, make = SKLEARN_MARGINS[name]
    reference, z = make(), at(-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0)
    for y in (1.0, -1.0):
        values = each(loss, z, torch.full_like(z, y)).tolist()
        slopes = grad(lambda z, y=y: each(loss, z, torch.full_like(z, y)).sum())(z).tolist()
        for score, value, slope in zip(z.tolist(), values, slopes, strict=True):
            assert value == pytest.approx(reference.py_loss(y, score), abs=1e-15)
            assert slope == pytest.approx(reference.py_dloss(score, y), abs=1e-15)


SKLEARN = {
    "squares": (ms.LeastSquares(), sklearn_loss.HalfSquaredError()),
    "absolute": (ms.Absolute(), sklearn_loss.AbsoluteError()),
    "pinball": (ms.Pinball(0.8), sklearn_loss.PinballLoss(quantile=0.8)),
    "poisson": (ms.Poisson(full=False), sklearn_loss.HalfPoissonLoss()),
    "gamma": (ms.Gamma(1.0), sklearn_loss.HalfGammaLoss()),
    "tweedie": (ms.Tweedie(1.3), sklearn_loss.HalfTweedieLoss(power=1.3)),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_equals_scikit_learn_up_to_what_labels_alone_decide(name):
    loss, reference = SKLEARN[name]
    positive, raw = (Y + 0.6).numpy(), Z.numpy()
    value, slope = reference.loss_gradient(positive, raw)
    difference = each(loss, Z, Y + 0.6) - each(loss, 0 * Z, Y + 0.6)
    np.testing.assert_allclose(difference, value - reference.loss(positive, 0 * raw), rtol=1e-10, atol=1e-12)
    own = grad(lambda z: loss(z, Y + 0.6, reduction="sum"))(Z)
    np.testing.assert_allclose(own, slope, rtol=1e-10, atol=1e-12)


def test_equals_half_the_tweedie_deviance_up_to_what_labels_alone_decide():
    y, a, b = at(0.0, 0.5, 3.0), at(0.1, -0.4, 1.0), at(0.7, 0.2, -0.3)
    for power in (1.2, 1.5, 1.8):
        deviances = [mean_tweedie_deviance(y.numpy(), z.exp().numpy(), power=power) / 2 for z in (a, b)]
        assert (ms.Tweedie(power)(a, y) - ms.Tweedie(power)(b, y)).item() == pytest.approx(
            deviances[0] - deviances[1]
        )


OPTAX = {
    "hinge_loss": (ms.Hinge(), V, SIGNS, {}),
    "perceptron_loss": (ms.Perceptron(), V, SIGNS, {}),
    "sigmoid_focal_loss": (ms.BinaryFocal(2.0), V, torch.ones_like(V), {"gamma": 2.0}),
    "l2_loss": (ms.LeastSquares(), Z, Y, {}),
    "log_cosh": (ms.LogCosh(), Z, Y, {}),
    "huber_loss": (ms.Huber(0.7), Z, Y, {"delta": 0.7}),
    "softmax_cross_entropy_with_integer_labels": (ms.CrossEntropy(), LOGITS, CLASSES, {}),
    "multiclass_hinge_loss": (ms.CrammerSinger(), LOGITS, CLASSES, {}),
}


@pytest.mark.parametrize("name", OPTAX)
def test_equals_optax(name):
    optax = pytest.importorskip("optax")
    loss, outputs, labels, own = OPTAX[name]
    outputs = outputs.float()
    labels = labels.float() if labels.is_floating_point() else labels
    expected = torch.tensor(np.asarray(getattr(optax.losses, name)(outputs.numpy(), labels.numpy(), **own)))
    torch.testing.assert_close(each(loss, outputs, labels), expected, rtol=1e-4, atol=1e-5)


def test_equals_optax_where_labels_are_shaped_otherwise():
    losses = pytest.importorskip("optax").losses
    z, hot = LOGITS.float(), HOT.float()
    poly = losses.poly_loss_cross_entropy(z.numpy(), hot.numpy(), epsilon=2.0)
    assert each(ms.Poly1(2.0), z, CLASSES).tolist() == pytest.approx(poly.tolist(), rel=1e-4)
    # optax takes the sum over an anchor's partners, which is the mean where there is one.
    pairs, points = torch.tensor([0, 1, 2, 0, 1, 2]), POINTS[:6].float()
    reference = losses.ntxent(points.numpy(), pairs.numpy(), temperature=0.4)
    assert ms.InfoNCE(0.4)(points, pairs).item() == pytest.approx(float(reference), rel=1e-4)
    asymmetric = {"smooth": 0.5, "alpha": 0.2, "beta": 0.9}
    for ours, own in ((ms.Dice(2.0), {"smooth": 1.0}), (ms.Tversky(0.2, 0.9, 0.5), asymmetric)):
        theirs = losses.dice_loss(z.numpy()[..., None], MASKS.float().numpy()[..., None], **own)
        assert each(ours, z, MASKS).tolist() == pytest.approx(theirs.tolist(), rel=1e-4)
    scores, classes = torch.randn(4, 3, 5), torch.randint(3, (4, 5))
    last = scores.movedim(1, -1).numpy(), F.one_hot(classes, 3).float().numpy()
    assert ms.Dice(2.0)(scores, classes).item() == pytest.approx(
        float(losses.dice_loss(*last).mean()), rel=1e-4
    )


def test_the_hardest_triplets_are_torch_s_triplets():
    values = each(ms.Triplet(0.5), POINTS, GROUPS)
    for i in (0, 1, 3, 4, 5):
        triplets = [
            F.triplet_margin_loss(POINTS[i], POINTS[j], POINTS[k], margin=0.5, eps=0).item()
            for j in range(7)
            for k in range(7)
            if j != i and GROUPS[j] == GROUPS[i] != GROUPS[k]
        ]
        assert values[i].item() == pytest.approx(max(triplets), rel=1e-5)


def test_info_nce_is_a_cross_entropy_over_the_others():
    unit = F.normalize(POINTS[:6])
    logits = (unit @ unit.T / 0.3).fill_diagonal_(-torch.inf)
    expected = each(F.cross_entropy, logits, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(each(ms.InfoNCE(0.3), POINTS[:6], torch.tensor([0, 1, 2, 0, 1, 2])), expected)


def test_certain_outputs_have_the_jaccard_and_the_dice_index_of_sets():
    y, found = torch.tensor([[1, 1, 1, 0, 0, 0]]), torch.tensor([[1, 1, 0, 1, 0, 0]])
    z = 40.0 * (2 * found - 1)
    assert ms.Tversky(1.0, 1.0, 1e-9)(z, y).item() == pytest.approx(1 - 2 / 4)
    assert ms.Dice(1e-9)(z, y).item() == pytest.approx(1 - 4 / 6)
    assert ms.LovaszSoftmax()(torch.stack([-z, z], 1), y).item() == pytest.approx((1 - 2 / 4 + 1 - 2 / 4) / 2)
    # Hinges of 2 where wrong, 0 where right.
    assert ms.LovaszHinge()(z / 40, y).item() == pytest.approx(2 * (1 - 2 / 4))


def test_a_hot_teacher_s_loss_is_half_the_mean_squared_error_of_the_centred_logits():
    centred = (LOGITS - LOGITS.mean(1, keepdim=True)) - (TAUGHT - TAUGHT.mean(1, keepdim=True))
    expected = centred.square().mean(1) / 2
    torch.testing.assert_close(each(ms.Distillation(1e4), LOGITS, TAUGHT), expected, rtol=1e-3, atol=1e-6)


def test_likelihoods_are_those_of_densities_that_integrate_to_one():
    def mass(loss, z, y):
        return torch.trapezoid((-each(loss, z, y)).exp(), y).item()

    y = torch.linspace(-60, 60, 120_001, dtype=torch.float64)
    for loss in (ms.Gaussian(), ms.Laplace()):
        assert mass(loss, at(0.3, 0.7).expand(len(y), 2), y) == pytest.approx(1, abs=1e-6)
    y = torch.linspace(1e-6, 80, 200_001, dtype=torch.float64)
    assert mass(ms.Gamma(2.5), torch.full_like(y, 0.7), y) == pytest.approx(1, abs=1e-6)
    counts = torch.arange(60, dtype=torch.float64)
    assert math.fsum((-each(ms.Poisson(), torch.full_like(counts, 0.7), counts)).exp()) == pytest.approx(1)
