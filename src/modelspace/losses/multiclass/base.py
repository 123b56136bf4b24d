"""A loss of C logits and one of C classes."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract, class_labels
from modelspace.losses.loss import Loss, reduced
from modelspace.losses.shapes import require_class_labels

LEFT_OUT = -100  # PyTorch's label for what does not count, such as padding


class MulticlassLoss(Loss):
    """ℓ(z, y) of logits z ``[N, C, …]``, C ≥ 2, and integer labels y ``[N, …]`` in [0, C).

    A label of −100 is left out: its loss is 0, and the mean is over the others, as in PyTorch.
    """

    outputs = "logits"
    labels = "class"

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label, all of which are in [0, C)."""
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every label, ``[N, …]``; 0 for what is left out."""
        require_class_labels(self.name, outputs, labels)
        labels = labels.long()
        out = labels == LEFT_OUT
        values = self.value(outputs, labels.masked_fill(out, 0))
        return values.masked_fill(out, 0)

    def __call__(
        self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
    ) -> Float[Tensor, "..."]:
        """The loss of a batch: see ``Loss.__call__``; the mean is over the labels that are not left out."""
        values = self.each(outputs, labels)
        if reduction != "mean" or labels.dtype.is_floating_point:
            return reduced(values, reduction)
        return values.sum() / (labels != LEFT_OUT).sum()

    @property
    def contract(self) -> Contract:
        """Class labels in [0, C)."""
        return class_labels

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """The softmax over the classes."""
        return torch.softmax(outputs, 1)

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"] | None:
        """The logits that minimise the conditional risk Σ_y p_y ℓ(z, y); None where no formula is known.

        Args:
            p: The classes' probabilities, which sum to 1 over the last dimension.

        Returns:
            One minimiser; where there are several, another is as good.
        """
        return None


def own(
    values: Float[Tensor, "sample class *place"], labels: Int[Tensor, "sample *place"]
) -> Float[Tensor, "sample *place"]:
    """Of the values of all classes, the label's own."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)
