"""Members at once against plain PyTorch, one after the other: for an operation, and for a module."""

import torch
from torch import nn
from torch.utils import _pytree as pytree

from modelspace import ModelSpace
from modelspace.engine import Function
from modelspace.engine.lowerings import MEMBER_BY_MEMBER, lowered
from modelspace.engine.randomness import evaluation_draws
from modelspace.reference import stateless_randomness

MEMBERS, STEP = 3, 3


def tensors(tree):
    """The tensors among a module's outputs."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def weighted(outputs):
    """A number that depends on every element of the outputs in its own way."""
    parts = [x for x in outputs if x.is_floating_point()]
    weights = [torch.linspace(-1, 2, x.numel(), dtype=x.dtype).cos().view(x.shape) for x in parts]
    return sum((x * w).sum() for x, w in zip(parts, weights, strict=True))


def assert_close(received, expected, tolerance):
    """Shapes, types and values, NaN and Inf included, relative to the tensor's largest element."""
    assert received.shape == expected.shape
    assert received.dtype == expected.dtype
    scale = (
        float(expected.detach().double().nan_to_num(posinf=0, neginf=0).abs().max())
        if expected.numel()
        else 0
    )
    assert torch.allclose(
        received, expected, rtol=tolerance, atol=tolerance * (scale + 1e-3), equal_nan=True
    ), f"off by {float((received - expected).detach().abs().max()):.2g} of {scale:.2g}"


# An operation


def assert_lowered(function, arguments, own, tolerance=1e-11):
    """The operation under ``vmap`` is the operation for each member, values and gradients.

    Args:
        function: Of tensors, to tensors.
        arguments: One a tensor; those of ``own`` with the member axis first.
        own: For each whether it is each member's own.
        tolerance: The relative error allowed.

    Returns:
        The operations carried out member by member.
    """
    operations = {}

    def one(*arguments):
        with lowered(None, batched=True, operations=operations):
            return tuple(tensors(function(*arguments)))

    def row(k):
        return [x[k] if has else x for x, has in zip(arguments, own, strict=True)]

    ours = torch.vmap(one, in_dims=tuple(0 if has else None for has in own))(*arguments)
    theirs = [tuple(tensors(function(*row(k)))) for k in range(MEMBERS)]
    for received, *expected in zip(ours, *theirs, strict=True):
        assert_close(received, torch.stack(expected), tolerance)
    leaves = [x for x in arguments if x.requires_grad]
    if leaves:
        unused = {"allow_unused": True, "materialize_grads": True}
        found = torch.autograd.grad(
            sum(weighted([x[k] for x in ours]) for k in range(MEMBERS)), leaves, **unused
        )
        wanted = torch.autograd.grad(sum(map(weighted, theirs)), leaves, **unused)
        for received, expected in zip(found, wanted, strict=True):
            assert_close(received, expected, 10 * tolerance)
    return tuple(name for name, how in operations.items() if how == MEMBER_BY_MEMBER)


# A module


class Held(nn.Module):
    """A module and the arguments of its forward, the first tensor of which is the input.

    Args:
        module: The module.
        args: Its arguments; where the first tensor is there again, the input is.
        kwargs: Its keyword arguments.
        scaled: Whether the input is first multiplied by a parameter, about ½: so a gradient passes through the
            module, and one without parameters has a space.
    """

    def __init__(self, module, args, kwargs, scaled=False):
        super().__init__()
        self.module = module
        self.arguments = (tuple(args), dict(kwargs))
        found = tensors(self.arguments)
        self.input = next((x for x in found if x.is_floating_point()), found[0])
        if scaled and self.input.is_floating_point():
            self.scale = nn.Parameter(torch.full((), 0.5, dtype=torch.float64))

    def forward(self, inputs):
        x = inputs * self.scale if hasattr(self, "scale") else inputs
        args, kwargs = pytree.tree_map(lambda leaf: x if leaf is self.input else leaf, self.arguments)
        return self.module(*args, **kwargs)


def population_of(make):
    """Some members of a float64 architecture, every parameter and buffer of each its own."""
    population = ModelSpace(make, dtype=torch.float64).sample(seeds=MEMBERS)
    generator = torch.Generator().manual_seed(0)
    shape = population.points.shape
    population.points.add_(0.2 * torch.randn(shape, generator=generator, dtype=torch.float64))
    for buffer in population.buffers.values():
        if buffer.is_floating_point():
            buffer.mul_(1 - 0.1 * torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return population


def plainly(population, inputs, training, own):
    """Outputs, gradients and buffers after, by plain modules: for each member a list of tensors."""
    rows = []
    for k in range(MEMBERS):
        # What a constructor draws beside parameters and buffers is the engine's own module's.
        kept = {name: value[k] for name, value in population.buffers.items()}
        module = population.space.module(population.points[k], kept).train(training)
        with stateless_randomness(k, STEP) if training else lowered(evaluation_draws("cpu"), batched=False):
            outputs = tensors(module(inputs[k].clone() if own else inputs.clone()))
        parameters = [p for p in module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(
            weighted(outputs), parameters, materialize_grads=True, allow_unused=True
        )
        dense = [g.to_dense() if g.is_sparse else g for g in gradients]
        rows.append([*outputs, *dense, *module.buffers()])
    return rows


def together(population, function, inputs, training, own):
    """The same by one batched forward."""
    views = population.space.layout.views(population.points)
    leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
    step = torch.tensor(STEP)

    def one(parameters, buffers, inputs, seed):
        outputs, after = function(parameters, buffers, inputs, training=training, seed=seed, step=step)
        return tensors(outputs), {name: value.detach() for name, value in after.items()}

    buffers = {name: value.clone() for name, value in population.buffers.items()}
    dims = (0, 0, 0 if own else None, 0)
    outputs, after = torch.vmap(one, dims)(leaves, buffers, inputs, torch.arange(MEMBERS))
    total = sum(weighted([x[k] for x in outputs]) for k in range(MEMBERS))
    gradients = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True, allow_unused=True)
    return [[x[k] for x in (*outputs, *gradients, *after.values())] for k in range(MEMBERS)]


def outputs_without_gradient(population, function, inputs, own):
    """The outputs in evaluation mode where no gradient is wanted: PyTorch has paths for that alone."""

    def one(parameters, buffers, inputs):
        return tensors(function(parameters, buffers, inputs, training=False)[0])

    with torch.no_grad():
        views = population.space.layout.views(population.points)
        outputs = torch.vmap(one, (0, 0, 0 if own else None))(views, population.buffers, inputs)
    return [[x[k] for x in outputs] for k in range(MEMBERS)]


def each_its_own(inputs):
    """Inputs of each member's own, made from one: other numbers of the same sign, or the same tokens elsewhere."""
    if inputs.is_floating_point():
        return torch.stack([inputs * (1 - 0.1 * k) for k in range(MEMBERS)])
    return torch.stack([inputs.reshape(-1).roll(k).view_as(inputs) for k in range(MEMBERS)])


def assert_members(make, inputs, training, own=False, tolerance=1e-9):
    """The batched form of an architecture is each member's plain module: outputs, gradients, buffers.

    Args:
        make: What makes the architecture.
        inputs: Its input, the same for all members; with ``own``, ``[member, …]``.
        training: Its mode.
        own: Whether each member has an input of its own.
        tolerance: The relative error allowed.

    Returns:
        The operations carried out member by member.
    """
    population = population_of(make)
    function = Function(population.space)
    expected = plainly(population, inputs, training, own)
    compared = [together(population, function, inputs, training, own)]
    if not training:
        compared.append(outputs_without_gradient(population, function, inputs, own))
    for received in compared:
        for row, wanted in zip(received, expected, strict=True):
            assert 0 < len(row) <= len(wanted)
            for x, y in zip(row, wanted, strict=False):
                assert_close(x, y, tolerance)
    assert len(compared[0][0]) == len(expected[0])
    return function.one_by_one
