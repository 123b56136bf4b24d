"""A loss of one output and one label, element by element."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss
from modelspace.losses.minimise import minimum
from modelspace.losses.shapes import require_same_shape

_POINTS = 2000


class RegressionLoss(Loss):
    """ℓ(z, y) of a real output z and a real label y of the same shape; labels take the outputs' dtype.

    Values of half-precision outputs are computed in float32 and stay so.
    """

    outputs = "real"
    labels = "real"

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every element, of the outputs' shape."""
        require_same_shape(self.name, outputs, labels)
        return self.value(outputs, labels.to(wide(outputs).dtype))

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, "..."]:
        """The output that minimises the mean loss over samples of the label, which are equally likely.

        Args:
            samples: Finite labels of which at least two differ.

        Returns:
            A number. Where no formula is known it is found numerically between the least and the largest sample, to
            about 1e-9 of their distance; one of several where several are as good.
        """
        y = samples.double()
        between = torch.linspace(float(y.min()), float(y.max()), _POINTS, dtype=y.dtype, device=y.device)
        grid = torch.cat([between, y]).sort().values
        return minimum(lambda z: self.value(z.unsqueeze(-1), y).mean(-1), grid).to(samples.dtype)


def residual(z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Y − z, in float32 at least."""
    return y - wide(z)
