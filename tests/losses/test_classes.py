"""Weights of classes and labels that are left out, of every loss of classes at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.table import CASES
from sklearn.utils.class_weight import compute_class_weight
from support.plain import relative_error
from torch import nn
from torch.func import grad, vmap

import modelspace as ms
from modelspace import losses
from modelspace.data import Data, Split, epoch_indices
from modelspace.errors import ModelspaceError
from modelspace.losses import ClassLoss, Weighted, resolve
from modelspace.metrics import METRICS
from modelspace.nest import WeightedLabels

OF_CLASSES = [case for case in CASES if isinstance(case.loss, ClassLoss)]
PLACES = losses.RegionLoss, losses.LovaszHinge, losses.LovaszSoftmax
G = torch.Generator().manual_seed(0)
Z, Y = torch.randn(12, 3, generator=G, dtype=torch.float64), torch.arange(12) % 3
W = [0.5, 3.0, 1.25]
SIGNS, HALF = 2 * (Y > 0).long() - 1, Z[:, 0]


def test_every_loss_of_classes_has_both():
    others = {name for name, loss in losses.CATALOGUE.items() if not isinstance(loss, ClassLoss)}
    regression = {
        name for name, loss in losses.CATALOGUE.items() if loss.labels in ("real", "positive", "count")
    }
    assert others == regression


# A loss, PyTorch's, outputs and labels; the reduction where a mean of PyTorch's is over all labels alike.
W_ = torch.tensor(W, dtype=torch.float64)
OUT = torch.where(torch.arange(12) % 4 == 0, -100, Y)
PIXELS = torch.randn(4, 3, 2, 2, generator=G, dtype=torch.float64), torch.arange(16).view(4, 2, 2) % 3
SETS = (torch.rand(12, 3, generator=G) > 0.5).long()
TORCHS = {
    "weight": (losses.CrossEntropy(weight=W), nn.CrossEntropyLoss(W_), Z, Y, "mean"),
    "both": (losses.CrossEntropy(weight=W), nn.CrossEntropyLoss(W_), Z, OUT, "mean"),
    "default": ("cross_entropy", nn.CrossEntropyLoss(), Z, OUT, "mean"),
    "another": (
        losses.CrossEntropy(weight=W, ignore_index=1),
        nn.CrossEntropyLoss(W_, ignore_index=1),
        *PIXELS,
        "mean",
    ),
    "probabilities": (losses.CrossEntropy(weight=W), nn.CrossEntropyLoss(W_), Z, Z.softmax(1), "mean"),
    "focal of 0": (losses.Focal(0.0, weight=W), nn.CrossEntropyLoss(W_), Z, OUT, "mean"),
    "multi margin": (
        losses.WestonWatkins(weight=W),
        lambda z, y: 3 * nn.MultiMarginLoss(weight=W_, reduction="sum")(z, y),
        Z,
        Y,
        "sum",
    ),
    "pos_weight": (
        losses.MultilabelLogistic(weight=W),
        lambda z, y: nn.BCEWithLogitsLoss(pos_weight=W_, reduction="sum")(z, y.double()),
        Z,
        SETS,
        "sum",
    ),
    "pos_weight of signs": (
        losses.Logistic(weight=[1, 2.5]),
        lambda z, y: nn.BCEWithLogitsLoss(pos_weight=2.5 + 0 * W_[0], reduction="sum")(
            z, (y + 1).double() / 2
        ),
        HALF,
        SIGNS,
        "sum",
    ),
    "binary": (
        losses.BinaryCrossEntropy(weight=[2, 0.5]),
        lambda z, y: F.binary_cross_entropy(z, y, torch.where(y > 0, 0.5, 2.0), reduction="sum"),
        HALF.sigmoid(),
        (Y > 0).double(),
        "sum",
    ),
}


@pytest.mark.parametrize("name", TORCHS)
def test_equals_pytorch(name):
    loss, torchs, z, y, reduction = TORCHS[name]
    loss = resolve(loss)
    torch.testing.assert_close(loss(z, y, reduction=reduction), torchs(z, y), rtol=1e-12, atol=0)
    mine, its = (grad(f)(z) for f in (lambda z: loss(z, y, reduction=reduction), lambda z: torchs(z, y)))
    torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-15)


def test_nll_by_its_name_leaves_out_as_pytorch_s():
    loss = resolve("nll")
    loss.check(Z.log_softmax(1), OUT)
    assert loss(Z.log_softmax(1), OUT) == nn.NLLLoss()(Z.log_softmax(1), OUT)


def test_focal_is_the_formula_of_its_paper():
    p = Z.softmax(1).gather(1, Y[:, None])[:, 0]
    formula = -(W_[Y] * (1 - p) ** 1.5 * p.log()).sum() / W_[Y].sum()
    torch.testing.assert_close(losses.Focal(1.5, weight=W)(Z, Y), formula, rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", OF_CLASSES, ids=str)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_what_is_left_out_is_as_if_it_were_not_there(case, data):
    """Values, gradients, batched and with weights, as removing the samples by hand."""
    outputs, labels = case.batch()
    out = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    left_out = data.draw(st.sampled_from([-100, -7, 9]))
    weight = _weight(case, outputs) if data.draw(st.booleans()) else None
    loss = case.loss.at({"ignore_index": left_out, "weight": weight})
    labels = labels.masked_fill(labels == -100, left_out)
    given = labels.clone()
    given[out] = left_out
    whole = loss(outputs, given)
    slope = grad(lambda z: loss(z, given))(outputs)
    assert (slope[out] == 0).all()
    assert (
        vmap(loss, in_dims=(0, None))(torch.stack([outputs, outputs / 2]), given)[0] - whole
    ).abs() < 1e-12
    if out.all():
        assert whole == 0
        return
    torch.testing.assert_close(whole, loss(outputs[~out], labels[~out]), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        slope[~out], grad(lambda z: loss(z, labels[~out]))(outputs[~out]), rtol=1e-11, atol=1e-14
    )
    assert loss.is_sample_mean(given) <= (not out.any() or isinstance(loss, losses.EmbeddingLoss))


def _weight(case, outputs):
    """Whole numbers, as many as the loss has of classes; None where it has none."""
    loss, labels = case.loss, case.draw()
    if isinstance(loss, losses.MultilabelRanking | losses.LovaszHinge):
        return None
    if isinstance(loss, losses.RegionLoss) and labels.shape == outputs.shape:
        return None
    if isinstance(loss, losses.EmbeddingLoss):
        return [1.0] * 20
    several = loss.class_count(outputs, labels)
    return [2, 1, 3, 2, 1][:several]


@pytest.mark.parametrize(
    "case",
    [c for c in OF_CLASSES if not isinstance(c.loss, (losses.EmbeddingLoss, *PLACES))],
    ids=str,
)
def test_whole_weights_are_copies(case):
    outputs, labels = case.batch()
    weight = _weight(case, outputs)
    if weight is None:
        with pytest.raises(ModelspaceError, match="has weights, and its values are of pairs of classes"):
            case.loss.at({"weight": (1.0, 2.0, 1.0, 1.0)})(outputs, labels)
        return
    loss = case.loss.at({"weight": weight})
    if case.loss.labels == "multi-hot":
        outputs, labels = outputs.reshape(-1, 1), labels.reshape(-1, 1)
        loss, times = case.loss.at({"weight": [2]}), 1 + labels[:, 0]
    else:
        if labels.ndim > 1:  # places become samples
            outputs, labels = outputs.movedim(1, -1).flatten(0, -2), labels.flatten()
        times = torch.tensor(weight)[loss.classes(outputs, labels)]
    rows = torch.arange(len(labels)).repeat_interleave(times)
    torch.testing.assert_close(
        loss(outputs, labels), case.loss(outputs[rows], labels[rows]), rtol=1e-12, atol=0
    )
    slopes = [
        grad(lambda z: loss(z, labels))(outputs),
        grad(lambda z: case.loss(z[rows], labels[rows]))(outputs),
    ]
    torch.testing.assert_close(*slopes, rtol=1e-11, atol=1e-14)


def test_regions_are_weighed_class_by_class():
    z, y = PIXELS
    for kind in (losses.Dice, losses.Tversky, losses.LovaszSoftmax):
        one_at_a_time = torch.stack(
            [kind(weight=row)(z, y, reduction="none") for row in torch.eye(3).tolist()], 1
        )
        present = torch.stack([(y == c).flatten(1).any(1) for c in range(3)], 1) | (
            kind is not losses.LovaszSoftmax
        )
        w = W_ * present
        expected = ((one_at_a_time * w).sum(1) / w.sum(1)).mean()
        torch.testing.assert_close(kind(weight=W)(z, y), expected, rtol=1e-12, atol=0)
        assert kind(weight=W).is_sample_mean(y)
    with pytest.raises(ModelspaceError, match="masks of one: leave weight= out"):
        losses.Dice(weight=[1, 2])(z, (y[:, None] == torch.arange(3).view(3, 1, 1)).long())


@pytest.mark.parametrize("kind", [losses.Dice, losses.FocalTversky, losses.LovaszHinge, losses.LovaszSoftmax])
@pytest.mark.parametrize("left_out", [-100, 9])
def test_a_place_that_is_left_out_is_in_no_sum(kind, left_out):
    """Of masks and of classes, as cutting it out."""
    loss, z, kept = (
        kind(ignore_index=left_out),
        torch.randn(1, 3, 10, generator=G).double(),
        torch.arange(10) % 3 > 0,
    )
    forms = [(z[:, 0], (torch.arange(10) % 2)[None])] if kind is not losses.LovaszSoftmax else []
    forms += [(z, (torch.arange(10) % 3)[None])] if kind is not losses.LovaszHinge else []
    for scores, labels in forms:
        given = labels.masked_fill(~kept, left_out)
        torch.testing.assert_close(loss(scores, given), kind()(scores[..., kept], labels[:, kept]))
        assert (grad(lambda x, y=given: loss(x, y))(scores)[..., ~kept] == 0).all()
        assert loss.is_sample_mean(given)


def test_balanced_is_scikit_learn_s():
    labels = torch.tensor([0] * 7 + [1] * 2 + [3] * 4 + [-100] * 5)
    found = losses.Focal(weight="balanced").on(labels)
    kept = labels[labels >= 0].numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=kept)
    assert np.allclose([found.weight[c] for c in (0, 1, 3)], expected)
    assert found.weight[2] == 1
    z = torch.randn(18, 6, dtype=torch.float64)  # classes beyond those that there are labels of
    w = torch.tensor([*found.weight, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        losses.CrossEntropy(weight=found.weight)(z, labels), F.cross_entropy(z, labels, w)
    )
    signs = losses.Hinge(weight="balanced").on(torch.tensor([1.0, -1.0, 1.0, 1.0]))
    assert signs.weight == pytest.approx([2, 2 / 3])
    sets = losses.MultilabelLogistic(weight="balanced").on(torch.tensor([[1, 0], [0, 0], [0, 0], [1, 1]]))
    assert sets.weight == (1, 3)


@pytest.mark.parametrize(
    "text",
    [
        "cross_entropy(weight=balanced)",
        "focal(gamma=1.5, weight=[1, 2, 0.5])",
        "hinge(ignore_index=-100)",
        "cross_entropy(ignore_index=None)",
        "huber(delta=2)",
    ],
)
def test_a_loss_in_words(text):
    assert str(resolve(text)) == text
    assert resolve(text) == resolve(str(resolve(text)))


def test_weights_tell_losses_apart():
    one, other = losses.CrossEntropy(weight=W), losses.CrossEntropy(weight=np.array(W))
    assert one == other != losses.CrossEntropy()
    assert len({one, other, losses.CrossEntropy(ignore_index=2)}) == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: losses.Hinge(weight=[1, -1]),
            "hinge: weight is .*finite number of at least 0 for each class",
        ),
        (lambda: losses.Hinge(weight=[0.0, 0.0]), "not all of them 0"),
        (lambda: losses.CrossEntropy(weight="even"), "or 'balanced'"),
        (lambda: losses.CrossEntropy(weight=3), "one finite number of at least 0 for each class"),
        (lambda: losses.CrossEntropy(ignore_index=1.5), "ignore_index is 1.5: it is a whole number, or None"),
        (lambda: losses.CrossEntropy(weight=[1, 2])(Z, Y), "has 2 weights, and there are 3 classes"),
        (lambda: losses.Coral(weight=[1, 2, 3])(Z, Y), "has 3 weights, and there are 4 classes"),
        (lambda: losses.CrossEntropy(weight="balanced")(Z, Y), "counted from labels: fit and evaluate"),
        (lambda: losses.CrossEntropy(weight="balanced").on(Z.softmax(1)), "counted from whole numbers"),
        (
            lambda: losses.CrossEntropy(weight="balanced").on(-Y),
            "-2 is none: number them from 0, or leave it out",
        ),
        (lambda: losses.CrossEntropy(weight="balanced").on({"a": Y}), "from one tensor of labels"),
        (lambda: losses.CrossEntropy().check(Z, Y - 1), "4 of 12 labels are negative .*ignore_index=-1"),
        (
            lambda: losses.BinaryCrossEntropy(weight=[1, 2]).check(HALF.sigmoid(), HALF.sigmoid()),
            "labels 0 and 1",
        ),
        (lambda: losses.InfoNCE(weight=[1, 2]).check(Z, Y), "has 2 weights, and labels from 0 to 2"),
        (lambda: resolve("focal(1.5)"), "give a name with values by their names"),
        (lambda: resolve("focal(gama=1)"), "unknown field of the loss focal 'gama'"),
        (lambda: resolve("nll(weight=[1, 2])"), "unknown field of the loss nll_loss 'weight'"),
    ],
)
def test_bad_weights_are_one_line(make, says):
    with pytest.raises(ModelspaceError, match=says):
        make()


@pytest.mark.parametrize(
    "of", [losses.CrossEntropy(weight=W), nn.CrossEntropyLoss(W_), nn.NLLLoss(W_, ignore_index=2)]
)
def test_weights_of_samples_and_of_classes_go_together(of):
    """A sample of weight 3 is three of them, whatever its class weighs; one that is left out has no share."""
    times = torch.tensor([1, 3, 2, 1] * 3)
    rows = torch.arange(12).repeat_interleave(times)
    labels = Y if isinstance(of, nn.NLLLoss) else OUT
    found = Weighted(resolve(of))(Z, WeightedLabels(labels, times.double()))
    torch.testing.assert_close(found, of(Z[rows], labels[rows]), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "name", [n for n, metric in METRICS.items() if metric.contract is not losses.anything]
)
def test_metrics_leave_out_what_the_loss_does(name):
    metric, some = METRICS[name], OUT != -100
    kept = metric(Z[some], OUT[some])
    for labels, left_out in ((OUT, None), (OUT.masked_fill(~some, -1), -1)):
        own = ms.metrics.resolve(name, left_out=left_out)
        own.check_values(Z, labels)
        torch.testing.assert_close(own(Z, labels), kept, rtol=1e-12, atol=1e-14)
        assert not own.is_sample_mean(labels)
    signs = SIGNS.masked_fill(~some, -100)
    if name not in ("perplexity",):
        torch.testing.assert_close(
            metric(HALF, signs), metric(HALF[some], signs[some]), rtol=1e-12, atol=1e-14
        )


# A fit.
X = torch.randn(90, 5, generator=G, dtype=torch.float64)
LABELS = (X @ torch.randn(5, 3, generator=G, dtype=torch.float64)).argmax(1)
LABELS[::4] = -100
LABELS[20:40] = -100  # of an order, whole batches may be padding
SPACE = ms.ModelSpace(lambda: nn.Linear(5, 3), dtype=torch.float64, input_shape=(5,))


def of(labels, x=X):
    return Data("d", *(Split(x[rows], labels[rows]) for rows in (slice(0, 60), slice(60, 83), slice(83, 90))))


@pytest.mark.parametrize("plan", [{"lowering": "vmap"}, {"lowering": "loop"}, {"compile": True}])
def test_a_fit_is_the_bare_loop(plan):
    loss = losses.CrossEntropy(weight=W)
    run = ms.fit(
        SPACE.sample(seeds=2, lr=[0.1]),
        of(LABELS),
        loss=loss,
        optimizer="sgd",
        epochs=3,
        batch_size=7,
        plan=plan,
    )
    for k, net in enumerate(run.population.modules()):
        torch.manual_seed(k)
        bare = nn.Linear(5, 3).double()
        optimizer = torch.optim.SGD(bare.parameters(), lr=0.1)
        for epoch in range(3):
            for rows in epoch_indices(60, 7, 0, epoch):
                optimizer.zero_grad()
                if (LABELS[rows] >= 0).any():
                    F.cross_entropy(bare(X[rows]), LABELS[rows], W_).backward()
                optimizer.step()
        both = [torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (net, bare)]
        assert relative_error(*both) < 1e-9
        kept = LABELS[60:83] >= 0
        z, y = bare(X[60:83])[kept], LABELS[60:83][kept]
        row = run.table.iloc[k]
        assert row["validation_loss"] == pytest.approx(F.cross_entropy(z, y, W_).item(), rel=1e-9)
        assert row["validation_accuracy"] == pytest.approx((z.argmax(1) == y).double().mean().item())


def test_a_batch_of_padding_alone_moves_nobody():
    labels = torch.full((60,), -100)
    labels[:3] = torch.arange(3)
    data = Data("d", *(Split(X[:60], labels) for _ in range(3)))
    run = ms.fit(SPACE.sample(seeds=2), data, epochs=2, batch_size=6)
    assert run.status.tolist() == ["finished"] * 2


def test_labels_that_no_loss_leaves_out_are_one_line():
    for label, loss, says in (
        (-1, None, r"rows .* labels of the train split are negative \(smallest -1\).*ignore_index=-1\)$"),
        (-100, "hinge", r"smallest -100\).*ignore_index=-100\)$"),
        (-100, losses.CrossEntropy(ignore_index=2), r"smallest -100"),
    ):
        with pytest.raises(ModelspaceError, match=says):
            ms.fit(SPACE.sample(1), of(LABELS.masked_fill(LABELS < 0, label)), loss=loss, epochs=1)
        with pytest.raises(ModelspaceError, match=says):
            ms.evaluate(SPACE.sample(1), of(LABELS.masked_fill(LABELS < 0, label)), ["loss"], loss=loss)
    for label, loss in (
        (-1, losses.CrossEntropy(ignore_index=-1)),
        (-1, nn.CrossEntropyLoss(ignore_index=-1)),
    ):
        ms.fit(
            SPACE.sample(seeds=1, fold=[0, 1]),
            (X, LABELS.masked_fill(LABELS < 0, label)),
            loss=loss,
            epochs=1,
        )


def test_weights_as_a_column_of_losses_and_noise_that_keeps_what_is_left_out():
    names = ["cross_entropy", "cross_entropy(weight=balanced)", "cross_entropy(weight=[1, 2, 3])"]
    run = ms.fit(SPACE.sample(seeds=1, loss=names, label_noise=[0.5]), of(LABELS), epochs=1)
    assert run.table["validation_loss"].nunique() == 3
    for loss, name in zip(run.table["validation_loss"], names, strict=True):
        alone = ms.fit(SPACE.sample(seeds=1, label_noise=[0.5]), of(LABELS), loss=resolve(name), epochs=1)
        assert alone.table["validation_loss"][0] == pytest.approx(loss, rel=1e-12)
        assert alone.settings["loss"] == name, "so that a run goes on under its own alone"
    found = ms.compare_losses(run, of(LABELS))
    assert [each.loss for each in found.results] == names
    assert found.samples == int((LABELS[83:] >= 0).sum())
    noisy = ms.data.noisy_labels(LABELS, torch.tensor([0.9]), torch.tensor([0]), 3)[0]
    assert ((noisy == -100) == (LABELS == -100)).all()
