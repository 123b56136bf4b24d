"""A model that does not learn a handful of samples by heart."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.samples import seed_all
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import output_of
from modelspace.errors import first_line
from modelspace.losses import Loss

# Learning rates over the range in which Adam trains anything; the first that works ends the search.
_RATES, _STEPS = (1e-2, 1e-3, 1e-1), 100
# The share of a constant output's loss that must be reached. Of some two hundred sound models of all kinds the
# slowest is left with 0.4 of it, the median with 0.001; a head whose scores can't be far apart stays at 0.7.
_ENOUGH = 0.6
# Of this thread alone, so that a busy machine skips no more than an idle one.
_SECONDS = 4.0
_FEWEST_SAMPLES, _MOST_SAMPLES = 6, 32
# Of dense outputs, such as one class a pixel, as many sites a sample are fitted: a network that sees a few pixels
# around each can't learn random labels for all of them, and need not.
_SITES = 2
# Outputs that may be any number: what is left of the loss when they are chosen freely is no fault of the model's.
_FREE = ("real", "score", "logits", "log-rate", "embedding")
# The search for that ends where so many steps gain less than this share of what has been gained.
_PATIENCE, _GAIN = 25, 0.01

Objective = Callable[[Tensor], Tensor]


@rule("warning", needs=("inputs", "loss", "values"))
def cannot_overfit(subject: Subject) -> Seen:
    """A short training on one small batch does not bring the loss down."""
    outputs = subject.outputs
    classes = outputs.shape[1] if subject.by_class and outputs.ndim > 1 else 0
    batch = min(max(_FEWEST_SAMPLES, 2 * classes), _MOST_SAMPLES)
    inputs = subject.inputs(batch)
    outputs = subject.run(inputs)
    labels = subject.labels_for(outputs)
    if not inputs.is_floating_point() and subject.labels is None and labels.shape == inputs.shape and classes:
        # Two equal tokens get no two labels, which nothing could learn.
        labels = (inputs.long() + 1) % classes
    try:
        objective, constant = _objective(subject, outputs, labels)
        start = float(objective(outputs))
        floor = _floor(subject, objective, outputs)
    except Exception as error:
        raise Inapplicable(f"the loss fails, which other rules look at: {first_line(error)}") from None
    ceiling = min(start, constant)
    target = floor + _ENOUGH * (ceiling - floor)
    if not target < ceiling:
        raise Inapplicable("the outputs of the untrained model are as good as any for the labels made up")
    best = start
    end = time.thread_time() + _SECONDS
    for rate in _RATES:
        try:
            lowest, finished = _fit(subject, inputs, objective, rate, target, end)
        except Inapplicable:
            raise
        except Exception as error:
            why = f"the backward fails, which other rules look at: {first_line(error)}"
            raise Inapplicable(why) from None
        best = min(best, lowest)
        if best < target:
            return
        if not finished:
            trained = f"{_STEPS} steps at {len(_RATES)} learning rates"
            raise Inapplicable(f"too slow to train for {trained} in {_SECONDS:g} s")
    rates = ", ".join(f"{rate:g}" for rate in sorted(_RATES))
    yield (
        subject.title,
        f"{_STEPS} steps of Adam on the same {batch} samples, at learning rates {rates}, bring the loss from "
        f"{start:.4g} to no less than {best:.4g}, where constant outputs cost {ceiling:.4g}",
        "# look at the other findings first; then at the gradients\n"
        "for name, parameter in model.named_parameters():\n    print(name, parameter.grad.norm())",
    )


def _objective(subject: Subject, outputs: Tensor, labels: Tensor) -> tuple[Objective, float]:
    """Return the loss as a function of the outputs, and what the best constant outputs cost, infinity if unknown."""
    loss = subject.loss
    by_class = subject.by_class and not labels.is_floating_point()
    if by_class:
        dense = outputs.ndim > 2
    else:
        one_each = labels.shape == outputs.shape and outputs.ndim > 1 and subject.labels is None
        dense = one_each and outputs[0].numel() > _SITES
    labels = labels.flatten(1)[..., :_SITES] if dense else labels
    constant = _entropy(labels, loss.left_out) if by_class else _constant(loss, labels)
    if dense:
        return lambda z: loss(z.flatten(2 if by_class else 1)[..., :_SITES], labels), constant
    return lambda z: loss(z, labels), constant


def _floor(subject: Subject, objective: Objective, outputs: Tensor) -> float:
    """Return the least that the loss comes to when the outputs themselves are free; a likelihood's is not 0."""
    if subject.loss.outputs not in _FREE:
        return 0.0
    z = outputs.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    start = before = lowest = float(objective(z))
    for step in range(1, 3 * _STEPS):
        value = objective(z)
        if not math.isfinite(float(value)):
            break
        lowest = min(lowest, float(value))
        if step % _PATIENCE == 0:
            if before - lowest <= _GAIN * (start - lowest):
                break
            before = lowest
        (z.grad,) = torch.autograd.grad(value, [z])
        optimizer.step()
    return lowest


def _entropy(labels: Tensor, left_out: int | None) -> float:
    counted = labels.flatten() if left_out is None else labels[labels != left_out]
    shares = torch.bincount(counted.clamp(min=0)).double()
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * shares.log()).sum())


def _constant(loss: Loss, labels: Tensor) -> float:
    """Return the loss of each label's own mean, where the loss is one that means minimise."""
    mean = labels.double().mean(0, keepdim=True).expand_as(labels)
    if loss.labels == "sign":
        mean = (mean + 1) / 2
    if loss.outputs == "score":
        mean = torch.logit(mean.clamp(0.02, 0.98))
    try:
        found = float(loss(mean.to(labels.dtype), labels))
    except Exception:
        return math.inf
    return found if math.isfinite(found) else math.inf


def _fit(
    subject: Subject, inputs: Tensor, objective: Objective, rate: float, target: float, end: float
) -> tuple[float, bool]:
    """Return the lowest loss of a short training without dropout, and whether there was time for all of it."""
    module = subject.fresh(training=True)
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise Inapplicable("there is nothing to train")
    optimizer = torch.optim.Adam(parameters, lr=rate)
    seed_all(subject.seed)
    lowest = math.inf
    for _ in range(_STEPS):
        value = objective(output_of(module(inputs)))
        if not math.isfinite(float(value)):
            break
        lowest = min(lowest, float(value))
        if lowest < target:
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if time.thread_time() > end:
            return lowest, False
    return lowest, True
