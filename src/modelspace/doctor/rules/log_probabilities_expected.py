"""Scores or probabilities given to a loss that takes logarithms of probabilities."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

# logsumexp of a log_softmax is 0 up to rounding, which grows with the logarithm of the classes.
_TOLERANCE = 1e-2


def _probe(subject: Subject) -> Iterator[Observation]:
    if subject.expected.outputs != "log-probability":
        raise Inapplicable(
            f"{subject.loss.name if subject.loss else 'the loss'} expects no log-probabilities"
        )
    found = [
        float(outputs.logsumexp(1).abs().max())
        for outputs in subject.scaled.values()
        if outputs.ndim > 1 and outputs.shape[1] > 1 and outputs.is_floating_point()
    ]
    if not found or max(found) <= _TOLERANCE:
        return
    ordinary = subject.scaled[1.0]
    if float(ordinary.min()) >= 0 and float((ordinary.sum(1) - 1).abs().max()) < _TOLERANCE:
        what = "they are probabilities, without the logarithm, so the loss is bounded below by −1"
    else:
        what = "they are scores, so the loss falls without limit as the scores grow"
    yield Observation(
        subject.end,
        f"logsumexp of the outputs is up to {max(found):.3g} where log-probabilities give 0: {what}",
        "# either\nloss = nn.CrossEntropyLoss()       # log_softmax and NLLLoss in one, on scores\n"
        "# or\nreturn F.log_softmax(self.fc(x), dim=1)",
    )


RULE = Rule(
    "log-probabilities-expected",
    "error",
    "the loss takes log-probabilities, and the outputs are none",
    _probe,
    needs=("inputs", "loss", "values"),
)
