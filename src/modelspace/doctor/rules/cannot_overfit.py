"""A model that does not learn a handful of samples by heart."""

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.private import seed_all
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import output_of

# Learning rates over the range in which Adam trains anything; the first that works ends the search.
_RATES, _STEPS = (1e-2, 1e-3, 1e-1), 60
# Half-way from what a constant output costs to nothing would be learning; a tenth of the way is not.
_ENOUGH = 0.9
_SECONDS = 3.0
_FEWEST_SAMPLES, _MOST_SAMPLES = 6, 32


def _probe(subject: Subject) -> Iterator[Observation]:
    loss = subject.loss
    assert loss is not None
    outputs = subject.outputs
    classes = outputs.shape[1] if subject.expected.by_class and outputs.ndim > 1 else 0
    batch = min(max(_FEWEST_SAMPLES, 2 * classes), _MOST_SAMPLES)
    inputs = subject.inputs(batch)
    labels = subject.labels_for(subject.run(inputs))
    if labels is None:
        raise Inapplicable(f"what labels {loss.name} takes is not known")
    best, start = math.inf, math.nan
    target = math.nan
    end = time.perf_counter() + _SECONDS
    tried = []
    for rate in _RATES:
        try:
            courses, finished = _fit(subject, inputs, labels, rate, target, end)
        except Exception as error:
            message = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Inapplicable(
                f"the loss or its backward fails, which other rules look at: {message}"
            ) from None
        start = courses[0]
        target = _target(subject, labels, start)
        best = min([best, *(value for value in courses if math.isfinite(value))])
        if best < target:
            return
        if not finished:
            raise Inapplicable(
                f"too slow to train for {_STEPS} steps at three learning rates in {_SECONDS:g} s"
            )
        tried.append(rate)
    yield Observation(
        subject.title,
        f"{_STEPS} steps of Adam on the same {batch} samples, at rates {', '.join(f'{r:g}' for r in tried)}, "
        f"bring the loss from {start:.4g} to no less than {best:.4g}; an output that ignores its input costs "
        f"{target / _ENOUGH:.4g}",
        "# look at the other findings first; then at the first layer's gradient\n"
        "for name, parameter in model.named_parameters():\n    print(name, parameter.grad.norm())",
    )


def _target(subject: Subject, labels: Tensor, start: float) -> float:
    """A loss that only a model that looks at its inputs gets below."""
    if subject.expected.by_class and not labels.is_floating_point():
        shares = torch.bincount(labels.flatten().clamp(min=0)).double()
        shares = shares[shares > 0] / shares.sum()
        return _ENOUGH * min(start, float(-(shares * shares.log()).sum()))
    return _ENOUGH * start


def _fit(
    subject: Subject, inputs: Tensor, labels: Tensor, rate: float, target: float, end: float
) -> tuple[list[float], bool]:
    """The losses of a short training in training mode without dropout, and whether there was time for all of it."""
    module = subject.fresh(training=True)
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise Inapplicable("there is nothing to train")
    assert subject.loss is not None
    optimizer = torch.optim.Adam(parameters, lr=rate)
    seed_all(subject.seed)
    losses: list[float] = []
    for _ in range(_STEPS):
        value = subject.loss(output_of(module(inputs)), labels)
        losses.append(float(value))
        if not math.isfinite(losses[-1]) or losses[-1] < target:
            break
        if math.isnan(target) and losses[-1] < _target(subject, labels, losses[0]):
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if time.perf_counter() > end:
            return losses, False
    return losses, True


RULE = Rule(
    "cannot-overfit",
    "warning",
    "a short training on one small batch does not bring the loss down",
    _probe,
    needs=("inputs", "loss", "values"),
)
