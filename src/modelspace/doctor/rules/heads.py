"""Heads and losses that don't fit: the values of the outputs are not those that the loss takes."""

import math

import torch

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.subject import Subject, on_simplex

# Rounding of a sum of float32 probabilities, with room for half precision's conversions; logsumexp of a log_softmax
# is 0 up to rounding, which grows with the logarithm of the classes.
_SUM, _LOGSUMEXP = 1e-3, 1e-2
# What squeezes into [0, 1]; a plain range could be chance, where an operation of these made it, it is none.
_SQUEEZING = ("sigmoid", "softmax", "expit", "hardsigmoid", "exp", "div", "__rtruediv__")
# Last activations and the outputs that they can give.
_RANGES = {
    **dict.fromkeys(("tanh", "hardtanh", "softsign"), (-1.0, 1.0)),
    **dict.fromkeys(("sigmoid", "hardsigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("relu", "softplus"), (0.0, math.inf)),
    "relu6": (0.0, 6.0),
    "logsigmoid": (-math.inf, 0.0),
}


@rule("error", needs=("inputs", "loss", "values"))
def softmax_before_cross_entropy(subject: Subject) -> Seen:
    """The outputs have been through a softmax already, and the loss applies another."""
    if subject.loss.outputs != "logits":
        raise Inapplicable(f"{subject.loss.name} expects no logits")
    if not all(on_simplex(outputs, _SUM) for outputs in subject.scaled.values()):
        return
    classes = subject.scaled[1.0].shape[1]
    floor = -math.log(math.e / (math.e + classes - 1))
    yield (
        subject.end,
        f"the {classes} outputs of each sample are between 0 and 1 and sum to 1 for inputs of every size, so "
        f"the softmax inside the loss sees scores at most 1 apart: a cross-entropy cannot fall below {floor:.3f}",
        "# give the scores to the loss, and take the softmax only where probabilities are read\n"
        "def forward(self, x):\n    return self.fc(x)          # no softmax\n\n"
        "probabilities = model(x).softmax(1)",
    )


@rule("error", needs=("inputs", "loss", "values"))
def log_probabilities_expected(subject: Subject) -> Seen:
    """The loss takes log-probabilities, and the outputs are none."""
    if subject.loss.outputs != "log-probability":
        raise Inapplicable(f"{subject.loss.name} expects no log-probabilities")
    sums = [
        float(outputs.logsumexp(1).abs().max())
        for outputs in subject.scaled.values()
        if outputs.ndim > 1 and outputs.shape[1] > 1 and outputs.is_floating_point()
    ]
    if not sums or max(sums) <= _LOGSUMEXP:
        return
    if on_simplex(subject.scaled[1.0], _LOGSUMEXP):
        what = "they are probabilities, without the logarithm, so the loss is bounded below by −1"
    else:
        what = "they are scores, so the loss falls without limit as the scores grow"
    yield (
        subject.end,
        f"logsumexp of the outputs is up to {max(sums):.3g} where log-probabilities give 0: {what}",
        "# either\nloss = nn.CrossEntropyLoss()       # log_softmax and NLLLoss in one, on scores\n"
        "# or\nreturn F.log_softmax(self.fc(x), dim=1)",
    )


@rule("error", needs=("inputs", "loss", "values"))
def sigmoid_twice(subject: Subject) -> Seen:
    """The outputs have been through a sigmoid already, and the loss applies another."""
    loss, last = subject.loss, subject.last
    if loss.outputs != "score" or loss.labels not in ("sign", "unit", "multi-hot"):
        raise Inapplicable(f"{loss.name} expects no scores of two classes")
    low, high = _range(subject)
    if last is None or not any(word in last.name for word in _SQUEEZING) or low < 0 or high > 1:
        return
    if loss.labels == "sign":
        floor = f"a sample of the class −1 keeps a loss of at least ln 2 = {math.log(2):.3f}"
    else:
        floor = f"no probability comes out below ½: the class 0 keeps a loss of at least {math.log(2):.3f}"
    yield (
        subject.end,
        f"all outputs lie between {low:.3g} and {high:.3g} even for inputs ten times as large, and "
        f"{loss.name} applies a sigmoid of its own: {floor}",
        "def forward(self, x):\n    return self.fc(x)          # no sigmoid: the loss has one\n\n"
        "probabilities = model(x).sigmoid()   # only where probabilities are read",
    )


@rule("error", needs=("inputs", "loss", "values"))
def probabilities_expected(subject: Subject) -> Seen:
    """The loss takes probabilities, and the outputs are none."""
    if subject.loss.outputs != "probability":
        raise Inapplicable(f"{subject.loss.name} expects no probabilities")
    low, high = _range(subject)
    if low >= 0 and high <= 1:
        return
    outside = sum(int(((o < 0) | (o > 1)).sum()) for o in subject.scaled.values())
    total = sum(o.numel() for o in subject.scaled.values())
    yield (
        subject.end,
        f"outputs reach from {low:.3g} to {high:.3g}, {outside} of {total} are outside [0, 1], where "
        f"{subject.loss.name} is not defined",
        "# either\nloss = nn.BCEWithLogitsLoss()      # sigmoid and BCELoss in one, on scores\n"
        "# or\nreturn torch.sigmoid(self.fc(x))",
    )


def _range(subject: Subject) -> tuple[float, float]:
    """Return the least and the largest output for inputs of every size."""
    values = subject.scaled.values()
    return min(float(outputs.min()) for outputs in values), max(float(outputs.max()) for outputs in values)


@rule("warning", needs=("inputs", "loss"))
def saturating_output(subject: Subject) -> Seen:
    """A last activation bounds the outputs, and the loss wants any real number."""
    loss, last, labels = subject.loss, subject.last, subject.labels
    if loss.outputs not in ("real", "score", "logits", "log-rate"):
        raise Inapplicable(f"{loss.name} does not take any real number")
    name = last.name.rstrip("_") if last is not None else ""
    if name not in _RANGES or (name == "sigmoid" and loss.outputs == "score"):
        return  # sigmoid-twice says more
    low, high = _RANGES[name]
    if labels is not None and loss.labels == "real":
        inside = bool(((labels >= low) & (labels <= high)).all())
        if inside and torch.isfinite(labels).all():
            return
    evidence = f"the last operation is {name}, whose values lie in ({low:g}, {high:g})".replace("inf", "∞")
    if not subject.too_large:
        evidence += (
            f", and {loss.name} takes any real number; measured here: "
            f"{float(subject.outputs.min()):.3g} to {float(subject.outputs.max()):.3g}"
        )
    yield (
        subject.end,
        evidence,
        f"def forward(self, x):\n    return self.fc(x)          # no {name} after the last layer",
    )
