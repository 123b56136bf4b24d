"""How fast a population is, against the plain loop and the machine's limit: ``python -m benchmarks``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [
    str(ROOT / folder) for folder in ("examples", "tests")
]  # DummyNet; what is true of some architectures
