"""The command line of the benchmarks."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.environment import file_name
from benchmarks.record import Results
from benchmarks.run import QUICK, Settings, run
from benchmarks.table import draw
from benchmarks.targets import checks
from benchmarks.workloads import WORKLOADS
from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError

_RESULTS = Path(__file__).parent / "results"

_DESCRIPTION = """\
How fast is training K networks as one population, against the plain PyTorch loop and against the machine?

Three questions, each answered with both sides measured in the same run:

  steps    One training step in steady state (forward, backward, Adam, float32). Loop and population take
           turns in one process, and a large matrix product is timed beside every turn: 'of limit' is the
           useful FLOP of a step (the matrix products of forward and backward) at the rate of that product.
  fit      One call of modelspace.fit in a fresh process with nothing compiled: what a user waits for.
  scaling  DummyNet with K = 64 to 4096 and the same total work, each K in a fresh process: the throughput
           must stay flat, and so should the memory.

A ratio holds better than a time. On a busy machine look at its range, and at the rate of the matrix product,
which a quiet machine keeps from row to row; with as many threads as cores, one busy neighbour costs much.
"""

_EPILOG = """\
examples:
  python -m benchmarks                              everything but the optional: about ten minutes
  python -m benchmarks --only mlp                   the MLP at every batch size
  python -m benchmarks --only cnn-128 --threads 1 --json -
  python -m benchmarks --quick --only dummynet-32   does it run at all? seconds
  python -m benchmarks --only scaling --ten-thousand

A whole run is also written to benchmarks/results/<date>-<device>-<threads>threads.json, with every repeat's
raw numbers; a part of one (--only, --quick) only where --json says.

Exit status: 0, every target met (or --no-assert, or --quick); 1, a target missed;
2, bad usage.
"""


def parser() -> argparse.ArgumentParser:
    """What can be asked."""
    names = ", ".join(w.name for w in WORKLOADS)
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"only this; may be repeated: {names}; a network without its batch size; fit, scaling",
    )
    made.add_argument(
        "--all", action="store_true", help="also the residual net, the transformer layer and the LSTM"
    )
    made.add_argument(
        "--ten-thousand",
        action="store_true",
        help="also the seed study: 10,000 seeds of DummyNet, 20 epochs, tested",
    )
    made.add_argument(
        "--repeats", type=_positive, metavar="N", help=f"turns of each side ({Settings.repeats})"
    )
    made.add_argument(
        "--members", type=_positive, metavar="K", help=f"members in the step benchmarks ({Settings.members})"
    )
    made.add_argument(
        "--threads", type=_positive, metavar="N", help="of PyTorch (as it chooses: OMP_NUM_THREADS, or all)"
    )
    made.add_argument(
        "--quick", action="store_true", help="a few members for a moment, nothing compiled, nothing asserted"
    )
    made.add_argument("--json", metavar="PATH", help="write the results there; '-' for standard output")
    made.add_argument("--no-assert", action="store_true", help="exit 0 although a target was missed")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    asked = parser().parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    settings = QUICK if asked.quick else Settings()
    settings = replace(
        settings, repeats=asked.repeats or settings.repeats, members=asked.members or settings.members
    )
    only = asked.only or (["dummynet", "mlp", "cnn"] if asked.quick else [])
    try:
        results = run(only, settings, optional=asked.all, study=asked.ten_thousand)
        draw(results, stderr=asked.json == "-")
        _write(results, asked.json, whole=not only)
    except ModelspaceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except subprocess.CalledProcessError as error:
        # The child has said why.
        sys.stderr.write(
            f"a measurement in a process of its own failed with exit status {error.returncode}\n"
        )
        return 3
    missed = not all(check.met for check in checks(results))
    return int(missed and not (asked.quick or asked.no_assert))


def _write(results: Results, place: str | None, *, whole: bool) -> None:
    if place is None and not whole:
        return
    text = json.dumps(results.as_dict(), indent=2, ensure_ascii=False) + "\n"
    if place == "-":
        sys.stdout.write(text)
        return
    path = Path(place) if place else _RESULTS / file_name(results.environment)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    sys.stderr.write(f"written: {path}\n")


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return value


if __name__ == "__main__":
    sys.exit(main())
