"""The lowering of attention against torch's own, member after member."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, Held, assert_lowered, assert_members, population_of
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sampled import sampled
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention.bias import causal_lower_right
from torch.nn.modules import transformer

from modelspace.engine import Function
from modelspace.engine.lowerings import attention, lowered
from modelspace.engine.program import compiled
from modelspace.engine.randomness import Draws


@pytest.fixture(params=["products", "fused"])
def form(request, monkeypatch):
    if request.param == "fused":
        monkeypatch.setattr(attention, "_SHORT", 0)


@st.composite
def problems(draw):
    heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    length, keys = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    lead = draw(st.sampled_from([(), (2,), (2, 3)]))
    masks = [None, (length, keys), (1, keys), (*lead, 1, length, keys), (*lead, heads * groups, length, keys)]
    mask = draw(st.sampled_from(masks))
    return {
        "query": (*lead, heads * groups, length, 4),
        "key": (*lead, heads if groups > 1 else heads * groups, keys, 4),
        "width": draw(st.integers(1, 3)),
        "mask": mask,
        "boolean": draw(st.booleans()),
        "own": [*(draw(st.booleans()) for _ in range(3)), draw(st.booleans())],
        "arguments": {
            "is_causal": mask is None and draw(st.booleans()),
            "scale": draw(st.sampled_from([None, 0.3])),
            "enable_gqa": groups > 1,
        },
    }


def posed(problem):
    """Queries, keys, values and mask; those that are each member's own with a member axis."""
    generator = torch.Generator().manual_seed(0)

    def normal(own, *shape):
        shape = (MEMBERS, *shape) if own else shape
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    own, key = problem["own"], problem["key"]
    tensors = [
        normal(own[0], *problem["query"]),
        normal(own[1], *key),
        normal(own[2], *key[:-1], problem["width"]),
    ]
    tensors = [x.requires_grad_() for x in tensors]
    if problem["mask"] is not None:
        mask = normal(own[3], *problem["mask"])
        tensors.append(mask > -0.5 if problem["boolean"] else mask)
    return tensors


@settings(max_examples=80, deadline=None)
@given(problem=problems(), short=st.sampled_from([0, 128]))
def test_values_and_gradients_are_torch_s(problem, short):
    tensors = posed(problem)
    own = problem["own"][: len(tensors)]
    if not any(own):
        return

    def attend(query, key, value, mask=None):
        return F.scaled_dot_product_attention(query, key, value, mask, **problem["arguments"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_SHORT", short)
        assert_lowered(attend, tensors, own)


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 3, 2, 5, 4)], ids=str)
def test_any_number_of_axes(form, shape):
    tensors = [torch.randn(MEMBERS, *shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert_lowered(F.scaled_dot_product_attention, tensors, [True] * 3)


def test_a_mask_may_be_learnt(form):
    tensors = [torch.randn(MEMBERS, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.randn(MEMBERS, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert_lowered(F.scaled_dot_product_attention, [*tensors, mask], [True] * 4)


def test_a_query_that_attends_to_nothing(form):
    tensors = [torch.randn(MEMBERS, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.zeros(5, 5, dtype=torch.float64)
    mask[2] = -torch.inf
    for m in (mask, mask == 0):
        assert_lowered(lambda q, k, v, m=m: F.scaled_dot_product_attention(q, k, v, m), tensors, [True] * 3)


def test_a_causal_bias(form):
    tensors = [torch.randn(MEMBERS, 2, 3, 5, 4, dtype=torch.float64) for _ in range(3)]
    bias = causal_lower_right(5, 5)
    assert_lowered(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, bias), tensors, [True] * 3)


# Dropout


def dropped(query, key, value, p=0.4, seed=3, **settings):
    with lowered(Draws(torch.tensor(seed), torch.tensor(0)), batched=False):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=p, **settings)


def test_weights_are_dropped_and_scaled_as_torch_does():
    query, key = torch.randn(2, 3, 40, 4), torch.randn(2, 3, 50, 4)
    identity = torch.eye(50).expand(2, 3, 50, 50)
    weights = F.scaled_dot_product_attention(query, key, identity)
    received = dropped(query, key, identity)
    kept = received != 0
    assert torch.allclose(received, weights * kept / 0.6, atol=1e-6)
    assert abs(float(kept.float().mean()) - 0.6) < 4 * (0.24 / kept.numel()) ** 0.5
    assert (dropped(query, key, identity, p=1.0) == 0).all()
    assert torch.equal(dropped(query, key, identity), received)
    assert not torch.equal(dropped(query, key, identity, seed=4), received)


def test_nothing_is_drawn_where_nothing_is_dropped():
    query = torch.randn(2, 3, 5, 4)
    draws = Draws(torch.tensor(3), torch.tensor(0))
    with lowered(draws, batched=False):
        received = F.scaled_dot_product_attention(query, query, query)
    assert torch.equal(received, F.scaled_dot_product_attention(query, query, query))
    assert draws.site == 0


def test_dropout_under_vmap_is_the_loop_s():
    x, seeds = torch.randn(3, 2, 3, 5, 4, dtype=torch.float64), torch.tensor([0, 7, 2**63 - 1])
    causal = {"is_causal": True, "enable_gqa": True, "dropout_p": 0.4}

    def one(x, seed):
        with lowered(Draws(seed, torch.tensor(0)), batched=True):
            return F.scaled_dot_product_attention(x, x[:, :1], x[:, :1], **causal)

    stacked = torch.vmap(one)(x, seeds)
    for k, seed in enumerate(seeds.tolist()):
        row = dropped(x[k], x[k, :, :1], x[k, :, :1], seed=seed, is_causal=True, enable_gqa=True)
        assert torch.allclose(stacked[k], row, rtol=1e-12)


# Modules


def attending(arguments, options, masks):
    width, batch_first = 6, options.get("batch_first", False)
    order = (2, 5) if batch_first else (5, 2)
    query = torch.randn(*order, width, dtype=torch.float64)
    key = torch.randn(*order, options.get("kdim", width), dtype=torch.float64)
    value = torch.randn(*order, options.get("vdim", width), dtype=torch.float64)
    own = arguments == "self" and not {"kdim", "vdim"} & options.keys()
    given = {
        "padding": {"key_padding_mask": torch.tensor([[False] * 5, [False] * 3 + [True] * 2])},
        "attention": {"attn_mask": torch.randn(5, 5, dtype=torch.float64)},
        "per head": {"attn_mask": torch.randn(4, 5, 5, dtype=torch.float64)},
        "causal": {"attn_mask": nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)},
        "none": {},
    }[masks]
    if masks == "causal":
        given["is_causal"] = True
    return (query, query, query) if own else (query, key, value), given


OPTIONS = [
    {},
    {"batch_first": True},
    {"bias": False},
    {"kdim": 3, "vdim": 5},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": True},
    {"dropout": 0.3, "batch_first": True},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 3, "dropout": 0.2},
]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("weights", [True, False], ids=["with weights", "without weights"])
@pytest.mark.parametrize("masks", ["none", "padding", "attention", "per head", "causal"])
@pytest.mark.parametrize("options", sampled(OPTIONS, 2), ids=str)
def test_multihead_attention(options, masks, weights, training):
    for arguments in ("self", "cross"):
        args, kwargs = attending(arguments, options, masks)

        def make(args=args, kwargs=kwargs):
            module = nn.MultiheadAttention(6, 2, **options)
            return Held(module, args, {**kwargs, "need_weights": weights})

        assert assert_members(make, make().input, training) == ()


def encoder(norm_first, dropout=0.0, batch_first=True):
    layer = nn.TransformerEncoderLayer(
        6, 2, 8, dropout, F.gelu if norm_first else F.relu, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(
        layer, 2, nn.LayerNorm(6) if norm_first else None, not norm_first and batch_first
    )


PADDING = {"src_key_padding_mask": torch.tensor([[False] * 5, [False] * 3 + [True] * 2])}
CAUSAL = {"mask": nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "masks", [{}, PADDING, CAUSAL, {**CAUSAL, "is_causal": True}], ids=lambda m: str(list(m))
)
@pytest.mark.parametrize(("norm_first", "dropout"), list(itertools.product([True, False], [0.0, 0.3])))
def test_transformer_encoder(norm_first, dropout, masks, training):
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    assert assert_members(lambda: Held(encoder(norm_first, dropout), (x,), masks), x, training) == ()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_decoder(norm_first, training):
    x, memory = torch.randn(2, 5, 6, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64)
    masks = {"tgt_mask": CAUSAL["mask"], "memory_key_padding_mask": PADDING["src_key_padding_mask"]}

    def make():
        layer = nn.TransformerDecoderLayer(6, 2, 8, 0.2, batch_first=True, norm_first=norm_first)
        return Held(nn.TransformerDecoder(layer, 2), (x, memory), masks)

    assert assert_members(make, x, training) == ()


def test_pytorch_s_own_paths_are_as_they_were_afterwards():
    before = transformer._detect_is_causal_mask
    with lowered(None, batched=True):
        assert not torch.backends.mha.get_fastpath_enabled()
        assert transformer._detect_is_causal_mask is not before
    assert torch.backends.mha.get_fastpath_enabled()
    assert transformer._detect_is_causal_mask is before


class Causal(nn.Module):
    """Its forward makes the mask: nothing tells PyTorch that it is causal."""

    def __init__(self):
        super().__init__()
        self.encoder = encoder(True)

    def forward(self, x):
        return self.encoder(x, nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_mask_made_in_the_forward_is_traced(training):
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    assert assert_members(Causal, x, training) == ()
    population = population_of(Causal)
    function = Function(population.space)

    def forward(points):
        def one(parameters):
            return function(parameters, {}, x, training=training)[0]

        return torch.vmap(one)(population.space.layout.views(points))

    graph = make_fx(forward)(population.points)
    assert torch.allclose(graph(population.points), forward(population.points), rtol=1e-12)


@pytest.mark.slow
def test_it_compiles(form):
    tensors = [torch.randn(MEMBERS, 2, 3, 5, 4, dtype=torch.float64) for _ in range(3)]

    def step(query, key, value):
        leaves = [x.detach().requires_grad_() for x in (query, key, value)]

        def one(query, key, value):
            with lowered(None, batched=True):
                return F.scaled_dot_product_attention(query, key, value, is_causal=True)

        out = torch.vmap(one)(*leaves)
        return out.detach(), torch.autograd.grad(out.square().sum(), leaves)

    program = compiled(step, *tensors)
    out, gradients = program(*tensors)
    wanted, expected = step(*tensors)
    assert torch.allclose(out, wanted, rtol=1e-11)
    for received, gradient in zip(gradients, expected, strict=True):
        assert torch.allclose(received, gradient, rtol=1e-10, atol=1e-12)
