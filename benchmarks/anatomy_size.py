"""How long and how much memory the anatomy of a large architecture takes: ``python -m benchmarks.anatomy_size``.

Each architecture is measured in a process of its own: built without memory, traced forward and backward, printed. It
ends with status 1 if one takes more than 10 seconds of processor time or 0.5 GB, of which PyTorch itself is the most.

In another process its laws over depth are found from small members, of n (which are only built) and of forward and
backward FLOP (which are traced), and evaluated at the published depth: processor time, after PyTorch has loaded its
compiler (about a second, which ``build s`` has in it). It ends with status 1 too if finding the law of n and
evaluating all three takes more than a second, or if one differs from the trace.
"""

import argparse
import subprocess
import sys
import time
from typing import Any

import torch
from cost.published import PUBLISHED

from benchmarks.machine import in_fresh_process, peak_mib
from benchmarks.tables import draw, each, table
from modelspace.cost import MetaBuild, anatomy

SECONDS, MEGABYTES, SECONDS_BY_LAW = 10, 500, 1
COUNTS = ("n", "forward_flops", "backward_flops")


def traced(device: str, name: str) -> dict[str, float]:
    """In a fresh process: seconds of building and tracing, the peak memory, and what was found."""
    del device
    published = PUBLISHED[name]
    idle = peak_mib()
    start, processor = time.perf_counter(), time.process_time()
    with MetaBuild():
        net = published.make(**published.size)
    built = time.perf_counter()
    record = anatomy(net, (published.tokens,), input_dtype=torch.long)
    seconds = {"build": built - start, "trace": time.perf_counter() - built}
    seconds |= {"processor": time.process_time() - processor}
    counts = record.counts.parameters, record.forward_flops, record.backward_flops
    found = dict(zip(COUNTS, counts, strict=True))
    return seconds | {"mb": peak_mib() * 1.048576, "torch_mb": idle * 1.048576} | found


def by_law(device: str, name: str) -> dict[str, float]:
    """In a fresh process: seconds of finding the laws from small members and evaluating them, and what they give."""
    del device
    import torch._dynamo  # noqa: F401

    published = PUBLISHED[name]
    marks = [time.process_time()]
    laws = published.family().laws
    _ = laws["n"]
    marks.append(time.process_time())
    found = [laws[quantity] for quantity in COUNTS]
    marks.append(time.process_time())
    values = {law.quantity: law(**published.size) for law in found}
    marks.append(time.process_time())
    return {part: marks[i + 1] - marks[i] for i, part in enumerate(("law", "flop", "evaluation"))} | values


def measured(name: str) -> dict[str, Any]:
    """Of one architecture, both in two processes, and whether they agree and keep to the limits."""
    try:
        one = in_fresh_process("anatomy_size:traced", "cpu", name=name)
        law = in_fresh_process("anatomy_size:by_law", "cpu", name=name)
    except subprocess.CalledProcessError:  # it has said why
        return {"name": name, "agree": "failed", "met": False}
    equal = all(law[quantity] == one[quantity] for quantity in COUNTS)
    small = one["processor"] <= SECONDS and one["mb"] <= MEGABYTES
    pflop, law_ms = (one["forward_flops"] + one["backward_flops"]) / 1e15, 1e3 * law["evaluation"]
    met = equal and small and law["law"] + law["evaluation"] <= SECONDS_BY_LAW
    found = {"name": name, "agree": "yes" if equal else "NO", "met": met, "pflop": pflop, "law_ms": law_ms}
    return found | law | one


def main() -> int:
    """Measure each architecture and print a table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = f"of {', '.join(PUBLISHED)}; all where none is given"
    parser.add_argument("names", nargs="*", metavar="NAME", help=every)
    names = parser.parse_args().names or list(PUBLISHED)
    rows = [measured(name) for name in each("building and tracing", names, "architectures")]
    columns = (
        "architecture: {name} | parameters: {n:,} | PFLOP fwd+bwd: {pflop:.3f} | build s: {build:.2f} | "
        "trace s: {trace:.2f} | CPU s: {processor:.2f} | process MB: {mb:.0f} | torch MB: {torch_mb:.0f} | "
        "law of n s: {law:.2f} | of FLOP s: {flop:.2f} | by law ms: {law_ms:.2f} | equal: {agree}"
    )
    draw("", table("", columns, rows), width=220)
    return int(not all(row["met"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
