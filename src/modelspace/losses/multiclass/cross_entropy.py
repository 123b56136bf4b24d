"""Cross-entropy of the softmax."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract, cross_entropy_labels
from modelspace.losses.multiclass.base import MulticlassLoss
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import single_column


@dataclass(frozen=True)
class CrossEntropy(MulticlassLoss):
    """Cross-entropy of the softmax, −log p_y with p = softmax(z): ``torch.nn.functional.cross_entropy``.

    Labels may also be class probabilities q, floating and of the outputs' shape: −Σ_c q_c log p_c.

    Example:
        >>> import torch
        >>> CrossEntropy()(torch.zeros(2, 10), torch.tensor([3, 7]))
        tensor(2.3026)

    Source:
        Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"-\log \frac{e^{z_y}}{\sum_c e^{z_c}}",
            convex=True,
            lipschitz=2**0.5,
            smooth=0.5,
            minimiser=r"\log p_c + \mathrm{const}",
            calibrated=True,
            proper=True,
            source="Bridle 1990",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        return F.cross_entropy(z, y, reduction="none")

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every label, ``[N, …]``; labels are classes, or class probabilities."""
        if labels.dtype.is_floating_point and labels.shape == outputs.shape and outputs.ndim > 1:
            if outputs.shape[1] == 1:
                raise single_column(self.name, outputs)
            return F.cross_entropy(outputs, labels.to(outputs.dtype), reduction="none")
        return super().each(outputs, labels)

    @property
    def contract(self) -> Contract:
        """Class labels in [0, C), or probabilities that sum to 1."""
        return cross_entropy_labels

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """The logarithms of the class probabilities."""
        return torch.log(p)
