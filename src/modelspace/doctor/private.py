"""Random state of our own: nothing that a probe does is seen outside."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """PyTorch's, NumPy's and Python's global generators seeded for the block, and as they were after it.

    A model under examination may warn of anything, which is the model's affair: its warnings are not shown.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seed_all(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def seed_all(seed: int) -> None:
    """Seed every global generator that a forward may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
