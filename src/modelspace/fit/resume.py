"""Beginning a run in a folder, or going on with the one that is there."""

import json
from collections.abc import Mapping
from typing import Any

from modelspace.code import changed
from modelspace.engine import Plan
from modelspace.engine.lowerings import trials
from modelspace.errors import ModelspaceError
from modelspace.fit.identity import Identity, environment, source_hash, target_of
from modelspace.fit.store import Store
from modelspace.fit.training import Training
from modelspace.progress import notice


def begin(store: Store, identity: Identity, training: Training) -> None:
    """Hold what is asked for against what the folder holds; note it where it holds nothing.

    Raises:
        ModelspaceError: they differ; all differences are listed.
    """
    space, epochs = training.population.space, training.recipe.epochs
    here = json.loads(json.dumps(identity.spec, default=str))
    there = store.get("spec")
    if there is None:
        store.put(
            spec=here,
            code=identity.parts,
            target=target_of(space),
            source=source_hash(space),
            hyperparameters=space.hyperparameters,
            input_shape=space.input_shape,
            input_type=str(space.input_dtype).removeprefix("torch."),
            samples=list(training.inputs.shape),
        )
    else:
        parts = store.get("code") or {}
        different = [
            f"{name}: {said}"
            if (said := changed(parts.get(name) or {}, identity.parts.get(name) or {}))
            else f"{name} is {_short(there.get(name))} there and {_short(value)} here"
            for name, value in here.items()
            if there.get(name) != value
        ]
        if epochs < store.get("epochs"):
            different.append(f"it has {store.get('epochs')} epochs, and {epochs} are asked for")
        if different:
            raise ModelspaceError(
                f"'{store.folder}' holds another run: {'; '.join(different)}. Give another folder, or fresh=True "
                "(--fresh) to remove it"
            )
    now = environment(training.device, space)
    before = store.get("environment")
    if before is not None and _machine(before) != _machine(now):
        notice("this machine, or a version here, is not the run's: it goes on with a plan of its own")
        store.put(plan=None, products=None)
    store.put(epochs=epochs, environment=now)


def planned(store: Store, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices with those of the run filled in, so that it goes on as it began, bit for bit."""
    trials.adopt(store.get("trials") or {})
    plan = store.get("plan")
    before = plan_from(plan).choices if plan else {}
    return {name: before.get(name) if value is None else value for name, value in choices.items()}


def plan_from(values: Mapping[str, Any]) -> Plan:
    """A plan from the plain values of it that a store holds."""
    return Plan(**{**values, "one_by_one": tuple(values["one_by_one"])})


def _machine(environment: Mapping[str, Any]) -> list[Any]:
    return [environment.get(name) for name in ("torch", "machine", "device", "threads")]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}…"
