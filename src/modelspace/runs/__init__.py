"""What a fit did, in memory or in a folder: the run, its catalogue, its shards, and what it is."""

from modelspace.runs.catalogue import OUTPUTS, Store, check_outputs, is_run
from modelspace.runs.identity import identity_of
from modelspace.runs.keep import Keep
from modelspace.runs.keep import resolve as resolve_keep
from modelspace.runs.opening import open_run
from modelspace.runs.recorder import Logbook
from modelspace.runs.results import Results
from modelspace.runs.resume import begin, opened, plan_from, planned
from modelspace.runs.run import Run
from modelspace.runs.settings import (
    LEVEL,
    RANDOM,
    Distribution,
    Response,
    Setting,
    Status,
    best_of,
    ended_well,
    quantiles,
    response,
    responses_of,
    setting_numbers,
    settings_of,
)
from modelspace.runs.shards import InTraining, Needs, Outcome
from modelspace.runs.written import Written, read_curves, read_run

__all__ = [
    "LEVEL",
    "OUTPUTS",
    "RANDOM",
    "Distribution",
    "InTraining",
    "Keep",
    "Logbook",
    "Needs",
    "Outcome",
    "Response",
    "Results",
    "Run",
    "Setting",
    "Status",
    "Store",
    "Written",
    "begin",
    "best_of",
    "check_outputs",
    "ended_well",
    "identity_of",
    "is_run",
    "open_run",
    "opened",
    "plan_from",
    "planned",
    "quantiles",
    "read_curves",
    "read_run",
    "resolve_keep",
    "response",
    "responses_of",
    "setting_numbers",
    "settings_of",
]
