"""Negative log-likelihoods of a location and a scale, both given by the model: Gaussian, Laplace."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.finite import exponential, held, wide
from modelspace.losses.loss import Loss
from modelspace.losses.properties import Properties

_NOTES = (
    "outputs [N, 2, ...]: location and log-scale. Below a log-scale of -32 (-4 in float16, -256 in float64) its "
    "reciprocal goes on linearly; in float16 the scaled error grows like a logarithm beyond 256"
)


class LocationScaleLoss(Loss):
    """−log p(y | location, log-scale) of outputs ``[N, 2, …]`` and labels ``[N, …]``.

    Dimension 1 holds the location and then the logarithm of a scale, as the model gives them: nothing is to be made
    positive. Values of half-precision outputs are computed in float32 and stay so.
    """

    outputs = "real"
    labels = "real"

    def value(
        self, location: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], y: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """ℓ of every label."""
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every label, of the labels' shape."""
        if outputs.ndim < 2 or outputs.shape[1] != 2 or outputs[:, 0].shape != labels.shape:
            raise ModelspaceError(
                f"{self.name} received outputs of shape {list(outputs.shape)} and labels of shape "
                f"{list(labels.shape)}: it expects outputs [N, 2, ...], a location and a log-scale for each of "
                "labels [N, ...]; give the model two outputs for each label, or use 'least_squares' or 'absolute' "
                "with one"
            )
        return self.value(outputs[:, 0], outputs[:, 1], labels.to(wide(outputs).dtype))

    def labels_shape(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """Without the dimension of location and scale."""
        return (outputs[0], *outputs[2:])

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, "2"]:
        """The location and the log-scale that minimise the mean loss over samples of the label.

        Args:
            samples: Labels of which at least two differ, equally likely.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Gaussian(LocationScaleLoss):
    """The Gaussian's negative log-likelihood, ½ (s + (y − μ)² e^{−s} + log 2π), with outputs μ and s = log σ².

    ``torch.nn.functional.gaussian_nll_loss(μ, y, e^s, full=True)`` without its floor under the variance. Not from a
    cold start on hard data: a large variance hides a bad mean (Seitzer et al. 2022); train the mean first.

    Example:
        >>> import torch
        >>> Gaussian()(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0]))
        tensor(1.4189)

    Source:
        Nix & Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\tfrac12 \left(s + (y - \mu)^2 e^{-s} + \log 2\pi\right)",
            convex=False,
            minimiser="mean, logarithm of the variance",
            source="Nix & Weigend 1994",
            notes=_NOTES,
        )

    def value(
        self, location: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], y: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """ℓ of every label."""
        s = wide(log_scale)
        scaled = (y - wide(location)).square() * exponential(-s, log_scale.dtype, 0.5)
        return (s + held(scaled, log_scale.dtype) + math.log(2 * math.pi)) / 2

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, "2"]:
        """The mean and the logarithm of the variance."""
        return torch.stack([samples.mean(), samples.var(correction=0).log()])


@dataclass(frozen=True)
class Laplace(LocationScaleLoss):
    """The Laplace distribution's negative log-likelihood, s + |y − μ| e^{−s} + log 2, with outputs μ and s = log b.

    Example:
        >>> import torch
        >>> Laplace()(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0]))
        tensor(1.6931)

    Source:
        Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"s + |y - \mu|\, e^{-s} + \log 2",
            convex=False,
            minimiser="median, logarithm of the mean absolute deviation from it",
            source="Laplace 1774",
            notes=_NOTES,
        )

    def value(
        self, location: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], y: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """ℓ of every label."""
        s = wide(log_scale)
        scaled = (y - wide(location)).abs() * exponential(-s, log_scale.dtype, 0.5)
        return s + held(scaled, log_scale.dtype) + math.log(2)

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, "2"]:
        """The median and the logarithm of the mean absolute deviation from it."""
        median = samples.median()
        return torch.stack([median, (samples - median).abs().mean().log()])
