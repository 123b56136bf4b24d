"""One forward, recorded: its calls, its operations, the user's line, the bytes that live."""

from modelspace.trace._calls import Call, FunctionCall, Recorder, recorded, watched_calls
from modelspace.trace._forward import explained, forward_checked
from modelspace.trace._ledger import SPARSE, Block, Ledger, PeakMemory, stored
from modelspace.trace._passes import Result, Subject, WithoutValues, trace
from modelspace.trace._standin import MetaBuild, SparseWithoutValues, Spec, mapped
from modelspace.trace._tracer import Formula, Operation, Phase

__all__ = [
    "SPARSE",
    "Block",
    "Call",
    "Formula",
    "FunctionCall",
    "Ledger",
    "MetaBuild",
    "Operation",
    "PeakMemory",
    "Phase",
    "Recorder",
    "Result",
    "SparseWithoutValues",
    "Spec",
    "Subject",
    "WithoutValues",
    "explained",
    "forward_checked",
    "mapped",
    "recorded",
    "stored",
    "trace",
    "watched_calls",
]
