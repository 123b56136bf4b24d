"""Counters of parameters and FLOP against counts by hand: ``python -m benchmarks.anatomy``.

Twelve small architectures, each asked of every counter that is installed. A cell says what the counter found relative
to the count by hand. It ends with status 1 if ours is not equal to the hand count everywhere.
"""

import argparse
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.anatomy_models import Subject, subjects
from benchmarks.anatomy_peers import COUNTERS, Count, counted
from benchmarks.environment import environment, file_name

RESULTS = Path(__file__).parent / "results"
WITHIN = 0.02


def measured(subject: Subject) -> dict[str, Count | str]:
    """What each counter finds, each on a module of its own: some leave hooks and buffers behind."""
    return {name: counted(name, subject.make().eval(), subject.sample()) for name in COUNTERS}


def cell(found: Count | str, subject: Subject) -> tuple[str, str]:
    """Parameters and FLOP, as one reads them: exact, or how far off."""
    if isinstance(found, str):
        return found, found
    parameters, flops = found
    return ("–" if parameters is None else off(parameters, subject.parameters)), off(flops, subject.flops)


def off(found: int, true: int) -> str:
    """``exact``, or the deviation in per cent."""
    return "exact" if found == true else f"{100 * (found / true - 1):+.1f} %"


def table(found: dict[str, dict[str, Count | str]], which: int) -> str:
    """Deviations of parameters (0) or FLOP (1), a row an architecture; then how many are exact, or near."""
    twelve = subjects()
    head = ["", "by hand", *COUNTERS]
    rows = [
        [
            s.name,
            f"{(s.parameters, s.flops)[which]:,}",
            *(cell(found[s.name][name], s)[which] for name in COUNTERS),
        ]
        for s in twelve
    ]
    scores = {name: [score(found[s.name][name], s, which) for s in twelve] for name in COUNTERS}
    rows.append(
        ["exact", "", *(f"{sum(x == 0 for x in column if x is not None)}" for column in scores.values())]
    )
    near = {n: sum(abs(x) <= WITHIN for x in column if x is not None) for n, column in scores.items()}
    rows.append([f"within {WITHIN:.0%}", "", *map(str, near.values())])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def score(found: Count | str, subject: Subject, which: int) -> float | None:
    """The relative deviation; None where there is no number."""
    value = None if isinstance(found, str) else found[which]
    return None if value is None else value / (subject.parameters, subject.flops)[which] - 1


def record(found: dict[str, dict[str, Count | str]]) -> dict[str, Any]:
    """The result file."""
    return {
        "environment": {
            **environment(),
            "packages": {name: _version(p) for name, (_, p) in COUNTERS.items()},
        },
        "unit": "FLOP; a multiply-and-add is two; MAC of the counters are doubled",
        "architectures": {
            s.name: {
                "by_hand": {"parameters": s.parameters, "flops": s.flops},
                **{
                    name: value if isinstance(value, str) else {"parameters": value[0], "flops": value[1]}
                    for name, value in found[s.name].items()
                },
            }
            for s in subjects()
        },
    }


def main() -> int:
    """Print both tables and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the result file (default: in benchmarks/results, by date)")
    options = parser.parse_args()
    found = {subject.name: measured(subject) for subject in subjects()}
    sys.stdout.write(f"FLOP of one forward, deviation from the count by hand\n{table(found, 1)}\n\n")
    sys.stdout.write(f"parameters\n{table(found, 0)}\n")
    plain = record(found)
    path = options.out or RESULTS / file_name(plain["environment"]).replace(".json", "-anatomy.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"\nwritten to {path}\n")
    wrong = [s.name for s in subjects() if found[s.name]["modelspace"] != (s.parameters, s.flops)]
    if wrong:
        sys.stdout.write(f"ours differ from the count by hand: {', '.join(wrong)}\n")
    return 1 if wrong else 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
