"""What an architecture is: a class, a factory, a module, a space and a target string are taken alike everywhere."""

import pytest
import torch
from torch import nn

import modelspace as ms

TARGET = "examples/dummynet.py:DummyNet"
SHAPE = (3, 7, 7)


@pytest.fixture(scope="module")
def space():
    return ms.ModelSpace(TARGET, input_shape=SHAPE)


def given(kind, space):
    return {"class": space.architecture, "module": space.architecture(), "space": space, "target": TARGET}[
        kind
    ]


@pytest.mark.parametrize("kind", ["class", "module", "space", "target"])
def test_every_function_takes_it(kind, space):
    source = given(kind, space)
    assert ms.ModelSpace(source, input_shape=SHAPE).dimension == 2512
    assert ms.inspect(source, None if kind == "space" else SHAPE).dimension == 2512
    assert ms.diff(source, space, input_shape=SHAPE).equal
    assert ms.doctor(source, inputs=SHAPE, only=["inplace-hook"]).checked == ("inplace-hook",)


def test_a_family_and_a_verification_take_a_target_and_a_class():
    target = "torch.nn:Linear"
    for source in (target, nn.Linear):
        family = ms.Family(
            source, in_features=[4, 8], out_features=2, input_shape=lambda in_features, **_: (in_features,)
        )
        assert [family.space(in_features=n).dimension for n in (4, 8)] == [10, 18]
    data = ms.data.load((torch.randn(40, 3, 7, 7), torch.arange(40) % 10))
    assert ms.verify(TARGET, data, members=2, steps=2).equivalent


def test_a_space_s_arguments_are_kept_and_others_go_before():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3)
    assert ms.inspect(space).title == "Linear(in_features=4, out_features=3)"
    assert ms.ModelSpace(space, out_features=5).dimension == 25
    with pytest.raises(ms.ModelspaceError, match=r"no file 'missing\.py'"):
        ms.inspect("missing.py:Net")
