"""The ordinal loss of cumulative logits."""

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
from modelspace.losses.structured.contracts import ranks
from modelspace.losses.structured.forms import require_ranks


@dataclass(frozen=True)
class Coral(Loss):
    """The logistic losses of "the rank is above k", Σ_{k<K−1} log(1 + e^{∓z_k}), − where y > k and + elsewhere.

    Outputs ``[N, K − 1]``, z_k the log-odds of a rank above k, and ranks ``[N]`` from 0 to K − 1; one value a sample.
    The paper's head gives all z_k one weight vector and a bias each, so that they fall in k; the loss takes any.

    Example:
        >>> import torch
        >>> Coral()(torch.zeros(1, 4), torch.tensor([2]))
        tensor(2.7726)

    Source:
        Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural networks with application to age
        estimation", Pattern Recognition Letters 140, 2020.
    """

    outputs = "logits"
    labels = "rank"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\sum_{k=0}^{K-2} \log\left(1 + e^{-(2 [y > k] - 1) z_k}\right)",
            convex=True,
            smooth=0.25,
            minimiser=r"\log\frac{P(y > k)}{P(y \le k)}",
            calibrated=True,
            proper=True,
            source="Cao, Mirjalili, Raschka 2020",
            notes="with K ranks the Lipschitz constant is sqrt(K - 1)",
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N]``."""
        require_ranks(self.name, outputs, labels)
        above = labels.unsqueeze(1) > torch.arange(outputs.shape[1], device=labels.device)
        z = wide(outputs)
        return F.softplus(torch.where(above, -z, z), threshold=SOFTPLUS_THRESHOLD).sum(1)

    @property
    def contract(self) -> Contract:
        """Ranks from 0 to K − 1."""
        return ranks

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The probabilities of the K ranks, ``[N, K]``: what the sigmoids fall by from one k to the next.

        Where they rise instead, the logits contradict each other, and the lower of the two is taken for both.
        """
        above = torch.sigmoid(outputs).cummin(1).values
        ends = above.new_ones(len(above), 1)
        return torch.cat([ends, above], 1) - torch.cat([above, 0 * ends], 1)

    def minimiser(self, p: Float[Tensor, "... rank"]) -> Float[Tensor, "... threshold"]:
        """The log-odds of a rank above k, from the probabilities of the K ranks."""
        return torch.logit(1 - p.cumsum(-1)[..., :-1])
