"""The command line of the benchmarks."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.arguments import device, parser
from benchmarks.device import use
from benchmarks.environment import file_name
from benchmarks.record import Results
from benchmarks.run import run
from benchmarks.settings import QUICK, Settings, for_device
from benchmarks.tables import draw
from benchmarks.workloads import EXTRAS
from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError

_RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    asked = parser().parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    only = asked.only or (["dummynet", "mlp", "cnn"] if asked.quick else [])
    extras = [
        e for e, wanted in zip(EXTRAS, (asked.curve, asked.ten_thousand), strict=True) if wanted or asked.all
    ]
    try:
        settings = _settings(asked)
        use(settings.device)
        results = run(only, settings, extras)
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
    missed = not all(check.met for check in results.checks)
    return int(missed and not (asked.quick or asked.no_assert))


def _settings(asked: argparse.Namespace) -> Settings:
    where = device(asked.device)
    settings = replace(QUICK, device=where) if asked.quick else for_device(Settings(), where)
    given = {"repeats": asked.repeats, "members": asked.members, "peers": asked.peers}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


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


if __name__ == "__main__":
    sys.exit(main())
