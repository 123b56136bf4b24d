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


def drawn_since(seed: int) -> bool:
    """Whether random numbers have been drawn since ``seed_all(seed)``, from any of the global generators."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    return not (
        torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state())
        and random.getstate() == random.Random(seed).getstate()
        and str(numpy_state) == str(np.random.RandomState(seed % 2**32).get_state(legacy=False))
    )


def seed_all(seed: int) -> None:
    """Seed every global generator that a forward may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
