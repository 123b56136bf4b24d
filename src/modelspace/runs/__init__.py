"""What a fit did, in memory or in a folder: the run, its catalogue, its shards, and what it is."""

from modelspace.runs.catalogue import OUTPUTS, Store, check_outputs, is_run
from modelspace.runs.identity import identity_of
from modelspace.runs.keep import Keep, groups_of
from modelspace.runs.keep import resolve as resolve_keep
from modelspace.runs.opening import open_run
from modelspace.runs.recorder import Logbook
from modelspace.runs.results import Results
from modelspace.runs.resume import begin, opened, plan_from, planned
from modelspace.runs.run import Run
from modelspace.runs.settings import DIVERGED, FINISHED, STATES, STOPPED, UNFINISHED
from modelspace.runs.shards import InTraining, Needs, Outcome
from modelspace.runs.written import Written, each_setting, read_curves, read_run

__all__ = [
    "DIVERGED",
    "FINISHED",
    "OUTPUTS",
    "STATES",
    "STOPPED",
    "UNFINISHED",
    "InTraining",
    "Keep",
    "Logbook",
    "Needs",
    "Outcome",
    "Results",
    "Run",
    "Store",
    "Written",
    "begin",
    "check_outputs",
    "each_setting",
    "groups_of",
    "identity_of",
    "is_run",
    "open_run",
    "opened",
    "plan_from",
    "planned",
    "read_curves",
    "read_run",
    "resolve_keep",
]
