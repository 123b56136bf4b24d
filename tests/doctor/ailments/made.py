"""Small data sets for the mistakes that lie between model and data."""

import torch

from modelspace.data import Data, Split


def data(shape, labels, tokens=0, samples=24):
    """Random inputs; ``labels`` takes their number and a generator."""
    generator = torch.Generator().manual_seed(0)
    if tokens:
        inputs = torch.randint(tokens, (samples, *shape), generator=generator)
    else:
        inputs = torch.randn(samples, *shape, generator=generator)
    targets = labels(samples, generator)
    cuts = (slice(0, 16), slice(16, 20), slice(20, None))
    return Data("made", *(Split(inputs[cut], targets[cut]) for cut in cuts))


def classes(count, first=0):
    """Each class occurs in every split."""
    return lambda samples, generator: torch.arange(samples) % count + first


def reals(*shape):
    return lambda samples, generator: torch.randn(samples, *shape, generator=generator)


def counts(*shape):
    return lambda samples, generator: torch.randint(5, (samples, *shape), generator=generator).float()


def zeros_and_ones(*shape):
    return lambda samples, generator: torch.randint(2, (samples, *shape), generator=generator).float()


def plus_minus_one(*shape):
    return lambda samples, generator: 2.0 * torch.randint(2, (samples, *shape), generator=generator) - 1
