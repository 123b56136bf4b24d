"""A model that does not learn a handful of samples by heart."""

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.private import seed_all
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import output_of
from modelspace.errors import first_line

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

Objective = Callable[[Tensor], Tensor]


def _probe(subject: Subject) -> Iterator[Observation]:
    loss = subject.loss
    assert loss is not None
    outputs = subject.outputs
    classes = outputs.shape[1] if subject.expected.by_class and outputs.ndim > 1 else 0
    batch = min(max(_FEWEST_SAMPLES, 2 * classes), _MOST_SAMPLES)
    inputs = subject.inputs(batch)
    outputs = subject.run(inputs)
    labels = subject.labels_for(outputs)
    if labels is None:
        raise Inapplicable(f"what labels {loss.name} takes is not known")
    if not inputs.is_floating_point() and subject.labels is None and labels.shape == inputs.shape and classes:
        labels = (
            inputs.long() + 1
        ) % classes  # two equal tokens get no two labels, which nothing could learn
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
        except RuntimeError as error:
            raise Inapplicable(
                f"the backward fails, which other rules look at: {first_line(error)}"
            ) from None
        best = min(best, lowest)
        if best < target:
            return
        if not finished:
            raise Inapplicable(
                f"too slow to train for {_STEPS} steps at {len(_RATES)} learning rates in {_SECONDS:g} s"
            )
    rates = ", ".join(f"{rate:g}" for rate in sorted(_RATES))
    yield Observation(
        subject.title,
        f"{_STEPS} steps of Adam on the same {batch} samples, at learning rates {rates}, bring the loss from "
        f"{start:.4g} to no less than {best:.4g}, where constant outputs cost {ceiling:.4g}",
        "# look at the other findings first; then at the gradients\n"
        "for name, parameter in model.named_parameters():\n    print(name, parameter.grad.norm())",
    )


def _objective(subject: Subject, outputs: Tensor, labels: Tensor) -> tuple[Objective, float]:
    """The loss as a function of the outputs, and what the best constant outputs cost, infinity if unknown."""
    loss, wanted = subject.loss, subject.expected
    assert loss is not None
    if wanted.by_class and not labels.is_floating_point():
        if outputs.ndim > 2:
            outputs, labels = _few_sites(outputs.flatten(2)), _few_sites(labels.flatten(1))
            return lambda z: loss(_few_sites(z.flatten(2)), labels), _entropy(labels)
        return lambda z: loss(z, labels), _entropy(labels)
    if (
        labels.shape == outputs.shape
        and outputs.ndim > 1
        and outputs[0].numel() > _SITES
        and subject.labels is None
    ):
        labels = _few_sites(labels.flatten(1))
        few: Objective = lambda z: loss(_few_sites(z.flatten(1)), labels)  # noqa: E731
        return few, _constant(subject, labels)
    return lambda z: loss(z, labels), _constant(subject, labels)


def _floor(subject: Subject, objective: Objective, outputs: Tensor) -> float:
    """The least that the loss comes to when the outputs themselves are free; a likelihood's is not 0."""
    if subject.expected.outputs not in _FREE:
        return 0.0
    z = outputs.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    lowest = math.inf
    for _ in range(3 * _STEPS):
        value = objective(z)
        if not math.isfinite(float(value)):
            break
        lowest = min(lowest, float(value))
        (z.grad,) = torch.autograd.grad(value, [z])
        optimizer.step()
    return lowest


def _few_sites(x: Tensor) -> Tensor:
    return x[..., :_SITES]


def _entropy(labels: Tensor) -> float:
    shares = torch.bincount(labels.flatten().clamp(min=0)).double()
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * shares.log()).sum())


def _constant(subject: Subject, labels: Tensor) -> float:
    """The loss of each label's own mean, where the loss is one that means minimise."""
    loss, wanted = subject.loss, subject.expected
    assert loss is not None
    mean = labels.double().mean(0, keepdim=True).expand_as(labels)
    if wanted.labels == "sign":
        mean = (mean + 1) / 2
    if wanted.outputs == "score":
        mean = torch.logit(mean.clamp(0.02, 0.98))
    try:
        found = float(loss(mean.to(labels.dtype), labels))
    except Exception:
        return math.inf
    return found if math.isfinite(found) else math.inf


def _fit(
    subject: Subject, inputs: Tensor, objective: Objective, rate: float, target: float, end: float
) -> tuple[float, bool]:
    """The lowest loss of a short training without dropout, and whether there was time for all of it."""
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


RULE = Rule(
    "cannot-overfit",
    "warning",
    "a short training on one small batch does not bring the loss down",
    _probe,
    needs=("inputs", "loss", "values"),
)
