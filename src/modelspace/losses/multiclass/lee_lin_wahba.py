"""The multiclass hinge loss that is calibrated."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.losses.finite import wide
from modelspace.losses.multiclass.base import MulticlassLoss
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import is_own


@dataclass(frozen=True)
class LeeLinWahba(MulticlassLoss):
    """The rivals' scores above −1/(C − 1), Σ_{c≠y} max(0, s_c + 1/(C − 1)), of scores less their mean, s = z − z̄.

    The paper constrains the scores to sum to 0; here their mean is taken away, which comes to the same.

    Example:
        >>> import torch
        >>> LeeLinWahba()(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(0.3333)

    Source:
        Lee, Lin, Wahba, "Multicategory support vector machines", J. Am. Stat. Assoc. 99, 2004.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\sum_{c \ne y} \max\left(0,\, z_c - \bar z + \frac{1}{C - 1}\right)",
            convex=True,
            minimiser=r"[\,c = \arg\max p\,] \cdot \frac{C}{C - 1} + \mathrm{const}",
            calibrated=True,
            source="Lee, Lin, Wahba 2004",
            notes="with C classes the Lipschitz constant is the greatest sqrt(k (C - k) / C) of whole k",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        z = wide(z)
        above = (z - z.mean(1, keepdim=True) + 1 / (z.shape[1] - 1)).clamp(min=0)
        return above.masked_fill(is_own(z, y), 0).sum(1)

    def probability(self, outputs: Float[Tensor, "..."]) -> None:
        """None: the scores are no probabilities."""
        return

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """1 for the likeliest class, or the first of several, and −1/(C − 1) for the others."""
        classes = p.shape[-1]
        best = F.one_hot(p.argmax(-1), classes).to(p.dtype)
        return (best * classes - 1) / (classes - 1)
