"""What a module holds, does and costs, without data or memory: counts, FLOP, bytes, time; two side by side."""

from modelspace.cost._anatomy import Anatomy, Layer, anatomy, on_values, smallest_batch
from modelspace.cost._counts import Counts, counts
from modelspace.cost._diff import diff
from modelspace.cost._difference import Change, Difference
from modelspace.cost._formulas import register_flop_formula
from modelspace.cost._inspect import built, inspect
from modelspace.cost._inspection import COLUMNS, DEFAULT_COLUMNS, Inspection, checked_columns, headings
from modelspace.cost._largest import LargestBatch, LargestShard, largest_batch, largest_population
from modelspace.cost._memory import StepMemory, inference_memory, training_memory, update_memory
from modelspace.cost._roofline import DEVICES, Device, TimeBound, device, measured_here, time_bound
from modelspace.cost._sample import Sample, guessed
from modelspace.cost._tree import Node, tree
from modelspace.trace import MetaBuild, Operation, Spec, WithoutValues

__all__ = [
    "COLUMNS",
    "DEFAULT_COLUMNS",
    "DEVICES",
    "Anatomy",
    "Change",
    "Counts",
    "Device",
    "Difference",
    "Inspection",
    "LargestBatch",
    "LargestShard",
    "Layer",
    "MetaBuild",
    "Node",
    "Operation",
    "Sample",
    "Spec",
    "StepMemory",
    "TimeBound",
    "WithoutValues",
    "anatomy",
    "built",
    "checked_columns",
    "counts",
    "device",
    "diff",
    "guessed",
    "headings",
    "inference_memory",
    "inspect",
    "largest_batch",
    "largest_population",
    "measured_here",
    "on_values",
    "register_flop_formula",
    "smallest_batch",
    "time_bound",
    "training_memory",
    "tree",
    "update_memory",
]
