import copy

import pytest
import torch
from cases import DummyNet, FrozenBackbone, Residual, Tied, mlp
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


def test_frozen_parameters_must_be_the_shared_ones():
    space = ModelSpace(FrozenBackbone)
    torch.manual_seed(1)
    other = FrozenBackbone()
    with pytest.raises(ModelspaceError, match=r"frozen parameter backbone\.0\.weight differs"):
        space.point(other)
    other.backbone.load_state_dict(space.template.backbone.state_dict())
    assert space.point(other).shape == (space.dimension,)


def test_frozen_parameters_are_seed_0_s_and_shared():
    space = ModelSpace(FrozenBackbone)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = FrozenBackbone()
    for module in space.sample(seeds=[5, 6]).modules():
        assert torch.equal(module.backbone[0].weight, first.backbone[0].weight)


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
