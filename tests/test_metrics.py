import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace import losses, metrics
from modelspace.errors import ModelspaceError

SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 4.0, 1.0], [7.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 1, 0])


# Of the simplest metrics by name: outputs, labels, and its value by hand.
ROWS = {
    "accuracy": (SCORES, CLASSES, 3 / 4),
    "error": (SCORES, CLASSES, 1 / 4),
    "mse": (torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1]), 20 / 3),
    "mae": (torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1]), 2),
    "rmse": (torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1]), (20 / 3) ** 0.5),
    "smape": (torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3, 2, 0]), 1 / 3),
    "macro_f1": (SCORES, CLASSES, (1 + 2 / 3 + 0) / 3),
    "iou": (SCORES, CLASSES, (1 + 1 / 2 + 0) / 3),
    "dice": (SCORES, CLASSES, (1 + 2 / 3 + 0) / 3),
    "f1_1": (SCORES, CLASSES, 2 / 3),
    "top_2_accuracy": (SCORES, CLASSES, 1),
    "perplexity": (torch.zeros(4, 3), torch.tensor([0, -100, 2, 1]), 3),
    "brier": (torch.zeros(4, 2), CLASSES, 1 / 2),
    "ece": (torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, -9.0]]), torch.tensor([0, 0, 1]), 2 / 3),
}


def logits(generator, count, classes):
    """Rounded, so that some are equal; of the members of a column."""
    return torch.from_numpy(generator.normal(0, 2, (count, classes)).round(1))


def probabilities(z):
    """PyTorch's own, to the last bit: where logits differ by as much, their order is a matter of rounding."""
    return torch.from_numpy(z).softmax(1).numpy()


def decided(z):
    return z.argmax(1)


def one_hot(y, classes):
    return np.eye(classes)[y]


def of_present(function, z, y):
    """The mean of a score of one class against the rest over the classes that there are."""
    p, classes = probabilities(z), z.shape[1]
    return np.mean([function(y == c, p[:, c]) for c in range(classes) if 0 < (y == c).sum() < len(y)])


def calibration(z, y):
    p = probabilities(z)
    confidence, right = p.max(1), p.argmax(1) == y
    place = np.minimum((confidence * 15).astype(int), 14)
    return sum(abs((right - confidence)[place == b].sum()) for b in range(15)) / len(y)


# scikit-learn's value of each metric of classes: of outputs [N, C] and labels [N].
OF_CLASSES = {
    "accuracy": lambda z, y: sk.accuracy_score(y, decided(z)),
    "error": lambda z, y: 1 - sk.accuracy_score(y, decided(z)),
    "macro_f1": lambda z, y: sk.f1_score(y, decided(z), average="macro", zero_division=0),
    "macro_precision": lambda z, y: sk.precision_score(y, decided(z), average="macro", zero_division=0),
    "macro_recall": lambda z, y: sk.recall_score(y, decided(z), average="macro", zero_division=0),
    "f1_1": lambda z, y: sk.f1_score(y == 1, decided(z) == 1, zero_division=0),
    "recall_0": lambda z, y: sk.recall_score(y == 0, decided(z) == 0, zero_division=0),
    "precision_0": lambda z, y: sk.precision_score(y == 0, decided(z) == 0, zero_division=0),
    "iou": lambda z, y: sk.jaccard_score(y, decided(z), average="macro", zero_division=0),
    "dice": lambda z, y: sk.f1_score(y, decided(z), average="macro", zero_division=0),
    "balanced_accuracy": lambda z, y: np.mean([(decided(z) == y)[y == c].mean() for c in set(y)]),
    "auroc": lambda z, y: of_present(sk.roc_auc_score, z, y),
    "average_precision": lambda z, y: of_present(sk.average_precision_score, z, y),
    "log_loss": lambda z, y: sk.log_loss(y, probabilities(z), labels=range(z.shape[1])),
    "perplexity": lambda z, y: np.exp(sk.log_loss(y, probabilities(z), labels=range(z.shape[1]))),
    "brier": lambda z, y: ((probabilities(z) - one_hot(y, z.shape[1])) ** 2).sum(1).mean(),
    "ece": calibration,
}
OF_QUANTITIES = {
    "mse": lambda z, y: sk.mean_squared_error(y, z),
    "mae": lambda z, y: sk.mean_absolute_error(y, z),
    "rmse": lambda z, y: np.sqrt(sk.mean_squared_error(y, z)),
    "mape": lambda z, y: sk.mean_absolute_percentage_error(y, z),
    "smape": lambda z, y: np.mean(2 * abs(y - z) / (abs(y) + abs(z))),
    "r2": lambda z, y: sk.r2_score(y, z),
    "pearson": lambda z, y: np.mean([stats.pearsonr(a, b)[0] for a, b in zip(z.T, y.T, strict=True)]),
    "spearman": lambda z, y: np.mean([stats.spearmanr(a, b)[0] for a, b in zip(z.T, y.T, strict=True)]),
}
OF_TWO = {
    "accuracy": lambda z, y: sk.accuracy_score(y, z > 0),
    "macro_f1": lambda z, y: sk.f1_score(y, z > 0, average="macro", zero_division=0),
    "f1_1": lambda z, y: sk.f1_score(y, z > 0, zero_division=0),
    "auroc": lambda z, y: sk.roc_auc_score(y, z),
    "average_precision": lambda z, y: sk.average_precision_score(y, z),
    "log_loss": lambda z, y: sk.log_loss(y, special.expit(z)),
    "brier": lambda z, y: sk.brier_score_loss(y, special.expit(z)),
    "ece": lambda z, y: calibration(np.stack([-z / 2, z / 2], 1), y),
}


def test_every_metric_has_an_oracle():
    assert set(metrics.METRICS) <= set(OF_CLASSES) | set(OF_QUANTITIES)


def together(name, outputs, labels):
    """A metric of members' outputs, one by one; all at once, traced, it is the same."""
    metric = metrics.resolve(name)
    assert metric.traceable
    loop = torch.stack([metric(member, labels) for member in outputs])
    assert loop.dtype is torch.float64
    batched = vmap(metric, in_dims=(0, None))
    torch.testing.assert_close(batched(outputs, labels), loop, equal_nan=True)
    return loop


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 60), classes=st.integers(2, 6))
def test_metrics_of_classes_are_scikit_learns(seed, count, classes):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, count)
    y[:2] = 0, 1
    outputs = torch.stack([logits(generator, count, classes) for _ in range(2)])
    for name, oracle in OF_CLASSES.items():
        found = together(name, outputs, torch.from_numpy(y))
        assert found.tolist() == pytest.approx([oracle(z, y) for z in outputs.numpy()], abs=1e-9), name
    if classes > 2:
        found = together("top_2_accuracy", outputs, torch.from_numpy(y))
        above = [(z > z[np.arange(count), y][:, None]).sum(1) for z in outputs.numpy()]
        assert found.tolist() == pytest.approx([(a < 2).mean() for a in above])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 60))
def test_metrics_of_two_classes_are_scikit_learns(seed, count):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, count)
    y[:2] = 0, 1
    outputs = torch.from_numpy(generator.normal(0, 2, (2, count)).round(1) + 0.05)
    for name, oracle in OF_TWO.items():
        found = together(name, outputs, torch.from_numpy(2 * y - 1))
        assert found.tolist() == pytest.approx([oracle(z, y) for z in outputs.numpy()], abs=1e-9), name
        if name != "accuracy":
            assert torch.equal(together(name, outputs, torch.from_numpy(y)), found), "0 and 1 are as ±1"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(3, 50), wide=st.sampled_from([(), (3,)]))
def test_metrics_of_quantities_are_scikit_learns(seed, count, wide):
    generator = np.random.default_rng(seed)
    y = generator.normal(0, 3, (count, *wide)).round(1) + 0.05
    outputs = torch.from_numpy(generator.normal(0, 3, (2, count, *wide)).round(1) + 0.01)
    for name, oracle in OF_QUANTITIES.items():
        rows = (lambda x: x if wide else x[:, None]) if name in ("pearson", "spearman") else (lambda x: x)
        expected = [oracle(rows(z), rows(y)) for z in outputs.numpy()]
        assert together(name, outputs, torch.from_numpy(y)).tolist() == pytest.approx(expected, abs=1e-9), (
            name
        )


@pytest.mark.parametrize("name", ROWS)
def test_value_by_hand_and_of_many_members_at_once(name):
    outputs, labels, value = ROWS[name]
    metric = metrics.resolve(name)
    assert float(metric(outputs, labels)) == pytest.approx(value, rel=1e-6, abs=1e-7)
    outputs = torch.stack([outputs.double().roll(k, 0) for k in range(len(labels))])
    loop = together(name, outputs, labels)
    whole = vmap(metric, in_dims=(0, None))
    torch.testing.assert_close(make_fx(whole)(outputs, labels)(outputs, labels), loop)


def test_edges():
    assert metrics.auroc(torch.tensor([0.1, 0.2]), torch.tensor([1, 1])).isnan()
    assert metrics.r2(torch.tensor([2.0, 2.0]), torch.tensor([2.0, 2.0])) == 1
    assert metrics.r2(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 2.0])) == 0
    assert metrics.pearson(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 2.0])).isnan()
    for name in ("auroc", "average_precision", "ece", "log_loss", "brier", "r2", "spearman", "rmse"):
        broken = torch.tensor([1.0, float("nan"), 3.0])
        assert metrics.resolve(name)(broken, torch.tensor([1.0, 0.0, 1.0])).isnan(), name
    pixels = torch.stack([SCORES, SCORES.flip(1)], 2)
    places = torch.stack([CLASSES, torch.full_like(CLASSES, -100)], 1)
    assert metrics.iou(pixels, places) == metrics.iou(SCORES, CLASSES), "what is left out does not count"
    metrics.resolve("iou").check(pixels, places)
    assert metrics.confusion(SCORES, CLASSES).tolist() == [[2, 0, 0], [0, 1, 1], [0, 0, 0]]
    with pytest.raises(ModelspaceError, match="f1_7 is of class 7, but the model has 3: 0 to 2"):
        metrics.resolve("f1_7")(SCORES, CLASSES)
    with pytest.raises(ModelspaceError, match="top_5_accuracy is 1 for 3 classes"):
        metrics.resolve("top_5_accuracy")(SCORES, CLASSES)
    with pytest.raises(
        ModelspaceError, match=r"metric 'auroc' is of one tensor of labels, and these are a dict"
    ):
        metrics.resolve("auroc").check(SCORES, {"a": CLASSES})
    with pytest.raises(ModelspaceError, match=r"macro_f1 expects labels 0 and 1: 1 of 2"):
        metrics.resolve("macro_f1").check(torch.tensor([0.3, 0.9]), torch.tensor([0, 2]))


def test_accuracy_counts_the_right_labels_of_every_place_and_by_sign():
    pixels = torch.stack([SCORES, SCORES.flip(1)], dim=2)
    labels = torch.stack([CLASSES, CLASSES], dim=1)
    right = sum(pixels[n, :, j].argmax() == labels[n, j] for n in range(4) for j in range(2))
    assert metrics.accuracy(pixels, labels) == right / 8
    assert metrics.accuracy(torch.tensor([2.0, -1.0, 0.0, -3.0]), torch.tensor([1, 1, 1, -1])) == 0.5


def test_resolve_takes_names_losses_and_callables():
    assert metrics.resolve("accuracy").higher_is_better
    assert not metrics.resolve("error").higher_is_better
    loss = metrics.resolve(losses.resolve("mse"))
    assert (loss.name, loss.higher_is_better) == ("mse_loss", False)
    assert loss(torch.ones(2), torch.zeros(2)) == 1

    def margin(outputs, labels):
        return (outputs * labels).mean()

    own = metrics.resolve(margin, higher_is_better=True)
    assert (own.name, own.higher_is_better) == ("margin", True)
    assert metrics.resolve(own) is own


def test_what_is_no_metric_is_refused():
    with pytest.raises(ModelspaceError, match="unknown metric 'acuracy': did you mean 'accuracy'"):
        metrics.resolve("acuracy")
    # Where the tests check types at run time, the annotation refuses it first.
    with pytest.raises((ModelspaceError, TypeError), match=r"metric is a float|Type-check error"):
        metrics.resolve(0.5)  # type: ignore[arg-type]
    with pytest.raises(ModelspaceError, match=r"metric '<lambda>' returned shape \[2\]"):
        metrics.resolve(lambda z, y: z - y)(torch.ones(2), torch.ones(2))


@pytest.mark.parametrize("metric", [metrics.mse, metrics.mae, metrics.accuracy])
def test_nothing_broadcasts(metric):
    with pytest.raises(ModelspaceError, match=r"labels of shape \[4, 1\].*labels\.squeeze\(-1\)"):
        metric(torch.ones(4), torch.ones(4, 1))


def test_check_refuses_labels_of_another_coding():
    with pytest.raises(ModelspaceError, match=r"accuracy expects labels \+1 and -1: 1 of 2"):
        metrics.resolve("accuracy").check(torch.tensor([0.3, 0.9]), torch.tensor([0, 1]))
    with pytest.raises(ModelspaceError, match="labels out of range: 1 of 4 labels are 3 or more"):
        metrics.resolve("error").check(SCORES, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ModelspaceError, match=r"accuracy received .* single column"):
        metrics.accuracy(torch.ones(4, 1), torch.zeros(4).long())
