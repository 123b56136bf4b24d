"""Every constant that a multiclass loss states, proved from below by a witness and from above by a search."""

import math

import pytest
import torch
from losses.multiclass.formulas import HINGES, LOSSES, SMOOTH
from torch.func import grad, jacrev, vmap

from modelspace.losses import CrossEntropy, Focal, GeneralisedCrossEntropy, LeeLinWahba, Poly1, WestonWatkins
from modelspace.losses.catalogue import MULTICLASS
from modelspace.losses.multiclass.label_smoothing import LabelSmoothing

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)


def of_one(loss):
    """The loss of one sample's scores, at label 0; the classes are alike."""
    label = torch.zeros(1).long()
    return lambda z: loss(z[None], label, reduction="sum")


def greatest(size, classes, points=1000, rounds=50, kept=6):
    """The greatest ``size`` of scores, by random points and then by steps that shrink around the best."""
    size = vmap(size)
    z = torch.cat([torch.randn(points, classes, dtype=torch.float64) * s for s in (0.5, 2.0, 5.0)])
    best = z[size(z).topk(kept).indices]
    for step in torch.logspace(0, -4, rounds):
        near = best[:, None] + step * torch.randn(kept, 12, classes, dtype=torch.float64)
        near[:, 0] = best
        chosen = size(near.flatten(0, 1)).view(kept, 12).argmax(1)
        best = near[torch.arange(kept), chosen]
    return size(best).max().item()


@every_loss
def test_the_gradient_is_no_longer_than_stated_and_as_long(loss):
    lengths = [greatest(lambda z: grad(of_one(loss))(z).norm(), classes) for classes in (2, 3, 4)]
    stated = loss.properties.lipschitz
    if isinstance(loss, LabelSmoothing):
        exact = [math.sqrt(stated**2 - loss.smoothing**2 / classes) for classes in (2, 3, 4)]
        assert lengths == pytest.approx(exact, abs=1e-3)
        many = torch.zeros(4000, dtype=torch.float64)
        many[1] = 50
        assert grad(of_one(loss))(many).norm().item() == pytest.approx(stated, abs=1e-3)
    elif isinstance(loss, WestonWatkins):
        assert stated == math.inf
        assert lengths == pytest.approx([math.sqrt(c * (c - 1)) for c in (2, 3, 4)])
    elif isinstance(loss, LeeLinWahba):
        assert stated == math.inf
        assert lengths == pytest.approx(
            [max(math.sqrt(k * (c - k) / c) for k in range(1, c)) for c in (2, 3, 4)]
        )
    else:
        assert max(lengths) == pytest.approx(stated, abs=1e-3)
        assert max(lengths) <= stated + 1e-6


def norm_of_hessian(loss):
    return lambda z: torch.linalg.matrix_norm(jacrev(grad(of_one(loss)))(z), 2)


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_the_curvature_is_no_greater_than_stated_and_as_great(loss):
    found = max(greatest(norm_of_hessian(loss), classes, points=400, rounds=40) for classes in (2, 3, 5))
    assert found == pytest.approx(loss.properties.smooth, abs=1e-3)
    assert found <= loss.properties.smooth + 1e-6


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if isinstance(loss, HINGES)], ids=str)
def test_a_kink_has_no_smoothness(loss):
    assert loss.properties.smooth == math.inf
    z = 3 * torch.randn(20000, 3, dtype=torch.float64)
    slope = vmap(grad(of_one(loss)))
    turned = (slope(z + 1e-3) - slope(z)).norm(dim=1) < 1e-12  # the same shift of all: no turn
    assert turned.all()
    step = torch.tensor([1e-3, 0, 0], dtype=torch.float64)
    assert ((slope(z + step) - slope(z)).norm(dim=1) / 1e-3).max() > 500


@every_loss
def test_convex_or_a_chord_below_the_curve(loss):
    value = vmap(of_one(loss))
    scale = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64).repeat_interleave(10000)[:, None]
    a, b = (scale * torch.randn(30000, 3, dtype=torch.float64) for _ in range(2))
    above = value((a + b) / 2) - (value(a) + value(b)) / 2
    if loss.properties.convex:
        assert above.max() <= 1e-9
    else:
        assert above.max() > 1e-3


@every_loss
def test_the_bound_is_met_and_not_passed(loss):
    z = torch.randn(5000, 4, dtype=torch.float64) * 300
    z = torch.cat([z, torch.tensor([[0.0, 1e5, -1e5, -1e5]], dtype=torch.float64)])
    values = vmap(of_one(loss))(z)
    if loss.properties.bound == math.inf:
        assert values.max() > 1e3
    else:
        assert values.max().item() == pytest.approx(loss.properties.bound, abs=1e-3)
        assert values.max() <= loss.properties.bound + 1e-9
    assert values.min() >= -1e-12


def test_constants_of_closed_form():
    def lipschitz(loss):
        return loss.properties.lipschitz / math.sqrt(2)

    assert CrossEntropy().properties.smooth == Focal(0.0).properties.smooth == pytest.approx(0.5)
    assert lipschitz(Focal(2.0)) == pytest.approx(1.13, abs=5e-3)  # with two classes, in the margin
    for epsilon in (0.5, 1.0, 3.0):
        exact = 1 if epsilon <= 1 else (1 + epsilon) ** 2 / (4 * epsilon)
        assert lipschitz(Poly1(epsilon)) == pytest.approx(exact, abs=1e-6)
    for q in (0.2, 0.7, 1.0):
        assert lipschitz(GeneralisedCrossEntropy(q)) == pytest.approx(q**q / (1 + q) ** (1 + q), abs=1e-6)


def test_every_multiclass_loss_of_the_catalogue_is_here():
    assert {type(loss) for loss in LOSSES} == set(MULTICLASS)


def test_sizes_are_found_where_they_are_known():
    assert greatest(lambda z: 2 - (z - 1).square().sum(), 3) == pytest.approx(2, abs=1e-3)
