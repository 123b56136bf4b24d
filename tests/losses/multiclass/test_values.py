import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.multiclass.formulas import FORMULAS, LOSSES, SMOOTH
from sklearn._loss.loss import HalfMultinomialLoss
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.errors import ModelspaceError
from modelspace.losses import (
    CATALOGUE,
    CrammerSinger,
    CrossEntropy,
    Focal,
    GeneralisedCrossEntropy,
    LabelSmoothing,
    Poly1,
    SymmetricCrossEntropy,
    WestonWatkins,
)

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)


def batch(*shape, dtype=torch.float64):
    outputs = 3 * torch.randn(*shape, dtype=dtype)
    return outputs, torch.randint(shape[1], (shape[0], *shape[2:]))


@every_loss
@given(
    st.integers(2, 5).flatmap(
        lambda classes: st.tuples(
            st.lists(st.floats(-20, 20), min_size=classes, max_size=classes), st.integers(0, classes - 1)
        )
    )
)
@settings(max_examples=20, deadline=None)
def test_equals_the_formula_in_python(loss, sample):
    z, y = sample
    value = loss(torch.tensor([z], dtype=torch.float64), torch.tensor([y])).item()
    assert value == pytest.approx(FORMULAS[type(loss)](loss, z, y), rel=1e-9, abs=1e-12)


@every_loss
def test_one_value_a_label_at_every_place(loss):
    outputs, labels = batch(4, 3, 2, 5)
    values = loss(outputs, labels, reduction="none")
    assert values.shape == labels.shape
    for n, i, j in [(0, 0, 0), (3, 1, 4), (2, 0, 3)]:
        exact = FORMULAS[type(loss)](loss, outputs[n, :, i, j].tolist(), labels[n, i, j].item())
        assert values[n, i, j].item() == pytest.approx(exact, rel=1e-9)
    torch.testing.assert_close(loss(outputs, labels), values.mean())


@every_loss
def test_what_is_left_out_counts_nothing(loss):
    outputs, labels = batch(6, 4)
    kept = loss(outputs[2:], labels[2:])
    labels[:2] = -100
    torch.testing.assert_close(loss(outputs, labels), kept)
    assert loss(outputs, labels, reduction="none")[:2].tolist() == [0, 0]
    assert (grad(lambda z: loss(z, labels))(outputs)[:2] == 0).all()


def test_equals_torch_where_torch_has_it():
    outputs, labels = batch(32, 5)
    smoothed = F.cross_entropy(outputs, labels, label_smoothing=0.3, reduction="none")
    torch.testing.assert_close(LabelSmoothing(0.3)(outputs, labels, reduction="none"), smoothed)
    margins = 5 * F.multi_margin_loss(outputs, labels, reduction="none")
    torch.testing.assert_close(WestonWatkins()(outputs, labels, reduction="none"), margins)
    assert not torch.allclose(CrammerSinger()(outputs, labels, reduction="none"), margins)


def test_equals_scikit_learn_s_multinomial_loss():
    outputs, labels = batch(32, 5)
    reference = HalfMultinomialLoss(n_classes=5).loss(labels.double().numpy(), outputs.numpy())
    assert CrossEntropy()(outputs, labels, reduction="none").tolist() == pytest.approx(reference.tolist())


def test_equals_optax_where_optax_has_it():
    optax = pytest.importorskip("optax")
    outputs, labels = batch(32, 5, dtype=torch.float32)
    z, y = outputs.numpy(), labels.numpy()

    def agrees(loss, reference, **tolerance):
        found = loss(outputs, labels, reduction="none")
        torch.testing.assert_close(found, torch.tensor(reference.tolist()), **tolerance)

    one_hot = F.one_hot(labels, 5).float().numpy()
    agrees(CrossEntropy(), optax.softmax_cross_entropy_with_integer_labels(z, y), rtol=1e-5, atol=1e-5)
    agrees(CrammerSinger(), optax.losses.multiclass_hinge_loss(z, y), rtol=1e-5, atol=1e-5)
    agrees(Poly1(2.0), optax.losses.poly_loss_cross_entropy(z, one_hot, epsilon=2.0), rtol=1e-5, atol=1e-5)


def test_the_limits_are_the_losses_they_are_named_for():
    outputs, labels = batch(32, 5)
    entropy = CrossEntropy()(outputs, labels, reduction="none")
    for loss in [Focal(0.0), LabelSmoothing(0.0), Poly1(0.0), GeneralisedCrossEntropy(1e-9)]:
        torch.testing.assert_close(loss(outputs, labels, reduction="none"), entropy, rtol=1e-6, atol=1e-6)
    half_absolute = (outputs.softmax(1) - F.one_hot(labels, 5)).abs().sum(1) / 2
    torch.testing.assert_close(GeneralisedCrossEntropy(1.0)(outputs, labels, reduction="none"), half_absolute)
    torch.testing.assert_close(
        SymmetricCrossEntropy(0.5, 0.25)(outputs, labels), 0.5 * Poly1(2.0)(outputs, labels)
    )


@every_loss
def test_gradient_equals_finite_differences(loss):
    outputs, labels = batch(7, 4)
    assert gradcheck(lambda z: loss(z, labels, reduction="none"), outputs.requires_grad_())


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_curvature_equals_finite_differences(loss):
    outputs, labels = batch(3, 3)
    assert gradgradcheck(lambda z: loss(z, labels, reduction="sum"), outputs.requires_grad_())


def test_the_sum_over_many_rivals_outgrows_float16_but_not_the_loss():
    outputs = torch.full((1, 200), 1e3, dtype=torch.float16)
    outputs[0, 0] = -1e3
    assert (F.multi_margin_loss(outputs.float(), torch.tensor([0])) * 200).half().isinf()
    assert WestonWatkins()(outputs, torch.tensor([0])).item() == 199 * 2001


EXTREMES = {torch.float16: 1e3, torch.bfloat16: 1e3, torch.float32: 1e4, torch.float64: 1e4}


@pytest.mark.parametrize("dtype", EXTREMES, ids=str)
@every_loss
def test_extreme_scores_leave_value_and_gradient_finite(loss, dtype):
    far = EXTREMES[dtype]
    levels = torch.tensor([-far, 0.0, 1.0, far])
    outputs = torch.cartesian_prod(levels, levels, levels, levels).to(dtype).requires_grad_()
    for y in range(4):
        values = loss(outputs, torch.full((len(outputs),), y), reduction="none")
        assert values.dtype in (dtype, torch.float32)
        assert values.isfinite().all()
        (gradient,) = torch.autograd.grad(values.sum(), outputs)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [n for n, loss in CATALOGUE.items() if type(loss) in FORMULAS])
def test_members_with_their_own_parameters_equal_the_loop(name):
    loss = CATALOGUE[name]
    outputs, labels = 3 * torch.randn(4, 6, 3), torch.randint(3, (4, 6))
    own = torch.tensor([0.1, 0.35, 0.5, 0.9])
    columns = dict.fromkeys(loss.hyperparameters(), own)

    def score(z, y, values):
        return loss.at(values)(z, y)

    batched = vmap(grad(score))
    found = batched(outputs, labels, columns)
    traced = make_fx(batched)(outputs, labels, columns)(outputs, labels, columns)
    for k in range(4):
        alone = loss.at({n: own[k].item() for n in columns})
        expected = grad(lambda z, y=labels[k], f=alone: f(z, y))(outputs[k])
        torch.testing.assert_close(found[k], expected)
        torch.testing.assert_close(traced[k], expected)


@every_loss
def test_one_column_and_one_hot_labels_are_refused(loss):
    with pytest.raises(ModelspaceError, match="single column"):
        loss(torch.zeros(4, 1), torch.zeros(4).long())
    with pytest.raises(ModelspaceError, match=r"labels\.argmax\(1\)"):
        loss(torch.zeros(4, 3), torch.zeros(4, 3).long())
    with pytest.raises(ModelspaceError, match="2 of 4 labels are 3 or more"):
        loss.check(torch.zeros(4, 3), torch.tensor([0, 3, 3, 1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LabelSmoothing(1.0),
            "label smoothing smoothing must be at least 0 and below 1; received 1.0",
        ),
        (lambda: Focal(-1.0), "gamma must be a number of at least 0; received -1.0"),
        (lambda: Poly1(-0.5), "epsilon must be a number of at least 0; received -0.5"),
        (lambda: GeneralisedCrossEntropy(0.0), "q must be above 0 and at most 1; received 0.0"),
        (lambda: SymmetricCrossEntropy(0.0), "forward_weight must be a positive number; received 0.0"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ModelspaceError, match=message):
        make()
