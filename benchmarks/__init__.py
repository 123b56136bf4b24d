"""How fast a population is, against the plain loop and the machine's limit: ``python -m benchmarks``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # what is true of some architectures
