"""From what the user gave (a name, a function, a module) to a loss."""

from collections.abc import Callable

from torch import Tensor, nn

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses.catalogue import CATALOGUE
from modelspace.losses.functional import FUNCTIONAL, of_module
from modelspace.losses.given import Given
from modelspace.losses.loss import Loss


def resolve(loss: str | Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss that a name or a callable stands for.

    Args:
        loss: A name of the catalogue (``"cross_entropy"``), or of a loss of ``torch.nn.functional`` that
            takes outputs and labels only, with or without its ``_loss`` (``"mse"``, ``"smooth_l1_loss"``); or
            any callable of outputs and labels, an ``nn.Module`` such as ``nn.CrossEntropyLoss()`` included.

    Returns:
        The loss. A torch loss by name refuses to broadcast and gives its mean (``kl_div``: over the batch);
        a callable is taken as it is, and must return a scalar.

    Raises:
        ModelspaceError: If the name is not known, or ``loss`` is neither a name nor a callable.

    Example:
        >>> resolve("mse").name, resolve("cross_entropy").name
        ('mse_loss', 'cross_entropy')
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return _by_name(loss)
    if isinstance(loss, type) and issubclass(loss, nn.Module | Loss):
        raise ModelspaceError(f"loss is the class {loss.__name__}: give an instance of it, {loss.__name__}()")
    if isinstance(loss, nn.Module):
        return of_module(loss)
    if callable(loss):
        return Given(getattr(loss, "__name__", type(loss).__name__), loss)
    raise ModelspaceError(
        f"loss is a {type(loss).__name__}: give a name such as 'cross_entropy', "
        "or a function of outputs and labels"
    )


def _by_name(name: str) -> Loss:
    for candidate in (name, name.removesuffix("_loss"), f"{name}_loss"):
        for table in (CATALOGUE, FUNCTIONAL):
            if candidate in table:
                return table[candidate]
    raise unknown_name("loss", name, (*CATALOGUE, *FUNCTIONAL))
