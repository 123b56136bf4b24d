"""The anatomy of a module: what it holds, what one pass does and costs, counted without data or memory."""

from modelspace.space.anatomy.counts import Counts, counts
from modelspace.space.anatomy.devices import DEVICES, Device, device, measured_here
from modelspace.space.anatomy.formulas import register_flop_formula
from modelspace.space.anatomy.largest import LargestBatch, LargestShard, largest_batch, largest_population
from modelspace.space.anatomy.record import Anatomy, Layer, Operation
from modelspace.space.anatomy.roofline import TimeBound, time_bound
from modelspace.space.anatomy.stepmemory import StepMemory, inference_memory, training_memory
from modelspace.space.anatomy.trace import anatomy, on_values
from modelspace.trace import MetaBuild, Spec, WithoutValues

__all__ = [
    "DEVICES",
    "Anatomy",
    "Counts",
    "Device",
    "LargestBatch",
    "LargestShard",
    "Layer",
    "MetaBuild",
    "Operation",
    "Spec",
    "StepMemory",
    "TimeBound",
    "WithoutValues",
    "anatomy",
    "counts",
    "device",
    "inference_memory",
    "largest_batch",
    "largest_population",
    "measured_here",
    "on_values",
    "register_flop_formula",
    "time_bound",
    "training_memory",
]
