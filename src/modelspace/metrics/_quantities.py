"""Metrics of quantities: how far the outputs are from the labels, and how they go along with them."""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from modelspace.losses import require_same_shape
from modelspace.widest import widest

Outputs = Float[Tensor, "..."]
Labels = Shaped[Tensor, "..."]
Scalar = Float[Tensor, ""]


def mse(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean squared error, (y − z)² over all elements.

    Args:
        outputs: z, of any shape.
        labels: y, of the same shape.

    Returns:
        A scalar, in the labels' unit squared.

    Example:
        >>> import torch
        >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(2.)
    """
    require_same_shape("mse", outputs, labels)
    return (labels.to(outputs.dtype) - outputs).square().mean()


def mae(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean absolute error, |y − z| over all elements.

    Args:
        outputs: z, of any shape.
        labels: y, of the same shape.

    Returns:
        A scalar, in the labels' unit.

    Example:
        >>> import torch
        >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(1.)
    """
    require_same_shape("mae", outputs, labels)
    return (labels.to(outputs.dtype) - outputs).abs().mean()


def rmse(outputs: Outputs, labels: Labels) -> Scalar:
    """The root of the mean squared error, in the labels' unit: √ mean (y − z)² over all elements."""
    z, y = _wide("rmse", outputs, labels)
    return (y - z).square().mean().sqrt()


def mape(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean of |y − z| / |y|, a fraction; of labels near 0 it says nothing, they make it huge."""
    z, y = _wide("mape", outputs, labels)
    return ((y - z).abs() / y.abs().clamp(min=torch.finfo(y.dtype).eps)).mean()


def smape(outputs: Outputs, labels: Labels) -> Scalar:
    """The mean of 2 |y − z| / (|y| + |z|), in [0, 2]; 0 where both are 0."""
    z, y = _wide("smape", outputs, labels)
    size = y.abs() + z.abs()
    return torch.where(size > 0, 2 * (y - z).abs() / size.clamp(min=torch.finfo(y.dtype).tiny), 0).mean()


def r2(outputs: Outputs, labels: Labels) -> Scalar:
    """The coefficient of determination, 1 − Σ(y − z)² / Σ(y − ȳ)², the mean over outputs where they are several.

    Args:
        outputs: z, [N] or [N, ...].
        labels: y, of the same shape.

    Returns:
        A scalar of at most 1; 0 for the labels' mean as output. Where labels are constant, 1 if the outputs are equal
        to them and 0 if not.

    Example:
        >>> import torch
        >>> r2(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
        tensor(0.5000, dtype=torch.float64)
    """
    z, y = _wide("r2", outputs, labels)
    left, spread = (y - z).square().sum(0), (y - y.mean(0)).square().sum(0)
    constant = (left == 0).to(left.dtype) + 0 * left
    return torch.where(spread > 0, 1 - left / torch.where(spread > 0, spread, 1), constant).mean()


def pearson(outputs: Outputs, labels: Labels) -> Scalar:
    """The correlation of outputs and labels, the mean over outputs where they are several; NaN of a constant."""
    return _correlation(*_wide("pearson", outputs, labels))


def spearman(outputs: Outputs, labels: Labels) -> Scalar:
    """The correlation of the ranks of outputs and labels, equal values sharing their mean rank; as ``pearson``."""
    z, y = _wide("spearman", outputs, labels)
    return _correlation(*(ranks(x.flatten(1).T).T if x.ndim > 1 else ranks(x) for x in (z, y))) + 0 * z.sum()


def ranks(values: Float[Tensor, "*row sample"]) -> Float[Tensor, "*row sample"]:
    """Return the rank of each value in its row, from 1; equal ones share their mean rank."""
    ordered, order = values.sort(-1)
    below, upto = runs(ordered)
    return torch.zeros_like(values).scatter(-1, order, (below + upto + 1).to(values.dtype) / 2)


def runs(
    ordered: Float[Tensor, "*row sample"],
) -> tuple[Int64[Tensor, "*row sample"], Int64[Tensor, "*row sample"]]:
    """Count, of each value of rows in order, how many are below it, and how many are not above it."""
    count = ordered.shape[-1]
    place = torch.arange(count, device=ordered.device)
    differ = ordered[..., 1:] != ordered[..., :-1]
    # Where a run of equal values begins; from the other end, where it ends. A binary search takes thrice as long.
    begins = nn.functional.pad(differ, (1, 0), value=True)
    ends = nn.functional.pad(differ, (0, 1), value=True).flip(-1)
    below, above = (torch.where(at, place, 0).cummax(-1).values for at in (begins, ends))
    return below, count - above.flip(-1)


def _correlation(z: Tensor, y: Tensor) -> Tensor:
    z, y = z - z.mean(0), y - y.mean(0)
    return ((z * y).sum(0) / (z.square().sum(0) * y.square().sum(0)).sqrt()).mean()


def _wide(name: str, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    require_same_shape(name, outputs, labels)
    kind = widest(outputs.device)
    return outputs.to(kind), labels.to(kind)
