"""Freed memory stays in the process: what was freed is had again without a page fault."""

import subprocess
import sys

import pytest

from modelspace.engine.function import keep_freed_memory

PROGRAM = """
import resource, torch
from modelspace.engine.function import keep_freed_memory
assert keep_freed_memory()

def blocks():
    return [torch.ones(2**20) for _ in range(6)]  # 4 MiB each

for _ in range(3):
    blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return int(out.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="this system's allocator has no such thresholds")
def test_no_page_faults_from_step_to_step():
    # Without, it is thousands in most processes, and none where the heap happens to lie well.
    assert page_faults() < 64
