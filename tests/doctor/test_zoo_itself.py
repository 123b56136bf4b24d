"""The zoo is held against itself: each fault shows its symptom, no twin shows any."""

from collections import Counter

import pytest
import torch
from doctor.ailments import symptoms_of_computation as computation
from doctor.ailments import symptoms_of_outputs as outputs
from doctor.ailments import symptoms_of_parameters as parameters
from doctor.ailments.side import corrected, descent, faulty
from doctor.zoo import FAULTS

SYMPTOMS = {
    "softmax-before-cross-entropy": outputs.softmax_before_cross_entropy,
    "log-probabilities-expected": outputs.log_probabilities_expected,
    "sigmoid-twice": outputs.sigmoid_twice,
    "probabilities-expected": outputs.probabilities_expected,
    "output-count": outputs.output_count,
    "single-output": outputs.single_output,
    "class-dimension": outputs.class_dimension,
    "column-broadcast": outputs.column_broadcast,
    "label-coding": outputs.label_coding,
    "not-the-formula": outputs.not_the_formula,
    "initial-loss": outputs.initial_loss,
    "saturating-output": outputs.saturating_output,
    "batch-reshape": computation.batch_reshape,
    "batch-mixing": computation.batch_mixing,
    "batch-norm-single": computation.batch_norm_single,
    "train-eval-gap": computation.train_eval_gap,
    "unregistered-layers": parameters.unregistered_layers,
    "unused-parameters": parameters.unused_parameters,
    "detached-parameters": parameters.detached_parameters,
    "frozen-parameters": parameters.frozen_parameters,
    "ties-lost": parameters.ties_lost,
    "unregistered-constant": parameters.unregistered_constant,
    "double-precision": parameters.double_precision,
    "dead-units": computation.dead_units,
    "signal-by-depth": computation.signal_by_depth,
    "linear-chain": computation.linear_chain,
    "bias-before-norm": parameters.bias_before_norm,
    "cannot-overfit": parameters.cannot_overfit,
    "inplace-backward": computation.inplace_backward,
    "inplace-hook": computation.inplace_hook,
    "backward-fails": computation.backward_fails,
    "nondeterminism": computation.nondeterminism,
    "equal-units": parameters.equal_units,
    "unseeded-draws": parameters.unseeded_draws,
}
each = pytest.mark.parametrize("fault", FAULTS, ids=str)


def test_names_are_unique():
    assert [name for name, times in Counter(map(str, FAULTS)).items() if times > 1] == []


def test_every_rule_has_two_faults_and_a_symptom():
    times = Counter(fault.rule for fault in FAULTS)
    assert set(times) == set(SYMPTOMS)
    assert min(times.values()) >= 2


@each
def test_the_fault_shows_its_symptom(fault):
    assert SYMPTOMS[fault.rule](faulty(fault))


@each
def test_the_twin_shows_no_symptom(fault):
    side = corrected(fault)
    others = {rule: symptom for rule, symptom in SYMPTOMS.items() if rule != "cannot-overfit"}
    assert [rule for rule, symptom in others.items() if symptom(side)] == []


@each
def test_the_twin_learns(fault):
    losses = descent(corrected(fault))
    assert losses[-1] < losses[0] / 2


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
