"""How long and how much memory the anatomy of a large architecture takes: ``python -m benchmarks.anatomy_size``.

Each architecture is measured in a process of its own: built without memory, traced forward and backward, printed. It
ends with status 1 if one takes more than 10 seconds of processor time or 0.5 GB, of which PyTorch itself is the most.

In another process its laws over depth are found from small members, of n (which are only built) and of forward and
backward FLOP (which are traced), and evaluated at the published depth: processor time, after PyTorch has loaded its
compiler (about a second, which ``build s`` has in it). It ends with status 1 too if finding the law of n and
evaluating all three takes more than a second, or if one differs from the trace.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402
from cost.published import PUBLISHED  # noqa: E402

from modelspace.cost import MetaBuild, anatomy  # noqa: E402

SECONDS, BYTES = 10.0, 500_000_000
SECONDS_BY_LAW = 1.0
COUNTS = ("n", "forward_flops", "backward_flops")


def measured(name: str) -> dict[str, float]:
    """Seconds of building and tracing, the process's peak memory, and what was found."""
    published = PUBLISHED[name]
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor = time.perf_counter(), time.process_time()
    with MetaBuild():
        net = published.make(**published.size)
    built = time.perf_counter()
    record = anatomy(net, (published.tokens,), input_dtype=torch.long)
    return {
        "build_seconds": built - start,
        "trace_seconds": time.perf_counter() - built,
        "processor_seconds": time.process_time() - processor,
        "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "bytes_of_torch": 1024 * idle,
        "n": record.counts.parameters,
        "forward_flops": record.forward_flops,
        "backward_flops": record.backward_flops,
        "peak_bytes": record.peak_bytes,
        "operations": sum(operation.times for operation in record.operations),
    }


def by_law(name: str) -> dict[str, float]:
    """Seconds of finding the laws from small members and of evaluating them, and what they give."""
    import torch._dynamo  # noqa: F401

    published = PUBLISHED[name]
    start = time.process_time()
    laws = published.family().laws
    _ = laws["n"]
    known = time.process_time()
    found = [laws[quantity] for quantity in COUNTS]
    ready = time.process_time()
    values = {law.quantity: law(**published.size) for law in found}
    done = time.process_time()
    return {
        "n_seconds": known - start,
        "flop_seconds": ready - known,
        "evaluation_seconds": done - ready,
        **values,
    }


def asked(flag: str, name: str) -> dict[str, float]:
    """What one architecture's measurement in a process of its own prints.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.anatomy_size", flag, name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def main() -> int:
    """Measure each architecture and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(PUBLISHED)}; all where none is given"
    )
    parser.add_argument("--one", metavar="NAME", help="trace in this process and print JSON")
    parser.add_argument("--law", metavar="NAME", help="find the laws in this process and print JSON")
    options = parser.parse_args()
    if options.one or options.law:
        print(json.dumps(measured(options.one) if options.one else by_law(options.law)))
        return 0
    print(
        f"{'':12} {'parameters':>20} {'PFLOP fwd+bwd':>14} {'build s':>8} {'trace s':>8} {'CPU s':>6} "
        f"{'process MB':>11} {'torch MB':>9} {'law of n s':>11} {'of FLOP s':>10} {'by law ms':>10}  equal"
    )
    failed = False
    for name in options.names or PUBLISHED:
        try:
            found, law = asked("--one", name), asked("--law", name)
        except RuntimeError as error:
            print(f"{name:12} failed: {error}")
            failed = True
            continue
        equal = all(law[quantity] == found[quantity] for quantity in COUNTS)
        failed |= found["processor_seconds"] > SECONDS or found["bytes"] > BYTES or not equal
        failed |= law["n_seconds"] + law["evaluation_seconds"] > SECONDS_BY_LAW
        flops = (found["forward_flops"] + found["backward_flops"]) / 1e15
        print(
            f"{name:12} {found['n']:>20,} {flops:>14.3f} {found['build_seconds']:>8.2f} "
            f"{found['trace_seconds']:>8.2f} {found['processor_seconds']:>6.2f} "
            f"{found['bytes'] / 1e6:>11.0f} {found['bytes_of_torch'] / 1e6:>9.0f} "
            f"{law['n_seconds']:>11.2f} {law['flop_seconds']:>10.2f} {1e3 * law['evaluation_seconds']:>10.2f}  "
            f"{'yes' if equal else 'NO'}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
