"""Beginning a run in a folder, or going on with the one that is there."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from modelspace.code import changed
from modelspace.engine import Plan, adopt_gains
from modelspace.errors import ModelspaceError
from modelspace.progress import notice, progress
from modelspace.runs import shards as files
from modelspace.runs.catalogue import (
    OUTPUTS,
    DamagedCatalogueError,
    Member,
    Store,
    checked_about,
    curves_of,
    set_aside,
    shard_files,
)
from modelspace.runs.identity import Identity, environment, source_hash, target_of
from modelspace.runs.recorder import members_of, outcome_of, shard_name
from modelspace.runs.results import Shapes
from modelspace.space import ModelSpace
from modelspace.tensorfile import DamagedError


def opened(folder: Path) -> Store:
    """Open a run's folder for writing; a catalogue that is damaged, or gone, is made again from the shards.

    Raises:
        ModelspaceError: the catalogue is no run's, and no shard says of what run it is; or what ``Store`` raises.
    """
    try:
        store = Store(folder, create=True)
        if store.get("spec") is not None or not shard_files(folder):
            return store
        what = "is empty"
    except DamagedCatalogueError as error:
        store, what = None, str(error).partition(": ")[2].partition(": fit")[0]
    found = list(_readable(folder))
    if store is None:
        if not found:
            raise ModelspaceError(
                f"{folder / 'run.sqlite'}: {what}, and no shard is there to make it anew from: give another folder, "
                "or fresh=True (--fresh), which sets the file aside"
            )
        aside = set_aside(folder)
        what = f"was damaged ({what}) and is now {aside.name if aside else 'gone'}"
        store = Store(folder, create=True)
    if found:
        try:
            _restore(store, found)
        except BaseException:
            store.close()
            raise
        number = sum(path.name.count(".") == 1 for path, *_ in found)
        notice(f"the catalogue of {folder} {what}: it was made anew from {number} finished shards")
    return store


def _readable(folder: Path) -> Iterator[tuple[Path, files.About, list[Member]]]:
    """The shards of a folder that say of themselves what they are; members only of those that are finished."""
    paths = shard_files(folder)
    with progress(f"reading the shards of {folder}", len(paths), "shards") as advance:
        for path in paths:
            try:
                tensors, about = files.read_shard(path)
                run = checked_about(about.run)
                keys = [bytes.fromhex(key) for key in about.keys]
                name = shard_name(run["spec"], about.epochs, keys)
                if about.name.removesuffix(".part") != name:
                    raise DamagedError("its name is another than its members'")
                members = [] if about.name.endswith(".part") else _members(tensors, about, keys, run["spec"])
            except (DamagedError, ValueError, KeyError) as error:
                notice(f"{path.name} is damaged ({error}), and left out")
                continue
            yield path, about, members
            advance(1)


def _members(
    tensors: Mapping[str, Any], about: files.About, keys: list[bytes], spec: Mapping[str, Any]
) -> list[Member]:
    names = curves_of(spec)
    outcome, _ = outcome_of(tensors, list(range(len(keys))), Shapes(names, about.epochs, None, {}))
    if len(outcome.states) != len(keys) or len(tensors["states"]) != len(keys):
        raise DamagedError("it holds other members")
    return members_of(keys, outcome.states, outcome.steps, {n: v.numpy() for n, v in outcome.curves.items()})


def _restore(store: Store, found: list[tuple[Path, files.About, list[Member]]]) -> None:
    """Enter shards into a catalogue that has none: of the run that most of them are of."""
    texts = [json.dumps(about.run["spec"], sort_keys=True) for _, about, _ in found]
    most = max(texts, key=texts.count)
    ours = [each for text, each in zip(texts, found, strict=True) if text == most]
    # The longest is the last that was asked for; of a member that has more than one, it counts.
    ours.sort(key=lambda each: (each[1].epochs, each[0].stat().st_mtime_ns))
    wanted = {
        bytes.fromhex(key): row
        for _, about, _ in ours
        for key, row in zip(about.keys, about.members, strict=True)
    }
    finished = [(about.name, about.epochs, members) for _, about, members in ours if members]
    store.restore(ours[-1][1].run, wanted, finished)


def begin(
    store: Store,
    identity: Identity,
    space: ModelSpace,
    device: torch.device,
    epochs: int,
    samples: Sequence[int],
) -> None:
    """Hold what is asked for against what the folder holds; note it where it holds nothing.

    Args:
        store: Opened for writing.
        identity: What the run is.
        space: Whose points are trained.
        device: Where.
        epochs: The run's length.
        samples: The shape of the training inputs.

    Raises:
        ModelspaceError: they differ; all differences are listed.
    """
    here = json.loads(json.dumps(identity.spec, default=str))
    there = store.get("spec")
    noted: dict[str, Any] = {}
    if there is None:
        known = store.get("foreign")
        noted = {
            "foreign": [n for n in OUTPUTS if os.path.lexists(store.folder / n)] if known is None else known,
            "spec": here,
            "code": identity.parts,
            "target": target_of(space),
            "source": source_hash(space),
            "hyperparameters": space.hyperparameters,
            "input_shape": space.input_shape,
            "input_type": str(space.input_dtype).removeprefix("torch."),
            "samples": list(samples),
        }
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
    now = environment(device, space)
    before = store.get("environment")
    if before is not None and _machine(before) != _machine(now):
        notice("this machine, or a version here, is not the run's: it goes on with a plan of its own")
        noted["plan"] = None
    store.put(**noted, epochs=epochs, environment=now)


def planned(store: Store, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices with those of the run filled in, so that it goes on as it began, bit for bit."""
    adopt_gains(store.get("trials") or {})
    plan = store.get("plan")
    before = plan_from(plan).choices if plan else {}
    return {name: before.get(name) if value is None else value for name, value in choices.items()}


def plan_from(values: Mapping[str, Any]) -> Plan:
    """A plan from the plain values of it that a store holds."""
    known = {field.name: values[field.name] for field in fields(Plan) if field.name in values}
    return Plan(**{**known, "one_by_one": tuple(known.get("one_by_one", ()))})


def _machine(environment: Mapping[str, Any]) -> list[Any]:
    return [environment.get(name) for name in ("torch", "machine", "device", "threads")]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}…"
