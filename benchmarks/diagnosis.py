"""How many mistakes the doctor finds, and how often it cries wolf: ``python -m benchmarks.diagnosis``.

The mistakes are those of ``tests/doctor/zoo.py``: faulty models as people wrote them, each with a corrected twin. A
fault is *found* if the rule that it is filed under fires on it; a *false alarm* is any finding of severity warning or
error on a twin. Then the doctor is held beside three others on the same models, as ``benchmarks/doctors.py`` tells.

Exit status 1: a fault was missed, a twin alarmed, or a rule ended with an exception.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from doctor import zoo
from doctor.ailments.fault import examine
from rich.console import Console

from benchmarks import doctors
from benchmarks.tables import each, table
from modelspace.doctor import RULES


def examined(fault: Any) -> dict[str, Any]:
    """Both sides of one fault: whether its rule fired, what else did, and what fired on the twin."""
    start = time.perf_counter()
    sick, well = examine(fault, faulty=True), examine(fault, faulty=False)
    skipped = [item for diagnosis in (sick, well) for item in diagnosis.skipped.items()]
    return {
        "fault": fault.name,
        "rule": fault.rule,
        "found": bool(sick.of(fault.rule)),
        "others": sorted({f.rule for f in sick.findings if f.severity != "info"} - {fault.rule}),
        "alarms": sorted({f.rule for f in well.findings if f.severity != "info" or f.rule == fault.rule}),
        "broken": [f"{rule}: {why}" for rule, why in skipped if " failed: " in why],
        "seconds": time.perf_counter() - start,
    }


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print a row for each rule, a line for whatever went wrong."""
    console = Console(highlight=False, soft_wrap=True)
    rows = []
    for rule in (*(r.name for r in RULES), "all"):
        own = [r for r in results if rule in (r["rule"], "all")]
        found, alarms = sum(r["found"] for r in own), sum(bool(r["alarms"]) for r in own)
        rows += [{"rule": rule, "faults": len(own), "found": found, "alarms": alarms}] if own else []
    columns = "rule: {rule} | faults: {faults} | found: {found} | false alarms on twins: {alarms}"
    console.print(*table("", columns, rows))
    for r in results:
        if not r["found"]:
            fired = ", ".join(r["others"]) or "nothing"
            console.print(f"missed: {r['fault']} ({r['rule']}); fired: {fired}", markup=False)
        if r["alarms"]:
            console.print(f"false alarm: {', '.join(r['alarms'])} on the twin of: {r['fault']}", markup=False)
        if r["broken"]:
            console.print(f"broken: {'; '.join(r['broken'])} on: {r['fault']}", markup=False)
    seconds = [r["seconds"] for r in results]
    console.print(f"{sum(seconds):.1f} s in all, {max(seconds):.1f} s at most for a fault and its twin")


def beside(records: Sequence[dict[str, Any]]) -> None:
    """Print a row for each tool; of one that isn't installed, that it isn't."""
    columns = (
        "of what: {tool} | faults: {faults} | found: {found} | recall: {recall:.2f} | false alarms: {alarms}"
    )
    columns += " | precision: {precision:.2f} | CPU seconds a model: {seconds:.3f} | : {missing}"
    note = "The models are those that our rules were written for: of others our recall is not known."
    Console(highlight=False, width=120).print(*table("", columns, records, note))


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine, print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis", description=__doc__)
    parser.add_argument("--alone", action="store_true", help="without the other doctors")
    every = "every fault as one JSON object, on standard output"
    parser.add_argument("--json", action="store_true", help=every)
    asked = parser.parse_args(arguments)
    faults = each(f"examining {len(zoo.FAULTS)} faults and their twins", zoo.FAULTS, "faults")
    results = [examined(fault) for fault in faults]
    if asked.json:
        sys.stdout.write(json.dumps(results) + "\n")
    else:
        show(results)
        if not asked.alone:
            beside(doctors.measured(zoo.FAULTS))
    return int(any(not r["found"] or r["alarms"] or r["broken"] for r in results))


if __name__ == "__main__":
    sys.exit(main())
