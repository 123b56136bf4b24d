"""Margin losses that are squares near the margin 1: all recover p by the same link, (z + 1) / 2."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from modelspace.losses.finite import wide
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties


class _Squares(MarginLoss):
    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """2p − 1."""
        return 2 * p - 1

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """(z + 1) / 2, held between 0 and 1."""
        return ((outputs + 1) / 2).clamp(0, 1)


@dataclass(frozen=True)
class SquaredMargin(_Squares):
    """The squared margin loss, φ(v) = (1 − v)²: least squares on labels ±1.

    Not where outliers are far on the right side: it punishes them too.

    Example:
        >>> import torch
        >>> SquaredMargin()(torch.tensor([2.0, 0.0]), torch.tensor([1, -1]), reduction="none")
        tensor([1., 1.])

    Source:
        Suykens & Vandewalle, "Least squares support vector machine classifiers", Neural Processing Letters 9, 1999.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"(1 - v)^2",
            convex=True,
            smooth=2.0,
            minimiser="2p - 1",
            calibrated=True,
            proper=True,
            source="Suykens & Vandewalle 1999",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (1 - wide(v)).square()


@dataclass(frozen=True)
class SquaredHinge(_Squares):
    """The squared hinge loss, φ(v) = max(0, 1 − v)².

    Example:
        >>> import torch
        >>> SquaredHinge()(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0., 1., 4.])

    Source:
        Chang, Hsieh, Lin, "Coordinate descent method for large-scale L2-loss linear support vector machines",
        JMLR 9, 2008; its link: Zhang, "Statistical behavior and consistency of classification methods", 2004.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(0,\, 1 - v)^2",
            convex=True,
            smooth=2.0,
            minimiser="2p - 1",
            calibrated=True,
            proper=True,
            source="Chang, Hsieh & Lin 2008",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (1 - wide(v)).clamp(min=0).square()


@dataclass(frozen=True)
class ModifiedHuber(_Squares):
    """The modified Huber loss: φ(v) = max(0, 1 − v)² for v ≥ −1, −4v below.

    Example:
        >>> import torch
        >>> ModifiedHuber()(torch.tensor([2.0, 0.0, -3.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([ 0.,  1., 12.])

    Source:
        Zhang, "Solving large scale linear prediction problems using stochastic gradient descent algorithms",
        ICML 2004.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\begin{cases}\max(0,\, 1 - v)^2 & v \ge -1\\ -4v & v < -1\end{cases}",
            convex=True,
            lipschitz=4.0,
            smooth=2.0,
            minimiser="2p - 1",
            calibrated=True,
            proper=True,
            source="Zhang 2004",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        missing = (1 - wide(v)).clamp(min=0)
        square = missing.clamp(max=2)
        return square * (2 * missing - square)
