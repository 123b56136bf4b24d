"""Losses that see no more than the surprisal −log p_y of the label."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.func import grad, vmap

from modelspace.losses.multiclass.base import MulticlassLoss

_HALVINGS = 48  # of 1400: to 5e-12
_LARGEST = 700.0  # the surprisal of the smallest probability that float64 has
_MARGINS = (-60.0, 60.0, 120_001)


class SurprisalLoss(MulticlassLoss):
    """ℓ(z, y) = F(u) of the surprisal u = −log p_y, with p = softmax(z), F increasing and F′(u) eᵘ too.

    With two classes the surprisal is log(1 + e^{−v}) of the margin v, and φ(v) = F(log(1 + e^{−v})) has the slope −b
    and the curvature a. With more, the Hessian in z is a w wᵀ + b (diag r − r rᵀ), where r is how the other classes
    share what the label's own leaves, and w is r at these and −1 at the label. Its norm is greatest where r is one
    class, 2|a|, or where two share alike, b/2; the gradient's norm is at most √2 b.
    """

    def of_surprisal(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """F, element by element, of u ≥ 0."""
        raise NotImplementedError

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        return self.of_surprisal(F.cross_entropy(z, y, reduction="none"))

    def constants(self) -> tuple[float, float]:
        """The least constants, for any number of classes ≥ 3, of ℓ and of its gradient: √2 max b, max(2|a|, b/2).

        Both maxima are taken over margins 0.001 apart, an error below 1e-6 at ordinary parameters.
        """

        def phi(v: Tensor) -> Tensor:
            return self.of_surprisal(F.softplus(-v, threshold=_LARGEST))

        v = torch.linspace(*_MARGINS, dtype=torch.float64)
        steepest = vmap(grad(phi))(v).abs().max().item()
        bent = vmap(grad(grad(phi)))(v).abs().max().item()
        return 2**0.5 * steepest, max(2 * bent, steepest / 2)

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """The logarithms of the q that minimise Σ_c p_c F(−log q_c) over the simplex, by nested bisection.

        There log p_c + log F′(u_c) + u_c, with u_c = −log q_c, is one number for all classes c.

        Args:
            p: The classes' probabilities, which sum to 1 over the last dimension.
        """
        logs = torch.log(p.double())
        low = torch.full_like(logs[..., :1], -_LARGEST)
        high = torch.full_like(low, _LARGEST)
        for _ in range(_HALVINGS):
            level = (low + high) / 2
            u = self._surprisals(logs, level)
            crowded = torch.exp(-u).sum(-1, keepdim=True) > 1
            low, high = torch.where(crowded, level, low), torch.where(crowded, high, level)
        return -self._surprisals(logs, (low + high) / 2).to(p.dtype)

    def _surprisals(
        self, logs: Float64[Tensor, "... class"], level: Float64[Tensor, "... 1"]
    ) -> Float64[Tensor, "... class"]:
        low, high = torch.zeros_like(logs), torch.full_like(logs, _LARGEST)
        for _ in range(_HALVINGS):
            u = ((low + high) / 2).requires_grad_()
            (slope,) = torch.autograd.grad(self.of_surprisal(u).sum(), u)
            u = u.detach()
            below = logs + torch.log(slope) + u < level
            low, high = torch.where(below, u, low), torch.where(below, high, u)
        return (low + high) / 2
