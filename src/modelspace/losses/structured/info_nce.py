"""The contrastive loss of cosine similarities."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.parameters import TEMPERATURE
from modelspace.losses.properties import Properties
from modelspace.losses.structured.embedding import EmbeddingLoss, itself


@dataclass(frozen=True)
class InfoNCE(EmbeddingLoss):
    """InfoNCE of an anchor i: the mean over its partners j of −log(exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ)), s the cosine.

    Partners have the anchor's label; see ``EmbeddingLoss``. With two views of every image as the labels it is the
    NT-Xent loss of SimCLR, with classes the supervised contrastive loss. An embedding of 0 has no direction: its
    cosines are 0, and so is its gradient.

    Attributes:
        temperature: τ > 0.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> InfoNCE(temperature=1.0)(z, torch.tensor([0, 0, 1]), reduction="none")
        tensor([0.3133, 0.3133, 0.0000])

    Source:
        van den Oord, Li, Vinyals, arXiv 1807.03748; Chen, Kornblith, Norouzi, Hinton, "A simple framework for
        contrastive learning of visual representations", ICML 2020; Khosla et al., "Supervised contrastive learning",
        NeurIPS 2020.
    """

    temperature: float = 0.1

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"-\operatorname{mean}_{j \in P(i)} \log \frac{e^{s_{ij}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}",
            convex=False,
            source="van den Oord, Li, Vinyals 2018; Khosla et al. 2020",
            notes="couples the batch: each value sees all embeddings; with N it is at most 2/tau + log(N - 1); the "
            "cosine of a short embedding is steep, so there is no Lipschitz constant",
        )

    def anchors(
        self, z: Float[Tensor, "sample feature"], together: Bool[Tensor, "sample sample"]
    ) -> tuple[Float[Tensor, "sample"], Bool[Tensor, "sample"]]:
        """InfoNCE of every anchor, and whether it has a partner."""
        squares = z.square().sum(1, keepdim=True)
        nowhere = squares == 0
        unit = torch.where(nowhere, 0, z * torch.rsqrt(torch.where(nowhere, 1, squares)))
        own = itself(z)
        # Not -inf: an anchor that is alone in its batch would have nothing but that, and a gradient of NaN.
        similar = (unit @ unit.T / self.temperature).masked_fill(own, torch.finfo(z.dtype).min)
        logs = similar - torch.logsumexp(similar, 1, keepdim=True)
        partners = together & ~own
        count = partners.sum(1)
        return -torch.where(partners, logs, 0).sum(1) / count.clamp(min=1), count > 0

    def ranges(self) -> Mapping[str, Range]:
        """What τ may be."""
        return {"temperature": TEMPERATURE}
