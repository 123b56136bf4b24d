"""How many mistakes the doctor finds, and how often it cries wolf: ``python -m benchmarks.diagnosis``.

The mistakes are those of ``tests/doctor/zoo.py``: faulty models as people wrote them, each with a corrected twin. A
fault is *found* if the rule that it is filed under fires on it; a *false alarm* is any finding of severity warning or
error on a twin.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from modelspace.doctor import RULES, Diagnosis, doctor
from modelspace.progress import progress

_TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True)
class Result:
    """One fault and its twin, examined.

    Attributes:
        fault: Its name.
        rule: The rule that it is filed under.
        found: Whether that rule fired.
        others: Other rules above info that fired on it.
        alarms: Findings above info on the twin.
        broken: Rules that ended with an exception, on either side.
        seconds: Time for both sides.
    """

    fault: str
    rule: str
    found: bool
    others: tuple[str, ...]
    alarms: tuple[str, ...]
    broken: tuple[str, ...]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine, print; exit status 1 if a fault was missed or a twin alarmed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="every fault as one JSON object, on standard output"
    )
    asked = parser.parse_args(arguments)
    sys.path.insert(0, str(_TESTS))
    from doctor.zoo import FAULTS  # pyright: ignore[reportMissingImports]

    with progress(f"examining {len(FAULTS)} faults and their twins", len(FAULTS), "faults") as advance:
        results = []
        for fault in FAULTS:
            results.append(examined(fault))
            advance(1)
    if asked.json:
        sys.stdout.write(json.dumps([vars(result) for result in results]) + "\n")
    else:
        _print(results)
    return int(any(not r.found or r.alarms or r.broken for r in results))


def examined(fault: Any) -> Result:
    """Both sides of one fault."""
    start = time.perf_counter()
    sick, well = examine(fault, faulty=True), examine(fault, faulty=False)
    return Result(
        fault=fault.name,
        rule=fault.rule,
        found=bool(sick.of(fault.rule)),
        others=tuple(sorted({f.rule for f in sick.findings if f.severity != "info"} - {fault.rule})),
        alarms=tuple(sorted({f.rule for f in well.findings if f.severity != "info" or f.rule == fault.rule})),
        broken=tuple(
            f"{rule}: {why}" for d in (sick, well) for rule, why in d.skipped.items() if " failed: " in why
        ),
        seconds=time.perf_counter() - start,
    )


def examine(fault: Any, *, faulty: bool, only: Sequence[str] | None = None) -> Diagnosis:
    """One side of one fault, examined as its user would have it.

    Args:
        fault: A `Fault` of the zoo.
        faulty: The faulty model, or its twin.
        only: The rules to try.
    """
    make = fault.faulty if faulty else fault.corrected
    loss, data = fault.loss, fault.data
    if not faulty:
        loss = loss if fault.corrected_loss is None else fault.corrected_loss
        data = data if fault.corrected_data is None else fault.corrected_data
    given = {"data": data()} if data is not None else {"inputs": fault.shape}
    return doctor(
        make,
        loss=loss,
        classes=fault.classes,
        formula=fault.formula,
        tokens=fault.tokens or None,
        only=only,
        **given,
    )


def _print(results: Iterable[Result]) -> None:
    results = list(results)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("rule", "faults", "found", "false alarms on twins"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for rule in RULES:
        own = [r for r in results if r.rule == rule.name]
        if own:
            found, alarms = sum(r.found for r in own), sum(bool(r.alarms) for r in own)
            table.add_row(rule.name, str(len(own)), str(found), str(alarms))
    found, alarms = sum(r.found for r in results), sum(bool(r.alarms) for r in results)
    table.add_row("all", str(len(results)), str(found), str(alarms), style="bold")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for result in results:
        if not result.found:
            console.print(
                f"missed: {result.fault} ({result.rule}); fired: {', '.join(result.others) or 'nothing'}"
            )
        if result.alarms:
            console.print(f"false alarm: {', '.join(result.alarms)} on the twin of: {result.fault}")
        if result.broken:
            console.print(f"broken: {'; '.join(result.broken)} on: {result.fault}", markup=False)
    slowest = max((r.seconds for r in results), default=0.0)
    console.print(
        f"{sum(r.seconds for r in results):.1f} s in all, {slowest:.1f} s at most for a fault and its twin"
    )


if __name__ == "__main__":
    sys.exit(main())
