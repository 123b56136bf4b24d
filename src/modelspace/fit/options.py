"""All that ``fit`` takes by name."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

from modelspace.engine import Plan
from modelspace.errors import unknown_name
from modelspace.fit.recipe import Recipe
from modelspace.fit.runner import Runner
from modelspace.fit.settings import setting, settings

PLANS = {
    "auto": {},
    "loop": {"lowering": "loop", "compile": False},
    "vmap": {"lowering": "vmap", "compile": False},
    "compile": {"lowering": "vmap", "compile": True},
}
_CHOICES = ("lowering", "shard", "compile", "threads", "workers")


def _choices(plan: str | Plan | Mapping[str, Any]) -> dict[str, Any]:
    """What a plan decides, by name; what is measured is left out."""
    if isinstance(plan, Plan):
        return plan.choices
    if isinstance(plan, str):
        if plan not in PLANS:
            raise unknown_name("plan", plan, PLANS)
        return dict(PLANS[plan])
    for name in plan:
        if name not in _CHOICES:
            raise unknown_name("choice of a plan", name, _CHOICES)
    if plan.get("lowering") not in (None, "vmap", "loop"):
        raise unknown_name("lowering", str(plan["lowering"]), ("vmap", "loop"))
    return {name: value for name, value in plan.items() if value is not None}


def _runner(runner: str | Runner) -> Runner | Literal["local"]:
    """A runner by its name; ``"local"`` is ``fit``'s own."""
    if not isinstance(runner, str):
        return runner
    if runner == "ray":
        return import_module("modelspace.distribute").RayRunner()
    if runner != "local":
        raise unknown_name("runner", runner, ("local", "ray"))
    return "local"


@settings
class Options(Recipe):
    """All that ``fit`` takes: the recipe, and how it is carried out and kept."""

    plan: dict[str, Any] = setting(
        default="auto",
        converter=_choices,
        choices=tuple(PLANS),
        doc="How members are computed: ``auto`` measures, and takes the fastest. ``loop``, ``vmap`` and "
        "``compile`` decide; a ``Plan``, as of an earlier run (``run.plan``), gives the same numbers bit for "
        'bit on one machine; so do some of its choices, ``{"lowering": "vmap", "shard": 16, "compile": False,'
        ' "threads": 1, "workers": 1}``, of which those left out are measured.',
    )
    runner: Runner | Literal["local"] = setting(
        default="local",
        converter=_runner,
        choices=("local", "ray"),
        doc="Who trains the shards: ``local``, this machine, or ``ray``, a Ray cluster, or a Ray of its own here."
        " Or a ``modelspace.distribute.RayRunner``, or a ``modelspace.fit.Runner`` of your own.",
    )
    out: str | os.PathLike[str] | None = setting(
        default=None,
        doc="A folder in which the run is written down as it goes. The same call continues a run that was killed,"
        " bit for bit as if it had not been; with more members or epochs, only what is missing is trained "
        "(more epochs where the schedule does not depend on their number).",
    )
    fresh: bool = setting(default=False, doc="Remove what the folder holds of another run first.")
    keep: Literal["all", "scores"] | int = setting(
        default="all",
        doc="Whose points are kept: ``all``, ``scores`` (none), or the best N of each setting, by the last "
        "validation score. With ``scores`` memory does not grow with the members' points.",
    )
    checkpoint_seconds: float = setting(
        default=60.0, doc="How often, about, a shard in training is written to the folder."
    )
