"""A loss φ(v) of the margin v = y z, for a score z and a label y = ±1."""

from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses.contracts import Contract, class_labels, plus_minus_one
from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss
from modelspace.losses.shapes import by_class, is_own, require_class_labels, require_same_shape


class MarginLoss(Loss):
    """φ(v) of the margin v = y z: large and positive where the sign is right by far.

    Two forms, told apart by the shapes:

    * outputs z and labels y = ±1 of the same shape: φ(y z) of each;
    * outputs ``[N, C, …]``, C ≥ 2, and integer labels ``[N, …]`` of C classes: one against the rest, the sum over the
      classes c of φ(±z_c), + for the label's own (Rifkin & Klautau, "In defense of one-vs-all classification",
      JMLR 2004).

    Values of half-precision outputs are float32.
    """

    outputs = "score"
    labels = "sign"

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        raise NotImplementedError

    def signed(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
        """The loss of scores z with signs y, element by element: φ(y z)."""
        return self.phi(y * z)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score that minimises the conditional risk p φ(z) + (1 − p) φ(−z): the link.

        Args:
            p: The probability of +1, in (0, 1).
        """
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ of every margin; with classes, the sum over the classes."""
        if by_class(outputs, labels):
            require_class_labels(self.name, outputs, labels)
            return wide(self.signed(outputs, 2 * is_own(outputs, labels).to(outputs.dtype) - 1)).sum(1)
        require_same_shape(self.name, outputs, labels)
        return wide(self.signed(outputs, labels.to(outputs.dtype)))

    @property
    def contract(self) -> Contract:
        """Labels ±1; or classes, in the form of one against the rest."""
        return _signs_or_classes


def _signs_or_classes(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    if by_class(outputs, labels):
        class_labels(name, outputs, labels)
    else:
        plus_minus_one(name, outputs, labels)
