"""What a fit did, in memory or in a folder: the run, its catalogue and shards, and what its scores say."""

from modelspace.runs.catalogue import check_outputs
from modelspace.runs.folder import OUTPUTS, is_run
from modelspace.runs.identity import describe
from modelspace.runs.recorder import Recorder
from modelspace.runs.records import Held, Recorded, Records
from modelspace.runs.results import Keep
from modelspace.runs.run import Run, open_run
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
from modelspace.runs.shards import Needs, needed

__all__ = [
    "LEVEL",
    "OUTPUTS",
    "RANDOM",
    "Distribution",
    "Held",
    "Keep",
    "Needs",
    "Recorded",
    "Recorder",
    "Records",
    "Response",
    "Run",
    "Setting",
    "Status",
    "best_of",
    "check_outputs",
    "describe",
    "ended_well",
    "is_run",
    "needed",
    "open_run",
    "quantiles",
    "response",
    "responses_of",
    "setting_numbers",
    "settings_of",
]
