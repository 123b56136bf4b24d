"""Signals or gradients that shrink or grow geometrically with depth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.private import seed_all
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Call, Trace, record

_BATCH = 16
# PyTorch's default initialisation shrinks a ReLU network's signal by about 0.4 a layer: six layers of it are
# within this ratio, ten are not.
_RATIO = 1e3
_FEWEST_LAYERS = 5
# A geometric course is a straight line in the logarithm; one bad layer is not.
_STRAIGHT = 0.9


@dataclass(frozen=True)
class Course:
    """Sizes by depth: their ratio, end to end in the direction in which they are computed, and the factor a layer."""

    ratio: float
    factor: float
    layers: int

    @property
    def geometric(self) -> bool:
        """Whether it grows or shrinks too far."""
        return self.ratio > _RATIO or self.ratio < 1 / _RATIO


def _probe(subject: Subject) -> Iterator[Observation]:
    # What training writes first, such as the norm that a power iteration finds, scales what evaluation sees.
    module = subject.fresh(training=subject.keeps_state)
    seed_all(subject.seed)
    with torch.enable_grad():
        trace = record(module, subject.inputs(subject.affordable(_BATCH)))
    calls = _weighted(trace)
    if len(calls) < _FEWEST_LAYERS:
        return
    forward = _course([_spread(call.outputs[0].detach()) for call in calls])
    if forward is not None and forward.geometric:
        yield _observed(calls, forward, "the spread of activations over the batch")
        return
    gradients = _gradients(trace, calls)
    backward = _course(gradients[::-1]) if gradients else None
    if backward is not None and backward.geometric:
        yield _observed(calls, backward, "the gradient, from the last layer to the first,")


def _weighted(trace: Trace) -> list[Call]:
    """Calls of layers with a weight matrix, each layer once."""
    found: dict[int, Call] = {}
    for call in trace.calls:
        weight = getattr(call.layer, "weight", None)
        is_leaf = next(call.layer.children(), None) is None
        if not is_leaf or not isinstance(weight, Tensor) or weight.ndim < 2:
            continue
        if all(xs and xs[0].is_floating_point() for xs in (call.inputs, call.outputs)):
            found.setdefault(id(call.layer), call)
    return list(found.values())


def _spread(x: Tensor) -> float:
    """The standard deviation over the batch, as a root mean square over everything else."""
    return float(x.double().var(0, correction=0).mean().sqrt())


def _gradients(trace: Trace, calls: list[Call]) -> list[float]:
    outputs = trace.outputs
    layers = [call.outputs[0] for call in calls]
    if not outputs.requires_grad or not all(x.requires_grad for x in layers):
        return []
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(outputs.shape, generator=generator).to(outputs.dtype)
    try:
        found = torch.autograd.grad((outputs * weights).sum(), layers, allow_unused=True)
    except RuntimeError:
        return []
    # A layer's whole gradient, not one element's: pooling spreads it over more elements.
    return [float(x.double().norm()) for x in found if x is not None]


def _course(sizes: list[float]) -> Course | None:
    if not all(np.isfinite(sizes)):
        return Course(float("inf"), float("inf"), len(sizes))
    # A branch that is meant to begin at nothing, behind a norm of weight 0, says nothing about depth.
    layers, sizes = len(sizes), [size for size in sizes if size > 0]
    if len(sizes) < max(_FEWEST_LAYERS, layers / 2):
        return None
    logarithms = np.log(sizes)
    depth = np.arange(len(sizes))
    slope, _ = np.polyfit(depth, logarithms, 1)
    if logarithms.std() == 0 or abs(np.corrcoef(depth, logarithms)[0, 1]) < _STRAIGHT:
        return None
    return Course(float(np.exp(slope * (len(sizes) - 1))), float(np.exp(slope)), len(sizes))


def _observed(calls: list[Call], course: Course, what: str) -> Observation:
    verb = "grows" if course.ratio > 1 else "shrinks"
    first, last = calls[0], calls[-1]
    return Observation(
        f"{place(first.path, kind=type(first.layer).__name__)} to {place(last.path, kind=type(last.layer).__name__)}",
        f"{what} {verb} by a factor of {course.factor:.3g} a layer, {course.ratio:.2g} over {course.layers} layers",
        "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')     # or xavier_normal_ for tanh\n"
        "x = x + self.block(self.norm(x))     # residual connections, normalisation",
    )


RULE = Rule(
    "signal-by-depth",
    "warning",
    "activations or gradients shrink or grow geometrically with depth",
    _probe,
)
