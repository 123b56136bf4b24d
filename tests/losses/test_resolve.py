import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE, CrossEntropy, Given, resolve
from modelspace.losses.functional import FUNCTIONAL

MORE_ARGUMENTS = {
    "cosine_embedding_loss",
    "ctc_loss",
    "gaussian_nll_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
}
LOG_PROBABILITIES = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]).log()
SIGNS = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])


def examples(name: str):
    """Outputs and labels that fit the contract of a torch loss."""
    if name in ("nll_loss", "multi_margin_loss"):
        return LOG_PROBABILITIES, torch.tensor([2, 0])
    if name == "multilabel_margin_loss":
        return LOG_PROBABILITIES, torch.tensor([[0, 2, -1], [1, -1, -1]])
    if name in ("soft_margin_loss", "hinge_embedding_loss"):
        return LOG_PROBABILITIES, SIGNS
    if name == "binary_cross_entropy":
        return LOG_PROBABILITIES.exp(), (SIGNS + 1) / 2
    return LOG_PROBABILITIES, (SIGNS + 1) / 2


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_a_torch_loss_by_name_is_that_function(name):
    outputs, labels = examples(name)
    reduction = "batchmean" if name == "kl_div" else "mean"
    expected = getattr(F, name)(outputs, labels, reduction=reduction)
    assert torch.equal(resolve(name)(outputs, labels), expected)
    short = name.removesuffix("_loss")
    if short in CATALOGUE:
        torch.testing.assert_close(resolve(short)(outputs, labels), expected)
    else:
        assert resolve(short) is resolve(name)
    resolve(name).check(outputs, labels)


def test_every_two_argument_loss_of_torch_is_known():
    found = set()
    for name, function in vars(F).items():
        if not name.endswith(("_loss", "entropy", "entropy_with_logits", "kl_div")) or name.startswith("_"):
            continue
        required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        if len(required) == 2:
            found.add(name)
    assert found == set(FUNCTIONAL) | {"cross_entropy"}


@pytest.mark.parametrize("name", sorted(MORE_ARGUMENTS))
def test_losses_of_more_arguments_are_unknown(name):
    with pytest.raises(ModelspaceError, match=f"unknown loss '{name}'"):
        resolve(name)


@pytest.mark.parametrize("name", [n for n in FUNCTIONAL if n not in ("nll_loss", "multi_margin_loss")])
def test_torch_losses_do_not_broadcast(name):
    with pytest.raises(ModelspaceError, match=rf"{name} received .*\[4, 1\] .*\[4\].*does not broadcast"):
        resolve(name)(torch.ones(4, 1), torch.ones(4))


def test_labels_take_the_outputs_dtype():
    outputs = torch.rand(4)
    assert resolve("mse")(outputs, torch.ones(4, dtype=torch.float64)).dtype is torch.float32
    assert resolve("binary_cross_entropy_with_logits")(outputs, torch.ones(4).int()).dtype is torch.float32


def test_the_catalogue_comes_first():
    assert resolve("cross_entropy") == CrossEntropy()
    assert resolve("hinge_loss") is resolve("hinge")


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(ModelspaceError, match="unknown loss 'cross_entopy': did you mean 'cross_entropy'"):
        resolve("cross_entopy")


def test_callables_and_modules_are_taken_as_they_are():
    def mean_gap(outputs, labels):
        return (outputs - labels).mean()

    loss = resolve(mean_gap)
    assert loss.name == "mean_gap"
    assert loss(torch.ones(3), torch.zeros(3)) == 1
    assert resolve(loss) is loss
    module = resolve(nn.CrossEntropyLoss())
    assert module.name == "CrossEntropyLoss"
    values = vmap(module)(torch.zeros(2, 4, 10), torch.zeros(2, 4).long())
    torch.testing.assert_close(values, torch.full((2,), 10.0).log())


def test_what_is_no_loss_is_refused():
    with pytest.raises(ModelspaceError, match=r"is the class CrossEntropyLoss: give an instance of it"):
        resolve(nn.CrossEntropyLoss)
    # Where the tests check types at run time, the annotation refuses it first.
    with pytest.raises((ModelspaceError, TypeError), match=r"loss is a int|Type-check error"):
        resolve(3)  # type: ignore[arg-type]


def test_a_loss_must_return_a_scalar():
    with pytest.raises(ModelspaceError, match=r"'each' returned a tensor of shape \[3\].*scalar"):
        Given("each", lambda z, y: z - y)(torch.ones(3), torch.ones(3))
    with pytest.raises(ModelspaceError, match="'number' returned a float"):
        Given("number", lambda z, y: float((z - y).sum()))(torch.ones(3), torch.ones(3))
