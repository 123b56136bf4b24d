"""``doctor``: every rule tried on one model."""

import os
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.construction import Architecture, Source
from modelspace.data import Data, Split, load
from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.exchange import held_against, identified
from modelspace.doctor.rule import NEEDS, SEVERITIES, Finding, Inapplicable, Rule
from modelspace.doctor.rules import RULES
from modelspace.doctor.samples import private_randomness
from modelspace.doctor.subject import LARGEST_PARAMETERS, Subject
from modelspace.errors import ModelspaceError, first_line, printable, unknown_name
from modelspace.losses import resolve
from modelspace.nest import Nest, described
from modelspace.progress import progress
from modelspace.space import ModelSpace

# Labels or samples beyond these say nothing new about their coding.
_ENOUGH_SAMPLES = 4096


def doctor(
    space: Source | Architecture,
    *,
    loss: Any = None,
    inputs: Tensor | Iterable[int] | None = None,
    labels: Tensor | None = None,
    data: Any = None,
    classes: int | None = None,
    formula: Any = None,
    optimizer: Any = None,
    tokens: int | None = None,
    only: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    baseline: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Find, in seconds and before any training, what costs days: mistakes in a model and its loss.

    Each rule is a probe: the module is run on samples that are made up (or on yours), in both modes, backwards,
    at other sizes. Your module is never touched, nor any global random state. A model of more than 10⁸
    parameters is looked at by its shapes alone; what that leaves out is listed as skipped.

    Args:
        space: A space, or a class, factory, module or target (``"net.py:Net"``) that one could be made of.
        loss: What it is to be trained with, as ``fit`` takes it.
        inputs: Samples ``[N, …]``, or one sample's shape; the space's own where None.
        labels: Of the samples in ``inputs``.
        data: A data set, as ``fit`` takes it, instead of ``inputs`` and ``labels``.
        classes: The number of classes that there are.
        formula: The loss that ``loss`` is meant to be, by name or as a function: are they the same?
        optimizer: What trains it: a ``torch.optim`` optimizer, or a list of them, of the built module that is
            examined; or a function of the module that returns one. Does it have every parameter, once?
        tokens: Samples are integers below this, where they are made up.
        only: The rules to try; all where None.
        ignore: Rules not to try.
        baseline: A file of findings that are known, which are none of the diagnosis's; ``write_baseline`` writes it.
        seed: Of the module, the samples, and everything random.

    Returns:
        Findings, the worst first, and which rules could not be tried and why.

    Raises:
        ModelspaceError: an argument is wrong, a rule is unknown, or the forward fails for a reason that no rule
            knows (the layer, the shapes and your line are named).

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
        >>> found = doctor(net, inputs=(4,), loss="cross_entropy")
        >>> [(f.rule, f.where) for f in found.findings]
        [('softmax-before-cross-entropy', '1 (Softmax)')]
    """
    start = time.perf_counter()
    chosen = _chosen(only, ignore)
    with private_randomness(seed):
        subject = _subject(space, loss, inputs, labels, data, classes, formula, optimizer, tokens, seed)
    findings, checked, skipped = list[Finding](), list[str](), dict[str, str]()
    with progress(f"examining {printable(subject.title)}", len(chosen), "rules") as advance:
        failure = _failure(subject)
        for rule in chosen:
            reason = _missing(rule, subject, failure)
            if reason is None:
                try:
                    with private_randomness(seed):
                        findings += rule.findings(subject)
                    checked.append(rule.name)
                except Inapplicable as why:
                    skipped[rule.name] = str(why)
                except Exception as error:
                    skipped[rule.name] = f"{rule.name} failed: {type(error).__name__}: {first_line(error)}"
            else:
                skipped[rule.name] = reason
            advance(1)
    if failure is not None and not any(f.severity == "error" for f in findings):
        raise failure
    findings.sort(key=lambda f: SEVERITIES.index(f.severity))
    named = (
        identified(findings, subject.title, subject.skeleton, subject.architecture.source) if findings else []
    )
    found = Diagnosis(subject.title, tuple(named), tuple(checked), skipped, time.perf_counter() - start)
    return found if baseline is None else held_against(found, baseline)


def _chosen(only: Iterable[str] | None, ignore: Iterable[str]) -> list[Rule]:
    known = {rule.name for rule in RULES}
    wanted, unwanted = known if only is None else set(only), set(ignore)
    for name in sorted((wanted | unwanted) - known):
        raise unknown_name("rule", name, known)
    return [rule for rule in RULES if rule.name in wanted - unwanted]


def _missing(rule: Rule, subject: Subject, failure: ModelspaceError | None) -> str | None:
    """Say why a rule can't be tried; None where it can."""
    has = {
        "inputs": subject.shape is not None,
        "loss": subject.given_loss is not None,
        "data": subject.labels is not None,
        "formula": subject.formula is not None,
        "optimizer": subject.optimizer is not None,
    }
    said = NEEDS if subject.several is None else {**NEEDS, "inputs": f"inputs are several: {subject.several}"}
    absent = [said[need] for need in rule.needs if need in NEEDS and not has[need]]
    if absent:
        return " and ".join(absent)
    if "values" in rule.needs and subject.too_large:
        count, limit = f"{subject.parameter_count:.1e}", f"{LARGEST_PARAMETERS:.0e}"
        return f"too large to run values: {count} parameters, and the limit is {limit}"
    if failure is not None and "inputs" in rule.needs and not rule.survives_failure:
        return "the forward fails"
    return None


def _failure(subject: Subject) -> ModelspaceError | None:
    """Return why the forward fails, if it does."""
    if subject.shape is None:
        return None
    with private_randomness(subject.seed):
        _ = subject.trace.failure or subject.trace.outputs  # raises where there is no tensor among them
    return subject.trace.failure


def _subject(
    space: Any,
    loss: Any,
    inputs: Any,
    labels: Tensor | None,
    data: Any,
    classes: int | None,
    formula: Any,
    optimizer: Any,
    tokens: int | None,
    seed: int,
) -> Subject:
    if data is not None and (inputs is not None or labels is not None):
        raise ModelspaceError("doctor received data= and inputs= or labels=: give either")
    samples: Tensor | None = None
    shape: tuple[int, ...] | None = None
    several: str | None = None
    nest: Nest = None
    if data is not None:
        split = data if isinstance(data, Split) else (data if isinstance(data, Data) else load(data)).train
        enough = split.take(slice(_ENOUGH_SAMPLES))
        several = None if isinstance(enough.inputs, Tensor) else described(enough.inputs)
        nest = None if several is None else enough.inputs
        samples = enough.inputs if several is None else None
        labels = enough.labels if isinstance(enough.labels, Tensor) and several is None else None
    elif isinstance(inputs, Tensor):
        samples = inputs
    elif inputs is not None:
        shape = tuple(int(size) for size in inputs)
    if samples is not None:
        shape = tuple(samples.shape[1:])
    if labels is not None and (samples is None or len(labels) != len(samples)):
        received = f"{len(labels)} labels and {'no' if samples is None else len(samples)} samples"
        raise ModelspaceError(f"doctor received {received}: give inputs= with one row a label")
    if classes is not None and classes < 1:
        raise ModelspaceError(f"classes must be at least 1; received {classes}")
    dtype = samples.dtype if samples is not None else torch.long if tokens else None
    architecture = space._architecture if isinstance(space, ModelSpace) else space
    if not isinstance(architecture, Architecture):
        architecture = Architecture(architecture, {}, shape, None, dtype or torch.float32)
    return Subject(
        architecture=architecture,
        shape=shape if shape is not None or several is not None else architecture.input_shape,
        input_dtype=dtype or architecture.input_dtype,
        tokens=tokens,
        given_loss=None if loss is None else resolve(loss).on(labels),
        formula=None if formula is None else resolve(formula),
        samples=samples,
        several=several,
        nest=nest,
        optimizer=_optimizer(optimizer, architecture),
        of_loss=tuple(loss.parameters()) if isinstance(loss, nn.Module) else (),
        labels=labels,
        classes=classes,
        seed=seed,
    )


def _optimizer(given: Any, architecture: Architecture) -> Any:
    """Return the optimizers, or what makes them of a module, if they can be held against the architecture."""
    if given is None:
        return None
    several = list(given) if isinstance(given, list | tuple) else [given]
    if several and all(isinstance(each, torch.optim.Optimizer) for each in several):
        if not isinstance(architecture.source, nn.Module):
            raise ModelspaceError(
                f"optimizer has the parameters of a built module, and {architecture.name} is none: give the module, "
                "or a function of the module that returns its optimizer"
            )
        return several
    if not callable(given) or isinstance(given, type):
        kind = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise ModelspaceError(
            f"optimizer is {kind}: give a torch.optim optimizer of the module, a list of them, or a function of the "
            "module that returns one"
        )
    return given
