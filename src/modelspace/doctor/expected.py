"""What a loss expects of outputs and labels, by its own word."""

from dataclasses import dataclass

from modelspace.losses import Loss


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
    """What a loss expects."""
    return Expected(loss.outputs, loss.labels)
