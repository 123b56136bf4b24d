"""What a loss expects of outputs and labels, read from the loss itself."""

import re
from dataclasses import dataclass

from modelspace.losses import Loss

# The losses of torch.nn and torch.nn.functional, by name without underscores and "loss": outputs, labels.
_TABLE = {
    "crossentropy": ("logits", "class"),
    "nll": ("log-probability", "class"),
    "nll2d": ("log-probability", "class"),
    "bce": ("probability", "unit"),
    "binarycrossentropy": ("probability", "unit"),
    "bcewithlogits": ("score", "unit"),
    "binarycrossentropywithlogits": ("score", "unit"),
    "mse": ("real", "real"),
    "l1": ("real", "real"),
    "smoothl1": ("real", "real"),
    "huber": ("real", "real"),
    "leastsquares": ("real", "real"),
    "softmargin": ("score", "sign"),
    "logistic": ("score", "sign"),
    "hinge": ("score", "sign"),
    "multimargin": ("logits", "class"),
    "multilabelsoftmargin": ("score", "unit"),
    "poissonnll": ("log-rate", "count"),
    "kldiv": ("log-probability", "distribution"),
}


@dataclass(frozen=True)
class Expected:
    """What a loss expects.

    Attributes:
        outputs: ``"real"``, ``"score"``, ``"logits"``, ``"probability"``, ``"log-probability"``, ``"log-rate"``,
            ``"positive"``, ``"embedding"``; None where it is not known.
        labels: ``"real"``, ``"sign"`` (±1), ``"unit"`` ([0, 1]), ``"class"`` (integers), ``"count"``, …; None
            where it is not known.
    """

    outputs: str | None
    labels: str | None

    @property
    def by_class(self) -> bool:
        """Whether outputs are ``[N, C, …]`` and labels the integers ``[N, …]``."""
        return self.labels == "class"

    @property
    def unbounded(self) -> bool:
        """Whether any real number is an output that the loss has a use for."""
        return self.outputs in ("real", "score", "logits", "log-rate")


def expected(loss: Loss) -> Expected:
    """What a loss expects, by its own word, or by its name where it doesn't say."""
    outputs, labels = getattr(loss, "outputs", None), getattr(loss, "labels", None)
    by_name = _TABLE.get(_plain(loss.name), (None, None))
    return Expected(outputs or by_name[0], labels or by_name[1])


def _plain(name: str) -> str:
    return re.sub(r"_|loss$", "", name.lower())
