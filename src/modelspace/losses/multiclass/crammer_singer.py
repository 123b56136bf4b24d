"""The multiclass hinge loss of the strongest rival."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.losses.multiclass.base import MulticlassLoss, own
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import is_own


@dataclass(frozen=True)
class CrammerSinger(MulticlassLoss):
    """The hinge loss of the lead over the strongest rival, max(0, 1 + max_{c≠y} z_c − z_y).

    Not where no class may have a probability above ½: there all scores alike minimise the risk, whatever the classes'
    probabilities.

    Example:
        >>> import torch
        >>> CrammerSinger()(torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([0]))
        tensor(0.5000)

    Source:
        Crammer & Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2001.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(0,\, 1 + \max_{c \ne y} z_c - z_y)",
            convex=True,
            lipschitz=2**0.5,
            minimiser=r"[\,p_c > \tfrac12\,]",
            calibrated=False,
            source="Crammer & Singer 2001; Liu 2007",
            notes="calibrated where one class has a probability above 1/2",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        rival = z.masked_fill(is_own(z, y), -torch.inf).amax(1)
        return (1 + rival - own(z, y)).clamp(min=0)

    def probability(self, outputs: Float[Tensor, "..."]) -> None:
        """None: the scores are no probabilities."""
        return

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """1 for a class of probability above ½, 0 for all others."""
        return (p > 0.5).to(p.dtype)
