"""Losses of how the embeddings of a batch lie to each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Properties, Reals, parameter, prediction
from modelspace.losses._checks import received
from modelspace.losses._classes import ClassLoss
from modelspace.losses._numerics import wide

Embeddings = Float[Tensor, "sample feature"]
Pairs = Bool[Tensor, "sample sample"]
Anchors = tuple[Float[Tensor, "sample"], Bool[Tensor, "sample"]]


@dataclass(frozen=True, eq=False)
class EmbeddingLoss(ClassLoss):
    """ℓ of each embedding of ``[N, D]`` as an anchor, among the others of its batch.

    Labels ``[N]`` are integers, the same for samples that belong together: of one class, or two views of one image.
    The value of a label is that of its sample as the anchor; an anchor without a partner counts nothing: its value is
    0, and the mean is over the others, or 0 where there are none. A sample that is left out (``ignore_index``) is
    neither anchor nor partner nor stranger; ``weight`` has a number for each label from 0 on, that of its anchors.

    Example:
        >>> z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> Triplet(margin=1.0)(z, torch.tensor([0, 0, 1]), reduction="none")
        tensor([5.0000, 1.7574, 0.0000])
    """

    outputs = "embedding"
    labels = "class"

    def anchors(self, z: Embeddings, together: Pairs, apart: Pairs) -> Anchors:
        """Compute the loss of every anchor, finite whether it counts or not, and tell which count.

        Args:
            z: Embeddings.
            together: Which pairs have the same label; a sample and itself too.
            apart: Which have another.
        """
        raise NotImplementedError

    def weighed(self, outputs: Reals, labels: Labels) -> tuple[Reals, Reals]:
        """Compute ℓ of every anchor, 0 for those that don't count, and how much each counts."""
        self._require_groups(outputs, labels)
        counted = self.counted(labels)
        together = labels.unsqueeze(1) == labels
        apart = ~together
        if counted is not None:
            both = counted.unsqueeze(1) & counted
            together, apart, labels = together & both, apart & both, labels.masked_fill(~counted, 0)
        values, counts = self.anchors(wide(outputs), together, apart)
        weights = self.weights(values, outputs, labels)
        some = counts.to(values.dtype)
        return values.masked_fill(~counts, 0), some if weights is None else weights * some

    def class_count(self, outputs: Reals, labels: Labels) -> int:
        return len(self.weight)

    def __call__(self, outputs: Reals, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Compute the loss of a batch: see ``Loss.__call__``; the mean is over the anchors that count."""
        if reduction != "mean":
            return super().__call__(outputs, labels, reduction=reduction)
        total, weight = self.sums(prediction(outputs), labels)
        return total / torch.where(weight > 0, weight, 1)

    def _require_groups(self, outputs: Labels, labels: Labels) -> None:
        if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or labels.dtype.is_floating_point:
            raise ModelspaceError(
                f"{received(self.name, outputs, labels)} ({labels.dtype}): it expects embeddings [N, D] and integer "
                "labels [N], the same for samples that belong together"
            )

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell that it is none: each value sees the whole batch."""
        return False

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse anything but integer labels of which some are the same."""
        self._require_groups(outputs, labels)
        counted = self.counted(labels)
        labels = labels if counted is None else labels[counted]
        if self.weight is not None and len(labels):
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(self.weight):
                raise ModelspaceError(
                    f"{self.name} has {len(self.weight)} weights, and labels from {low} to {high}: give one for each "
                    "label from 0 on"
                )
        if len(torch.unique(labels)) == len(labels):
            raise ModelspaceError(
                f"{self.name} received {len(labels)} labels, no two of them the same: it draws samples of one "
                "label together, and without any it is 0; use larger batches, or batches that hold each label at "
                "least twice"
            )


def _itself(z: Embeddings) -> Pairs:
    """Tell which pairs are a sample and itself."""
    return torch.eye(len(z), dtype=torch.bool, device=z.device)


@dataclass(frozen=True)
class InfoNCE(EmbeddingLoss):
    """InfoNCE of an anchor: the mean over its partners j of a cross-entropy of the cosines s among all others.

    Partners have the anchor's label; see ``EmbeddingLoss``. With two views of every image as the labels it is the
    NT-Xent loss of SimCLR, with classes the supervised contrastive loss. An embedding of 0 has no direction: its
    cosines are 0, and so is its gradient.
    Source: van den Oord, Li, Vinyals, arXiv 1807.03748; Chen, Kornblith, Norouzi, Hinton, "A simple framework for
    contrastive learning of visual representations", ICML 2020; Khosla et al., "Supervised contrastive learning",
    NeurIPS 2020.
    """

    temperature: float = parameter(0.1, "temperature", above=0)

    properties = Properties(
        "−mean_(j ∈ P(i)) log(e^(s_ij/τ) / Σ_(k ≠ i) e^(s_ik/τ))",
        convex=False,
        notes="couples the batch: each value sees all embeddings; with N it is at most 2/tau + log(N - 1); the "
        "cosine of a short embedding is steep, so there is no Lipschitz constant",
    )

    def anchors(self, z: Embeddings, together: Pairs, apart: Pairs) -> Anchors:
        squares = z.square().sum(1, keepdim=True)
        nowhere = squares == 0
        unit = torch.where(nowhere, 0, z * torch.rsqrt(torch.where(nowhere, 1, squares)))
        partners = together & ~_itself(z)
        # Not -inf: an anchor that is alone in its batch would have nothing but that, and a gradient of NaN.
        similar = (unit @ unit.T / self.temperature).masked_fill(
            ~(partners | apart), torch.finfo(z.dtype).min
        )
        logs = similar - torch.logsumexp(similar, 1, keepdim=True)
        count = partners.sum(1)
        return -torch.where(partners, logs, 0).sum(1) / count.clamp(min=1), count > 0


@dataclass(frozen=True)
class Triplet(EmbeddingLoss):
    """The batch-hard triplet loss: an anchor's farthest partner j is to be nearer than its nearest stranger k.

    Partners have the anchor's label; see ``EmbeddingLoss``. An anchor without strangers has a loss of 0. The
    differences of all pairs are in memory at once, N² D numbers.
    Source: Hermans, Beyer, Leibe, "In defense of the triplet loss for person re-identification", arXiv 1703.07737,
    2017.
    """

    margin: float = parameter(0.2, "triplet margin: m, in units of the distance", at_least=0)

    properties = Properties(
        "max(0, m + max_(j ∈ P(i)) ‖z_i − z_j‖ − min_(k ∈ N(i)) ‖z_i − z_k‖)",
        convex=False,
        lipschitz=6**0.5,
        notes="couples the batch: each value sees all embeddings; the Lipschitz constant is in all of them",
    )

    def anchors(self, z: Embeddings, together: Pairs, apart: Pairs) -> Anchors:
        squares = (z.unsqueeze(1) - z).square().sum(-1)
        same = squares == 0
        distance = torch.where(same, 0, torch.where(same, 1, squares).sqrt())
        partners = together & ~_itself(z)
        farthest = distance.masked_fill(~partners, 0).amax(1)
        nearest = distance.masked_fill(~apart, torch.finfo(z.dtype).max).amin(1)
        return (self.margin + farthest - nearest).clamp(min=0), partners.any(1)
