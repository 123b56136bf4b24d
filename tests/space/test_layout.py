import pytest
import torch
from support.cases import DummyNet, FrozenBackbone, Tied
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.space import Block, layout_of


def test_blocks_follow_named_parameters():
    layout = layout_of(DummyNet())
    assert layout.blocks == (
        Block("conv1.weight", (9, 3, 3, 3), 0, 243),
        Block("conv1.bias", (9,), 243, 252),
        Block("fc.weight", (10, 225), 252, 2502),
        Block("fc.bias", (10,), 2502, 2512),
    )
    assert layout.dimension == 2512
    assert len(layout) == 4
    assert [b.size for b in layout] == [243, 9, 2250, 10]


def test_a_tied_parameter_is_one_block_under_its_first_name():
    layout = layout_of(Tied())
    assert layout.tied == {"output.weight": "embedding.weight"}
    assert "output.weight" not in [b.name for b in layout]


def test_frozen_parameters_are_no_coordinates():
    assert [b.name for b in layout_of(FrozenBackbone())] == ["head.weight", "head.bias"]


def test_views_share_memory_and_have_the_parameters_shapes():
    layout = layout_of(DummyNet())
    points = torch.arange(2 * 2512.0).view(2, 2512)
    views = layout.views(points)
    assert views["fc.weight"].shape == (2, 10, 225)
    assert layout.views(points[0])["fc.weight"].shape == (10, 225)
    views["conv1.bias"][1] = -1
    assert (points[1, 243:252] == -1).all()
    joined = torch.cat([v.reshape(2, -1) for v in views.values()], 1)
    assert torch.equal(joined, points)


def test_nothing_trainable_is_no_space():
    with pytest.raises(ModelspaceError, match="Linear has no trainable parameter"):
        layout_of(nn.Linear(2, 2).requires_grad_(False))


def test_mixed_types_are_named():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ModelspaceError, match=r"0\.weight is torch\.float32, 1\.weight is torch\.float64"):
        layout_of(module)
