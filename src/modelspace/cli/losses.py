"""``modelspace losses``: the catalogue of losses, one of them in full, several side by side."""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from modelspace import losses
from modelspace.cli.arguments import add_json
from modelspace.cli.parser import Verb
from modelspace.cli.results import print_json
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import KINDS, Loss, has_curve
from modelspace.plain import plain
from modelspace.report import curves_figure, write_figure
from modelspace.show import Terminal, number, say

USAGE = "%(prog)s [NAME …] [--kind KIND] [--convex] [--calibrated] [--proper] [options]"
DESCRIPTION = """\
The losses, by kind: regression (of a residual), margin (of v = y z, labels -1 and +1), multiclass (of logits) and
structured (of sets, ranks, masks, embeddings). Every property that is printed is proved by a test.

  convex      in the outputs: a linear model has no bad local minimum
  Lipschitz   the steepest slope: how hard one outlier can pull; inf where there is no limit
  smooth      the sharpest bend (Lipschitz constant of the gradient); inf at a kink
  calibrated  whoever minimises it classifies as well as can be (Bartlett, Jordan, McAuliffe 2006)
  proper      whoever minimises it knows the probabilities, and its inverse link gives them back

One NAME prints that loss in full; several stand side by side. A name here is what fit and explore take: --loss."""
EPILOG = """\
examples:
  modelspace losses
  modelspace losses --kind margin --convex --calibrated
  modelspace losses --labels class --proper
  modelspace losses logistic
  modelspace losses logistic hinge squared_hinge --plot margins.html
  modelspace losses --kind regression --no-convex --json"""

_YES_NO = {
    "convex": "convex in the outputs, or --no-convex: not",
    "lipschitz": "with a finite Lipschitz constant, or --no-lipschitz",
    "smooth": "with a finite constant of smoothness, or --no-smooth",
    "bounded": "bounded above, or --no-bounded",
    "calibrated": "classification-calibrated, or --no-calibrated",
    "proper": "gives back the probabilities, or --no-proper",
}


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="losses by name (default: all that are as asked)"
    )
    parser.add_argument("--kind", metavar="KIND", help=f"one of: {', '.join(KINDS)}")
    parser.add_argument("--outputs", metavar="KIND", help="what outputs are taken for: score, logits, real …")
    parser.add_argument("--labels", metavar="KIND", help="what labels are: sign, class, real, count …")
    for name, text in _YES_NO.items():
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None, help=text)
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw value, slope and curvature: FILE.html, FILE.png, FILE.svg or FILE.pdf",
    )
    add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Print the catalogue or the losses named, and draw them."""
    asked = {name: getattr(options, name) for name in ("kind", "outputs", "labels", *_YES_NO)}
    asked = {name: value for name, value in asked.items() if value is not None}
    if options.names and asked:
        raise ModelspaceError(
            f"names choose losses and so does --{next(iter(asked))}: give names, or filters of the catalogue"
        )
    unknown = next((name for name in options.names if name not in losses.CATALOGUE), None)
    if unknown is not None:
        raise unknown_name("loss", unknown, losses.CATALOGUE)
    names = list(dict.fromkeys(options.names)) or list(losses.table(**asked).index)
    if options.plot is not None:
        _plot(names, options.plot, chosen=bool(options.names))
    if options.json:
        print_json({"losses": [_plain(name) for name in names]})
    elif len(options.names) == 1:
        sys.stdout.write(card(losses.CATALOGUE[names[0]]))
    elif options.names:
        print_side_by_side(names)
    else:
        print_catalogue(names)
    if options.plot is not None and not options.json:
        say(f"written: {options.plot}")
    return 0


def _plot(names: list[str], file: str, *, chosen: bool) -> None:
    """The curves of the losses; of a filtered catalogue, of those that have one."""
    drawable = [name for name in names if chosen or has_curve(losses.CATALOGUE[name])]
    found = losses.curves(*drawable)
    figure = curves_figure(found, height=460)
    title = {"text": f"Over the {found[0].axis}", "font": {"size": 16}}
    write_figure(figure.update_layout(title=title, margin={"t": 100}), file)


def _plain(name: str) -> dict[str, Any]:
    """One loss as plain values."""
    loss = losses.CATALOGUE[name]
    ranges = loss.ranges()
    return {
        "name": name,
        "kind": loss.kind,
        "outputs": loss.outputs,
        "labels": loss.labels,
        "parameters": [
            {"name": n, "default": value, "range": ranges[n].expected if n in ranges else None}
            for n, value in loss.hyperparameters().items()
        ],
        **plain(loss.properties),
    }


_WIDTH = 100
_BLANK = 0x2800  # Unicode's braille patterns: two dots across and four down in each character
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_MARGIN = 9
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


def drawn(
    x: Sequence[float], y: Sequence[float], *, width: int = 72, height: int = 8, title: str = ""
) -> list[str]:
    """Lines of text that show y over x: a frame to the left and below, the ends of both axes, dots for the curve.

    Args:
        x: Ascending, at least 2.
        y: As many finite numbers.
        width: Of each line, in characters, at least 24.
        height: Of the curve, in lines.
        title: What y is; the first line.

    Example:
        >>> for line in drawn([0, 1, 2], [0, 1, 2], width=24, height=2):
        ...     print(line)
               2 │⠀⠀⠀⠀⠀⠀⠀⣀⣀⠤⠤⠒⠒⠉
               0 │⣀⠤⠤⠒⠒⠉⠉⠀⠀⠀⠀⠀⠀⠀
                 └──────────────
                  0            2
    """
    across, down = width - _MARGIN - 1, height
    low, high = min(y), max(y)
    if low == high:
        low, high = low - 1, high + 1
    cells = [[_BLANK] * across for _ in range(down)]
    before = None
    for column in range(2 * across):
        at = x[0] + (x[-1] - x[0]) * column / (2 * across - 1)
        place = round((high - _between(x, y, at)) / (high - low) * (4 * down - 1))
        # A steep piece is drawn as an upright stroke, so that the curve is one line.
        start = (
            place if before is None or abs(before - place) <= 1 else before + (1 if place > before else -1)
        )
        for row in range(min(start, place), max(start, place) + 1):
            cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
        before = place
    ends = {0: f"{high:.3g}", down - 1: f"{low:.3g}"}
    lines = [f"{ends.get(i, ''):>{_MARGIN - 1}} │" + "".join(map(chr, row)) for i, row in enumerate(cells)]
    left, right = f"{x[0]:.3g}", f"{x[-1]:.3g}"
    feet = [" " * _MARGIN + "└" + "─" * across, " " * (_MARGIN + 1) + left + right.rjust(across - len(left))]
    return [line.replace("-", "−") for line in (*([title] if title else []), *lines, *feet)]


def _between(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """The value at a place by the straight line between its neighbours."""
    i = max(1, next((i for i, known in enumerate(x) if known >= at), len(x) - 1))
    share = (at - x[i - 1]) / (x[i] - x[i - 1])
    return y[i - 1] + min(1.0, max(0.0, share)) * (y[i] - y[i - 1])


VERBS = {"losses": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
