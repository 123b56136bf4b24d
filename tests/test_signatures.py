"""The signatures of arrays are true: the smallest fit runs while they are checked, and a wrong one is refused.

`make test-types` runs every test so.
"""

import os
import subprocess
import sys

import pytest

WRONG = """
from support import typed
typed.install()
import torch
from modelspace.optimizers import SGD
SGD().init(torch.zeros(2, 3))
SGD().init(torch.zeros(3))
"""


def run(*arguments):
    folder = os.path.dirname(__file__)
    environment = {**os.environ, "MODELSPACE_TYPES": "1", "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=os.path.dirname(folder),
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_small_fit_keeps_its_signatures():
    done = run("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", "tests/test_tiny.py")
    assert done.returncode == 0, done.stdout


def test_a_wrong_number_of_dimensions_is_refused():
    done = run("-c", WRONG)
    assert "TypeCheckError" in done.stderr
    assert "f32[3](torch)" in done.stderr
