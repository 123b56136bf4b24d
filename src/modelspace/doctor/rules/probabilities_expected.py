"""Scores given to a loss that takes probabilities."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    if subject.expected.outputs != "probability":
        raise Inapplicable(f"{subject.loss.name if subject.loss else 'the loss'} expects no probabilities")
    low = min(float(outputs.min()) for outputs in subject.scaled.values())
    high = max(float(outputs.max()) for outputs in subject.scaled.values())
    if low >= 0 and high <= 1:
        return
    outside = sum(int(((o < 0) | (o > 1)).sum()) for o in subject.scaled.values())
    total = sum(o.numel() for o in subject.scaled.values())
    yield Observation(
        subject.end,
        f"outputs reach from {low:.3g} to {high:.3g}, {outside} of {total} are outside [0, 1], where "
        f"{subject.loss.name if subject.loss else 'the loss'} is not defined",
        "# either\nloss = nn.BCEWithLogitsLoss()      # sigmoid and BCELoss in one, on scores\n"
        "# or\nreturn torch.sigmoid(self.fc(x))",
    )


RULE = Rule(
    "probabilities-expected",
    "error",
    "the loss takes probabilities, and the outputs are none",
    _probe,
    needs=("inputs", "loss", "values"),
)
