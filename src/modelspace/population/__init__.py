"""K points of one space: the matrix, its table, its files."""

from modelspace.population.columns import LARGEST_SEED, SEEDS, logspace
from modelspace.population.population import Population, joined
from modelspace.population.store import load, population_of, read_checkpoint, save

__all__ = [
    "LARGEST_SEED",
    "SEEDS",
    "Population",
    "joined",
    "load",
    "logspace",
    "population_of",
    "read_checkpoint",
    "save",
]
