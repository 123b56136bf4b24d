"""Losses of how the region that a sample's scores paint overlaps with the true one: Dice, Tversky, Lovász."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Properties, Reals, parameter
from modelspace.losses._checks import (
    LEFT_OUT,
    by_class,
    class_labels,
    is_own,
    kept,
    require_class_labels,
    require_same_shape,
    zero_one,
)
from modelspace.losses._classes import ClassLoss, Counted
from modelspace.losses._numerics import wide

Regions = Float[Tensor, "sample region place"]

_COUPLED = "one value a sample: the places of a sample are coupled, samples are not"


def _require_masks(name: str, outputs: Labels, labels: Labels) -> None:
    """Refuse scores [N, …] with masks of another shape, or without a dimension of places."""
    require_same_shape(name, outputs, labels)
    if outputs.ndim < 2:
        raise ModelspaceError(
            f"{name} received masks of shape {list(outputs.shape)}: it compares the regions within each sample, "
            "so it expects [N, ...] with at least one dimension of places"
        )


def _regions(name: str, outputs: Reals, labels: Labels, counted: Counted) -> tuple[Regions, Regions]:
    """Make soft regions and true ones: one a sample for masks, one a class for class maps.

    Both are 0 at what is left out.
    """
    z = wide(outputs)
    if by_class(outputs, labels):
        require_class_labels(name, outputs, labels)
        soft, true = torch.softmax(z, 1), is_own(outputs, labels).to(z.dtype)
    else:
        _require_masks(name, outputs, labels)
        soft, true = torch.sigmoid(z).unsqueeze(1), labels.to(z.dtype).unsqueeze(1)
    if counted is not None:
        soft, true = (x.masked_fill(~counted.unsqueeze(1), 0) for x in (soft, true))
    shape = (*soft.shape[:2], -1)
    return soft.reshape(shape), true.reshape(shape)


@dataclass(frozen=True, eq=False)
class _Regional(ClassLoss):
    """A loss of the places of each sample together: one value a sample, ``[N]``, which counts where a place does."""

    ignore_index: int | None = field(default=LEFT_OUT, kw_only=True)

    def weights(self, values: Reals, outputs: Reals, labels: Labels) -> None:
        """Return that samples count alike: it is a sample's regions that have weights."""

    def region_weights(self, p: Regions, labels: Labels) -> Float[Tensor, "region"]:
        """Return the weights of the regions, which are those of classes."""
        if p.shape[1] == 1:
            raise ModelspaceError(
                f"{self.name} has weights, which are of the regions of several classes, and labels of shape "
                f"{list(labels.shape)}, which are masks of one: leave weight= out, or give scores [N, C, ...] and "
                "classes"
            )
        return self.table(p, p.shape[1])

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell whether all samples count: some place of each of them."""
        counted = self.counted(labels)
        known = type(self) in self.catalogued
        return known and (counted is None or bool(counted.reshape(len(counted), -1).any(1).all()))


@dataclass(frozen=True, eq=False)
class RegionLoss(_Regional):
    """A loss of the soft region that a sample's scores paint and of the true one; one value a sample, ``[N]``.

    Two forms, told apart by the shapes:

    * scores ``[N, …]`` and masks of 0 and 1 of the same shape: the sigmoid's region, all places of a sample together;
    * scores ``[N, C, …]``, C ≥ 2, and classes ``[N, …]``: the softmax's regions, the mean over the C classes, of the
      weights ``weight`` where they are given.

    A place of −100, or of another ``ignore_index``, is in no sum; a sample of nothing else does not count.

    Example:
        >>> Dice()(torch.tensor([[9.0, -9.0, 0.0]]), torch.tensor([[1, 0, 0]]))
        tensor(0.1429)
    """

    outputs = "score"
    labels = "unit"

    def of_regions(self, p: Regions, y: Regions) -> Float[Tensor, "sample region"]:
        """Compute the loss of every region: probabilities p and truth y."""
        raise NotImplementedError

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        """Compute ℓ of every sample, ``[N]``."""
        p, y = _regions(self.name, outputs, labels, counted)
        values = self.of_regions(p, y)
        if self.weight is None:
            return values.mean(1)
        w = self.region_weights(p, labels)
        return (values * w).sum(1) / w.sum()

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse anything but masks of 0 and 1, or classes."""
        labels = kept(labels, self.ignore_index)
        (class_labels if by_class(outputs, labels) else zero_one)(self.name, outputs, labels)


@dataclass(frozen=True)
class Tversky(RegionLoss):
    """The Tversky loss over the places of each sample; see ``RegionLoss``.

    TP = Σ p y, FP = Σ p (1 − y), FN = Σ (1 − p) y. With α = β = ½ it is ``Dice`` with twice the s; with α = β = 1,
    one less the Jaccard index.
    Source: Salehi, Erdogmus, Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional
    deep networks", MLMI 2017.
    """

    fp_weight: float = parameter(0.3, "weight of false positives: α, of what is painted beyond", at_least=0)
    fn_weight: float = parameter(0.7, "weight of false negatives: β, of what is missed", at_least=0)
    smooth: float = parameter(1.0, "smoothing constant: s", above=0)

    properties = Properties(
        "1 − (TP + s)/(TP + α FP + β FN + s)",
        convex=False,
        lipschitz=None,
        smooth=None,
        bound=1,
        notes=_COUPLED,
    )

    def of_regions(self, p: Regions, y: Regions) -> Float[Tensor, "sample region"]:
        hit = (p * y).sum(-1)
        missed = self.fp_weight * (p * (1 - y)).sum(-1) + self.fn_weight * ((1 - p) * y).sum(-1)
        return missed / (hit + missed + self.smooth)


@dataclass(frozen=True)
class FocalTversky(Tversky):
    """A power of the Tversky loss: with κ < 1 small regions, and the last of a region, weigh more.

    Source: Abraham & Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion
    segmentation", ISBI 2019.
    """

    region_exponent: float = parameter(
        0.75, "exponent of the region's loss: κ, the paper's 1/γ with γ from 1 to 3", above=0
    )

    properties = Properties(
        "(1 − (TP + s)/(TP + α FP + β FN + s))^κ",
        convex=False,
        lipschitz=None,
        smooth=None,
        bound=1,
        notes=_COUPLED,
    )

    def of_regions(self, p: Regions, y: Regions) -> Float[Tensor, "sample region"]:
        missed = super().of_regions(p, y)
        perfect = missed <= 0
        return torch.where(perfect, 0, torch.where(perfect, 1, missed) ** self.region_exponent)


@dataclass(frozen=True)
class Dice(RegionLoss):
    """The Dice loss over the places of each sample; see ``RegionLoss``.

    The smoothing constant keeps an empty region from 0/0: where nothing is and nothing is found the loss is 0. Some
    put s in both sums half as large: ``optax.losses.dice_loss`` at s/2 is this at s.
    Source: Milletari, Navab, Ahmadi, "V-Net", 3DV 2016 (there with squares in the denominator).
    """

    smooth: float = parameter(1.0, "smoothing constant: s", above=0)

    properties = Properties(
        "1 − (2 Σ p y + s)/(Σ p + Σ y + s), p = σ(z)",
        convex=False,
        lipschitz=None,
        smooth=None,
        bound=1,
        notes=_COUPLED,
    )

    def of_regions(self, p: Regions, y: Regions) -> Float[Tensor, "sample region"]:
        hit, missed = (p * y).sum(-1), ((p * (1 - y)).sum(-1) + ((1 - p) * y).sum(-1)) / 2
        return missed / (hit + missed + self.smooth / 2)


def _extension(errors: Float[Tensor, "... place"], truth: Float[Tensor, "... place"]) -> Reals:
    """Compute the Lovász extension of one less the Jaccard index, at errors ≥ 0 of every place.

    Places are taken as wrong one by one, the greatest error first; each error weighs what its place adds to the
    loss of the set of wrong places, Δ(M) = |M| / |Y ∪ M| with the true region Y. The value is at most the greatest
    error, for the weights sum to at most 1.
    """
    errors, order = errors.sort(-1, descending=True)
    truth = truth.gather(-1, order)
    region = truth.sum(-1, keepdim=True)
    index = (region - truth.cumsum(-1)) / (region + (1 - truth).cumsum(-1))
    before = torch.cat([torch.ones_like(index[..., :1]), index[..., :-1]], -1)
    return (errors * (before - index)).sum(-1)


_ORDERED = "one value a sample: the places of a sample are coupled by their order, samples are not"


@dataclass(frozen=True)
class LovaszHinge(_Regional):
    """The Lovász extension of the Jaccard loss at the hinges max(0, 1 − z) of the region and max(0, 1 + z) outside.

    Scores ``[N, …]`` and masks of 0 and 1 of the same shape; one value a sample, ``[N]``. A place of −100 is left
    out.

    Example:
        >>> LovaszHinge()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([[1, 1, 0]]))
        tensor(0.5000)

    Source: Yu & Blaschko, "Learning submodular losses with the Lovász hinge", ICML 2015; Berman, Triki, Blaschko,
    "The Lovász-softmax loss", CVPR 2018.
    """

    outputs = "score"
    labels = "unit"

    properties = Properties("Δ̄_J(max(0, 1 − (2y − 1) z))", convex=True, lipschitz=1, notes=_ORDERED)

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        _require_masks(self.name, outputs, labels)
        z = wide(outputs)
        truth = labels.to(z.dtype)
        errors = (1 - (2 * truth - 1) * z).clamp(min=0)
        if counted is not None:  # last in the order, where they add nothing
            errors, truth = (x.masked_fill(~counted, 0) for x in (errors, truth))
        if self.weight is not None:
            self.region_weights(errors.unsqueeze(1), labels)
        return _extension(errors.flatten(1), truth.flatten(1))

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        zero_one(self.name, outputs, kept(labels, self.ignore_index))


@dataclass(frozen=True)
class LovaszSoftmax(_Regional):
    """The Lovász extension of the Jaccard loss at the errors |[c = y] − p_c| of the softmax, one class at a time.

    Scores ``[N, C, …]`` and classes ``[N, …]``; one value a sample, ``[N]``: the mean over the classes that the
    sample has, of the weights ``weight`` where they are given. A class of −100 is left out.

    Example:
        >>> LovaszSoftmax()(torch.zeros(1, 2, 3), torch.tensor([[0, 0, 1]]))
        tensor(0.5000)

    Source: Berman, Triki, Blaschko, "The Lovász-softmax loss: a tractable surrogate for the optimization of the
    intersection-over-union measure in neural networks", CVPR 2018.
    """

    outputs = "logits"
    labels = "class"

    properties = Properties(
        "mean_(c ∈ y) Δ̄_J(|[c = y] − p_c|)", convex=False, lipschitz=2**0.5 / 4, bound=1, notes=_ORDERED
    )

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        require_class_labels(self.name, outputs, labels)
        p, truth = _regions(self.name, outputs, labels, counted)
        present = truth.amax(-1)
        if self.weight is not None:
            present = present * self.region_weights(p, labels)
        total = present.sum(1)
        return (_extension((truth - p).abs(), truth) * present).sum(1) / torch.where(total > 0, total, 1)

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        class_labels(self.name, outputs, labels, self.ignore_index)

    def probability(self, outputs: Reals) -> Reals:
        return torch.softmax(outputs, 1)
