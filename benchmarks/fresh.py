"""A measurement in a process of its own: nothing compiled, nothing allocated before it.

``python -m benchmarks.fresh NAME JSON`` is the child's side; it prints one JSON object.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]


def in_fresh_process(measurement: str, threads: int, **arguments: Any) -> dict[str, Any]:
    """What a measurement returns, made by a new process.

    Args:
        measurement: One of ``_measurements``.
        threads: Of the new process.
        **arguments: Of the measurement; plain values, the device among them.

    Raises:
        subprocess.CalledProcessError: it failed; its message is on standard error.
    """
    with nothing_remembered():
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.fresh",
                measurement,
                json.dumps({"threads": threads, **arguments}),
            ],
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Within the block, compiled programs and earlier measurements are looked for in new, empty folders.

    So compiling and planning cost what they cost.
    """
    names = ("TORCHINDUCTOR_CACHE_DIR", "MODELSPACE_CACHE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="modelspace-bench-", ignore_cleanup_errors=True) as folder:
        os.environ.update({name: f"{folder}/{name.lower()}" for name in names})
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]
            os.environ.update(before)


def _measurements() -> dict[str, Callable[..., dict[str, Any]]]:
    from benchmarks import scaling, ten_thousand, whole_fit

    return {"fit": whole_fit.child, "scaling": scaling.child, "ten-thousand": ten_thousand.child}


if __name__ == "__main__":
    import torch

    from benchmarks.device import use

    given = json.loads(sys.argv[2])
    torch.set_num_threads(given.pop("threads"))
    use(given["device"])
    print(json.dumps(_measurements()[sys.argv[1]](**given)))
