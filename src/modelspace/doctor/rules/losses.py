"""Losses that are not what is meant: labels in another coding, another formula, a value far off at the start."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.samples import made_labels
from modelspace.doctor.subject import Subject
from modelspace.errors import first_line
from modelspace.losses import Loss, kept, resolve


@rule("error", needs=("inputs", "loss", "data"))
def label_coding(subject: Subject) -> Seen:
    """The labels are coded otherwise than the loss takes them."""
    labels, kind, name = subject.labels, subject.loss.labels, subject.loss.name
    assert labels is not None
    if kind not in ("sign", "unit", "class", "multi-hot"):
        raise Inapplicable("the loss takes labels of any value, or its label set is not known")
    if labels.is_complex() or not labels.numel():
        return
    labels = kept(labels, subject.loss.left_out)
    found = _classes_coded(subject, labels) if kind == "class" else _numbers_coded(labels, kind, name)
    if found is not None:
        yield "the labels", *found


def _numbers_coded(labels: Tensor, kind: str, name: str) -> tuple[str, str] | None:
    """Return evidence and fix where labels of two classes are not coded ±1, or not in [0, 1]."""
    low, high = float(labels.min()), float(labels.max())
    signs = bool(((labels == 1) | (labels == -1)).all())
    if kind == "sign" and not signs:
        zero_one = bool(((labels == 0) | (labels == 1)).all())
        return (
            f"{name} takes labels +1 and −1, and they lie in {'{0, 1}' if zero_one else f'[{low:g}, {high:g}]'}: "
            "a label of 0 has no gradient at all",
            "labels = 2 * labels - 1" if zero_one else "labels = torch.where(labels > 0, 1, -1)",
        )
    if kind != "sign" and (low < 0 or high > 1):
        return (
            f"{name} takes labels in [0, 1], and they reach from {low:g} to {high:g}: "
            "outside, the loss falls without limit",
            "labels = (labels + 1) / 2" if signs else "labels = labels.float().clamp(0, 1)  # or recode them",
        )
    return None


def _classes_coded(subject: Subject, labels: Tensor) -> tuple[str, str] | None:
    """Return evidence and fix where the labels are no integers from 0 to the number of classes."""
    outputs, name = subject.outputs, subject.loss.name
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        return None  # single-output says more
    classes, real = outputs.shape[1], labels.is_floating_point()
    zero_one = bool(((labels == 0) | (labels == 1)).all())
    if labels.shape[1:] == outputs.shape[1:] and zero_one and bool((labels.sum(1) == 1).all()):
        if "cross" in name.lower() and real:
            return None  # it takes probabilities too
        return (
            f"{name} takes class numbers, and the labels of shape {list(labels.shape)} are one-hot",
            "labels = labels.argmax(1)",
        )
    if labels.shape[1:] != outputs.shape[2:]:
        return None
    if real:
        kind = str(labels.dtype).removeprefix("torch.")
        return f"{name} takes integer class numbers, and the labels are {kind}", "labels = labels.long()"
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == classes:
        return (
            f"the labels go from 1 to {high} and the {classes} classes from 0 to {classes - 1}",
            "labels = labels - 1",
        )
    if low < 0:
        return (
            f"the smallest label is {low} and classes are numbered from 0",
            "labels = (labels + 1) // 2" if (low, high) == (-1, 1) else f"labels = labels - ({low})",
        )
    return None


_SAMPLES, _CLASSES = 8, 3
# Two ways to compute one formula in float64 agree to far more digits than two formulas do.
_TOLERANCE = 1e-6
# The same two classes, coded another way.
_RECODINGS: dict[tuple[str | None, str | None], Callable[[Tensor], Tensor]] = {
    ("sign", "unit"): lambda y: (y + 1) / 2,
    ("unit", "sign"): lambda y: 2 * y - 1,
}
_CODINGS = {"sign": "±1", "unit": "in [0, 1]", "class": "that are class numbers", "real": "of any value"}


@rule("warning", needs=("loss", "formula"))
def not_the_formula(subject: Subject) -> Seen:
    """The loss is another function than the formula it is taken for."""
    loss, formula = subject.loss, subject.formula
    assert formula is not None
    one_number = subject.shape is not None and subject.trace.failure is None and subject.outputs.ndim == 1
    if formula.name == "cross_entropy" and one_number:
        formula = resolve("binary_cross_entropy")  # what cross-entropy means for outputs [N]
    difference, factor = _difference(loss, formula)
    if difference:
        fix = f"import modelspace as ms\n\nloss = ms.losses.resolve({formula.name!r})"
        if factor:
            fix += f"     # or {1 / factor:g} * loss, or a learning rate {factor:g} times as small"
        yield "the loss", f"{loss.name} is not {formula.name}: {difference}", fix


def _difference(loss: Loss, formula: Loss) -> tuple[str, float]:
    """Say what a loss is that is not a formula, and how many times the formula it is, 0 where it is no multiple."""
    outputs = _outputs_for(formula)
    labels = made_labels(outputs, formula.labels or "real", seed=1)
    if labels is None:
        raise Inapplicable(f"labels of {formula.name} are not known")
    contract = "it is another function"
    if loss.outputs is not None:
        contract = (
            f"it takes {loss.outputs} outputs and labels {_CODINGS.get(loss.labels or '', 'of its own')}"
        )
    right = float(formula(outputs, labels))
    recoding = _RECODINGS.get((formula.labels, loss.labels))
    try:
        found = float(loss(outputs, labels))
        if recoding is not None and _same(float(loss(outputs, recoding(labels))), right):
            return "", 0
    except Exception as error:
        return f"{contract}; on the formula's own it raises: {first_line(error)}", 0
    one_right, one_found = (float(function(outputs[:1], labels[:1])) for function in (formula, loss))
    if _same(found, right) and _same(one_found, one_right):
        return "", 0
    factor, one_factor = (a / b if b else math.nan for a, b in ((found, right), (one_found, one_right)))
    if _same(factor, one_factor):
        return f"it is {factor:g} times the formula", factor
    if _same(factor, _SAMPLES * one_factor):
        return "it is the formula's sum over the batch, not its mean", 0
    z, y = float(outputs.flatten()[0]), float(labels.flatten()[0])
    return (
        f"{contract}; at z = {z:.2f} and y = {y:g} the formula is {one_right:.4g} and the loss {one_found:.4g}, and "
        f"over a batch of {_SAMPLES} they are {right:.4g} and {found:.4g}",
        0,
    )


def _outputs_for(formula: Loss) -> Tensor:
    """Make up outputs as a formula takes them."""
    generator = torch.Generator().manual_seed(1)
    size = (_SAMPLES, _CLASSES) if formula.labels == "class" else (_SAMPLES,)
    outputs = torch.randn(size, generator=generator, dtype=torch.float64)
    if formula.outputs == "probability":
        return outputs.sigmoid()
    if formula.outputs == "log-probability":
        return outputs.log_softmax(-1)
    return outputs.exp() if formula.outputs == "positive" else outputs


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


# Labels at random and scores of standard deviation s give a cross-entropy of about ln C + s²/2: twice ln C, and
# 2 above it, are scores of size 2 and more, where an initialisation is meant to give about 1 or less.
_TIMES, _ABOVE = 2.0, 2.0
# For regression on labels of variance 1 the expected loss is 1 + s²: outputs of size 10.
_TIMES_SQUARED = 100.0
_BATCH = 64


@rule("warning", needs=("inputs", "loss", "values"))
def initial_loss(subject: Subject) -> Seen:
    """The loss starts far above what knowing nothing costs."""
    loss = subject.loss
    # Where training writes into the model's state, as the power iteration of a spectral norm does, the outputs of
    # evaluation are not what training begins with.
    module = subject.fresh(training=bool(subject.written_in_training))
    outputs = subject.run(subject.inputs(subject.affordable(_BATCH)), module=module)
    labels = subject.labels_for(outputs)
    should, what = _at_the_start(loss, outputs, labels)
    try:
        found = float(loss(outputs, labels))
    except Exception:
        raise Inapplicable("the loss fails on these outputs; another rule says why") from None
    if loss.labels == "real":
        wrong = found > _TIMES_SQUARED * should
    else:
        wrong = found > _TIMES * should and found > should + _ABOVE
    if wrong or not math.isfinite(found):
        yield (
            subject.end,
            f"the loss is {found:.3g} before any training where {what} = {should:.3g} is what knowing nothing costs: "
            f"the outputs have a standard deviation of {float(outputs.double().std()):.3g}",
            "nn.init.normal_(self.fc.weight, std=0.01)     # a last layer that starts small\n"
            "nn.init.zeros_(self.fc.bias)",
        )


def _at_the_start(loss: Loss, outputs: Tensor, labels: Tensor) -> tuple[float, str]:
    """Return what knowing nothing costs, and what that is called."""
    name, by_class = loss.name.lower().replace("_", ""), loss.labels == "class"
    if (by_class and "crossentropy" in name and outputs.ndim > 1 and outputs.shape[1] > 1) or (
        by_class and "nll" in name and float(outputs.max()) <= 0
    ):
        return math.log(outputs.shape[1]), f"ln {outputs.shape[1]}"
    if loss.labels in ("unit", "sign") and ("logits" in name or name in ("logistic", "softmarginloss")):
        return math.log(2), "ln 2"
    if loss.labels == "real" and loss.outputs == "real":
        return max(1.0, float(labels.double().square().mean())), "the mean square of the labels"
    raise Inapplicable(
        f"what {loss.name} should be at the start is not known, or the outputs are not its own"
    )
