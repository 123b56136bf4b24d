"""Losses of how the embeddings of a batch lie to each other."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract
from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss, reduced
from modelspace.losses.structured.contracts import groups
from modelspace.losses.structured.forms import require_groups


class EmbeddingLoss(Loss):
    """ℓ of each embedding of ``[N, D]`` as an anchor, among the others of its batch.

    Labels ``[N]`` are integers, the same for samples that belong together: of one class, or two views of one image.
    The value of a label is that of its sample as the anchor; an anchor without a partner counts nothing: its value is
    0, and the mean is over the others, or 0 where there are none.
    """

    outputs = "embedding"
    labels = "class"

    def anchors(
        self, z: Float[Tensor, "sample feature"], together: Bool[Tensor, "sample sample"]
    ) -> tuple[Float[Tensor, "sample"], Bool[Tensor, "sample"]]:
        """The loss of every anchor, finite whether it counts or not, and whether it does.

        Args:
            z: Embeddings.
            together: Which pairs have the same label; a sample and itself too.
        """
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every anchor, ``[N]``; 0 for those that don't count."""
        return self._counted(outputs, labels)[0]

    def __call__(
        self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
    ) -> Float[Tensor, "..."]:
        """The loss of a batch: see ``Loss.__call__``; the mean is over the anchors that count."""
        values, counts = self._counted(outputs, labels)
        return values.sum() / counts.sum().clamp(min=1) if reduction == "mean" else reduced(values, reduction)

    def _counted(self, outputs: Tensor, labels: Int[Tensor, "sample"]) -> tuple[Tensor, Tensor]:
        require_groups(self.name, outputs, labels)
        values, counts = self.anchors(wide(outputs), labels.unsqueeze(1) == labels)
        return values.masked_fill(~counts, 0), counts

    @property
    def contract(self) -> Contract:
        """Integer labels of which some are the same."""
        return groups


def itself(z: Float[Tensor, "sample feature"]) -> Bool[Tensor, "sample sample"]:
    """Which pairs are a sample and itself."""
    return torch.eye(len(z), dtype=torch.bool, device=z.device)
