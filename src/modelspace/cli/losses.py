"""``modelspace losses``: the catalogue of losses, one of them in full, several side by side."""

import argparse
import sys
from typing import Any

from modelspace import losses
from modelspace.atomic import whole_file
from modelspace.cli import loss_cards
from modelspace.cli.arguments import add_json
from modelspace.cli.results import print_json
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import KINDS, has_curve
from modelspace.plain import plain
from modelspace.report import write_curves_html, write_curves_png
from modelspace.show import say

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


def configure(parser: argparse.ArgumentParser) -> None:
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
        help="write value, slope and curvature as pictures: FILE.html, or FILE.png (needs matplotlib)",
    )
    add_json(parser)


def call(options: argparse.Namespace) -> int:
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
        sys.stdout.write(loss_cards.card(losses.CATALOGUE[names[0]]))
    elif options.names:
        loss_cards.print_side_by_side(names)
    else:
        loss_cards.print_catalogue(names)
    if options.plot is not None and not options.json:
        say(f"written: {options.plot}")
    return 0


def _plot(names: list[str], file: str, *, chosen: bool) -> None:
    """The curves of the losses; of a filtered catalogue, of those that have one."""
    drawable = [name for name in names if chosen or has_curve(losses.CATALOGUE[name])]
    found = losses.curves(*drawable)
    write = {".html": write_curves_html, ".png": write_curves_png}
    ending = next((end for end in write if file.endswith(end)), None)
    if ending is None:
        raise ModelspaceError(f"--plot writes FILE.html or FILE.png; received '{file}'")
    with whole_file(file) as path:
        write[ending](found, path)


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
