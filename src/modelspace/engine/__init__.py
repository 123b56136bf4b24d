"""Applying and differentiating an architecture over the rows of a matrix of points."""

from modelspace.engine.compile import CompileError, compiled
from modelspace.engine.evaluate import Scoring, evaluate, members_scores, probe, stacked_outputs
from modelspace.engine.function import Function
from modelspace.engine.gradient import Batch, Gradient, loop_gradient, mean_gradient, vmap_gradient
from modelspace.engine.measurements import Lowering, fingerprint
from modelspace.engine.plan import Plan, balanced, choose_plan, using_threads
from modelspace.engine.terms import loss_of, terms_of

__all__ = [
    "Batch",
    "CompileError",
    "Function",
    "Gradient",
    "Lowering",
    "Plan",
    "Scoring",
    "balanced",
    "choose_plan",
    "compiled",
    "evaluate",
    "fingerprint",
    "loop_gradient",
    "loss_of",
    "mean_gradient",
    "members_scores",
    "probe",
    "stacked_outputs",
    "terms_of",
    "using_threads",
    "vmap_gradient",
]
