"""``modelspace predict``: what the members of a run say of new samples, together, and how unsure they are."""

import argparse
import sys
from pathlib import Path
from typing import Any

from modelspace import data as datasets
from modelspace.cli import arguments, results, trained
from modelspace.cli.arguments import add_json
from modelspace.cli.parser import Verb
from modelspace.ensemble import COMBINATIONS, Ensemble, predictions
from modelspace.errors import ModelspaceError
from modelspace.export import check_table, write_csv, write_table
from modelspace.progress import notice
from modelspace.show import say

USAGE = "%(prog)s RUN --data NEW (--trust | --architecture TARGET) [options]"
DESCRIPTION = """\
What the members of a finished run say of new samples: one prediction of all of them, the probability of each class,
the share of members that agree, and how unsure they are, in a part that more data would not change (aleatoric) and
one that members disagree in (epistemic); of values, the prediction and its standard deviation. RUN is what --out
named; of explore's folder its fresh seeds. Of several settings the best by the median validation score is taken.
With labels in NEW the scores are said too, the ensemble's beside its members'."""
EPILOG = """\
examples:
  modelspace predict runs/dummynet --data new.npz --trust --out predictions.csv
  modelspace predict runs/prices --data new.csv --fitted-on prices.csv --target price --trust --out new.parquet
  modelspace predict runs/seeds --data digits-7x7 --architecture nets.py:Net --where 'lr < 0.01' --combine vote
  modelspace predict runs/mlp --data new.npz --fitted-on digits --calibrate --trust > predictions.csv"""


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--data",
        dest="new",
        required=True,
        metavar="NEW",
        help="a .npz file with x (and perhaps y), a table, file.py:function, or data by name: its test split",
    )
    arguments.add_data(parser, required=False, flag="--fitted-on")
    trained.add_who(parser)
    how = parser.add_argument_group("prediction")
    how.add_argument("--combine", choices=list(COMBINATIONS), help="what suits the loss by default")
    how.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split of --fitted-on"
    )
    how.add_argument("--out", metavar="FILE", help=".csv or .parquet (by default, CSV on standard output)")
    add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Predict, say the scores where there are labels, write the table."""
    if options.out:
        check_table(options.out)
    run = trained.opened(trained.folder_of(options.run) or Path(options.run), options)
    like = arguments.load_data(options)
    new = datasets.whole(options.new, like)
    chosen, said = trained.members(run, options.where)
    ensemble = Ensemble(run, members=chosen, combine=options.combine)
    if options.calibrate:
        if like is None:
            raise ModelspaceError(
                "--calibrate fits a temperature on validation samples: give --fitted-on DATA"
            )
        ensemble.calibrate(like)
    table = predictions(ensemble, new, like.class_names if like else None)
    scores = ensemble.evaluate(new) if new.labels is not None else None
    notice(f"{len(ensemble)} members{said}, {ensemble.combine} of their predictions, {len(table):,} samples")
    if scores is not None and not options.json:
        notice(scores.to_string(float_format="{:.4g}".format))
    if options.out:
        write_table(table, options.out)
    if options.json:
        summary: dict[str, Any] = {
            "members": len(ensemble),
            "combine": ensemble.combine,
            "samples": len(table),
        }
        summary |= {"temperature": float(ensemble.temperature), "written": options.out}
        summary |= {"scores": None if scores is None else scores.to_dict("index")}
        summary |= {} if options.out else {"predictions": table.to_dict("records")}
        results.print_json(summary)
    elif options.out:
        say(f"written: {options.out}")
    else:
        write_csv(table, sys.stdout, index=False)
    return 0


VERBS = {"predict": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
