"""A search whose every trial is a distribution over seeds, and whose winner is confirmed on fresh ones."""

from modelspace.search._over import Parameter, Span, parameters_of
from modelspace.search._record import Search, Trial
from modelspace.search._rungs import STOPS
from modelspace.search._suggest import IMPORTANCES, SAMPLERS
from modelspace.search.hunt import search

__all__ = [
    "IMPORTANCES",
    "SAMPLERS",
    "STOPS",
    "Parameter",
    "Search",
    "Span",
    "Trial",
    "parameters_of",
    "search",
]
