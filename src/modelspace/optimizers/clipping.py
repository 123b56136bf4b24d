"""Limits on the gradients of K members, each with its own limit."""

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from modelspace.errors import ModelspaceError

# What torch.nn.utils.clip_grad_norm_ adds to the norm.
_OFFSET = 1e-6


def clip_by_norm(
    gradient: Inexact[Tensor, "member parameter"], max_norm: Float[Tensor, "member 1"]
) -> Inexact[Tensor, "member parameter"]:
    """Shrink each row whose Euclidean norm exceeds its limit c, as `torch.nn.utils.clip_grad_norm_`.

    g ← g · min(1, c / (‖g‖ + 10⁻⁶))

    A row with an infinite limit is returned bit for bit. In another, a norm that overflows makes the finite
    entries 0 and the infinite ones NaN, and a NaN makes the whole row NaN: no other row is touched.

    Args:
        gradient: One row a member.
        max_norm: c > 0, or inf for no limit.

    Returns:
        The clipped gradient.

    Example:
        >>> import torch
        >>> limits = torch.tensor([[1.0], [torch.inf]], dtype=torch.float64)
        >>> clip_by_norm(torch.tensor([[3.0, 4.0], [3.0, 4.0]]), limits)
        tensor([[0.6000, 0.8000],
                [3.0000, 4.0000]])

    Source:
        Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", arXiv 1211.5063.
    """
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    limit = max_norm.to(norm.dtype)  # real, of complex entries too
    factor = torch.clamp(limit / (norm + _OFFSET), max=1.0)
    # An infinite norm under an infinite limit would make inf/inf.
    return gradient * torch.where(torch.isinf(limit), 1.0, factor)


def clip_by_value(
    gradient: Inexact[Tensor, "member parameter"], limit: Float[Tensor, "member 1"]
) -> Inexact[Tensor, "member parameter"]:
    """Confine each entry to [−c, c], c its row's limit, as `torch.nn.utils.clip_grad_value_`.

    Args:
        gradient: One row a member.
        limit: c > 0, or inf for no limit.

    Returns:
        The clipped gradient; NaN stays NaN.

    Raises:
        ModelspaceError: The gradient is complex.

    Example:
        >>> import torch
        >>> limits = torch.tensor([[1.0], [torch.inf]], dtype=torch.float64)
        >>> clip_by_value(torch.tensor([[-3.0, 0.5], [-3.0, 0.5]]), limits)
        tensor([[-1.0000,  0.5000],
                [-3.0000,  0.5000]])
    """
    if gradient.is_complex():
        raise ModelspaceError(
            "clip_value limits real gradient entries, and these are complex, which have no order: use clip_norm"
        )
    bound = limit.to(gradient.dtype)
    return torch.clamp(gradient, -bound, bound)
