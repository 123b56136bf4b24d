"""The reference against what anyone would write; everything else is held against the reference."""

import copy
from dataclasses import replace

import pytest
import torch
from support.cases import Dropouts, mlp
from torch import nn

from modelspace.data import epoch_indices
from modelspace.data.convert import split_of
from modelspace.losses import objective_of
from modelspace.reference import stateless_randomness, train


def problem():
    return mlp(), torch.randn(20, 6), torch.randint(3, (20,))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def test_it_is_the_ordinary_loop():
    module, inputs, labels = problem()
    twin = copy.deepcopy(module)
    losses = train(
        module, inputs, labels, nn.functional.cross_entropy, sgd, steps=8, batch_size=5, data_seed=3
    )

    optimizer = sgd(twin.parameters())
    expected = []
    for epoch in range(2):
        for index in epoch_indices(20, 5, 3, epoch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(twin(inputs[index]), labels[index])
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    assert losses == expected
    for received, wanted in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(received, wanted)


def test_frozen_parameters_stay():
    module, inputs, labels = problem()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    train(module, inputs, labels, nn.functional.cross_entropy, sgd, steps=3, batch_size=5)
    assert torch.equal(module[0].weight, before)


def test_clipping_limits_the_step():
    module, inputs, labels = problem()
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    train(module, inputs, labels, nn.functional.cross_entropy, sgd, steps=1, batch_size=5, clip_norm=1e-3)
    after = nn.utils.parameters_to_vector(module.parameters()).detach()
    assert torch.allclose((after - before).norm(), torch.tensor(1e-4), rtol=1e-2)
    train(module, inputs, labels, nn.functional.cross_entropy, sgd, steps=1, batch_size=5, clip_value=1e-3)
    last = nn.utils.parameters_to_vector(module.parameters()).detach()
    assert (last - after).abs().max() <= 1.001e-4


def test_randomness_is_a_function_of_seed_and_step():
    module, x = Dropouts().train(), torch.randn(4, 2, 4, 4)

    def outputs(seed, step):
        with stateless_randomness(seed, step):
            return module(x), torch.randn(3)

    state = torch.random.get_rng_state()
    first = outputs(1, 0)
    assert all(torch.equal(a, b) for a, b in zip(outputs(1, 0), first, strict=True))
    for other in (outputs(2, 0), outputs(1, 1)):
        assert not any(torch.equal(a, b) for a, b in zip(other, first, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


FORMS = {
    "pair": lambda x, y: (x, y),
    "flat": lambda x, y: (x, 2 * x, y),
    "dict:labels": lambda x, y: {"x": x, "labels": y},
    "inputs": lambda x, y: {"x": x, "z": y[:, None].to(x)},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_objective_sees_the_module_and_the_batch_as_it_was_given(form):
    module, x, y = problem()
    twin, split = copy.deepcopy(module), split_of(FORMS[form](x, y), "x", "y")
    kinds = []

    def objective(model, batch, weight=2.0):
        kinds.append((type(model), type(batch), len(batch)))
        first = batch["x"] if isinstance(batch, dict) else batch[0]
        return {"loss": weight * model(first).square().mean(), "size": first.norm()}

    goal = replace(objective_of(objective), form=split.form)
    losses = train(module, split.inputs, split.labels, goal, sgd, steps=4, batch_size=5)
    optimizer, expected, given = sgd(twin.parameters()), [], FORMS[form](x, y)
    for index in epoch_indices(20, 5, 0, 0):
        optimizer.zero_grad()
        loss = 2 * twin(x[index]).square().mean()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert split.form == form
    assert set(kinds) == {(type(module), type(given), len(given))}
    assert losses == expected
    for received, wanted in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(received, wanted)
