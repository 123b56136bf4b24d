"""Half the squared error."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from modelspace.losses.properties import Properties
from modelspace.losses.regression.base import RegressionLoss, residual


@dataclass(frozen=True)
class LeastSquares(RegressionLoss):
    """Half the squared error, ½(y − z)².

    Half of ``torch.nn.functional.mse_loss``: the negative log-likelihood of a unit Gaussian, but for a constant.

    Example:
        >>> import torch
        >>> LeastSquares()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(1.)

    Source:
        Gauss, "Theoria motus corporum coelestium", 1809.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\tfrac12 (y - z)^2",
            convex=True,
            smooth=1.0,
            minimiser="mean",
            source="Gauss 1809",
        )

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        return residual(z, y).square() / 2

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, ""]:
        """The mean."""
        return samples.mean()
