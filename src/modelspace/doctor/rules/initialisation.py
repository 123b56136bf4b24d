"""Initial values that training can't make good: dead units, signals that fade or explode with depth."""

import numpy as np
import torch
from torch import Tensor

from modelspace.doctor.rule import Seen, rule
from modelspace.doctor.samples import seed_all
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import REARRANGING, Call, Operation, Trace, record

_RECTIFIERS = ("relu", "relu6", "threshold", "hardtanh", "clamp_min", "clamp", "max")
_INPUTS, _DRAWS = 64, 3
# A few units of a narrow layer are dead by chance; half of a layer, at three seeds, is not chance.
_SHARE = 0.5


@rule("warning")
def dead_units(subject: Subject) -> Seen:
    """More than half of a layer's units are 0 for every input, before any training."""
    batch, seeds = subject.affordable(_INPUTS, _DRAWS), subject.each_seed(_DRAWS)
    always: dict[int, tuple[float, int, Operation]] = {}
    for seed in seeds:
        trace = subject.traced(training=False, batch=batch, seed=seed)
        dead = {i: found for i, o in enumerate(trace.operations) if (found := _dead(trace, o))[0] > _SHARE}
        always = dead if seed == seeds[0] else {i: first for i, first in always.items() if i in dead}
        if not always:
            return
    share, units, operation = next(iter(always.values()))
    yield (
        operation.where,
        f"{round(share * units)} of {units} units are 0 for all of {batch} random inputs at "
        f"initialisation ({len(seeds)} draw{'s' if len(seeds) > 1 else ''}): no gradient ever reaches them",
        "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')\nnn.init.zeros_(layer.bias)",
    )


def _dead(trace: Trace, operation: Operation) -> tuple[float, int, Operation]:
    """Return the share of units that never move, 0 where it has none, the units' number, and where."""
    none = 0.0, 0, operation
    if operation.name.rstrip("_") not in _RECTIFIERS or len(operation.outputs) != 1:
        return none
    values = operation.outputs[0].detach()
    if values.ndim < 2 or values.shape[0] != len(trace.inputs) or not values.is_floating_point():
        return none
    if any(x.numel() != values.numel() for x in operation.tensors if x.ndim):
        return none
    # Dimension 1 for planes of channels, the last one for vectors.
    source = trace.producer(operation.tensors[0], operation)
    axis = values.ndim - 1 if source is not None and source.name == "linear" else 1
    dead = (values.movedim(axis, 0).flatten(1) == 0).all(1)
    share = float(dead.double().mean())
    return none if share > _SHARE and _receives_nothing(trace, operation) else (share, len(dead), operation)


def _receives_nothing(trace: Trace, operation: Operation) -> bool:
    """Tell whether the layer before gets zeros alone: a branch that is meant to begin at nothing."""
    source = trace.producer(operation.tensors[0], operation)
    while source is not None and source.name in (*REARRANGING, "batch_norm") and source.tensors:
        source = trace.producer(source.tensors[0])
    return source is not None and len(source.tensors) > 1 and not bool(source.tensors[0].detach().any())


_BATCH, _FEWEST_LAYERS = 16, 5
# PyTorch's default initialisation shrinks a ReLU network's signal by about 0.4 a layer: six layers of it are
# within this ratio, ten are not.
_RATIO = 1e3
# A geometric course is a straight line in the logarithm; one bad layer is not.
_STRAIGHT = 0.9


@rule("warning")
def signal_by_depth(subject: Subject) -> Seen:
    """Activations or gradients shrink or grow geometrically with depth."""
    # What training writes first, such as the norm that a power iteration finds, scales what evaluation sees.
    module = subject.fresh(training=subject.keeps_state)
    seed_all(subject.seed)
    with torch.enable_grad():
        trace = record(module, subject.inputs(subject.affordable(_BATCH)))
    calls = _weighted(trace)
    if len(calls) < _FEWEST_LAYERS:
        return
    what = "the spread of activations over the batch"
    course = _course([_spread(call.outputs[0].detach()) for call in calls])
    if course is None:
        what = "the gradient, from the last layer to the first,"
        course = _course(_gradients(trace, calls)[::-1])
    if course is not None:
        ratio, factor, layers = course
        verb = "grows" if ratio > 1 else "shrinks"
        yield (
            f"{calls[0].where} to {calls[-1].where}",
            f"{what} {verb} by a factor of {factor:.3g} a layer, {ratio:.2g} over {layers} layers",
            "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')     # or xavier_normal_ for tanh\n"
            "x = x + self.block(self.norm(x))     # residual connections, normalisation",
        )


def _weighted(trace: Trace) -> list[Call]:
    """List calls of layers with a weight matrix, each layer once."""
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
    """Return the standard deviation over the batch, as a root mean square over everything else."""
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
    except Exception:  # backward-fails says more
        return []
    # A layer's whole gradient, not one element's: pooling spreads it over more elements.
    return [float(x.double().norm()) for x in found if x is not None]


def _course(sizes: list[float]) -> tuple[float, float, int] | None:
    """Return the ratio of sizes from end to end, the factor a layer, and the layers; None where it is small."""
    if not all(np.isfinite(sizes)):
        return float("inf"), float("inf"), len(sizes)
    # A branch that is meant to begin at nothing, behind a norm of weight 0, says nothing about depth.
    layers, sizes = len(sizes), [size for size in sizes if size > 0]
    if len(sizes) < max(_FEWEST_LAYERS, layers / 2):
        return None
    logarithms = np.log(sizes)
    depth = np.arange(len(sizes))
    slope, _ = np.polyfit(depth, logarithms, 1)
    if logarithms.std() == 0 or abs(np.corrcoef(depth, logarithms)[0, 1]) < _STRAIGHT:
        return None
    ratio = float(np.exp(slope * (len(sizes) - 1)))
    geometric = ratio > _RATIO or ratio < 1 / _RATIO
    return (ratio, float(np.exp(slope)), len(sizes)) if geometric else None
