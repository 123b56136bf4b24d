"""The order in which samples are shown: a pure function of (data seed, epoch).

So members with the same data seed see the same batches whatever population, shard or machine they are in, and
a resumed run goes on where it was without any stored generator state. The numbers are those of NumPy's
``Generator.permutation``, which NumPy may change between feature releases: compare runs under one version.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace.data.randomness import generator
from modelspace.errors import ModelspaceError


def permutation(samples: int, seed: int, epoch: int) -> Int64[Tensor, "sample"]:
    """The order of all samples in one epoch.

    Args:
        samples: How many there are, ≥ 1.
        seed: The data seed, 0 … 2⁶³ − 1.
        epoch: Counted from 0.

    Returns:
        Each of 0 … samples − 1 once.

    Raises:
        ModelspaceError: an argument is out of range.

    >>> sorted(permutation(4, seed=0, epoch=0).tolist())
    [0, 1, 2, 3]
    """
    if samples < 1:
        raise ModelspaceError(f"{samples} samples have no order: give at least one")
    return torch.from_numpy(generator(seed, epoch).permutation(samples))


def epoch_indices(samples: int, batch_size: int, seed: int, epoch: int) -> Int64[Tensor, "step batch"]:
    """The batches of one epoch, one row of sample indices a step.

    ⌊samples / batch_size⌋ whole batches; the incomplete last one is left out, and since every epoch has
    another order, other samples are left out each time. A batch larger than the data is all of the data.

    Args:
        samples: How many there are, ≥ 1.
        batch_size: Samples a step, ≥ 1.
        seed: The data seed, 0 … 2⁶³ − 1.
        epoch: Counted from 0.

    Returns:
        Indices into the samples, none of them twice.

    Raises:
        ModelspaceError: an argument is out of range.

    >>> epoch_indices(samples=10, batch_size=4, seed=0, epoch=0).shape
    torch.Size([2, 4])
    """
    if batch_size < 1:
        raise ModelspaceError(f"batch size {batch_size}: give at least 1")
    order = permutation(samples, seed, epoch)
    batch = min(batch_size, samples)
    steps = samples // batch
    return order[: steps * batch].view(steps, batch)
