import numpy as np
import pytest
import torch
from scipy import stats

from modelspace.engine.randomness import philox, stream_seed, uniform

ONES = 0xFFFFFFFF
# Known answers of the Random123 distribution, kat_vectors: philox4x32 10.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def drawn(shape=(50_000,), seed=0, step=0, site=0):
    return uniform(shape, torch.tensor(seed), torch.tensor(step), site)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    received = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(int(word) for word in received) == words


def test_known_answers_elementwise():
    counter = tuple(torch.tensor([k[0][i] for k in KNOWN]) for i in range(4))
    key = tuple(torch.tensor([k[1][i] for k in KNOWN]) for i in range(2))
    words = torch.stack(philox(counter, key), 1)
    assert words.tolist() == [list(k[2]) for k in KNOWN]


def test_numbers_are_in_range_and_uniform():
    numbers = drawn()
    assert numbers.dtype is torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.equal(numbers * 2**24, (numbers * 2**24).round())
    # At the level 10⁻⁴; the numbers are fixed, so this passes always or never.
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"seed": 2**32}, {"seed": 2**63 - 1}, {"step": 1}, {"step": 2**32}, {"site": 1}],
    ids=str,
)
def test_seed_step_and_site_each_give_independent_numbers(other):
    first, second = drawn().numpy(), drawn(**other).numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))
    table, *_ = np.histogram2d(first, second, bins=8)
    assert stats.chisquare(table.ravel()).pvalue > 1e-4


def test_neighbouring_numbers_are_independent():
    numbers = drawn().numpy()
    for lag in (1, 2, 3, 4, 5):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 4 / np.sqrt(len(numbers))


def test_a_number_depends_on_its_place_alone():
    assert torch.equal(drawn((10,)), drawn((1000,))[:10])
    assert torch.equal(drawn((3, 7)), drawn((21,)).view(3, 7))
    assert drawn((0,)).shape == (0,)


def test_vmap_over_seeds_is_the_same_numbers():
    seeds = torch.tensor([0, 5, 2**63 - 1])
    stacked = torch.vmap(lambda seed: uniform((9,), seed, torch.tensor(2**40 + 3), 2))(seeds)
    for row, seed in zip(stacked, seeds.tolist(), strict=True):
        assert torch.equal(row, drawn((9,), seed, 2**40 + 3, 2))


def test_stream_seeds_differ_and_fit_a_generator():
    seeds = {stream_seed(seed, step) for seed in (0, 1, 2**63 - 1) for step in range(50)}
    assert len(seeds) == 150
    for seed in (min(seeds), max(seeds)):
        torch.Generator().manual_seed(seed)
