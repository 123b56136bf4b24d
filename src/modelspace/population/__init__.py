"""K points of one space: the matrix, its table, its files."""

from modelspace.population.store import load, population_of, read_checkpoint, save
from modelspace.space import LARGEST_SEED, SEEDS, Population, Stack, joined, logspace

__all__ = [
    "LARGEST_SEED",
    "SEEDS",
    "Population",
    "Stack",
    "joined",
    "load",
    "logspace",
    "population_of",
    "read_checkpoint",
    "save",
]
