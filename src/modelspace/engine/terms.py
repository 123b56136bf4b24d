"""The loss of a population: one for all, or each member's own by a column, with parameters that are columns too."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace import losses
from modelspace.errors import ModelspaceError
from modelspace.losses import Choice, Loss
from modelspace.population import Population

Score = Callable[[Tensor, Tensor], Tensor]


def at(score: Score, terms: Mapping[str, Tensor]) -> Score:
    """A score at one member's own hyper-parameters, where it is a loss that has them."""
    return score.at(terms) if isinstance(score, Loss) else score


def loss_of(population: Population, loss: str | Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """A choice among the losses that the population's column ``loss`` names; without one, the loss given.

    Args:
        population: The population.
        loss: A name, a loss or a function.

    Raises:
        ModelspaceError: an unknown name, or two names of one loss.
    """
    if "loss" not in population.table:
        return losses.resolve(loss)
    named = {name: losses.resolve(name) for name in population.table["loss"].unique()}
    found: dict[Loss, str] = {}
    for name, each in named.items():
        if found.setdefault(each, name) != name:
            raise ModelspaceError(
                f"column loss has one loss under two names, {found[each]} and {name}: give one"
            )
    return Choice(tuple(named.values()))


def terms_of(population: Population, loss: Loss) -> dict[str, Float64[Tensor, "member"]]:
    """The hyper-parameters of the loss that are columns, one value a member; of losses, their places in the choice.

    Args:
        population: The population.
        loss: What ``loss_of`` gave.

    Raises:
        ModelspaceError: an unknown name of a loss.
    """
    found = {}
    for name in loss.hyperparameters():
        if name in population.table:
            column = population.table[name]
            if isinstance(loss, Choice) and name == "loss":
                column = loss.places(column)
            found[name] = torch.tensor(np.asarray(column, dtype=np.float64))
    return found
