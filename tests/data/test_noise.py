import pytest
import torch

from modelspace.data import noisy_labels
from modelspace.errors import ModelspaceError

LABELS = torch.arange(20_000) % 10


def noisy(shares, seeds, labels=LABELS, classes=10):
    return noisy_labels(labels, torch.tensor(shares, dtype=torch.float64), torch.tensor(seeds), classes)


def test_the_share_is_replaced_by_other_labels_evenly():
    (found,) = noisy([0.3], [7])
    changed = found != LABELS
    assert changed.double().mean().item() == pytest.approx(0.3, abs=4 * (0.21 / 20_000) ** 0.5)
    shift = (found - LABELS)[changed] % 10
    counts = torch.bincount(shift, minlength=10).double()
    assert counts[0] == 0
    expected = changed.sum() / 9
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 26.1  # chi-squared with 8 degrees, 0.1 %


def test_a_seed_s_noise_grows_with_the_share_and_depends_on_nothing_else():
    found = noisy([0.0, 0.2, 0.5, 0.2], [3, 3, 3, 4])
    assert torch.equal(found[0], LABELS)
    replaced = found[1] != LABELS
    assert torch.equal(found[2][replaced], found[1][replaced])
    assert not torch.equal(found[1], found[3])
    assert torch.equal(noisy([0.2], [4])[0], found[3])


@pytest.mark.parametrize(("values", "other"), [([-1.0, 1.0], lambda y: -y), ([0.0, 1.0], lambda y: 1 - y)])
def test_two_values_are_exchanged(values, other):
    labels = torch.tensor(values).repeat(50)
    assert torch.equal(noisy([1.0], [0], labels, None)[0], other(labels))


def test_quantities_are_refused():
    with pytest.raises(ModelspaceError, match="these labels are quantities"):
        noisy([0.1], [0], torch.randn(5), None)
