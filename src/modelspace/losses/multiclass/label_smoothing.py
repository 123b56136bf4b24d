"""Cross-entropy against softened labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.multiclass.base import MulticlassLoss, own
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class LabelSmoothing(MulticlassLoss):
    """Cross-entropy against the label mixed with the uniform distribution, −(1 − s) log p_y − (s/C) Σ_c log p_c.

    ``torch.nn.functional.cross_entropy(…, label_smoothing=s)``. Not where the probabilities themselves are wanted:
    the softmax at the minimiser is (1 − s) p + s/C.

    Attributes:
        smoothing: s, the share of the uniform distribution, in [0, 1).

    Example:
        >>> import torch
        >>> LabelSmoothing(0.2)(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor(0.3269)

    Source:
        Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception architecture for computer vision",
        CVPR 2016.
    """

    smoothing: float = 0.1

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        s = self.smoothing
        return Properties(
            r"-(1 - s) \log p_y - \frac{s}{C} \sum_c \log p_c",
            convex=True,
            lipschitz=(1 + (1 - s) ** 2) ** 0.5,
            smooth=0.5,
            minimiser=r"\log\left((1 - s)\, p_c + \frac{s}{C}\right) + \mathrm{const}",
            calibrated=True,
            proper=s == 0,
            source="Szegedy et al. 2016",
            notes="with C classes the Lipschitz constant is sqrt(1 + (1 - s)^2 - s^2 / C), below its limit",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        logs = F.log_softmax(z, 1)
        return -(1 - self.smoothing) * own(logs, y) - self.smoothing * logs.mean(1)

    def ranges(self) -> Mapping[str, Range]:
        """What s may be."""
        return {"smoothing": Range("label smoothing", "at least 0 and below 1", 0.0, 1.0)}

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """The logarithms of the softened class probabilities."""
        return torch.log((1 - self.smoothing) * p + self.smoothing / p.shape[-1])
