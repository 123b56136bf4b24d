"""The anatomy of a module: what it holds, what one pass does and costs, counted without data or memory."""

from modelspace.space.anatomy.counts import Counts, counts
from modelspace.space.anatomy.formulas import register_flop_formula
from modelspace.space.anatomy.largest import LargestBatch, LargestShard, largest_batch, largest_population
from modelspace.space.anatomy.nests import Spec
from modelspace.space.anatomy.record import Anatomy, Layer, Operation
from modelspace.space.anatomy.standin import MetaBuild
from modelspace.space.anatomy.stepmemory import StepMemory, inference_memory, training_memory
from modelspace.space.anatomy.trace import anatomy

__all__ = [
    "Anatomy",
    "Counts",
    "LargestBatch",
    "LargestShard",
    "Layer",
    "MetaBuild",
    "Operation",
    "Spec",
    "StepMemory",
    "anatomy",
    "counts",
    "inference_memory",
    "largest_batch",
    "largest_population",
    "register_flop_formula",
    "training_memory",
]
