"""The Lovász losses: the Jaccard index of a region, extended from sets to errors."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract
from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import require_class_labels
from modelspace.losses.structured.contracts import class_maps, zero_one
from modelspace.losses.structured.forms import regions, require_masks

_NOTES = "one value a sample: the places of a sample are coupled by their order, samples are not"


def extension(errors: Float[Tensor, "... place"], truth: Float[Tensor, "... place"]) -> Float[Tensor, "..."]:
    """The Lovász extension of one less the Jaccard index, at errors ≥ 0 of every place.

    Places are taken as wrong one by one, the greatest error first; each error weighs what its place adds to the
    loss of the set of wrong places, Δ(M) = |M| / |Y ∪ M| with the true region Y.

    Args:
        errors: At least 0.
        truth: 1 in the region, 0 outside.

    Returns:
        At most the greatest error, for the weights sum to at most 1.

    Example:
        >>> extension(torch.tensor([0.5, 0.2]), torch.tensor([1.0, 0.0]))
        tensor(0.5000)
    """
    errors, order = errors.sort(-1, descending=True)
    truth = truth.gather(-1, order)
    region = truth.sum(-1, keepdim=True)
    index = (region - truth.cumsum(-1)) / (region + (1 - truth).cumsum(-1))
    before = torch.cat([torch.ones_like(index[..., :1]), index[..., :-1]], -1)
    return (errors * (before - index)).sum(-1)


@dataclass(frozen=True)
class LovaszHinge(Loss):
    """The Lovász extension of the Jaccard loss at the hinges max(0, 1 − z) of the region and max(0, 1 + z) outside.

    Scores ``[N, …]`` and masks of 0 and 1 of the same shape; one value a sample, ``[N]``.

    Example:
        >>> import torch
        >>> LovaszHinge()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([[1, 1, 0]]))
        tensor(0.5000)

    Source:
        Yu & Blaschko, "Learning submodular losses with the Lovász hinge", ICML 2015; Berman, Triki, Blaschko, "The
        Lovász-softmax loss", CVPR 2018.
    """

    outputs = "score"
    labels = "unit"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\bar\Delta_J\big(\max(0,\, 1 - (2y - 1) z)\big)",
            convex=True,
            lipschitz=1.0,
            source="Yu & Blaschko 2015; Berman, Triki, Blaschko 2018",
            notes=_NOTES,
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N]``."""
        require_masks(self.name, outputs, labels)
        z = wide(outputs).flatten(1)
        truth = labels.to(z.dtype).flatten(1)
        return extension((1 - (2 * truth - 1) * z).clamp(min=0), truth)

    @property
    def contract(self) -> Contract:
        """Masks of 0 and 1."""
        return zero_one


@dataclass(frozen=True)
class LovaszSoftmax(Loss):
    """The Lovász extension of the Jaccard loss at the errors |[c = y] − p_c| of the softmax, one class at a time.

    Scores ``[N, C, …]`` and classes ``[N, …]``; one value a sample, ``[N]``: the mean over the classes that the
    sample has. A class of −100 is left out; a sample of nothing else has a loss of 0.

    Example:
        >>> import torch
        >>> LovaszSoftmax()(torch.zeros(1, 2, 3), torch.tensor([[0, 0, 1]]))
        tensor(0.5000)

    Source:
        Berman, Triki, Blaschko, "The Lovász-softmax loss: a tractable surrogate for the optimization of the
        intersection-over-union measure in neural networks", CVPR 2018.
    """

    outputs = "logits"
    labels = "class"

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\operatorname{mean}_{c \in y} \bar\Delta_J\big(|[c = y] - p_c|\big)",
            convex=False,
            lipschitz=2**0.5 / 4,
            bound=1.0,
            source="Berman, Triki, Blaschko 2018",
            notes=_NOTES,
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N]``."""
        require_class_labels(self.name, outputs, labels)
        p, truth = regions(self.name, outputs, labels)
        present = truth.amax(-1)
        return (extension((truth - p).abs(), truth) * present).sum(1) / present.sum(1).clamp(min=1)

    @property
    def contract(self) -> Contract:
        """Classes in [0, C), or −100."""
        return class_maps

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The softmax over the classes."""
        return torch.softmax(outputs, 1)
