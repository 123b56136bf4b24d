"""Losses of the user's and of PyTorch: taken by name or as they are, refused before training, told apart in a run."""

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE, Choice, CrossEntropy, Given, Loss, resolve
from modelspace.losses._given import FUNCTIONAL

LOG_PROBABILITIES = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]).log()
UNIT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
LABELS_OF = {  # that fit a torch loss of log-probabilities; UNIT where none are here
    "nll_loss": torch.tensor([2, 0]),
    "multi_margin_loss": torch.tensor([2, 0]),
    "multilabel_margin_loss": torch.tensor([[0, 2, -1], [1, -1, -1]]),
    "soft_margin_loss": 2 * UNIT - 1,
    "hinge_embedding_loss": 2 * UNIT - 1,
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_a_torch_loss_by_name_is_that_function(name):
    outputs = LOG_PROBABILITIES.exp() if name == "binary_cross_entropy" else LOG_PROBABILITIES
    labels = LABELS_OF.get(name, UNIT)
    expected = getattr(F, name)(outputs, labels, reduction="batchmean" if name == "kl_div" else "mean")
    assert torch.equal(resolve(name)(outputs, labels), expected)
    resolve(name).check(outputs, labels)
    short = name.removesuffix("_loss")
    if short in CATALOGUE:
        torch.testing.assert_close(resolve(short)(outputs, labels), expected)
    else:
        assert resolve(short) is resolve(name)
    if name not in ("nll_loss", "multi_margin_loss"):
        with pytest.raises(ModelspaceError, match=rf"{name} received .*\[4, 1\] .*\[4\].*does not broadcast"):
            resolve(name)(torch.ones(4, 1), torch.ones(4))


def test_every_loss_of_torch_is_known_if_it_takes_two_arguments():
    two, more = set(), set()
    for name, function in vars(F).items():
        if name.endswith(("_loss", "entropy", "entropy_with_logits", "kl_div")) and name[0] != "_":
            required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            (two if len(required) == 2 else more).add(name)
    assert two == set(FUNCTIONAL) | {"cross_entropy"}
    assert len(more) >= 6
    for name in more:
        with pytest.raises(ModelspaceError, match=f"unknown loss '{name}'"):
            resolve(name)


def test_what_a_name_or_a_callable_stands_for():
    def mean_gap(outputs, labels):
        return (outputs - labels).mean()

    loss = resolve(mean_gap)
    assert loss.name == "mean_gap"
    assert loss(torch.ones(3), torch.zeros(3)) == 1
    assert resolve(loss) is loss
    assert resolve("cross_entropy") == CrossEntropy()  # the catalogue comes first
    assert resolve("hinge_loss") is resolve("hinge")
    module = resolve(nn.CrossEntropyLoss())
    assert module.name == "CrossEntropyLoss"
    torch.testing.assert_close(
        vmap(module)(torch.zeros(2, 4, 10), torch.zeros(2, 4).long()), torch.full((2,), 10.0).log()
    )
    outputs = torch.rand(4)
    assert resolve("mse")(outputs, torch.ones(4, dtype=torch.float64)).dtype is torch.float32
    assert resolve("binary_cross_entropy_with_logits")(outputs, torch.ones(4).int()).dtype is torch.float32


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: resolve("cross_entopy"), "unknown loss 'cross_entopy': did you mean 'cross_entropy'"),
        (lambda: resolve(nn.CrossEntropyLoss), r"is the class CrossEntropyLoss: give an instance of it"),
        # Where the tests check types at run time, the annotation refuses it first.
        (lambda: resolve(3), r"loss is a int|Type-check error"),  # type: ignore[arg-type]
        (
            lambda: resolve(nn.MSELoss()).check(torch.ones(4, 1), torch.ones(4)),
            r"does not broadcast; use outputs",
        ),
        (
            lambda: Given("each", lambda z, y: z - y)(UNIT, UNIT),
            r"'each' returned a tensor of shape \[2, 3\].*scalar",
        ),
        (lambda: Given("number", lambda z, y: 1.0)(UNIT, UNIT), "'number' returned a float"),
        (
            lambda: resolve("mse")(UNIT, UNIT, reduction="sum"),
            "unknown reduction of a function that returns its mean",
        ),
    ],
)
def test_what_is_no_loss_is_refused(call, says):
    with pytest.raises((ModelspaceError, TypeError), match=says):
        call()


X, Y = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
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


def population(**columns):
    return ms.ModelSpace(lambda: nn.Linear(5, 3), input_shape=(5,)).sample(2, **columns)


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
    loss, says = REFUSED[name]
    with pytest.raises(ModelspaceError, match=says) as caught:
        ms.fit(population(lr=[0.1]), (X, Y), loss=loss, epochs=1, metrics=[])
    assert "\n" not in str(caught.value)


WEIGHT = torch.tensor([1.0, 2.0, 3.0])


def test_frozen_parts_and_weights_are_no_parameters():
    teacher = nn.Linear(5, 3).requires_grad_(False)
    for loss in (
        nn.CrossEntropyLoss(weight=WEIGHT),
        lambda z, y: F.cross_entropy(z, y, weight=WEIGHT) + teacher.weight.sum() * 0 + z.square().mean(),
    ):
        resolve(loss).check(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))


@dataclass(frozen=True)
class Weighted(Loss):
    module: Any

    def __call__(self, outputs, labels, *, reduction="mean"):
        return self.module(outputs, labels)


class Inner(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(weight=weight)

    def forward(self, outputs, labels):
        return self.inner(outputs, labels)


HOLDERS = {
    "module": lambda weight: nn.CrossEntropyLoss(weight=weight),
    "module within": Inner,
    "partial": lambda weight: partial(F.cross_entropy, weight=weight),
    "closure": lambda weight: lambda z, y: F.cross_entropy(z, y, weight=weight),
    "loss of a class": lambda weight: Weighted(nn.CrossEntropyLoss(weight=weight)),
    "method": lambda weight: nn.CrossEntropyLoss(weight=weight).forward,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_run_with_other_class_weights_is_another_run(name, tmp_path):
    """And one with the same, built anew, is the same."""

    def fit(weight, out):
        loss = HOLDERS[name](weight.clone())
        return ms.fit(population(lr=[0.1]), (X, Y), loss=loss, epochs=1, metrics=[], out=out)

    fit(WEIGHT, tmp_path / "run")
    fit(WEIGHT, tmp_path / "run")
    with pytest.raises(ModelspaceError, match="tensors of the loss has changed"):
        fit(WEIGHT.flip(0), tmp_path / "run")


G = torch.Generator().manual_seed(0)
OUTPUTS, LABELS = torch.randn(12, 4, generator=G, dtype=torch.float64), torch.randint(4, (12,), generator=G)
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
    loss = resolve(MEANS[name])
    assert loss.is_sample_mean(LABELS)
    torch.testing.assert_close(of_pieces(loss, OUTPUTS, LABELS), loss(OUTPUTS, LABELS), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NO_MEANS)
def test_what_is_none_or_not_known_is_not(name):
    assert not resolve(NO_MEANS[name]).is_sample_mean(LABELS)


@pytest.mark.parametrize(
    "name", [n for n, loss in CATALOGUE.items() if loss.labels in ("class", "real", "sign")]
)
def test_the_catalogue_is_right_about_itself(name):
    """By the values: averaged pieces are the whole for every loss that is said to be a mean."""
    loss = CATALOGUE[name]
    z, y = (OUTPUTS, LABELS) if loss.labels == "class" else (OUTPUTS[:, 0], OUTPUTS[:, 1].sign())
    if name in ("distillation", "gaussian", "laplace"):
        z, y = OUTPUTS[:, :2], (OUTPUTS[:, 2:] if name == "distillation" else OUTPUTS[:, 2])
    assert loss.is_sample_mean(y) is (loss.outputs != "embedding")
    if loss.outputs != "embedding":
        torch.testing.assert_close(of_pieces(loss, z, y), loss(z, y), rtol=1e-12, atol=0)


def test_left_out_labels_make_the_mean_one_of_the_others():
    labels = LABELS.repeat(3, 1).T.clone()  # [12, 3] places
    labels[0, 0] = -100
    for loss in ("cross_entropy", "focal", nn.CrossEntropyLoss(), F.cross_entropy, nn.NLLLoss()):
        assert not resolve(loss).is_sample_mean(labels)
        assert resolve(loss).is_sample_mean(labels[1:])
    assert resolve("cross_entropy").is_sample_mean(torch.rand(12, 4))
