"""The four losses of the lecture *Espacio de modelos*, by the formulas it writes.

None of the four torch classes it names equals the formula above it: ``MSELoss`` is twice the first,
``NLLLoss`` and ``BCELoss`` are other functions than the second and third, and ``CrossEntropyLoss`` takes a
one-dimensional batch for classes. z is an output and y its label; labels take the outputs' dtype.
"""

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import unknown_name
from modelspace.losses.shapes import require_class_labels, require_same_shape, single_column

# Above its threshold torch's softplus returns its argument. The default of 20 leaves a relative error of
# 1e-10, which float64 sees; at 40 what is dropped, exp(-40), is below the rounding of every dtype.
_SOFTPLUS_THRESHOLD = 40


def least_squares(
    outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """Half the squared error, ½(y − z)².

    Args:
        outputs: z, of any shape.
        labels: y, of the same shape.
        reduction: The mean over all elements, their sum, or ``"none"`` for one value an element.

    Returns:
        A scalar, or a tensor of the outputs' shape; half of ``torch.nn.functional.mse_loss``.

    Raises:
        ModelspaceError: If the shapes differ.

    Example:
        >>> import torch
        >>> least_squares(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(1.)
    """
    require_same_shape("least_squares", outputs, labels)
    return _reduce((labels.to(outputs.dtype) - outputs).square() / 2, reduction)


def logistic(
    outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """The logistic loss, log(1 + exp(−y z)), for labels y = ±1.

    Computed as softplus(−y z), which stays finite where ``torch.nn.functional.soft_margin_loss``, the same
    function, overflows (y z = −89 in float32).

    Args:
        outputs: z, a score of any size, positive for the class +1.
        labels: y, of the same shape, +1 or −1; with {0, 1} the value means nothing (``Loss.check`` refuses).
        reduction: The mean over all elements, their sum, or ``"none"`` for one value an element.

    Returns:
        A scalar, or a tensor of the outputs' shape.

    Raises:
        ModelspaceError: If the shapes differ.

    Example:
        >>> import torch
        >>> logistic(torch.tensor([0.0, -1000.0]), torch.tensor([1, 1]), reduction="none")
        tensor([6.9315e-01, 1.0000e+03])
    """
    require_same_shape("logistic", outputs, labels)
    return _reduce(F.softplus(-labels.to(outputs.dtype) * outputs, threshold=_SOFTPLUS_THRESHOLD), reduction)


def hinge(
    outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """The hinge loss, max(0, 1 − y z), for labels y = ±1.

    Args:
        outputs: z, a score of any size, positive for the class +1.
        labels: y, of the same shape, +1 or −1; with {0, 1} the value means nothing (``Loss.check`` refuses).
        reduction: The mean over all elements, their sum, or ``"none"`` for one value an element.

    Returns:
        A scalar, or a tensor of the outputs' shape; ``margin_ranking_loss(z, 0, y, margin=1)``, its
        subgradient −y at the kink included.

    Raises:
        ModelspaceError: If the shapes differ.

    Example:
        >>> import torch
        >>> hinge(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0., 1., 2.])
    """
    require_same_shape("hinge", outputs, labels)
    return _reduce((1 - labels.to(outputs.dtype) * outputs).clamp(min=0), reduction)


def cross_entropy(
    outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """Cross-entropy, −Σ y log p, in the form that the shapes ask for.

    * outputs [N, C, ...] and integer labels [N, ...]: logits and class labels, p = softmax over C;
      as ``torch.nn.functional.cross_entropy`` (a label of −100 is left out of the mean, as there).
    * outputs [N, C, ...] and floating labels of the same shape: logits and class probabilities.
    * outputs [N] and labels [N]: the lecture's −[y log z + (1−y) log(1−z)], z a *probability* in [0, 1] and
      y in {0, 1}, with the logarithms clamped at −100; as ``torch.nn.BCELoss``. Prefer ``logistic`` on
      scores: it needs no clamp.

    Args:
        outputs: Logits [N, C, ...] with C ≥ 2, or probabilities [N].
        labels: Classes [N, ...] in [0, C), class probabilities [N, C, ...], or 0 and 1 [N].
        reduction: The mean over labels, their sum, or ``"none"`` for one value a label.

    Returns:
        A scalar, or a tensor with one value for each label.

    Raises:
        ModelspaceError: If the shapes or dtypes fit none of these, or the logits have a single column.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(4, 10), torch.tensor([0, 3, 9, 1]))
        tensor(2.3026)
        >>> cross_entropy(torch.tensor([0.5, 0.0]), torch.tensor([1, 1]), reduction="none")
        tensor([  0.6931, 100.0000])
    """
    _require_reduction(reduction)
    if outputs.ndim == 1:
        require_same_shape("cross_entropy", outputs, labels)
        return F.binary_cross_entropy(outputs, labels.to(outputs.dtype), reduction=reduction)
    if labels.dtype.is_floating_point and labels.shape == outputs.shape and outputs.ndim > 1:
        if outputs.shape[1] == 1:
            raise single_column("cross_entropy", outputs)
        return F.cross_entropy(outputs, labels.to(outputs.dtype), reduction=reduction)
    require_class_labels("cross_entropy", outputs, labels)
    return F.cross_entropy(outputs, labels.long(), reduction=reduction)


def _reduce(values: Float[Tensor, "..."], reduction: str) -> Float[Tensor, "..."]:
    _require_reduction(reduction)
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    return values


def _require_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise unknown_name("reduction", reduction, ("mean", "sum", "none"))
