"""Which members one program can train together.

A column that differs within a shard is a tensor in its step. Some differences make another program: the size of a
batch, the formula of an optimizer, an argument of the architecture. Such a column differs only between shards: its
values divide the population into parts, each with a task, a plan and a program of its own. So does a batch that is
cut short for members with few samples, by how many these have.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelspace.data import Data, views_of
from modelspace.errors import ModelspaceError
from modelspace.fit.recipe import DIVIDING, Recipe
from modelspace.losses import Objectives
from modelspace.population import Population


class Part(NamedTuple):
    """Members that one program trains.

    Attributes:
        rows: Their rows in the whole population.
        population: They, without the columns that are the same for all of them and those that are other parts'.
        recipe: Their settings.
    """

    rows: np.ndarray
    population: Population
    recipe: Recipe


def divided(population: Population, data: Data, recipe: Recipe) -> list[Part]:
    """Return the parts of a population, in the order of their first members.

    Args:
        population: The members.
        data: Their data.
        recipe: The settings of all.

    Raises:
        ModelspaceError: a value of a dividing column is none that its setting takes, or a column is an argument of
            the architecture as well as a hyper-parameter.
    """
    parts = []
    for there, members in population.parts():
        if gone := sorted(({*population.table} - {*members.table}) & recipe.read()):
            raise ModelspaceError(
                f"column {gone[0]} is an argument of {population.space.title} as well as a hyper-parameter of the "
                "optimizer, the schedule or the loss: give one of them another name"
            )
        for rows, settings in _settings(members, data, recipe):
            own = members if len(rows) == len(members) else members[rows]
            parts.append(Part(there[rows], own, settings))
    read = [part.recipe.read() for part in parts]
    dividing = [name for name in population.table if name in DIVIDING]
    found = []
    for part, own in zip(parts, read, strict=True):
        others = [name for name in population.table if name in set().union(*read) - own]
        found.append(part._replace(population=part.population.without_columns(*others, *dividing)))
    return sorted(found, key=lambda part: part.rows[:1].tolist())


def _settings(population: Population, data: Data, recipe: Recipe) -> list[tuple[np.ndarray, Recipe]]:
    """The rows of one space that share settings, and these."""
    table = population.table
    keys = pd.DataFrame({name: table[name] for name in DIVIDING if name in table})
    views = views_of(data, table, recipe.folds, recipe.data_seed)
    if views is not None:
        sizes, batch = views.sizes().numpy(), keys.get("batch_size", recipe.batch_size)
        keys["batch_size"] = np.minimum(sizes, np.asarray(batch, dtype=np.int64))
    if keys.empty:
        return [(np.arange(len(population)), recipe)]
    numbers = keys.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()
    rows = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    return [(own, _recipe(recipe, keys.iloc[own[0]].to_dict())) for own in rows]


def _recipe(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The settings of a part: those of the fit, with values of its own."""
    plain = {n: v.item() if isinstance(v, np.generic) else v for n, v in values.items()}
    if isinstance(recipe.loss, Objectives):
        plain["loss"] = recipe.loss.of(plain.pop("objective"))
    try:
        return replace(recipe, **plain)
    except ModelspaceError as error:
        raise ModelspaceError(f"column {' or '.join(values)}: {error}") from error
