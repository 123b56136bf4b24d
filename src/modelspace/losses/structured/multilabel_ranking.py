"""The ranking loss of a set of labels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract
from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss
from modelspace.losses.margin.logistic import SOFTPLUS_THRESHOLD
from modelspace.losses.properties import Properties
from modelspace.losses.structured.contracts import multi_hot
from modelspace.losses.structured.forms import require_sets


@dataclass(frozen=True)
class MultilabelRanking(Loss):
    """Log-sum-exp of all wrongly ordered pairs, log(1 + Σ_{a∉y} Σ_{b∈y} exp(z_a − z_b)); one value a sample.

    Outputs and labels are ``[N, C]``. A sample with no class, or with all, has no pair and a loss of 0. Not where a
    number of classes is to be told: it orders them and sets no threshold.

    Example:
        >>> import torch
        >>> MultilabelRanking()(torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[1, 0, 1]]))
        tensor(1.0986)

    Source:
        Li, Song, Luo, "Improving pairwise ranking for multi-label image classification", CVPR 2017.
    """

    outputs = "score"
    labels = "multi-hot"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\log\Big(1 + \sum_{a \notin y} \sum_{b \in y} e^{z_a - z_b}\Big)",
            convex=True,
            lipschitz=2**0.5,
            smooth=0.5,
            source="Li, Song, Luo 2017",
            notes="the classes of a sample are coupled, samples are not",
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N]``."""
        require_sets(self.name, outputs, labels)
        z, has = wide(outputs), labels == 1
        # The double sum is a product of two. A sum over nothing would be -inf, whose gradient is NaN: 0 stands in.
        none, every = ~has.any(1), has.all(1)
        others = torch.logsumexp(z.masked_fill(has & ~every.unsqueeze(1), -torch.inf), 1)
        own = torch.logsumexp((-z).masked_fill(~has & ~none.unsqueeze(1), -torch.inf), 1)
        value = F.softplus(others + own, threshold=SOFTPLUS_THRESHOLD)
        return value.masked_fill(none | every, 0)

    @property
    def contract(self) -> Contract:
        """Multi-hot labels."""
        return multi_hot
