"""How long and how much memory the anatomy of a large architecture takes: ``python -m benchmarks.anatomy_size``.

Each architecture is measured in a process of its own: built without memory, traced forward and backward, printed. It
ends with status 1 if one takes more than 10 seconds of processor time or 0.5 GB, of which PyTorch itself is the most.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS, BYTES = 10.0, 500_000_000
TOKENS = {"gpt-2": 1024, "llama-70b": 4096, "deepseek-v3": 4096, "mixture-1t": 4096}


def network(name: str):
    """The architecture, from public figures; the tests hold its counts."""
    from space.anatomy import published

    makers = {
        "gpt-2": published.GPT,
        "llama-70b": published.Llama,
        "deepseek-v3": published.DeepSeek,
        "mixture-1t": published.Mixture,
    }
    return makers[name]()


def measured(name: str) -> dict[str, float]:
    """Seconds of building and tracing, the process's peak memory, and what was found."""
    import torch

    from modelspace.space.anatomy import MetaBuild, anatomy

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor = time.perf_counter(), time.process_time()
    with MetaBuild():
        net = network(name)
    built = time.perf_counter()
    record = anatomy(net, (TOKENS[name],), input_dtype=torch.long)
    return {
        "build_seconds": built - start,
        "trace_seconds": time.perf_counter() - built,
        "processor_seconds": time.process_time() - processor,
        "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "bytes_of_torch": 1024 * idle,
        "parameters": record.counts.parameters,
        "forward_flops": record.forward_flops,
        "backward_flops": record.backward_flops,
        "peak_bytes": record.peak_bytes,
        "operations": sum(operation.times for operation in record.operations),
    }


def main() -> int:
    """Measure each architecture and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(TOKENS)}; all where none is given"
    )
    parser.add_argument("--one", metavar="NAME", help="measure in this process and print JSON")
    options = parser.parse_args()
    if options.one:
        sys.path.insert(0, str(ROOT / "tests"))
        print(json.dumps(measured(options.one)))
        return 0
    print(
        f"{'':12} {'parameters':>20} {'PFLOP fwd+bwd':>14} {'build s':>8} {'trace s':>8} {'CPU s':>6} "
        f"{'process MB':>11} {'torch MB':>9}"
    )
    failed = False
    for name in options.names or TOKENS:
        command = [sys.executable, "-m", "benchmarks.anatomy_size", "--one", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:12} failed: {done.stderr.strip().splitlines()[-1]}")
            failed = True
            continue
        found = json.loads(done.stdout)
        failed |= found["processor_seconds"] > SECONDS or found["bytes"] > BYTES
        flops = (found["forward_flops"] + found["backward_flops"]) / 1e15
        print(
            f"{name:12} {found['parameters']:>20,} {flops:>14.3f} {found['build_seconds']:>8.2f} "
            f"{found['trace_seconds']:>8.2f} {found['processor_seconds']:>6.2f} "
            f"{found['bytes'] / 1e6:>11.0f} {found['bytes_of_torch'] / 1e6:>9.0f}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
