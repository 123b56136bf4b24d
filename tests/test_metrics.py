import pytest
import torch
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace import losses, metrics
from modelspace.errors import ModelspaceError

SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 4.0, 1.0], [7.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 1, 0])


def test_accuracy_counts_the_right_labels_by_argmax_and_by_sign():
    assert metrics.accuracy(SCORES, CLASSES) == 0.75
    assert metrics.error(SCORES, CLASSES) == 0.25
    pixels = torch.stack([SCORES, SCORES.flip(1)], dim=2)
    labels = torch.stack([CLASSES, CLASSES], dim=1)
    right = sum(pixels[n, :, j].argmax() == labels[n, j] for n in range(4) for j in range(2))
    assert metrics.accuracy(pixels, labels) == right / 8
    assert metrics.accuracy(torch.tensor([2.0, -1.0, 0.0, -3.0]), torch.tensor([1, 1, 1, -1])) == 0.5


def test_errors_of_a_regression():
    outputs, labels = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1, 4, 1])
    assert metrics.mse(outputs, labels) == pytest.approx(20 / 3)
    assert metrics.mae(outputs, labels) == 2


@pytest.mark.parametrize("name", metrics.METRICS)
def test_vmap_and_trace_equal_the_loop(name):
    metric = metrics.resolve(name)
    outputs = torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = outputs.roll(1, 0) if name in ("mse", "mae") else outputs.roll(1, 0).argmax(2)
    loop = torch.stack([metric(z, y) for z, y in zip(outputs, labels, strict=True)])
    assert loop.dtype is torch.float64
    torch.testing.assert_close(vmap(metric)(outputs, labels), loop)
    torch.testing.assert_close(make_fx(vmap(metric))(outputs, labels)(outputs, labels), loop)


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
