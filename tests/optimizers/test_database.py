"""PyTorch's own list of what its optimizers are to be tried with: ours take the same steps.

The list is that of PyTorch's tests, ``torch.testing._internal.common_optimizers.optim_db``. What changes how torch
computes and not what is left out: ``foreach``, ``fused``, ``capturable``, ``differentiable``, a learning rate that is
a tensor.
"""

import inspect

import pytest
import torch
from optimizers.truth import relative_error
from torch.testing._internal.common_optimizers import optim_db

from modelspace import optimizers
from modelspace.hyperparameters import hyper_columns

STEPS, SHAPE = 20, (3, 11)
ENTRIES = {entry.optim_cls: entry for entry in optim_db if hasattr(optimizers, entry.optim_cls.__name__)}
HOW = {"foreach", "fused", "capturable", "differentiable"}


def problems():
    for kind, entry in ENTRIES.items():
        for given in entry.optim_inputs_func(device="cpu"):
            if not isinstance(given.kwargs.get("lr"), torch.Tensor):
                yield pytest.param(kind, given.kwargs, id=f"{kind.__name__} {given.desc}")


def random_gradients():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(STEPS, *SHAPE, generator=generator, dtype=torch.float64)


def ours(kind, settings, start):
    optimizer = getattr(optimizers, kind.__name__)(**settings)
    points, state = start, optimizer.init(start)
    hyper = hyper_columns(optimizer, {}, len(start))
    for step, gradient in enumerate(random_gradients(), 1):
        number = torch.tensor(float(step), dtype=torch.float64)
        points, state = optimizer.update(gradient, state, points, hyper, number)
    return points


def theirs(kind, settings, start):
    rows = []
    for member, row in enumerate(start):
        point = row.clone().requires_grad_()
        optimizer = kind([point], **settings, foreach=False)
        for gradient in random_gradients()[:, member]:
            point.grad = gradient.clone()
            optimizer.step()
        rows.append(point.detach())
    return torch.stack(rows)


@pytest.mark.parametrize(("kind", "settings"), list(problems()))
def test_steps_are_torch_s(kind, settings):
    start = torch.linspace(-1, 1, SHAPE[0] * SHAPE[1], dtype=torch.float64).view(SHAPE)
    received = ours(kind, settings, start)
    assert not torch.equal(received, start)
    assert relative_error(received, theirs(kind, settings, start)) <= 1e-12


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.__name__)
def test_every_argument_of_torch_s_is_ours_with_its_default_or_about_how_it_computes(kind):
    names = inspect.signature(kind).parameters
    own = inspect.signature(getattr(optimizers, kind.__name__)).parameters
    assert names.keys() - own.keys() == {"params"} | HOW & names.keys()
    assert own.keys() <= names.keys()
    assert all(own[name].default == names[name].default for name in own)


def test_all_of_ours_are_in_the_list():
    names = {
        n
        for n, value in vars(optimizers).items()
        if optimizers.Optimizer in getattr(value, "__mro__", ())[1:]
    }
    assert {kind.__name__ for kind in ENTRIES} == names >= {"SGD", "Adam", "AdamW", "RMSprop"}
