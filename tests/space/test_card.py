import torch
from support.cases import DummyNet, FrozenBackbone, Tied
from torch import nn

from modelspace import ModelSpace
from modelspace.show import formula, shape_text


def test_the_formula():
    assert formula(2512) == "H = { f_p : p ∈ ℝ²⁵¹² }"
    assert shape_text((3, 7, 7)) == "3×7×7"
    assert shape_text(()) == "scalar"


def test_the_text_card_says_what_the_space_is():
    lines = repr(ModelSpace(DummyNet, input_shape=(3, 7, 7))).splitlines()
    assert lines[0] == "DummyNet   H = { f_p : p ∈ ℝ²⁵¹² }"
    assert "n = 2,512 in 4 blocks, float32" in lines[1]
    assert [line.split() for line in lines[-4:]] == [
        ["conv1.weight", "9×3×3×3", "243", "p[0:243]"],
        ["conv1.bias", "9", "9", "p[243:252]"],
        ["fc.weight", "10×225", "2,250", "p[252:2502]"],
        ["fc.bias", "10", "10", "p[2502:2512]"],
    ]


def test_frozen_tied_and_buffers_are_told():
    card = repr(ModelSpace(FrozenBackbone))
    assert "8 shared by all points" in card
    assert "76 of each point's own" in card
    assert "9 in 3 tensors, one set a point" in card
    assert "output.weight = embedding.weight" in repr(ModelSpace(Tied))


def test_an_unknown_cost_does_not_break_the_card():
    card = repr(ModelSpace(DummyNet, input_shape=(1, 7, 7)))
    assert "cost          unknown: " in card
    assert "conv1" in card


def test_a_long_list_is_folded():
    card = repr(ModelSpace(lambda: nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)])))
    assert "… 16 more" in card
    assert "39.bias" not in card
    assert "19.bias" in card


def test_the_html_card_escapes_what_users_write():
    def architecture(note="<script>alert(1)</script>"):
        module = nn.Module()
        module.weight = nn.Parameter(torch.zeros(2))
        return module

    html = ModelSpace(architecture, note="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
