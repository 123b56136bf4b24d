"""One forward, recorded: its calls, its operations, the user's line, the bytes that live."""

from modelspace.trace._calls import Call, Calls, watched_calls
from modelspace.trace._forward import Attempt, explained, forward_checked
from modelspace.trace._ledger import SPARSE, Block, Ledger, stored
from modelspace.trace._memory import PeakMemory
from modelspace.trace._nests import Spec, mapped, tensors_in
from modelspace.trace._passes import Request, Result, Subject, WithoutValues, forward, forward_backward, trace
from modelspace.trace._standin import MetaBuild, SparseWithoutValues, held_tensors
from modelspace.trace._tracer import Formula, flops, in_phase, of_calls

__all__ = [
    "SPARSE",
    "Attempt",
    "Block",
    "Call",
    "Calls",
    "Formula",
    "Ledger",
    "MetaBuild",
    "PeakMemory",
    "Request",
    "Result",
    "SparseWithoutValues",
    "Spec",
    "Subject",
    "WithoutValues",
    "explained",
    "flops",
    "forward",
    "forward_backward",
    "forward_checked",
    "held_tensors",
    "in_phase",
    "mapped",
    "of_calls",
    "stored",
    "tensors_in",
    "trace",
    "watched_calls",
]
