"""Optimizers of K members at once: one matrix of points, one column a hyper-parameter."""

from modelspace.optimizers.adam import Adam, Adamax, AdamW, Lion, NAdam, RAdam
from modelspace.optimizers.adaptive import ASGD, Adadelta, Adagrad, RMSprop, Rprop
from modelspace.optimizers.base import RANGES, Optimizer, Shapes, applied, looked
from modelspace.optimizers.check import check, exactly
from modelspace.optimizers.clipping import clip_by_norm, clip_by_value
from modelspace.optimizers.decays import (
    CosineRestarts,
    Exponential,
    Hold,
    Lambda,
    MultiStep,
    Plateau,
    Polynomial,
)
from modelspace.optimizers.lbfgs import LBFGS
from modelspace.optimizers.matrix import LAMB, Adafactor, Muon
from modelspace.optimizers.named import resolve
from modelspace.optimizers.named_schedules import resolve_schedule
from modelspace.optimizers.schedules import (
    Constant,
    Cosine,
    OneCycle,
    Product,
    Schedule,
    Step,
    Warmup,
)
from modelspace.optimizers.sgd import SGD
from modelspace.optimizers.wrappers import EMA, SAM, SWA, Grouped, ScheduleFreeAdamW, ScheduleFreeSGD

__all__ = [
    "ASGD",
    "EMA",
    "LAMB",
    "LBFGS",
    "RANGES",
    "SAM",
    "SGD",
    "SWA",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "Grouped",
    "Hold",
    "Lambda",
    "Lion",
    "MultiStep",
    "Muon",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Polynomial",
    "Product",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Schedule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shapes",
    "Step",
    "Warmup",
    "applied",
    "check",
    "clip_by_norm",
    "clip_by_value",
    "exactly",
    "looked",
    "resolve",
    "resolve_schedule",
]
