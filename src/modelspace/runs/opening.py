"""A run that was written down, opened again."""

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelspace.code import changed, python_version
from modelspace.errors import ModelspaceError
from modelspace.loading import file_of_target, load_architecture
from modelspace.memory import Memory
from modelspace.population import Population
from modelspace.progress import notice
from modelspace.runs import keep as keeping
from modelspace.runs.catalogue import Store
from modelspace.runs.identity import architecture_hash, content_hash
from modelspace.runs.results import Results
from modelspace.runs.resume import plan_from
from modelspace.runs.run import Run
from modelspace.runs.settings import Status
from modelspace.runs.written import curves_of, outcomes_of, spec_in, table_of
from modelspace.space import ModelSpace


def open_run(path: str | os.PathLike[str], space: ModelSpace | None = None, *, trust: bool = False) -> Run:
    """The run in a folder, as ``fit(…, out=folder)`` returned it, or would have if it had not been cut short.

    Args:
        path: The folder.
        space: The space that was fitted. Points without their architecture are only numbers, and nothing that a
            folder names is executed unasked.
        trust: Whether to execute the file or module that the folder names as its architecture, where ``space`` is
            None; the file must be, byte for byte, the one that was fitted.

    Returns:
        The run: its ``population`` holds the members whose points were kept and that are finished.

    Raises:
        ModelspaceError: there is no run; neither ``space`` nor ``trust`` is given; or the architecture can't be
            found, or is another one now.
    """
    folder = Path(path)
    with closing(Store(folder)) as store:
        spec, settings = spec_in(store), store.get("settings")
        if settings is None or store.get("plan") is None:
            raise ModelspaceError(f"the run in '{folder}' was stopped before it began to train: fit it again")
        if space is None:
            space = _space(store, spec, trust)
        _check(store, spec, space)
        wanted, places = store.wanted(), store.places()
        table = table_of([row for _, row in wanted])
        names = curves_of(spec)
        keep = keeping.resolve(spec["keep"], names[1:], store.get("higher_is_better"))
        before = _blank(space, table) if keep.best is None else Population.from_seeds(space, table)
        results = Results(before, names, store.get("epochs"), keep, processes=1)
        for outcome, rows, of in outcomes_of(store, [key for key, _ in wanted], places, results.shapes):
            results.write(rows, outcome, of)
        kept, population = results.kept()
        if keep.best is None:
            kept = np.flatnonzero(results.states)
            population = population[kept]
        status = results.status
        return Run(
            space,
            table,
            population,
            kept,
            {name: values.numpy() for name, values in results.history.items()},
            status,
            results.steps.numpy(),
            settings,
            spec["data"],
            plan_from(store.get("plan")),
            store.get("seconds") or 0.0,
            bool((status == Status.UNFINISHED).any()),
            folder,
            Memory.from_plain(store.get("memory")),
        )


def _blank(space: ModelSpace, table: pd.DataFrame) -> Population:
    """Room for members whose points are about to be read."""
    members = len(table)
    buffers = {
        name: value.detach().expand(members, *value.shape).clone()
        for name, value in space.buffers_of(space.template).items()
    }
    return Population(space, torch.zeros(members, space.dimension, dtype=space.dtype), buffers, table)


def _check(store: Store, spec: Mapping[str, Any], space: ModelSpace) -> None:
    """Hold a space against the one that was fitted."""
    before = (store.get("code") or {}).get("code") or {}
    other = f"the run in '{store.folder}' is of {spec['space']} as it was then"
    if architecture_hash(space) != spec["architecture"]:
        raise ModelspaceError(f"{other}; {space.title} is another now")
    if space.code.hash == spec.get("code"):
        return
    if f"Python {python_version()}" not in str(spec.get("packages")).split(", "):
        notice(f"{other}, under another version of Python: whether its code has changed since is not known")
        return
    raise ModelspaceError(f"{other}: {changed(before, space.code.parts) or 'its code has changed'} since")


def _space(store: Store, spec: Mapping[str, Any], trust: bool) -> ModelSpace:
    """The space that a folder names, its file being the one that was fitted."""
    target, written = store.get("target"), store.get("source")
    if target is None:
        raise ModelspaceError(
            f"the run in '{store.folder}' does not say where {spec['space']} is defined: give space=ModelSpace(…)"
        )
    if not trust:
        raise ModelspaceError(
            f"the points of the run in '{store.folder}' need their architecture, {target}, which is not executed "
            "unasked: give space=ModelSpace(…), or trust=True to execute it. Its table needs neither: modelspace "
            "runs export"
        )
    file = file_of_target(target)
    if file is None or written is None or content_hash(file) != written:
        state = "can't be found" if file is None else "is not the file that was fitted"
        raise ModelspaceError(
            f"{target}, which the run in '{store.folder}' names as its architecture, {state}, and is not executed: "
            "give space=ModelSpace(…)"
        )
    notice(f"executing {target}, which the run names as its architecture (space=ModelSpace(…) does without)")
    return ModelSpace(
        load_architecture(target),
        input_shape=store.get("input_shape"),
        input_dtype=_dtype(store.get("input_type")),
        dtype=_dtype(spec["type"]),
        **store.get("hyperparameters"),
    )


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ModelspaceError(f"the run names the type {name!r}, which PyTorch does not have")
    return found
