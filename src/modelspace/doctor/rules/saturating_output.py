"""A last activation that keeps outputs from where the loss wants them."""

from collections.abc import Iterator

import torch

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

# Last activations and the outputs that they can give.
_RANGES = {
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, float("inf")),
    "logsigmoid": (float("-inf"), 0.0),
}


def _probe(subject: Subject) -> Iterator[Observation]:
    wanted = subject.expected
    if not wanted.unbounded:
        raise Inapplicable(
            f"{subject.loss.name if subject.loss else 'the loss'} does not take any real number"
        )
    last = subject.last
    name = last.name.rstrip("_") if last is not None else ""
    if name not in _RANGES or (name == "sigmoid" and wanted.outputs == "score"):
        return  # sigmoid-twice says more
    low, high = _RANGES[name]
    labels = subject.labels
    if labels is not None and wanted.labels == "real":
        inside = bool(((labels >= low) & (labels <= high)).all())
        if inside and torch.isfinite(labels).all():
            return
    reach = f"({low:g}, {high:g})".replace("inf", "∞")
    yield Observation(
        subject.end,
        f"the last operation is {name}, whose values lie in {reach}, and "
        f"{subject.loss.name if subject.loss else 'the loss'} takes any real number; measured here: "
        f"{float(subject.outputs.min()):.3g} to {float(subject.outputs.max()):.3g}"
        if not subject.too_large
        else f"the last operation is {name}, whose values lie in {reach}",
        f"def forward(self, x):\n    return self.fc(x)          # no {name} after the last layer",
    )


RULE = Rule(
    "saturating-output",
    "warning",
    "a last activation bounds the outputs, and the loss wants any real number",
    _probe,
    needs=("inputs", "loss"),
)
