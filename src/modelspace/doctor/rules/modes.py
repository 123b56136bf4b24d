"""Training and evaluation that differ by more than dropout and batch statistics."""

import time

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.samples import drawn_since
from modelspace.doctor.subject import BATCH, Subject, on_simplex
from modelspace.doctor.trace import place

# Outputs of the same arithmetic in the same order are equal; a little is left to fused kernels of one mode.
_TOLERANCE = 1e-3
# Dropout without its factor halves a branch; a non-linearity behind rightly scaled noise takes less than that.
_SHRUNK = 0.65
_DRAWS, _SAMPLES, _SECONDS = 48, 16, 2.0
# A missing factor leaves the outputs proportional; noise that selects, as a maximum over a random part, does not.
_STRAIGHT = 0.9


@rule("warning")
def train_eval_gap(subject: Subject) -> Seen:
    """Training and evaluation differ by more than dropout and batch statistics explain."""
    yield from _always_on(subject)
    yield from _frozen_statistics(subject)
    difference = _difference(subject)
    if difference:
        fix = "def forward(self, x):\n    return self.fc(x)     # the same in both modes"
        yield subject.end, difference, fix


def _always_on(subject: Subject) -> Seen:
    """Look for dropout that acts in evaluation mode."""
    for operation in subject.trace.operations:
        of_torch = type(operation.layer).__module__.startswith("torch.nn.modules")
        if "dropout" not in operation.name or (of_torch and not operation.layer.training):
            continue
        rate, training = _dropout_arguments(operation.arguments, operation.keywords)
        if training and rate > 0:
            yield (
                operation.where,
                f"dropout of {rate:g} acts in evaluation mode too: its training argument is True",
                f"x = F.dropout(x, {rate:g}, training=self.training)     # or self.dropout = nn.Dropout({rate:g})",
            )
            return
    for name, layer in subject.trace.module.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p > 0:
            yield (
                place(name, layer),
                f"dropout of {layer.p:g} stays in training mode after model.eval()",
                "def train(self, mode=True):     # let the mode reach every layer\n    return super().train(mode)",
            )
            return


def _dropout_arguments(arguments: tuple, keywords: dict) -> tuple[float, bool]:
    rate = keywords.get("p", arguments[1] if len(arguments) > 1 else 0.5)
    training = keywords.get("training", keywords.get("train", arguments[2] if len(arguments) > 2 else True))
    return (float(rate) if isinstance(rate, int | float) else 0.0), bool(training)


def _frozen_statistics(subject: Subject) -> Seen:
    """Look for running statistics that training never moves from where they began."""
    for call in subject.training_trace.calls:
        layer = call.layer
        if not isinstance(layer, nn.modules.batchnorm._NormBase) or not call.training:
            continue
        if layer.track_running_stats and layer.momentum == 0:
            yield (
                call.where,
                "its momentum is 0, so the running mean and variance stay at 0 and 1 for ever, while training "
                "normalises by the batch's: evaluation is another function",
                "nn.BatchNorm2d(channels, momentum=0.1)     # the weight of the newest batch",
            )
            return


def _difference(subject: Subject) -> str:
    """Say how the outputs of the two modes differ without dropout and batch statistics; nothing where they don't."""
    evaluated = subject.run(subject.inputs())
    first = _without_noise(subject, subject.seed)
    noisy = drawn_since(subject.seed)
    if first is None:
        return ""
    if first.shape != evaluated.shape:
        return f"outputs have shape {list(first.shape)} in training and {list(evaluated.shape)} in evaluation"
    if on_simplex(first, _TOLERANCE) != on_simplex(evaluated, _TOLERANCE):
        only = "training" if on_simplex(first, _TOLERANCE) else "evaluation"
        return f"the outputs of a sample are probabilities that sum to 1 in {only} mode only"
    if noisy:
        return _noise_that_shrinks(subject)
    size = float(evaluated.double().abs().max()) or 1.0
    gap = float((first - evaluated).double().abs().max())
    if gap > _TOLERANCE * size and not subject.keeps_state:
        return (
            f"with dropout off and batch statistics frozen, the outputs of the two modes differ by up to {gap:.3g} "
            f"(they are of size {size:.3g})"
        )
    return ""


def _noise_that_shrinks(subject: Subject) -> str:
    """Compare the mean over many draws of the user's own noise with the outputs of evaluation, up to curvature."""
    evaluated = subject.run(subject.inputs(_SAMPLES)).double()
    slopes = []
    end = time.thread_time() + _SECONDS
    for half in range(2):
        draws = []
        for i in range(_DRAWS):
            draws.append(_without_noise(subject, subject.seed + half * _DRAWS + i, _SAMPLES))
            if time.thread_time() > end:
                raise Inapplicable(f"its own noise in training takes more than {_SECONDS:g} s to average")
        mean = torch.stack([x for x in draws if x is not None]).double().mean(0)
        x, y = (evaluated - evaluated.mean(0)).flatten(), (mean - mean.mean(0)).flatten()
        straight = float(x @ y) ** 2 >= _STRAIGHT * float(x @ x) * float(y @ y)
        slopes.append(float(x @ y / (x @ x).clamp(min=1e-30)) if straight else 1.0)
    if all(slope < _SHRUNK or slope > 1 / _SHRUNK for slope in slopes):
        return (
            f"over {2 * _DRAWS} draws of the noise, training's outputs are on average {sum(slopes) / 2:.2g} times "
            "those of evaluation"
        )
    return ""


def _without_noise(subject: Subject, seed: int, batch: int = BATCH) -> Tensor | None:
    """Return outputs in training mode without dropout and with running statistics; None where that fails."""
    module = subject.fresh(training=True)
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd | nn.RReLU | nn.modules.batchnorm._NormBase):
            layer.eval()
        if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
            layer.dropout = 0.0
    try:
        with _NoDropout():
            return subject.run(subject.inputs(batch), module=module, seed=seed)
    except Exception:
        return None


class _NoDropout(TorchFunctionMode):
    """Functional dropout, as a forward asks for it in training, does nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if "dropout" in getattr(func, "__name__", ""):
            x = args[0] if args else kwargs.get("input")
            if isinstance(x, Tensor):
                return x
        if func is torch.nn.functional.scaled_dot_product_attention:
            kwargs["dropout_p"] = 0.0
            args = args[:4]
        return func(*args, **kwargs)
