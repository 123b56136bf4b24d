"""Losses in the terminal: the catalogue by kind, one in full with its curve, several side by side."""

import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from modelspace import losses
from modelspace.cli.drawn import drawn
from modelspace.losses import KINDS, Loss, has_curve
from modelspace.show import Terminal, number

_WIDTH = 100
_OUTPUTS = {
    "real": "any number",
    "score": "a score z: positive for +1, negative for −1; for classes [N, C, …], one against the rest",
    "logits": "logits [N, C, …], one for each class: no softmax at the model's end",
    "probability": "a probability in [0, 1]: a sigmoid at the model's end",
    "log-probability": "log-probabilities: a log-softmax at the model's end",
    "log-rate": "the logarithm of the mean: no exponential at the model's end",
    "positive": "a positive number",
    "embedding": "an embedding, a vector for each sample",
}
_LABELS = {
    "real": "any number",
    "sign": "−1 or +1; or classes 0 … C − 1, where outputs are [N, C, …]",
    "unit": "0 or 1, or between",
    "class": "a class, 0 … C − 1",
    "count": "0, 1, 2 …",
    "positive": "a positive number",
    "multi-hot": "0 or 1 for each class: a set of classes",
    "rank": "a rank, or a degree of relevance",
    "distribution": "a probability for each class",
}
_MEANT = {
    "calibrated": "whoever minimises it classifies as well as can be",
    "proper": "whoever minimises it knows the probabilities",
}


def print_catalogue(names: Iterable[str]) -> None:
    """Losses by kind, a line each, in 100 columns."""
    console = _console()
    names = list(names)
    if not names:
        console.print("no loss of the catalogue is as asked")
        return
    for kind in KINDS:
        own = [name for name in names if losses.CATALOGUE[name].kind == kind]
        if not own:
            continue
        table = Table(
            box=None,
            header_style="dim",
            pad_edge=False,
            padding=(0, 2, 0, 0),
            title=f"{kind} ({len(own)})",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("loss", no_wrap=True)
        table.add_column("formula", overflow="fold", ratio=1)
        for heading in ("convex", "Lipschitz", "smooth", "calibr.", "proper"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name in own:
            known = _known(losses.CATALOGUE[name])
            constants = (number(known.lipschitz), number(known.smooth))
            words = (_word(known.calibrated), _word(known.proper))
            table.add_row(name, known.formula, _word(known.convex), *constants, *words)
        console.print(table)
        console.print()
    console.print(f"{len(names)} losses; one in full: modelspace losses {names[0]}")


def print_side_by_side(names: list[str]) -> None:
    """Properties down, losses across."""
    rows = {name: dict(facts(losses.CATALOGUE[name])) for name in names}
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim", no_wrap=True)
    for name in names:
        table.add_column(name, overflow="fold")
    for what in dict.fromkeys(what for own in rows.values() for what in own):
        table.add_row(what, *(rows[name].get(what, "–") for name in names))
    _console().print(table)


def card(loss: Loss) -> str:
    """One loss in full: what it is, its properties in words, its curve.

    Args:
        loss: Of the catalogue.
    """
    summary = (type(loss).__doc__ or "").strip().splitlines()[0]
    lines = [loss.name, *textwrap.wrap(summary, _WIDTH), ""]
    for what, value in facts(loss, meant=True):
        first, *more = textwrap.wrap(value, _WIDTH - 16, break_on_hyphens=False) or [""]
        lines += [f"  {what:<12}  {first}", *(" " * 16 + line for line in more)]
    if has_curve(loss):
        curve = losses.curve(loss)
        for name, values in (("value", curve.value), ("slope", curve.slope)):
            lines += ["", *drawn(curve.points, values, title=f"{name} over the {curve.axis}")]
    return "\n".join(lines) + "\n"


def facts(loss: Loss, *, meant: bool = False) -> list[tuple[str, str]]:
    """What is known of a loss as (what, value) pairs for a reader.

    Args:
        loss: Of the catalogue.
        meant: Whether to say what the words mean.
    """
    known = _known(loss)
    outputs, labels = str(loss.outputs), str(loss.labels)
    rows = [
        ("kind", loss.kind),
        ("formula", known.formula),
        ("outputs", f"{outputs}: {_OUTPUTS[outputs]}" if meant and outputs in _OUTPUTS else outputs),
        ("labels", f"{labels}: {_LABELS[labels]}" if meant and labels in _LABELS else labels),
        ("parameters", "; ".join(f"{n} = {text}" for n, text in loss.parameters().items()) or "none"),
        ("convex", _word(known.convex)),
        ("Lipschitz", number(known.lipschitz)),
        ("smooth", number(known.smooth)),
        ("bound", number(known.bound)),
        ("minimiser", known.minimiser or "–"),
    ]
    for what in ("calibrated", "proper"):
        value = getattr(known, what)
        rows.append((what, _word(value) + (f": {_MEANT[what]}" if meant and value else "")))
    rows.append(("source", known.source))
    return [*rows, ("notes", known.notes)] if known.notes else rows


def _console() -> Terminal:
    return Terminal(width=None if sys.stdout.isatty() else _WIDTH)


def _known(loss: Loss) -> Any:
    known = loss.properties
    assert known is not None, f"{loss.name} is of the catalogue, whose losses all state their properties"
    return known


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "–"}[value]
