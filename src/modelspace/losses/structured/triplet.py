"""The triplet loss with the hardest pairs of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.properties import Properties
from modelspace.losses.structured.embedding import EmbeddingLoss, itself


@dataclass(frozen=True)
class Triplet(EmbeddingLoss):
    """The batch-hard triplet loss of an anchor, max(0, m + max_j ‖z − z_j‖ − min_k ‖z − z_k‖).

    j runs over the anchor's partners, of the same label, and k over the samples of other labels; see
    ``EmbeddingLoss``. An anchor without strangers has a loss of 0. The differences of all pairs are held
    at once, N² D numbers.

    Attributes:
        margin: m ≥ 0, in units of the distance.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> Triplet(margin=1.0)(z, torch.tensor([0, 0, 1]), reduction="none")
        tensor([5.0000, 1.7574, 0.0000])

    Source:
        Hermans, Beyer, Leibe, "In defense of the triplet loss for person re-identification", arXiv 1703.07737, 2017.
    """

    margin: float = 0.2

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max\big(0,\, m + \max_{j \in P(i)} \|z_i - z_j\| - \min_{k \in N(i)} \|z_i - z_k\|\big)",
            convex=False,
            lipschitz=6**0.5,
            source="Hermans, Beyer, Leibe 2017",
            notes="couples the batch: each value sees all embeddings; the Lipschitz constant is in all of them",
        )

    def anchors(
        self, z: Float[Tensor, "sample feature"], together: Bool[Tensor, "sample sample"]
    ) -> tuple[Float[Tensor, "sample"], Bool[Tensor, "sample"]]:
        """The loss of every anchor, and whether it has a partner."""
        squares = (z.unsqueeze(1) - z).square().sum(-1)
        same = squares == 0
        distance = torch.where(same, 0, torch.where(same, 1, squares).sqrt())
        partners = together & ~itself(z)
        farthest = distance.masked_fill(~partners, 0).amax(1)
        nearest = distance.masked_fill(together, torch.finfo(z.dtype).max).amin(1)
        value = (self.margin + farthest - nearest).clamp(min=0)
        return value, partners.any(1)

    def ranges(self) -> Mapping[str, Range]:
        """What m may be."""
        return {"margin": Range("triplet margin", "a number of at least 0", 0.0)}
