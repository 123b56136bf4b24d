"""A loss that starts far from where a model that knows nothing would be."""

import math
from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject

# Labels at random and scores of standard deviation s give a cross-entropy of about ln C + s²/2: twice ln C, and
# 2 above it, are scores of size 2 and more, where an initialisation is meant to give about 1 or less.
_TIMES, _ABOVE = 2.0, 2.0
# For regression on labels of variance 1 the expected loss is 1 + s²: outputs of size 10.
_TIMES_SQUARED = 100.0
_BATCH = 64


def _probe(subject: Subject) -> Iterator[Observation]:
    loss, wanted = subject.loss, subject.expected
    assert loss is not None
    # Where training writes into the model's state, as the power iteration of a spectral norm does, the outputs of
    # evaluation are not what training begins with.
    module = subject.fresh(training=bool(subject.written_in_training))
    outputs = subject.run(subject.inputs(subject.affordable(_BATCH)), module=module)
    labels = subject.labels_for(outputs)
    name = loss.name.lower().replace("_", "")
    if labels is None:
        raise Inapplicable(f"what labels {loss.name} takes is not known")
    if (wanted.by_class and "crossentropy" in name and outputs.ndim > 1 and outputs.shape[1] > 1) or (
        wanted.by_class and "nll" in name and float(outputs.max()) <= 0
    ):
        should, what = math.log(outputs.shape[1]), f"ln {outputs.shape[1]}"
    elif wanted.labels in ("unit", "sign") and ("logits" in name or name in ("logistic", "softmarginloss")):
        should, what = math.log(2), "ln 2"
    elif wanted.labels == "real" and wanted.outputs == "real":
        should, what = max(1.0, float(labels.double().square().mean())), "the mean square of the labels"
    else:
        raise Inapplicable(
            f"what {loss.name} should be at the start is not known, or the outputs are not its own"
        )
    try:
        found = float(loss(outputs, labels))
    except Exception:
        raise Inapplicable("the loss fails on these outputs; another rule says why") from None
    if wanted.labels == "real":
        wrong = found > _TIMES_SQUARED * should
    else:
        wrong = found > _TIMES * should and found > should + _ABOVE
    if not wrong and math.isfinite(found):
        return
    size = float(outputs.double().std())
    yield Observation(
        subject.end,
        f"the loss is {found:.3g} before any training where {what} = {should:.3g} is what knowing nothing costs: "
        f"the outputs have a standard deviation of {size:.3g}",
        "nn.init.normal_(self.fc.weight, std=0.01)     # a last layer that starts small\n"
        "nn.init.zeros_(self.fc.bias)",
    )


RULE = Rule(
    "initial-loss",
    "warning",
    "the loss starts far above what knowing nothing costs",
    _probe,
    needs=("inputs", "loss", "values"),
)
