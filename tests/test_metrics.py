import pytest
import torch
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace import losses, metrics
from modelspace.errors import ModelspaceError

SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 4.0, 1.0], [7.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 1, 0])


# Of every metric by name: outputs, labels, and its value by hand.
ROWS = {
    "accuracy": (SCORES, CLASSES, 3 / 4),
    "error": (SCORES, CLASSES, 1 / 4),
    "mse": (torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1]), 20 / 3),
    "mae": (torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1]), 2),
}


def test_every_metric_has_a_row():
    assert ROWS.keys() == metrics.METRICS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_value_by_hand_and_of_many_members_at_once(name):
    outputs, labels, value = ROWS[name]
    metric = metrics.resolve(name)
    assert metric(outputs, labels) == pytest.approx(value)
    outputs = torch.stack([outputs.double().roll(k, 0) for k in range(len(labels))])
    loop = torch.stack([metric(member, labels) for member in outputs])
    assert loop.dtype is torch.float64
    if metric.sample_mean:
        together = vmap(metric, in_dims=(0, None))
        torch.testing.assert_close(together(outputs, labels), loop)
        torch.testing.assert_close(make_fx(together)(outputs, labels)(outputs, labels), loop)


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
