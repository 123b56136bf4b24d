"""Parameters and FLOP of whole architectures, written out in closed form or published by their authors."""

import sys

import pytest
import torch
from cost import published as networks

import modelspace as ms
from modelspace.cost import MetaBuild, anatomy, counts


def built(make, **arguments):
    with MetaBuild():
        return make(**arguments)


def parameters_of_the_mixture(depth=61, experts=370):
    d = 7168
    block = 2 * d * d + 2 * d * 1024 + d * experts + experts * 3 * d * 2048 + 2 * d
    return depth * block + 2 * 128000 * d + d


def parameters_of_deepseek_v3():
    d, latent = 7168, 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
    norms = 2 * d + 1536 + 512
    routed = 256 * d + 256 * 3 * d * 2048 + 3 * d * 2048
    return 61 * (latent + norms) + 3 * 3 * d * 18432 + 58 * routed + 2 * 129280 * d + d


PARAMETERS = {
    "gpt-2": 124_439_808,
    "llama-70b": 68_976_648_192,
    "deepseek-v3": parameters_of_deepseek_v3(),
    "mixture-1t": parameters_of_the_mixture(),
}


def test_gpt_2():
    net = built(networks.GPT)
    v, t, d, layers = 50257, 1024, 768, 12
    record = anatomy(net, (t,), input_dtype=torch.long)
    # The paper's 124 M, with the head tied to the token table.
    assert record.counts.parameters == sum(p.numel() for p in net.parameters()) == 124_439_808
    assert record.counts.tied == {"head.weight": "tokens.weight"}
    products = 2 * t * (layers * 12 * d * d + v * d)
    attention = layers * 4 * t * t * d
    assert record.forward_flops == products + attention
    assert record.backward_flops == 2 * products + attention * 5 // 2
    assert sum(call.flops for call in record.calls) == record.forward_flops
    assert sum(call.backward_flops for call in record.calls) == record.backward_flops
    assert record.device == "fake"


def test_llama_70b_s_parameters():
    assert counts(built(networks.Llama)).parameters == 68_976_648_192


def test_a_block_of_llama_70b():
    d, f, t = 8192, 28672, 64
    record = anatomy(built(networks.LlamaBlock, width=d, inner=f, heads=64, groups=8), (t, d))
    products = 2 * t * (2 * d * d + 2 * d * d // 8 + 3 * d * f)
    attention = 4 * t * t * d
    assert record.forward_flops == products + attention
    assert record.counts.parameters == 2 * d * d + 2 * d * d // 8 + 3 * d * f + 2 * d


def test_a_mixture_of_experts_computes_only_the_chosen():
    d, f, t, experts, chosen = 64, 32, 16, 12, 3
    record = anatomy(networks.Experts(d, f, experts, chosen), (t, d))
    router, expert = 2 * t * d * experts, 2 * t * chosen * (d * 2 * f + f * d)
    assert record.forward_flops == router + expert
    assert record.counts.parameters == d * experts + experts * 3 * d * f


def test_a_mixture_of_10_to_the_12():
    expected = parameters_of_the_mixture()
    assert counts(built(networks.Mixture)).parameters == expected
    assert 0.99e12 < expected < 1.01e12


def test_deepseek_v3_s_parameters():
    # The published 671,026,419,200 has a correction of the router a block and expert, which gets no gradient.
    expected = parameters_of_deepseek_v3()
    assert counts(built(networks.DeepSeek)).parameters == expected
    assert expected + 58 * 256 == 671_026_419_200


def test_a_block_of_deepseek_v3():
    t, d, heads = 32, 7168, 128
    record = anatomy(built(networks.DeepSeekBlock, width=d, dense=False), (t, d))
    latent = 7168 * 1536 + 1536 * heads * 192 + 7168 * 576 + 512 * heads * 256 + heads * 128 * 7168
    products = 2 * t * (latent + 256 * d + 9 * 3 * d * 2048)
    assert record.forward_flops == products + 2 * t * t * heads * (192 + 128)
    assert record.backward_flops == 2 * record.forward_flops


@pytest.mark.parametrize("depth", [1, 3])
def test_parameters_and_flop_are_affine_in_depth(depth):
    def of(layers):
        found = anatomy(built(networks.GPT, vocabulary=50, length=8, width=16, depth=layers, heads=2), (8,),
                        input_dtype=torch.long)  # fmt: skip
        return found.counts.parameters, found.forward_flops, found.backward_flops

    one, two, many = of(1), of(2), of(1 + depth)
    assert all(c == a + depth * (b - a) for a, b, c in zip(one, two, many, strict=True))


@pytest.mark.parametrize("name", networks.PUBLISHED)
def test_the_law_from_small_members_gives_the_published_parameters(name):
    published = networks.PUBLISHED[name]
    law = published.family().laws["n"]
    assert max(published.small) < 10 < published.size["depth"]
    assert law(**published.size) == PARAMETERS[name]


def test_a_law_in_depth_and_experts_gives_the_mixture_of_10_to_the_12():
    family = ms.Family(networks.Mixture, depth=[1, 2], experts=[8, 16], dtype=torch.bfloat16)
    assert family.laws["n"](depth=61, experts=370) == parameters_of_the_mixture()


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.PUBLISHED)
def test_the_laws_from_small_members_give_the_published_flop(name):
    published = networks.PUBLISHED[name]
    laws = published.family().laws
    record = anatomy(built(published.make, **published.size), (published.tokens,), input_dtype=torch.long)
    assert laws["forward_flops"](**published.size) == record.forward_flops
    assert laws["backward_flops"](**published.size) == record.backward_flops


@pytest.mark.slow
def test_transformers_gpt_2_agrees_with_ours(monkeypatch):
    # It imports torchvision where there is one, for models that are not asked for here.
    monkeypatch.setitem(sys.modules, "torchvision", None)
    transformers = pytest.importorskip("transformers")
    with MetaBuild():
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    record = anatomy(theirs, inputs=torch.zeros(1, 1024, dtype=torch.long))
    ours = anatomy(built(networks.GPT), (1024,), input_dtype=torch.long)
    assert record.counts.parameters == 124_439_808
    assert record.forward_flops == ours.forward_flops
