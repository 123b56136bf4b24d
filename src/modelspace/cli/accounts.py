"""What ``modelspace runs`` says of runs, as plain values: the keys of its JSON."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.runs import Distribution, Run, Status, best_of, is_run, open_run, settings_of


def runs_below(folder: Path) -> Iterator[Path]:
    """Every folder with a run, the given one too, by name.

    Raises:
        ModelspaceError: there is no such folder.
    """
    if not folder.is_dir():
        raise ModelspaceError(f"no folder '{folder}' (looked in {Path.cwd()})")
    for place, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if name != "shards" and not name.startswith("."))
        if is_run(Path(place)):
            yield Path(place)


def opened(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        ModelspaceError: there is none (those below are named), or it can't be read.
    """
    if folder.is_dir() and not is_run(folder):
        below = [f"'{path}'" for path in runs_below(folder)]
        shown = ", ".join(below[:3]) + (f" and {len(below) - 3} more" if len(below) > 3 else "")
        hint = f"; below it: {shown}" if below else ""
        raise ModelspaceError(f"'{folder}' holds no run: it has no run.sqlite{hint}")
    next(runs_below(folder))
    return open_run(folder)


def line(folder: Path) -> dict[str, Any]:
    """A run in short.

    Returns:
        ``run`` (its folder), ``space``, ``data``, ``members``, ``done`` (those that have ended, however),
        ``diverged``, ``epochs``, ``best`` (of the setting whose median is best: ``setting``, ``score``,
        ``median``; None before a member has ended), ``seconds``, ``bytes`` on the disk, and ``problem``: None, or
        why it can't be read, beside ``run`` and ``bytes`` alone.
    """
    try:
        run = open_run(folder)
    except ModelspaceError as error:
        return {"run": str(folder), "bytes": size(folder), "problem": str(error)}
    return {
        "run": str(folder),
        "space": run.title,
        "data": run.data,
        "members": len(run.members),
        "done": int((run.status != Status.UNFINISHED).sum()),
        "diverged": int((run.status == Status.DIVERGED).sum()),
        "epochs": run.epochs,
        "best": _best(run),
        "seconds": run.seconds or None,
        "bytes": size(folder),
        "problem": None,
    }


def account(run: Run) -> dict[str, Any]:
    """A run at length.

    Returns:
        ``run`` (its folder), ``target`` (the architecture's name on the command line), ``spec`` (what it is: runs of
        one spec may share members), ``environment`` (versions, device, commit), ``plan``, ``epochs``, ``members``,
        ``states`` (how many are in each), ``seconds``, ``bytes``, ``score`` (the one that judges),
        ``best`` and ``settings``: of each, ``setting`` (its columns), ``q1``, ``median`` and ``q3`` of that score
        over members, by rank, a diverged one being the worst (None for such a one, or for none), ``members``,
        ``ended`` and ``diverged``.
    """
    return {
        "run": str(run.folder),
        "target": run.about["target"],
        "spec": run.about["spec"],
        "environment": run.about["environment"],
        "plan": {**run.plan.choices, "reason": run.plan.reason},
        "epochs": run.epochs,
        "members": len(run.members),
        "states": {s.value: n for s in Status if (n := int((run.status == s).sum()))},
        "seconds": run.seconds or None,
        "bytes": size(Path(str(run.folder))),
        "score": run.monitor,
        "best": _best(run),
        "settings": _settings(run),
    }


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs beside each other; each list has an entry a run, in the order given.

    Returns:
        ``runs`` (their folders); ``differences``: of ``spec`` and ``environment``, the entries that are not the
        same in all, with each run's value; ``scores``: by name, the distribution of the last values of the
        members that ended and did not diverge (``n``, ``q1``, ``median``, ``q3``, and ``diverged`` beside), None
        where a run has no such score; ``score``: the one that judges the first run; ``settings``: the same
        distributions of that score for each ``setting`` that a run has, under ``runs``.
    """
    specs = [{**run.about["spec"], "epochs": run.epochs} for run in runs]
    names = dict.fromkeys(name for run in runs for name in run.scores)
    score = runs[0].monitor
    by_setting: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for i, run in enumerate(runs):
        for setting, rows in settings_of(run.members):
            entry = by_setting.setdefault(repr(setting), (setting, [None] * len(runs)))
            entry[1][i] = _distribution(run, score, rows)
    return {
        "runs": [str(run.folder) for run in runs],
        "differences": {
            "spec": _differences(specs),
            "environment": _differences([run.about["environment"] for run in runs]),
        },
        "scores": {
            name: [_distribution(run, name, np.arange(len(run.members))) for run in runs] for name in names
        },
        "score": score,
        "settings": [{"setting": setting, "runs": found} for setting, found in by_setting.values()],
    }


def size(folder: Path) -> int:
    """Bytes of a run's files: those in its folder and its shards."""
    total = 0
    for path in (*folder.glob("*"), *folder.glob("shards/*")):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # a process at the run has removed it since
    return total


def _settings(run: Run) -> list[dict[str, Any]]:
    return [
        {"setting": setting.columns}
        | {
            name: _number(value) if isinstance(value, float) else value
            for name, value in found._asdict().items()
        }
        for setting, found in zip(*run.responses(), strict=True)
    ]


def _best(run: Run) -> dict[str, Any] | None:
    settings, responses = run.responses()
    best = best_of(responses, higher_is_better=run.monitor in run.higher_is_better)
    if best is None:
        return None
    return {"setting": settings[best].columns, "score": run.monitor, "median": responses[best].median}


def _distribution(run: Run, score: str, rows: np.ndarray) -> dict[str, Any] | None:
    if score not in run.scores:
        return None
    found = Distribution.of(run.scores[score][rows], run.status[rows])
    values = {name: getattr(found, name) for name in ("q1", "median", "q3")}
    return {"n": found.n, **{k: v and _number(v) for k, v in values.items()}, "diverged": found.diverged}


def _differences(records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    values = {name: [record.get(name) for record in records] for name in names}
    return {name: found for name, found in values.items() if any(v != found[0] for v in found)}


def _number(value: float) -> float | None:
    """None where there is no finite number: JSON has no other."""
    return None if not math.isfinite(value) else value
