import copy

import pytest
import torch
from support.cases import DummyNet, FrozenBackbone, Residual, Tied, mlp
from torch import nn

from modelspace import ModelSpace
from modelspace.errors import ModelspaceError


def test_the_lecture_s_dimension():
    space = ModelSpace(DummyNet, input_shape=(3, 7, 7))
    assert space.dimension == sum(p.numel() for p in DummyNet().parameters()) == 2512


def test_a_point_and_its_module_are_each_other_s_inverse():
    space, net = ModelSpace(Residual), Residual()
    net.norm1.running_mean += 1
    reading = space.read(net)
    module = space.module(reading.point, reading.buffers)
    assert module is not net
    for name, value in net.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)
    assert torch.equal(space.point(module), reading.point)
    assert torch.equal(space.point(net.state_dict()), reading.point)


def test_changing_the_module_does_not_change_the_point():
    space, net = ModelSpace(DummyNet), DummyNet()
    point = space.point(net)
    before = point.clone()
    with torch.no_grad():
        net.fc.bias += 1
        space.module(point).fc.bias += 1
    assert torch.equal(point, before)


def test_every_difference_from_the_layout_is_listed():
    state = DummyNet().state_dict()
    del state["conv1.bias"]
    state["fc.bias"] = torch.zeros(3)
    state["extra"] = torch.zeros(1)
    expected = r"it has no conv1\.bias; fc\.bias is \(3,\) where \(10,\) is expected; extra is unknown here"
    with pytest.raises(ModelspaceError, match=f"not a point of DummyNet: {expected}"):
        ModelSpace(DummyNet).point(state)


BASE = FrozenBackbone().backbone.state_dict()


def pretrained():
    net = FrozenBackbone()
    net.backbone.load_state_dict(BASE)
    return net


def test_frozen_parameters_that_all_seeds_have_are_shared_and_must_be_these():
    space = ModelSpace(pretrained)
    assert space.own_frozen == ()
    assert space.shared.keys() == space.frozen_shapes.keys()
    assert not space.buffer_shapes.keys() & space.frozen_shapes.keys()
    other = FrozenBackbone()
    with pytest.raises(ModelspaceError, match=r"frozen parameter backbone\.0\.weight differs"):
        space.point(other)
    other.backbone.load_state_dict(BASE)
    assert space.point(other).shape == (space.dimension,)


def test_frozen_parameters_that_differ_from_seed_to_seed_are_each_point_s_own():
    space = ModelSpace(FrozenBackbone)
    assert set(space.own_frozen) == {"backbone.0.weight", "backbone.0.bias"}
    assert set(space.shared) == {"backbone.1.weight", "backbone.1.bias"}
    for seed, module in zip([5, 6], space.sample(seeds=[5, 6]).modules(), strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            expected = FrozenBackbone().state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
        assert set(space.read(module).buffers) >= set(space.own_frozen)


def test_tied_values_must_agree():
    space = ModelSpace(Tied)
    state = {name: value.clone() for name, value in Tied().state_dict().items()}
    assert space.point(state).shape == (space.dimension,)
    state["output.weight"] += 1
    with pytest.raises(
        ModelspaceError, match=r"tied parameters output\.weight and embedding\.weight hold diff"
    ):
        space.point(state)


def test_a_tied_module_given_as_an_instance_stays_tied():
    space = ModelSpace(Tied())
    assert space.dimension == ModelSpace(Tied).dimension
    module = space.sample(seeds=1).module(0)
    assert module.output.weight is module.embedding.weight


def test_a_point_of_the_wrong_size_is_refused():
    with pytest.raises(ModelspaceError, match=r"has shape \(2512,\); received \(3,\)"):
        ModelSpace(DummyNet).module(torch.zeros(3))


def test_the_given_module_is_the_template():
    net = mlp()
    space = ModelSpace(net)
    assert torch.equal(space.point(space.template), space.point(copy.deepcopy(net)))


def test_the_anatomy_needs_an_input_shape():
    with pytest.raises(ModelspaceError, match="needs one sample's shape"):
        ModelSpace(nn.Linear, in_features=2, out_features=2).anatomy()
    assert ModelSpace(DummyNet, input_shape=(3, 7, 7)).anatomy().forward_flops > 0
