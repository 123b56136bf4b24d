"""Binary cross-entropy of probabilities."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract, probabilities
from modelspace.losses.loss import Loss
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import require_same_shape


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of a probability, −[y log z + (1 − y) log(1 − z)], z in [0, 1] and y in {0, 1} or between.

    The logarithms are clamped at −100, as in ``torch.nn.BCELoss``. Prefer ``logistic`` on scores: it needs no clamp.

    Example:
        >>> import torch
        >>> BinaryCrossEntropy()(torch.tensor([0.5, 0.0]), torch.tensor([1, 1]), reduction="none")
        tensor([  0.6931, 100.0000])

    Source:
        Good, "Rational decisions", J. R. Stat. Soc. B 14, 1952 (the logarithmic score).
    """

    outputs = "probability"
    labels = "unit"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"-[\,y \log z + (1 - y) \log(1 - z)\,]",
            convex=True,
            minimiser="p",
            bound=100.0,
            calibrated=True,
            proper=True,
            source="Good 1952",
            notes="the logarithms are clamped at -100",
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every element, of the outputs' shape."""
        require_same_shape(self.name, outputs, labels)
        return F.binary_cross_entropy(outputs, labels.to(outputs.dtype), reduction="none")

    @property
    def contract(self) -> Contract:
        """Outputs and labels in [0, 1]."""
        return probabilities

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The outputs themselves."""
        return outputs

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The probability itself."""
        return p
