"""The doctor: mistakes in a model and its loss, found by probes before anything is trained."""

from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.examine import doctor
from modelspace.doctor.rule import Finding, Rule
from modelspace.doctor.rules import RULES

__all__ = ["RULES", "Diagnosis", "Finding", "Rule", "doctor"]
