"""No false alarm on models that are as they should be: the shared list of architectures, and timm's."""

import pytest
import torch
from support import zoo
from support.cases import ARCHITECTURES, WORKS

from modelspace.doctor import doctor

# Findings above info that are true of a case.
TRUE = {
    "DummyNet": {"batch-reshape"},  # view(-1, 225): 12×12 images make four rows of each
    "unused parameter": {"unused-parameters"},  # its ghost
    "GPT": {"initial-loss"},  # the output layer is an embedding of standard deviation 1
    "drawn by NumPy": {"unseeded-draws"},  # as its name says
}


@pytest.mark.parametrize("case", ARCHITECTURES, ids=str)
def test_a_sound_architecture_raises_no_alarm(case):
    found = doctor(
        case.space(),
        loss=case.loss,
        classes=None if case.loss == "mse" else case.classes,
        tokens=case.tokens or None,
        # Training is by far the longest probe: it has a test of its own.
        ignore=["cannot-overfit"],
    )
    assert {f.rule for f in found.findings if f.severity != "info"} == TRUE.get(case.name, set()), str(found)
    assert {rule: why for rule, why in found.skipped.items() if " failed: " in why} == {}


@pytest.mark.slow
@pytest.mark.parametrize("case", WORKS, ids=str)
def test_what_takes_a_nest_is_looked_at_as_far_as_can_be(case):
    loss = case.loss if case.objective is None else None
    found = doctor(case.space(), data=case.data(), loss=loss, ignore=["cannot-overfit"])
    assert {rule: why for rule, why in found.skipped.items() if " failed: " in why} == {}
    inputs = case.data().train.inputs
    several = not isinstance(inputs, torch.Tensor)
    assert several == any(why.startswith("inputs are several: ") for why in found.skipped.values())
    assert not [f for f in found.findings if f.severity == "error"], str(found)


# Weights that are clipped at every forward leave it no way to.
FREE = [case for case in ARCHITECTURES if not case.name.startswith("clipped")]


@pytest.mark.slow
@pytest.mark.parametrize("case", FREE, ids=str)
def test_a_sound_architecture_learns_a_batch_by_heart(case):
    found = doctor(case.space(), loss=case.loss, tokens=case.tokens or None, only=["cannot-overfit"])
    assert found.checked == ("cannot-overfit",)
    assert found.healthy, str(found)


def timm_models():
    try:
        library, models = zoo.without_torchvision_s_library(), zoo.timm_models()
    except ImportError:
        return [pytest.param(None, marks=pytest.mark.skip(reason="timm is not installed"))]
    _LIBRARIES.append(library)
    return [pytest.param(entry, id=str(entry)) for entry in models]


_LIBRARIES = []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", timm_models())
def test_timm_s_models_raise_no_alarm(entry):
    found = doctor(entry.make, inputs=entry.shape, loss="cross_entropy", classes=zoo.CLASSES)
    assert found.healthy, str(found)
    assert not any(" failed: " in why for why in found.skipped.values()), found.skipped


def test_the_examined_module_is_not_touched():
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    net[0].requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    doctor(net, inputs=(6,), loss="cross_entropy")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())
