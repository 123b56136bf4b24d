"""A space of functions: one architecture with fixed hyper-parameters, before anything is trained; and its points."""

from modelspace.cost import Anatomy, Layer
from modelspace.space._columns import LARGEST_SEED, SEEDS, TRAINING, check_number, logspace
from modelspace.space._layout import Block, Layout, layout_of
from modelspace.space._space import ModelSpace, Population, Reading, joined, samples_as
from modelspace.space._stacks import Stack

__all__ = [
    "LARGEST_SEED",
    "SEEDS",
    "TRAINING",
    "Anatomy",
    "Block",
    "Layer",
    "Layout",
    "ModelSpace",
    "Population",
    "Reading",
    "Stack",
    "check_number",
    "joined",
    "layout_of",
    "logspace",
    "samples_as",
]
