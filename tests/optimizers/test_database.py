"""PyTorch's own list of what its optimizers are to be tried with: ours take the same steps.

The list is that of PyTorch's tests, ``torch.testing._internal.common_optimizers.optim_db``. What changes how torch
computes and not what is left out: ``foreach``, ``fused``, ``capturable``, ``differentiable``, a learning rate that is
a tensor, L-BFGS's line search.
"""

import inspect
from math import prod

import pytest
import torch
from optimizers.truth import relative_error
from support.optimizers import numbers_in
from torch.testing._internal.common_optimizers import optim_db

from modelspace import optimizers
from modelspace.hyperparameters import hyper_columns

STEPS, MEMBERS = 20, 3
SHAPES = ((3, 4), (5,), (2, 3, 2), (4, 2), ())
MATRICES = ((3, 4), (4, 2), (2, 2))  # all that torch's Muon takes
ENTRIES = {entry.optim_cls: entry for entry in optim_db if hasattr(optimizers, entry.optim_cls.__name__)}
HOW = {"foreach", "fused", "capturable", "differentiable"}
ITERATIONS = {"max_iter", "max_eval", "line_search_fn"}  # L-BFGS makes one an update
SHAPED = {"shapes"}
ADAMW = {"betas", "adamw_eps"}  # Muon's, of what is no matrix


def problems():
    for kind, entry in ENTRIES.items():
        for given in entry.optim_inputs_func(device="cpu"):
            if not isinstance(given.kwargs.get("lr"), torch.Tensor) and "line_search_fn" not in given.kwargs:
                yield pytest.param(kind, given.kwargs, id=f"{kind.__name__} {given.desc}")


def shapes_of(kind):
    return MATRICES if kind is torch.optim.Muon else SHAPES


def random_gradients(shapes):
    generator = torch.Generator().manual_seed(0)
    size = sum(map(prod, shapes))
    return torch.randn(STEPS, MEMBERS, size, generator=generator, dtype=torch.float64)


def ours(kind, settings, shapes, start):
    optimizer = getattr(optimizers, kind.__name__)(**settings).on(shapes)
    points, state = start, optimizer.init(start)
    hyper = hyper_columns(optimizer, {}, len(start))
    for step, gradient in enumerate(random_gradients(shapes), 1):
        number = torch.tensor(float(step), dtype=torch.float64)
        points, state = optimizer.update(gradient, state, points, hyper, number)
    return points


def theirs(kind, settings, shapes, start):
    rows = []
    own = {"max_iter": 1} if kind is torch.optim.LBFGS else {}
    for member, row in enumerate(start):
        parts = row.split(list(map(prod, shapes)))
        parameters = [p.clone().view(shape).requires_grad_() for p, shape in zip(parts, shapes, strict=True)]
        single = {"foreach": False} if "foreach" in inspect.signature(kind).parameters else {}
        with numbers_in(torch.float64):
            optimizer = kind(parameters, **settings, **single, **own)
            for gradient in random_gradients(shapes)[:, member]:
                for p, part in zip(parameters, gradient.split(list(map(prod, shapes))), strict=True):
                    p.grad = part.clone().view_as(p)
                optimizer.step(*([lambda: torch.zeros(())] if own else []))
        rows.append(torch.cat([p.detach().flatten() for p in parameters]))
    return torch.stack(rows)


@pytest.mark.parametrize(("kind", "settings"), list(problems()))
def test_steps_are_torch_s(kind, settings, monkeypatch):
    if kind is torch.optim.Muon:  # whose products are in bfloat16, where another order of summands shows
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    shapes = shapes_of(kind)
    size = sum(map(prod, shapes))
    start = torch.linspace(-1, 1, MEMBERS * size, dtype=torch.float64).view(MEMBERS, size)
    received = ours(kind, settings, shapes, start)
    assert not torch.equal(received, start)
    assert relative_error(received, theirs(kind, settings, shapes, start)) <= 1e-12


def test_muon_in_bfloat16_is_torch_s_as_far_as_bfloat16_goes():
    start = torch.linspace(-1, 1, MEMBERS * 24, dtype=torch.float64).view(MEMBERS, 24)
    given = torch.optim.Muon, {"lr": 0.1}, MATRICES, start
    assert relative_error(ours(*given), theirs(*given)) <= 0.02


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.__name__)
def test_every_argument_of_torch_s_is_ours_with_its_default_or_about_how_it_computes(kind):
    names = inspect.signature(kind).parameters
    own = inspect.signature(getattr(optimizers, kind.__name__)).parameters
    assert names.keys() - own.keys() == {"params"} | (HOW | ITERATIONS) & names.keys()
    assert own.keys() - names.keys() - SHAPED == (ADAMW if kind is torch.optim.Muon else set())
    assert all(own[name].default == names[name].default for name in own.keys() & names.keys())


def test_all_that_torch_has_are_ours_but_the_one_of_sparse_gradients():
    assert {entry.optim_cls.__name__ for entry in optim_db} - {k.__name__ for k in ENTRIES} == {"SparseAdam"}
