"""Applying and differentiating an architecture over the rows of a matrix of points.

The way down: ``evaluate`` and ``choose_plan`` call ``vmap_gradient`` or ``loop_gradient`` of a ``Function``, whose
forward is carried out by ``lowerings``; ``unbatched_outputs`` and ``witnessed`` hold it against real modules first.
"""

from modelspace.engine.confusion import Confusion, confusion
from modelspace.engine.derivatives import Derivatives
from modelspace.engine.evaluate import (
    HELD_AT_ONCE,
    SCORED_AT_ONCE,
    Scoring,
    evaluate,
    is_sample_mean,
    members_bytes,
    members_scores,
    objective_values,
    own_rows,
    probe,
    tried,
)
from modelspace.engine.function import Function, Verdict, Work, stacked_outputs
from modelspace.engine.gradient import (
    Batch,
    Gradient,
    Score,
    goal_of,
    loop_gradient,
    loss_of,
    mean_gradient,
    terms_of,
    vmap_gradient,
    work_of,
)
from modelspace.engine.lowerings import lowered, without_fast_paths
from modelspace.engine.measurements import adopt_gains, fingerprint, known_gains
from modelspace.engine.plan import (
    Lowering,
    Plan,
    balanced,
    choose_plan,
    no_batched_form,
    shard_sizes,
    step_of,
    using_threads,
)
from modelspace.engine.predict import predict
from modelspace.engine.program import CompileError, compiled
from modelspace.engine.randomness import Draws, stream_seed
from modelspace.engine.real_modules import Trial, dense, evaluated, plainly, real_module
from modelspace.engine.second_order import OPERATORS
from modelspace.engine.values import MemberValues
from modelspace.engine.witness import apart, unbatched_outputs, witnessed

__all__ = [
    "HELD_AT_ONCE",
    "OPERATORS",
    "SCORED_AT_ONCE",
    "Batch",
    "CompileError",
    "Confusion",
    "Derivatives",
    "Draws",
    "Function",
    "Gradient",
    "Lowering",
    "MemberValues",
    "Plan",
    "Score",
    "Scoring",
    "Trial",
    "Verdict",
    "Work",
    "adopt_gains",
    "apart",
    "balanced",
    "choose_plan",
    "compiled",
    "confusion",
    "dense",
    "evaluate",
    "evaluated",
    "fingerprint",
    "goal_of",
    "is_sample_mean",
    "known_gains",
    "loop_gradient",
    "loss_of",
    "lowered",
    "mean_gradient",
    "members_bytes",
    "members_scores",
    "no_batched_form",
    "objective_values",
    "own_rows",
    "plainly",
    "predict",
    "probe",
    "real_module",
    "shard_sizes",
    "stacked_outputs",
    "step_of",
    "stream_seed",
    "terms_of",
    "tried",
    "unbatched_outputs",
    "using_threads",
    "vmap_gradient",
    "without_fast_paths",
    "witnessed",
    "work_of",
]
