"""Losses of the user's: a function of outputs and labels alone, with a gradient, or refused before training."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError

X = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 3
SCALE = nn.Parameter(torch.ones(()))


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = nn.Parameter(torch.ones(()))

    def forward(self, outputs, labels):
        return F.cross_entropy(outputs * self.t, labels)


class Holder:
    def __init__(self):
        self.parts = {"scale": torch.ones((), requires_grad=True)}
        self.calls = 0

    def __call__(self, outputs, labels):
        return F.cross_entropy(outputs * self.parts["scale"], labels)

    def warm(self, outputs, labels):
        self.calls += 1
        return F.cross_entropy(outputs, labels) * self.calls


class Moving(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, outputs, labels):
        self.mean.mul_(0.9).add_(outputs.detach().mean())
        return F.cross_entropy(outputs, labels)


def closed():
    inside = torch.ones((), requires_grad=True)
    return lambda z, y: F.cross_entropy(z * inside, y)


def scaled(outputs, labels, factor):
    return F.cross_entropy(outputs * factor, labels)


def relabelled(outputs, labels):
    labels[labels == 2] = 0
    return F.cross_entropy(outputs, labels)


OWN = "has parameters of its own, which nobody would train: {}; put them into the module"
REFUSED = {
    "module": (Tempered(), OWN.format("t")),
    "object": (Holder(), OWN.format(r"parts\.scale")),
    "closure": (closed(), OWN.format("inside")),
    "global": (lambda z, y: F.cross_entropy(z * SCALE, y), OWN.format("SCALE")),
    "partial": (partial(scaled, factor=torch.ones((), requires_grad=True)), OWN.format("factor")),
    "counter": (Holder().warm, "changes from call to call"),
    "buffer": (Moving(), "changes from call to call"),
    "random": (
        lambda z, y: F.cross_entropy(z + torch.rand(()), y) * torch.rand(()),
        "changes from call to call",
    ),
    "labels": (relabelled, "writes into its labels"),
    "no gradient": (
        lambda z, y: (z.argmax(1) != y).float().mean(),
        "has no gradient with respect to the outputs",
    ),
    "integer": (lambda z, y: (z.argmax(1) != y).sum(), r"returned \[\] torch.int64"),
    "complex": (lambda z, y: z.sum() * 1j, r"returned \[\] torch.complex64"),
    "tuple": (lambda z, y: (z.sum(), y), "returned a tuple"),
    "vector": (lambda z, y: z[:, 0], "returned a tensor of shape"),
    "nothing": (lambda z, y: None, "returned a NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_before_training(name):
    loss, message = REFUSED[name]
    population = ms.ModelSpace(lambda: nn.Linear(5, 3), input_shape=(5,)).sample(2, lr=[0.1])
    with pytest.raises(ModelspaceError, match=message) as caught:
        ms.fit(population, (X, Y), loss=loss, epochs=1, metrics=[])
    assert "\n" not in str(caught.value)


def test_frozen_parts_and_weights_are_no_parameters():
    teacher = nn.Linear(5, 3).requires_grad_(False)
    weight = torch.tensor([1.0, 2.0, 3.0])
    for loss in (
        nn.CrossEntropyLoss(weight=weight),
        lambda z, y: F.cross_entropy(z, y, weight=weight) + teacher.weight.sum() * 0 + z.square().mean(),
    ):
        ms.losses.resolve(loss).check(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
