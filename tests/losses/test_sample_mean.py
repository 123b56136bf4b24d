"""Which losses may be averaged over pieces of the samples: those whose whole value the pieces' mean is."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelspace.losses import CATALOGUE, Choice, CrossEntropy, Loss, is_sample_mean, resolve

G = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(12, 4, generator=G, dtype=torch.float64)
LABELS = torch.randint(4, (12,), generator=G)
WEIGHTS = torch.tensor([1.0, 3.0, 9.0, 0.5], dtype=torch.float64)


def of_pieces(loss, outputs, labels):
    """The mean of unequal pieces' values, weighted by their samples."""
    cuts = [slice(0, 1), slice(1, 6), slice(6, len(labels))]
    return sum(loss(outputs[c], labels[c]) * len(labels[c]) for c in cuts) / len(labels)


def hooked():
    module = nn.CrossEntropyLoss()
    module.register_forward_hook(lambda module, given, value: value**2)
    return module


class Squared(CrossEntropy):
    def __call__(self, outputs, labels, *, reduction="mean"):
        return super().__call__(outputs, labels, reduction=reduction) ** 2


MEANS = {
    "name": "cross_entropy",
    "torch's name": "nll_loss",
    "module": nn.CrossEntropyLoss(label_smoothing=0.1),
    "absent label ignored": nn.CrossEntropyLoss(ignore_index=7),
    "function": F.cross_entropy,
    "partial": partial(F.cross_entropy, reduction="mean"),
    "choice": Choice((resolve("cross_entropy"), resolve("hinge"))),
}
NO_MEANS = {
    "weight": nn.CrossEntropyLoss(weight=WEIGHTS),
    "nll weight": nn.NLLLoss(weight=WEIGHTS),
    "ignore_index": nn.CrossEntropyLoss(ignore_index=2),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "hook": hooked(),
    "partial weight": partial(F.cross_entropy, weight=WEIGHTS),
    "partial sum": partial(F.cross_entropy, reduction="sum"),
    "own function": lambda z, y: F.cross_entropy(z, y),
    "subclass of ours": Squared(),
    "batch": "info_nce",
    "choice": Choice((resolve("cross_entropy"), resolve(nn.CrossEntropyLoss(ignore_index=2)))),
}


@pytest.mark.parametrize("name", MEANS)
def test_what_is_a_mean_is_averaged(name):
    loss = resolve(MEANS[name]) if not isinstance(MEANS[name], Loss) else MEANS[name]
    assert is_sample_mean(loss, LABELS)
    torch.testing.assert_close(of_pieces(loss, OUTPUTS, LABELS), loss(OUTPUTS, LABELS), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NO_MEANS)
def test_what_is_none_or_not_known_is_not(name):
    assert not is_sample_mean(resolve(NO_MEANS[name]), LABELS)


@pytest.mark.parametrize(
    "name", [n for n, loss in CATALOGUE.items() if loss.labels in ("class", "real", "sign")]
)
def test_the_catalogue_is_right_about_itself(name):
    """By the values: averaged pieces are the whole for every loss that is said to be a mean."""
    loss = CATALOGUE[name]
    z, y = (OUTPUTS, LABELS) if loss.labels == "class" else (OUTPUTS[:, 0], OUTPUTS[:, 1].sign())
    if loss.outputs == "embedding":
        assert not is_sample_mean(loss, y)
        return
    if name in ("distillation", "gaussian", "laplace"):
        z, y = OUTPUTS[:, :2], (OUTPUTS[:, 2:] if name == "distillation" else OUTPUTS[:, 2])
    assert is_sample_mean(loss, y)
    torch.testing.assert_close(of_pieces(loss, z, y), loss(z, y), rtol=1e-12, atol=0)


def test_left_out_labels_make_the_mean_one_of_the_others():
    labels = LABELS.repeat(3, 1).T.clone()  # [12, 3] places
    labels[0, 0] = -100
    for loss in ("cross_entropy", "focal", nn.CrossEntropyLoss(), F.cross_entropy, nn.NLLLoss()):
        assert not is_sample_mean(resolve(loss), labels)
        assert is_sample_mean(resolve(loss), labels[1:])
    probabilities = torch.rand(12, 4)
    assert is_sample_mean(resolve("cross_entropy"), probabilities)
