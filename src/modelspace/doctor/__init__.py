"""The doctor: mistakes in a model and its loss, found by probes before anything is trained."""

from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.examine import doctor
from modelspace.doctor.exchange import annotations, sarif, write_baseline
from modelspace.doctor.repair import Repairs, repairs, write_whole
from modelspace.doctor.rule import Finding, Rule
from modelspace.doctor.rules import RULES

__all__ = [
    "RULES",
    "Diagnosis",
    "Finding",
    "Repairs",
    "Rule",
    "annotations",
    "doctor",
    "repairs",
    "sarif",
    "write_baseline",
    "write_whole",
]
