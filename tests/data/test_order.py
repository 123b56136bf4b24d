import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelspace.data import epoch_indices, permutation
from modelspace.errors import ModelspaceError

SEEDS = st.integers(0, 2**63 - 1)


@given(samples=st.integers(1, 300), seed=SEEDS, epoch=st.integers(0, 10**6))
def test_a_permutation_holds_every_sample_once_and_comes_again(samples, seed, epoch):
    order = permutation(samples, seed, epoch)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(samples))
    random.random()
    np.random.default_rng().random()
    torch.rand(3)
    assert torch.equal(order, permutation(samples, seed, epoch))


def test_another_seed_or_epoch_gives_another_order():
    # 40! orders: two equal ones among 400 mean a shared stream.
    orders = {tuple(permutation(40, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_a_large_seed_does_not_repeat_a_small_one_at_another_epoch():
    # What SeedSequence([seed, epoch]) gets wrong: it joins 32-bit words, and pads with zeros.
    assert not torch.equal(permutation(40, 5 + 7 * 2**32, 0), permutation(40, 5, 7))
    assert not torch.equal(permutation(40, 5, 0), permutation(40, 5 + 2**32, 0))


def test_every_position_is_taken_by_every_sample_alike():
    samples, epochs = 5, 5000
    first = torch.stack([permutation(samples, 3, epoch) for epoch in range(epochs)])
    counts = torch.stack([(first == sample).sum(dim=0) for sample in range(samples)])
    expected = epochs / samples
    # A count is binomial, SD √(5000·0.2·0.8) = 28.3; five SD.
    assert (counts - expected).abs().max() < 142


@given(samples=st.integers(1, 200), batch_size=st.integers(1, 250), seed=SEEDS)
def test_batches_are_the_permutation_in_whole_batches(samples, batch_size, seed):
    batches = epoch_indices(samples, batch_size, seed, epoch=2)
    size = batch_size if batch_size <= samples else samples
    assert batches.shape == (samples // size, size)
    assert batches.flatten().tolist() == permutation(samples, seed, 2).tolist()[: batches.numel()]


def test_global_streams_are_left_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    epoch_indices(100, 10, seed=1, epoch=1)
    assert before[0] == random.getstate()
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[2], torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 0, 0), "0 samples have no order"),
        ((4, 0, 0, 0), "batch size 0: give at least 1"),
        ((4, 2, -1, 0), r"seed -1 is out of range: give an integer from 0 to 2\*\*63 - 1"),
        ((4, 2, 2**63, 0), "seed 9223372036854775808 is out of range"),
        ((4, 2, 0, -1), "epoch -1 is negative"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ModelspaceError, match=message):
        epoch_indices(*arguments)
