"""The lowerings of embeddings against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, STEP, Held, assert_lowered, assert_members, population_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelspace.engine import Batch, Function, loop_gradient, stacked_outputs, vmap_gradient
from modelspace.engine.program import compiled

ROWS, WIDTH = 6, 3
TOKENS = torch.tensor([[0, 2, 2, 5], [4, 1, 0, 2]])


def table(own=True):
    generator = torch.Generator().manual_seed(0)
    shape = (MEMBERS, ROWS, WIDTH) if own else (ROWS, WIDTH)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def indices(own, *shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(ROWS, (MEMBERS, *shape) if own else shape, generator=generator)


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.sampled_from([(), (4,), (2, 3)]), st.none() | st.integers(-2, 3), st.booleans())
def test_embedding(own, shape, padding, frequency):
    assert_lowered(
        lambda w, i: F.embedding(i, w, padding, scale_grad_by_freq=frequency),
        [table(), indices(own, *shape)],
        [True, own],
    )


@st.composite
def bags(draw):
    mode = draw(st.sampled_from(["sum", "mean", "max"]))
    length = draw(st.integers(0, 8))
    square = draw(st.booleans()) and length > 0
    last = not square and draw(st.booleans())
    starts = [0, *sorted(draw(st.lists(st.integers(0, length), max_size=4)))]
    return {
        "own": (draw(st.booleans()) or None, draw(st.booleans()), draw(st.booleans())),
        "shape": (2, length) if square else (length,),
        "offsets": None if square else [*starts, length] if last else starts,
        "weighted": mode == "sum" and draw(st.booleans()),
        "arguments": {
            "mode": mode,
            "scale_grad_by_freq": mode != "max" and draw(st.booleans()),
            "include_last_offset": last,
            "padding_idx": draw(st.none() | st.integers(-ROWS, ROWS - 1)),
        },
    }


@settings(max_examples=150, deadline=None)
@given(bags())
def test_bags(problem):
    own_table, own_indices, own_samples = problem["own"]
    own_table = bool(own_table) or not own_indices
    tensors, own = [table(own_table), indices(own_indices, *problem["shape"])], [own_table, own_indices]
    if problem["weighted"]:
        shape = (MEMBERS, *problem["shape"]) if own_samples else problem["shape"]
        tensors.append(torch.randn(shape, dtype=torch.float64).requires_grad_())
        own.append(own_samples)
    offsets = problem["offsets"] and torch.tensor(problem["offsets"])

    def pooled(weight, tokens, samples=None):
        settings = {"per_sample_weights": samples, **problem["arguments"]}
        return F.embedding_bag(tokens, weight, offsets, **settings)

    assert_lowered(pooled, tensors, own)


def test_bags_of_each_member_s_own_offsets():
    offsets = torch.tensor([[0, 2, 2], [0, 1, 4], [0, 0, 0]])
    for mode in ("sum", "mean", "max"):
        assert_lowered(
            lambda w, i, o, mode=mode: F.embedding_bag(i, w, o, mode=mode),
            [table(), indices(True, 5), offsets],
            [True, True, True],
        )


OPTIONS = [
    {"padding_idx": 2, "scale_grad_by_freq": True},
    {"max_norm": 0.9},
    {"max_norm": 0.7, "norm_type": 1.0, "padding_idx": 0},
    {"sparse": True},
]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_modules(kind, options, training):
    def make():
        return Held(kind(ROWS, WIDTH, **options), (TOKENS,), {})

    assert assert_members(make, TOKENS, training) == ()


# What the forward writes into its parameters


class Renormalised(nn.Module):
    """The second use of the table finds what the first has made of it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Embedding(ROWS, WIDTH, max_norm=0.9)
        self.head = nn.Linear(WIDTH, ROWS, bias=False)
        self.head.weight = self.first.weight

    def forward(self, tokens):
        return self.head(self.first(tokens).mean(1))


@pytest.mark.parametrize("compute", [vmap_gradient, loop_gradient])
def test_the_forward_renormalises_the_points_as_a_plain_module_its_parameters(compute):
    population = population_of(Renormalised)
    plain = population.modules()
    for module in plain:
        module(TOKENS[:1])
    arguments = Batch(TOKENS[:1], torch.tensor([1]), own=False), torch.arange(MEMBERS), torch.tensor(STEP)
    compute(Function(population.space), nn.CrossEntropyLoss(), population.points, {}, *arguments)
    for row, module in zip(population.points, plain, strict=True):
        assert torch.allclose(row.view(ROWS, WIDTH), module.first.weight, rtol=1e-12)
        assert (module.first.weight[[0, 2, 5]].norm(dim=1) <= 0.9).all()


@pytest.mark.parametrize("batched", [True, False])
def test_evaluation_leaves_the_points_as_they_are(batched):
    population = population_of(Renormalised)
    before, function = population.points.clone(), Function(population.space)
    outputs = stacked_outputs(function, population.points, {}, TOKENS, batched=batched)
    for row, module in zip(outputs, population.modules(), strict=True):
        with torch.no_grad():
            assert torch.allclose(row, module(TOKENS), rtol=1e-12)
    assert torch.equal(population.points, before)


@pytest.mark.parametrize("compute", [vmap_gradient, loop_gradient])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_sparse_gradient_is_a_row_of_the_matrix(kind, compute):
    def gradient(sparse):
        population = population_of(lambda: kind(ROWS, WIDTH, sparse=sparse))
        batch = Batch(TOKENS, torch.zeros(2, WIDTH, dtype=torch.float64), own=False)
        loss = lambda outputs, labels: (outputs.reshape(2, -1, WIDTH).mean(1) - labels).square().mean()  # noqa: E731
        function, seeds = Function(population.space), torch.arange(MEMBERS)
        return compute(function, loss, population.points, {}, batch, seeds, torch.tensor(STEP)).gradient

    assert torch.allclose(gradient(True), gradient(False), rtol=1e-12)
    assert gradient(True).any()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_compile(mode):
    population = population_of(lambda: nn.EmbeddingBag(ROWS, WIDTH, mode=mode, padding_idx=2, max_norm=0.9))
    function, loss = Function(population.space), lambda outputs, _: outputs.square().sum()
    batch = Batch(TOKENS, torch.zeros(2), own=False)

    def step(points):
        return vmap_gradient(
            function, loss, points, {}, batch, torch.arange(MEMBERS), torch.tensor(STEP)
        ).gradient

    points = population.points.clone()
    expected = step(points)
    found = compiled(step, population.points)(population.points)
    assert torch.allclose(found, expected, rtol=1e-11)
    assert torch.allclose(population.points, points, rtol=1e-12)
