"""Every cell that a structured loss states, proved from below by a witness and from above by a search."""

import math

import pytest
import torch
from losses.structured.formulas import CASES, grouped
from torch.func import grad, jacrev, vmap

from modelspace.losses import (
    BinaryCrossEntropy,
    Coral,
    Dice,
    Distillation,
    FocalTversky,
    InfoNCE,
    LovaszHinge,
    LovaszSoftmax,
    MultilabelLogistic,
    MultilabelRanking,
    Triplet,
    Tversky,
)
from modelspace.losses.catalogue import STRUCTURED


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


def row(*values):
    return torch.tensor([values])


def masks(*sizes):
    """Masks of that many places, all of them in the region, none, or half."""
    return [m for n in sizes for m in (ones(1, n), 0 * ones(1, n), (torch.arange(n) % 2)[None])]


TEACHERS = [torch.tensor([[3.0, 0.0, -2.0]]).double(), torch.tensor([[200.0, 0.0, 0.0]]).double()]
# A loss, the shape of a batch's outputs, given its labels, and the labels that it is tried at.
STATED = [
    (MultilabelLogistic(), lambda y: (1, 1), [ones(1, 1), 0 * ones(1, 1)]),
    (MultilabelRanking(), lambda y: y.shape, [row(1, 0), row(1, 1, 0), row(1, 0, 1, 0), row(1, 0, 0, 0)]),
    (LovaszHinge(), lambda y: y.shape, masks(1, 3)),
    (LovaszSoftmax(), lambda y: (1, 3, y.shape[1]), [row(0), row(0, 1), row(0, 2, 2)]),
    (Triplet(), lambda y: (len(y), 2), [torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1, 1])]),
    (Distillation(), lambda y: y.shape, TEACHERS),
    (Distillation(5.0), lambda y: y.shape, TEACHERS),
]
stated = pytest.mark.parametrize(("loss", "shape", "labels"), STATED, ids=[str(loss) for loss, *_ in STATED])


def of_first(loss, y):
    """The first value of a batch, as a function of all outputs."""
    return lambda z: loss(z, y, reduction="none").flatten()[0]


def search(size, shape, points=500, rounds=50, kept=5):
    """The greatest ``size`` of outputs, by random points and then by steps that shrink around the best."""
    size = vmap(size)
    z = torch.cat([torch.randn(points, *shape, dtype=torch.float64) * s for s in (0.5, 2.0, 6.0, 200.0)])
    best = z[size(z).topk(kept).indices]
    for step in torch.logspace(0.5, -4, rounds):
        near = best[:, None] + step * torch.randn(kept, 12, *shape, dtype=torch.float64)
        near[:, 0] = best
        chosen = size(near.flatten(0, 1)).view(kept, 12).argmax(1)
        best = near[torch.arange(kept), chosen]
    return size(best).max().item()


@stated
def test_the_gradient_is_no_longer_than_stated_and_as_long(loss, shape, labels):
    found = max(search(lambda z, y=y: grad(of_first(loss, y))(z).norm(), shape(y)) for y in labels)
    assert found == pytest.approx(loss.properties.lipschitz, abs=1e-3)
    assert found <= loss.properties.lipschitz + 1e-9


SMOOTH = [entry for entry in STATED if entry[0].properties.smooth not in (None, math.inf)]


@pytest.mark.parametrize(("loss", "shape", "labels"), SMOOTH, ids=[str(loss) for loss, *_ in SMOOTH])
def test_the_curvature_is_no_greater_than_stated_and_as_great(loss, shape, labels):
    def norm(z, y):
        size = z.numel()
        return torch.linalg.matrix_norm(jacrev(grad(of_first(loss, y)))(z).reshape(size, size), 2)

    found = max(search(lambda z, y=y: norm(z, y), shape(y), points=200) for y in labels)
    assert found == pytest.approx(loss.properties.smooth, abs=1e-3)
    assert found <= loss.properties.smooth + 1e-9


def test_coral_s_constants():
    y = torch.tensor([3])
    for cumulative in (1, 3, 6):
        steep = search(lambda z: grad(of_first(Coral(), y))(z).norm(), (1, cumulative))
        assert steep == pytest.approx(math.sqrt(cumulative), abs=1e-3)
    assert Coral().properties.lipschitz == math.inf
    bent = torch.linalg.matrix_norm(jacrev(grad(of_first(Coral(), y)))(torch.zeros(1, 6)).reshape(6, 6), 2)
    assert bent.item() == pytest.approx(Coral().properties.smooth)


def test_short_embeddings_leave_info_nce_without_a_constant():
    z, y = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    steep = [grad(of_first(InfoNCE(), y))(shrink * z).norm().item() for shrink in (1, 1e-2, 1e-4)]
    assert steep[2] == pytest.approx(100 * steep[1], rel=1e-6) == pytest.approx(1e4 * steep[0], rel=1e-6)
    assert InfoNCE().properties.lipschitz == InfoNCE().properties.smooth == math.inf


@pytest.mark.parametrize("loss", [LovaszHinge(), LovaszSoftmax(), Triplet()], ids=str)
def test_a_kink_has_no_smoothness(loss):
    assert loss.properties.smooth == math.inf
    if isinstance(loss, LovaszHinge):
        z, y, step = torch.tensor([[1.0]]), row(1), torch.tensor([[1e-3]])
    elif isinstance(loss, LovaszSoftmax):  # two places change places in the order of their errors
        z, y = torch.zeros(1, 2, 2), row(0, 1)
        z[0, 0] = torch.tensor([1.0, -1.0])
        step = torch.zeros(1, 2, 2)
        step[0, 0, 0] = 1e-3
    else:  # the partner and the stranger as far: margin 0.2 makes the corner at -0.2
        z, y = torch.tensor([[0.0], [1.0], [-1.2]]), torch.tensor([0, 0, 1])
        step = torch.tensor([[0.0], [1e-3], [0.0]])
    slope = grad(of_first(loss, y))
    turn = (slope(z.double() + step) - slope(z.double() - step)).norm()
    assert turn / 2e-3 > 20


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convex_or_a_chord_below_the_curve(case):
    above = []
    for scale in (1.0, 3.0, 10.0):
        for _ in range(150):
            _, labels = case.batch()
            a, b = (scale * torch.randn(case.shape, dtype=torch.float64) for _ in range(2))
            value = [case.loss(z, labels, reduction="none") for z in ((a + b) / 2, a, b)]
            above.append((value[0] - (value[1] + value[2]) / 2).max())
    if case.loss.properties.convex:
        assert max(above) <= 1e-9
    else:
        assert max(above) > 1e-3


@pytest.mark.parametrize("loss", [Dice(), Tversky(), FocalTversky(), LovaszSoftmax()], ids=str)
def test_the_bound_is_met_in_the_limit_and_not_passed(loss):
    if isinstance(loss, LovaszSoftmax):
        z, y = torch.full((1, 2, 5), 40.0), ones(1, 5)
        z[0, 1] = -40
    else:
        z, y = torch.full((1, 100_000), -40.0), ones(1, 100_000)
    assert loss(z.double(), y).item() == pytest.approx(loss.properties.bound, abs=1e-3)
    drawn = torch.randn(300, 6, dtype=torch.float64) * 20
    many = torch.stack([drawn, -drawn], 1) if isinstance(loss, LovaszSoftmax) else drawn
    values = loss(many, torch.randint(2, (300, 6)), reduction="none")
    assert values.min() >= 0
    assert values.max() <= loss.properties.bound


def test_info_nce_s_bound_with_n_embeddings():
    for temperature in (0.1, 1.0):
        z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], *[[1.0, 0.0]] * 5]).double()
        worst = InfoNCE(temperature)(z, torch.tensor([0, 0, 1, 2, 3, 4, 5]), reduction="none")[0].item()
        limit = 2 / temperature + math.log(6)
        assert limit - 0.2 < worst <= limit
        values = InfoNCE(temperature)(torch.randn(7, 2).double(), grouped(), reduction="none")
        assert values.max() <= limit


def numerical(risk, size):
    """The least of a risk in ``size`` variables, by Newton's method of torch's own making."""
    z = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], lr=1, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure():
        optimizer.zero_grad()
        value = risk(z)
        value.backward()
        return value

    optimizer.step(closure)
    return z.detach()


def test_multilabel_logistic_is_minimised_by_the_log_odds_and_proper():
    loss = MultilabelLogistic()
    for p in (0.05, 0.4, 0.8):

        def risk(z, p=p):
            yes, no = (loss(z.view(1, 1), y) for y in (ones(1, 1), 0 * ones(1, 1)))
            return p * yes + (1 - p) * no

        found = numerical(risk, 1)
        exact = loss.minimiser(torch.tensor([p], dtype=torch.float64))
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)
        assert loss.probability(exact).item() == pytest.approx(p)
        assert (exact > 0).item() is (p > 0.5)
    assert loss.properties.calibrated
    assert loss.properties.proper


@pytest.mark.parametrize("p", [(0.1, 0.2, 0.4, 0.3), (0.4, 0.35, 0.25), (0.25, 0.25, 0.5)])
def test_coral_is_minimised_by_the_cumulative_log_odds_and_proper(p):
    loss, exact = Coral(), torch.tensor([p], dtype=torch.float64)
    ranks = torch.arange(len(p))

    def risk(z):
        return (loss(z.expand(len(p), -1), ranks, reduction="none") * exact[0]).sum()

    found = numerical(risk, len(p) - 1)
    torch.testing.assert_close(found, loss.minimiser(exact)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.probability(loss.minimiser(exact)), exact)
    assert loss.properties.proper
    assert loss.properties.calibrated


def test_distillation_is_minimised_by_the_mean_softened_teacher():
    teachers = 3 * torch.randn(5, 4, dtype=torch.float64)
    for temperature in (1.0, 4.0):
        loss = Distillation(temperature)
        found = numerical(lambda z, f=loss: f(z.expand(5, -1), teachers), 4)
        exact = loss.minimiser(teachers)
        torch.testing.assert_close(found - found.mean(), exact - exact.mean(), rtol=1e-4, atol=1e-4)
    alone = Distillation().minimiser(teachers[:1])
    torch.testing.assert_close(alone - alone.mean(), teachers[0] - teachers[0].mean())


def test_a_hot_teacher_s_loss_is_half_the_mean_squared_error_of_the_centred_logits():
    z, t = torch.randn(2, 6, 4, dtype=torch.float64)
    centred = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    torch.testing.assert_close(
        Distillation(1e4)(z, t, reduction="none"), centred.square().mean(1) / 2, rtol=1e-3, atol=1e-6
    )


def test_every_structured_loss_of_the_catalogue_is_here():
    assert {type(case.loss) for case in CASES} == set(STRUCTURED) - {BinaryCrossEntropy}


def test_what_couples_a_batch_says_so():
    for loss in (InfoNCE(), Triplet()):
        assert "couples the batch" in loss.properties.notes
    for loss in (Dice(), Tversky(), FocalTversky(), LovaszHinge(), LovaszSoftmax()):
        assert "one value a sample" in loss.properties.notes
