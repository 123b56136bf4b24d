"""The zoo: each fault shows its symptom and is found by the rule that it is filed under; its twin does neither."""

from collections import Counter

import pytest
import torch
from doctor.ailments import symptoms_of_computation, symptoms_of_outputs, symptoms_of_parameters
from doctor.ailments.fault import examine
from doctor.ailments.side import corrected, faulty, learns
from doctor.zoo import FAULTS

from modelspace.doctor import RULES

# What shows a mistake without the doctor: a function of the rule's name for each rule.
SYMPTOMS = {
    rule.name: getattr(module, name)
    for module in (symptoms_of_outputs, symptoms_of_computation, symptoms_of_parameters)
    for rule in RULES
    if hasattr(module, name := rule.name.replace("-", "_"))
}
each = pytest.mark.parametrize("fault", FAULTS, ids=str)


def test_names_are_unique():
    assert [name for name, times in Counter(map(str, FAULTS)).items() if times > 1] == []


def test_every_rule_has_two_faults_and_a_symptom():
    times = Counter(fault.rule for fault in FAULTS)
    assert set(times) == set(SYMPTOMS) == {rule.name for rule in RULES}
    assert min(times.values()) >= 2


@each
def test_the_fault_shows_its_symptom_and_the_twin_does_not(fault):
    assert SYMPTOMS[fault.rule](faulty(fault))
    assert not SYMPTOMS[fault.rule](corrected(fault))


@pytest.mark.slow
@each
def test_the_twin_shows_no_symptom(fault):
    side = corrected(fault)
    others = {rule: symptom for rule, symptom in SYMPTOMS.items() if rule != "cannot-overfit"}
    assert [rule for rule, symptom in others.items() if symptom(side)] == []


@each
def test_the_twin_learns(fault):
    assert learns(corrected(fault))


@each
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_twin_has_gradients(fault, training):
    side = corrected(fault)
    inputs, labels = side.batch(4)
    model = side.model().train(training)
    side.value(model(inputs), labels).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    if training:
        assert all(gradient is not None for gradient in gradients)
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@each
def test_the_fault_is_found(fault):
    found = examine(fault, faulty=True, only=[fault.rule])
    assert found.of(fault.rule), str(found)


@each
def test_the_twin_is_silent(fault):
    found = examine(fault, faulty=False, only=[fault.rule])
    assert not found.of(fault.rule), str(found)


@pytest.mark.slow
@each
def test_no_rule_alarms_on_the_twin(fault):
    found = examine(fault, faulty=False)
    assert found.healthy, str(found)
    assert broken(found) == {}


@pytest.mark.slow
@each
def test_no_rule_breaks_on_the_fault(fault):
    assert broken(examine(fault, faulty=True)) == {}


def broken(found):
    """Rules that ended with an exception."""
    return {rule: why for rule, why in found.skipped.items() if " failed: " in why}
