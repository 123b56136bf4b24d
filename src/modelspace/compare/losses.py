"""``compare_losses``: the losses of one run on equal terms: the same seeds, the same data, the same yardsticks."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.compare.calibration import Calibration, CalibrationTally, confidences
from modelspace.compare.evidence import LossComparison, LossResult, NoiseResult
from modelspace.compare.margins import Margins, MarginTally, margins_of, require_classes, right_of
from modelspace.compare.outputs import pieces_of
from modelspace.compare.pairs import paired
from modelspace.compare.settings import Chosen, chosen_settings
from modelspace.data import Data, Split
from modelspace.engine import evaluate
from modelspace.errors import ModelspaceError
from modelspace.losses import LEFT_OUT
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.runs import Distribution, Run, Status


def compare_losses(
    run: Run, data: Any = None, *, split: str | None = None, bins: int = 15, seed: int = 0
) -> LossComparison:
    """Compare the losses of a run by what they share: accuracy, margins, calibration, robustness to label noise.

    Each loss is shown at one setting of the other columns (learning rate, its own parameters): that of the best
    median validation accuracy over seeds, chosen for each label noise by itself, a diverged member counting as the
    worst. All but the robustness is at the least label noise. Values of losses are not compared: their units differ.

    Args:
        run: Of a population with a column ``loss``; every member's points must have been kept.
        data: What it was fitted on: a ``Data`` or whatever ``modelspace.data.load`` takes. Without it there is only
            the run's own last validation accuracy, on which settings were chosen too, so that it flatters; margins
            and calibration are left out.
        split: ``test`` (the default with data), ``validation`` or ``train``.
        bins: Of the reliability curve, at least 2.
        seed: Of the bootstrap over samples.

    Returns:
        The comparison; its errors say what they are of: seeds, or test samples.

    Raises:
        ModelspaceError: no column ``loss``; points that were not kept; labels that are neither classes nor ±1; an
            unknown or empty split; several settings of a loss without a validation accuracy to choose by.

    Example:
        >>> data = ms.data.load((torch.randn(80, 4), torch.arange(80) % 3))
        >>> space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3)
        >>> run = ms.fit(space.sample(seeds=3, loss=["cross_entropy", "hinge"]), data, epochs=1)
        >>> found = compare_losses(run, data)
        >>> [(each.loss, each.accuracy.n) for each in found.results]
        [('cross_entropy', 3), ('hinge', 3)]
    """
    if bins < 2:
        raise ModelspaceError(f"a reliability curve needs at least 2 bins; received bins={bins}")
    loaded = None if data is None else datasets.load(data)
    if loaded is not None:
        require_classes(loaded.train.labels)
    accuracy = _validation_accuracy(run, loaded)
    conditions = chosen_settings(run.members, run.status, accuracy)
    if loaded is None:
        if split not in (None, "validation") or accuracy is None:
            wanted = split or "validation"
            raise ModelspaceError(
                f"the run holds no accuracy on the {wanted} split: give the data that it was fitted on, "
                "compare_losses(run, data)"
            )
        measured = [_recorded(each, accuracy) for each in conditions]
        return _comparison(run.data, "validation", None, conditions, measured, bins, seed)
    split = split or "test"
    part = _counted(loaded.part(split), conditions)
    if not len(part):
        raise ModelspaceError(f"the losses leave out all of the {split} split of {loaded.name}")
    kept = _kept(run, conditions)
    least = min((c.noise for c in conditions if c.noise is not None), default=None)
    total = sum(map(len, kept))
    with progress(f"comparing losses on {total:,} members", total, "members") as advance:
        measured = [
            _measured(
                each, run.population, rows, part.inputs, part.labels, each.noise == least, bins, seed, advance
            )
            for each, rows in zip(conditions, kept, strict=True)
        ]
    return _comparison(loaded.name, split, len(part), conditions, measured, bins, seed)


def _counted(part: Split, conditions: Sequence[Chosen]) -> Split:
    """The samples that no loss leaves out by a label that is no class."""
    left_out = {LEFT_OUT, *(each.loss.left_out or 0 for each in conditions)}
    if part.labels.ndim > 1 or part.labels.is_floating_point():
        return part
    out = torch.isin(part.labels.long(), torch.tensor([label for label in left_out if label < 0]))
    return part.take(~out) if bool(out.any()) else part


def _validation_accuracy(run: Run, data: Data | None) -> np.ndarray | None:
    """Each member's last validation accuracy, measured now where the fit did not; None where neither can be."""
    table = run.table
    if "validation_accuracy" in table:
        found = table["validation_accuracy"].to_numpy(np.float64)
        return None if np.isnan(found).all() else found
    # For labels ±1 a fit does not measure it of itself.
    if data is None or not len(data.validation) or not bool((data.validation.labels.abs() == 1).all()):
        return None
    found = np.full(len(run.members), np.nan)
    found[run.kept] = evaluate(run.population, data, ["accuracy"], split="validation")["accuracy"]
    return found


@dataclass(frozen=True)
class _Measured:
    """What was measured of a condition's members; accuracies are None where they diverged."""

    accuracies: tuple[float | None, ...]
    margins: Margins | None = None
    calibration: Calibration | None = None


def _kept(run: Run, conditions: list[Chosen]) -> list[list[int]]:
    """Where the members of each condition that did not diverge stand among those that were kept."""
    place = {int(k): i for i, k in enumerate(run.kept)}
    wanted = [_finished(each) for each in conditions]
    missing = sum(k not in place for members in wanted for k in members)
    if missing:
        raise ModelspaceError(
            f"losses are compared by their members' points, and those of {missing} of {sum(map(len, wanted))} "
            "members were not kept: fit with keep='all'"
        )
    return [[place[k] for k in members] for members in wanted]


def _finished(condition: Chosen) -> list[int]:
    return [k for k, failed in zip(condition.members, condition.diverged, strict=True) if not failed]


def _recorded(condition: Chosen, accuracy: np.ndarray) -> _Measured:
    rows = zip(condition.members, condition.diverged, strict=True)
    return _Measured(tuple(None if d or np.isnan(accuracy[k]) else float(accuracy[k]) for k, d in rows))


def _measured(
    condition: Chosen,
    population: Population,
    rows: list[int],
    inputs: Tensor,
    labels: Tensor,
    fully: bool,
    bins: int,
    seed: int,
    advance: Callable[[int], None],
) -> _Measured:
    """Accuracies of the members that finished and, if fully, margins and calibration."""
    right: list[float] = []
    margins, calibration = MarginTally(), CalibrationTally(bins, len(labels), seed) if fully else None
    for pieces in pieces_of(population, rows, inputs, labels):
        hits, sizes, confident = [], [], []
        for outputs, own in pieces:
            sizes.append(margins_of(outputs, own))
            hits.append(right_of(outputs, own))
            confident.append(confidences(condition.loss, outputs, own) if fully else None)
        right += torch.cat(hits, 1).double().mean(1).tolist()
        if fully:
            margins.add(torch.cat(sizes, 1))
        known = [each for each in confident if each is not None]
        if calibration is not None and known:
            calibration.add(torch.cat([c for c, _ in known], 1), torch.cat([h for _, h in known], 1))
        advance(len(hits[0]))
    scores = iter(right)
    accuracies = tuple(None if failed else next(scores) for failed in condition.diverged)
    return _Measured(accuracies, margins.result(), calibration.result() if calibration else None)


def _comparison(
    name: str,
    split: str,
    samples: int | None,
    conditions: list[Chosen],
    measured: list[_Measured],
    bins: int,
    seed: int,
) -> LossComparison:
    levels = [c.noise for c in conditions if c.noise is not None]
    least = min(levels, default=None)
    shown = [(c, m) for c, m in zip(conditions, measured, strict=True) if c.noise == least]
    by_seed: dict[str, dict[Hashable, float | None]] = {
        c.name: dict(zip(c.seeds, m.accuracies, strict=True)) for c, m in shown
    }
    return LossComparison(
        data=name,
        split=split,
        samples=samples,
        label_noise=least,
        bins=bins,
        seed=seed,
        results=tuple(
            LossResult(
                loss=c.name,
                setting=c.setting,
                settings=c.among,
                seeds=tuple(_seed_text(s) for s in c.seeds),
                accuracies=m.accuracies,
                diverged=sum(c.diverged),
                accuracy=_distribution(c, m),
                margins=m.margins,
                calibration=m.calibration,
            )
            for c, m in shown
        ),
        pairs=tuple(paired((a, b), by_seed[a], by_seed[b]) for a, b in combinations(by_seed, 2)),
        noise=tuple(
            NoiseResult(
                c.name,
                c.noise,
                c.setting,
                sum(c.diverged),
                _distribution(c, m),
            )
            for c, m in zip(conditions, measured, strict=True)
            if c.noise is not None and len(set(levels)) > 1
        ),
    )


def _distribution(condition: Chosen, measured: _Measured) -> Distribution:
    scores = [np.nan if value is None else value for value in measured.accuracies]
    return Distribution.of(scores, np.where(condition.diverged, Status.DIVERGED, Status.FINISHED))


def _seed_text(seed: Hashable) -> str:
    return "/".join(map(str, seed)) if isinstance(seed, tuple) else str(seed)
