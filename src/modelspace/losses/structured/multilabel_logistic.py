"""The logistic loss of every label of a set."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract
from modelspace.losses.loss import Loss
from modelspace.losses.margin.logistic import SOFTPLUS_THRESHOLD
from modelspace.losses.properties import Properties
from modelspace.losses.structured.contracts import multi_hot
from modelspace.losses.structured.forms import require_sets


@dataclass(frozen=True)
class MultilabelLogistic(Loss):
    """The logistic loss of each of C yes-or-no labels, log(1 + e^{−z}) for 1 and log(1 + e^{z}) for 0.

    Outputs and labels are ``[N, C]``, and so are the values, one a sample and class. Its mean is
    ``torch.nn.functional.multilabel_soft_margin_loss``.

    Example:
        >>> import torch
        >>> MultilabelLogistic()(torch.tensor([[0.0, 5.0]]), torch.tensor([[1, 0]]), reduction="none")
        tensor([[0.6931, 5.0067]])

    Source:
        Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958; of label sets: Boutell, Luo,
        Shen, Brown, "Learning multi-label scene classification", Pattern Recognition 37, 2004 (binary relevance).
    """

    outputs = "score"
    labels = "multi-hot"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\log(1 + e^{-(2y - 1) z})",
            convex=True,
            lipschitz=1.0,
            smooth=0.25,
            minimiser=r"\log\frac{p}{1 - p}",
            calibrated=True,
            proper=True,
            source="Cox 1958",
            notes="of each label by itself: it sees no dependence between the labels of a sample",
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every label, ``[N, C]``."""
        require_sets(self.name, outputs, labels)
        return F.softplus((1 - 2 * labels.to(outputs.dtype)) * outputs, threshold=SOFTPLUS_THRESHOLD)

    @property
    def contract(self) -> Contract:
        """Multi-hot labels."""
        return multi_hot

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of each score: the probability that a sample has the class."""
        return torch.sigmoid(outputs)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The log-odds of each class."""
        return torch.logit(p)
