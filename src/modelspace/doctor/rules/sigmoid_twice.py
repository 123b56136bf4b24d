"""A sigmoid before a loss that applies its own."""

import math
from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

# What squeezes into [0, 1]; a plain range could be chance, where an operation of these made it, it is none.
_SQUEEZING = frozenset(
    {"sigmoid", "sigmoid_", "softmax", "expit", "hardsigmoid", "exp", "div", "__rtruediv__"}
)


def _probe(subject: Subject) -> Iterator[Observation]:
    wanted = subject.expected
    if wanted.outputs != "score" or wanted.labels not in ("sign", "unit", "multi-hot"):
        raise Inapplicable(
            f"{subject.loss.name if subject.loss else 'the loss'} expects no scores of two classes"
        )
    low = min(float(outputs.min()) for outputs in subject.scaled.values())
    high = max(float(outputs.max()) for outputs in subject.scaled.values())
    last = subject.last
    squeezed = last is not None and any(word in last.name for word in _SQUEEZING)
    if not squeezed or low < 0 or high > 1:
        return
    if wanted.labels == "sign":
        floor = f"a sample of the class −1 keeps a loss of at least ln 2 = {math.log(2):.3f}"
    else:
        floor = f"no probability comes out below ½: the class 0 keeps a loss of at least {math.log(2):.3f}"
    yield Observation(
        subject.end,
        f"all outputs lie between {low:.3g} and {high:.3g} even for inputs ten times as large, and "
        f"{subject.loss.name if subject.loss else 'the loss'} applies a sigmoid of its own: {floor}",
        "def forward(self, x):\n    return self.fc(x)          # no sigmoid: the loss has one\n\n"
        "probabilities = model(x).sigmoid()   # only where probabilities are read",
    )


RULE = Rule(
    "sigmoid-twice",
    "error",
    "the outputs have been through a sigmoid already, and the loss applies another",
    _probe,
    needs=("inputs", "loss", "values"),
)
