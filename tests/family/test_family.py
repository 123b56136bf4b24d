import random
import re
import time

import pytest
import torch
from family import families
from family.formulas import evaluated
from support.sampled import sampled
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.family import Family, _costs
from modelspace.space import ModelSpace

TOKENS = {"input_shape": lambda context=8, **_: (context,), "input_dtype": torch.long}

# Each family as its user would list it, and the values of members that were not listed.
FAMILIES = {
    "MLP": (
        lambda: Family(families.MLP, width=[16, 32], depth=[1, 2], input_shape=(6,), memory=False),
        {"width": range(1, 90), "depth": range(1, 9)},
    ),
    "CNN": (
        lambda: Family(
            families.CNN, channels=[4, 8], depth=[1, 2], kernel=[1, 3], input_shape=(3, 8, 8), memory=False
        ),
        {"channels": range(1, 30), "depth": range(1, 7), "kernel": [1, 3, 5, 7]},
    ),
    "ResNet": (
        lambda: Family(families.ResNet, width=[8, 16], blocks=[1, 2], input_shape=(3, 8, 8), memory=False),
        {"width": range(1, 30), "blocks": range(1, 5)},
    ),
    "ViT": (
        lambda: Family(families.ViT, width=[8, 16], depth=[1, 2], input_shape=(3, 8, 8), memory=False),
        {"width": range(2, 60, 2), "depth": range(1, 5)},
    ),
    "GPT": (
        lambda: Family(families.GPT, width=[8, 16], depth=[1, 2], heads=1, memory=False, **TOKENS),
        {"width": range(1, 60), "depth": range(1, 4)},
    ),
    "LSTM": (
        lambda: Family(families.LSTM, hidden=[8, 16], layers=[1, 2], input_shape=(7, 5), memory=False),
        {"hidden": range(1, 60), "layers": range(1, 6)},
    ),
}
LONGER = {
    "GPT over its context": (
        lambda: Family(families.GPT, width=[8, 16], depth=[1, 2], context=[4, 8], memory=False, **TOKENS),
        {"width": range(2, 60, 2), "depth": range(1, 5), "context": range(1, 30)},
    ),
    "ViT over its heads": (
        lambda: Family(
            families.ViT, width=[24, 48], depth=[1, 2], heads=[2, 3], input_shape=(3, 8, 8), memory=False
        ),
        {"width": range(6, 100, 6), "depth": range(1, 5), "heads": [2, 3]},
    ),
}
_made = {}
every_family = pytest.mark.parametrize("name", FAMILIES)


def family_of(name):
    """Made once, since its laws are what takes time."""
    if name not in _made:
        _made[name] = {**FAMILIES, **LONGER}[name][0]()
    return _made[name]


def random_members(name, count, deepest):
    generator = random.Random(7)
    values = {**FAMILIES, **LONGER}[name][1]
    for _ in range(count):
        member = {axis: generator.choice(own) for axis, own in values.items()}
        # A trace takes as long as the network is deep.
        yield {
            axis: min(v, deepest) if axis in ("depth", "blocks", "layers") else v
            for axis, v in member.items()
        }


def assert_laws_are_the_trace(name, count, deepest):
    family = family_of(name)
    texts = {quantity: str(law) for quantity, law in family.laws.items()}
    for member in random_members(name, count, deepest):
        space = family.space(**member)
        cost = space.anatomy(family.batch_size)
        truth = {
            "n": sum(p.numel() for p in space.draw(0).parameters()),
            "forward_flops": cost.forward_flops,
            "backward_flops": cost.backward_flops,
        }
        assert {q: law(**member) for q, law in family.laws.items()} == truth, member
        assert {q: evaluated(text, **member) for q, text in texts.items()} == truth, member


@pytest.mark.parametrize("name", sampled(FAMILIES, 4))
def test_laws_are_the_trace_on_members_not_listed(name):
    assert_laws_are_the_trace(name, 4, deepest=3 if name in ("MLP", "CNN", "LSTM") else 2)


@pytest.mark.parametrize("name", [*FAMILIES, *LONGER])
@pytest.mark.slow
def test_laws_are_the_trace_on_fifty_members(name):
    assert_laws_are_the_trace(name, 50, deepest=8)


@every_family
def test_one_law_covers_each_family(name):
    for law in family_of(name).laws.values():
        assert len(law.pieces) == 1
        assert law.pieces[0].checked_on >= 8


def test_laws_by_hand():
    """What a textbook would write down for these networks."""
    mlp, gpt = family_of("MLP"), family_of("GPT")
    for w, d in [(1, 1), (64, 2), (999, 40)]:
        hidden = (d - 1) * (w * w + w)
        assert mlp.laws["n"](width=w, depth=d) == 6 * w + w + hidden + 10 * w + 10
        forward = 2 * (6 * w + (d - 1) * w * w + 10 * w)
        assert mlp.laws["forward_flops"](width=w, depth=d) == forward
        assert mlp.laws["backward_flops"](width=w, depth=d) == 2 * forward - 2 * 6 * w
    t = 8
    for w, d in [(2, 1), (64, 2), (1000, 12)]:
        block = 12 * w * w + 13 * w
        assert gpt.laws["n"](width=w, depth=d) == 11 * w + t * w + d * block + 2 * w
        products = 2 * t * (12 * w * w * d + 11 * w) + 4 * t * t * w * d
        assert gpt.laws["forward_flops"](width=w, depth=d) == products


def test_a_hundred_billion_parameters_without_building(monkeypatch):
    family = Family(
        families.GPT, width=[64, 128], depth=[2, 4], context=[8, 16], heads=1, vocabulary=50257, **TOKENS
    )
    family.laws["n"]

    def refuse(*args, **kwargs):
        raise AssertionError("built")

    monkeypatch.setattr(_costs, "ModelSpace", refuse)
    began = time.perf_counter()
    n = family.laws["n"](width=12288, depth=96, context=2048)
    assert time.perf_counter() - began < 1
    w = 12288
    assert n == 50257 * w + 2048 * w + 96 * (12 * w * w + 13 * w) + 2 * w
    assert n > 1e11


def test_the_table_is_measured():
    family = Family(families.MLP, width=[8, 16], depth=[1, 2], input_shape=(6,), batch_size=3)
    table = family.table
    assert list(table.columns) == ["width", "depth", "n", "forward_flops", "backward_flops", "peak_bytes"]
    for row, space in zip(table.itertuples(), family, strict=True):
        cost = ModelSpace(families.MLP, input_shape=(6,), width=int(row.width), depth=int(row.depth)).anatomy(
            3
        )
        assert space.dimension == row.n
        assert (row.forward_flops, row.backward_flops) == (cost.forward_flops, cost.backward_flops)
        assert row.peak_bytes == cost.peak_bytes
    assert family.batch_size == 3
    assert family[3].dimension == table.n[3]
    with pytest.raises(IndexError, match="row 4 of a family of 4"):
        family[4]


def test_a_large_table_takes_memory_from_a_law_that_is_checked():
    family = Family(families.MLP, width=range(8, 81, 8), depth=range(1, 8), input_shape=(6,))
    assert family.memory_by_law
    table = family.table
    assert len(table) == 70
    assert family._members.traced < 50
    for k in (0, 33, 69):
        assert family[k].anatomy(1).peak_bytes == table.peak_bytes[k]


def test_without_an_input_shape_only_n_is_known():
    family = Family(nn.Linear, in_features=[8, 16], out_features=5)
    assert family.quantities == ("n",)
    assert list(family.table.n) == [45, 85]
    assert "FLOP" not in repr(family)
    assert family.measure(in_features=3).forward_flops is None


def test_members_that_can_t_be_built_are_named():
    class Heads(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            if width % heads:
                raise ValueError(f"{heads} heads don't divide width {width}")
            self.fc = nn.Linear(6, width)

        def forward(self, x):
            return self.fc(x)

    family = Family(Heads, width=[6, 8], heads=[2, 4], input_shape=(6,))
    assert family.table.n.isna().tolist() == [False, True, False, False]
    assert list(family.refused) == [1]
    assert "4 heads don't divide width 6" in family.refused[1]
    assert "row 1 can't be built" in repr(family)
    with pytest.raises(ModelspaceError, match=r"width=7, heads=2\).*2 heads don't divide width 7"):
        family.measure(width=7, heads=2)


def test_a_trace_that_contradicts_a_law_wins():
    class Odd(nn.Module):
        """One layer more at one width, and a law is found from others."""

        def __init__(self, width, depth):
            super().__init__()
            layers = depth + (width == 20 and depth == 3)
            self.net = nn.Sequential(nn.Linear(6, width), *(nn.Linear(width, width) for _ in range(layers)))

        def forward(self, x):
            return self.net(x)

    family = Family(Odd, width=[10, 20, 40], depth=[2, 3, 8], input_shape=(6,))
    assert family.laws["n"].holds
    table = family.table
    assert table.n[4] == 6 * 20 + 20 + 4 * (400 + 20)
    assert table.n[8] == 6 * 40 + 40 + 8 * (1600 + 40)
    assert not family.laws["n"].holds
    assert "where the trace gives" in str(family.laws["n"])


def test_batch_norm_sets_one_batch_for_all():
    family = Family(families.ResNet, width=[4, 8], blocks=1, input_shape=(3, 2, 2), memory=False)
    family.table
    assert family.batch_size == 2


def test_names():
    family = family_of("MLP")
    with pytest.raises(ModelspaceError, match="did you mean 'width'"):
        family.space(widht=3, depth=1)
    with pytest.raises(ModelspaceError, match="depth left open"):
        family.member(width=3)
    with pytest.raises(KeyError, match="no quantity 'peak_bytes' here"):
        family.laws["peak_bytes"]
    with pytest.raises(ModelspaceError, match="Linear is already built"):
        Family(nn.Linear(2, 3), width=[1, 2])
    with pytest.raises(ModelspaceError, match=r"input_shape\(width=16, depth=1\) failed: TypeError"):
        Family(families.MLP, width=[16], depth=[1], input_shape=lambda width: (width,)).space()


def test_a_member_says_what_came_by_law():
    family = family_of("MLP")
    assert family.member(width=50, depth=5).by_law == ("n", "forward_flops", "backward_flops")
    assert family.measure(width=50, depth=5).by_law == ()


def test_cards():
    class Shown(nn.Linear):
        def __init__(self, in_features, out_features, kind="<i>plain</i>"):
            super().__init__(in_features, out_features)

    Shown.__name__ = "<script>alert(1)</script>"
    family = Family(Shown, in_features=[8, 16], out_features=5)
    assert repr(family).startswith("<script>alert(1)</script>(in_features=[8, 16], out_features=5): 2 spaces")
    assert "n(in_features) = 5·in_features + 5" in repr(family)
    html = family._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert re.search(r"<td>45</td>", html)
    chosen = Family(Shown, in_features=[8, 16], out_features=5, kind=["<i>a</i>", "<i>b</i>"])
    assert "<i>" not in chosen._repr_html_()


def test_family_is_public():
    assert ms.Family is Family
