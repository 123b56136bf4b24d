"""Outputs that are probabilities already, given to a loss that makes probabilities of its own."""

import math
from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

# Rounding of a sum of float32 probabilities, with room for half precision's conversions.
_TOLERANCE = 1e-3


def _probe(subject: Subject) -> Iterator[Observation]:
    if subject.expected.outputs != "logits":
        raise Inapplicable(f"{subject.loss.name if subject.loss else 'the loss'} expects no logits")
    for outputs in subject.scaled.values():
        if outputs.ndim < 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
            return
        if float(outputs.min()) < 0 or float((outputs.sum(1) - 1).abs().max()) > _TOLERANCE:
            return
    classes = next(iter(subject.scaled.values())).shape[1]
    floor = -math.log(math.e / (math.e + classes - 1))
    yield Observation(
        subject.end,
        f"the {classes} outputs of each sample are between 0 and 1 and sum to 1 for inputs of every size, so "
        f"the softmax inside the loss sees scores at most 1 apart: a cross-entropy cannot fall below {floor:.3f}",
        "# give the scores to the loss, and take the softmax only where probabilities are read\n"
        "def forward(self, x):\n    return self.fc(x)          # no softmax\n\n"
        "probabilities = model(x).softmax(1)",
    )


RULE = Rule(
    "softmax-before-cross-entropy",
    "error",
    "the outputs have been through a softmax already, and the loss applies another",
    _probe,
    needs=("inputs", "loss", "values"),
)
