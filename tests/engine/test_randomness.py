from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.engine import randomness
from modelspace.engine.randomness import DIGITS, Draws, interior, normal, philox, stream_seed, uniform

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

F32, F64 = torch.float32, torch.float64
CDF = {"uniform": "uniform", "interior": "uniform", "normal": "norm"}
every_kind = pytest.mark.parametrize(
    ("kind", "dtype"), [(kind, dtype) for kind in CDF for dtype in (F32, F64)], ids=str
)


def drawn(shape=(50_000,), seed=0, step=0, site=0, kind="uniform", dtype=F32):
    draws = Draws(torch.tensor(seed), torch.tensor(step), site)
    return draws.of(getattr(randomness, kind), shape, torch.int64 if kind == "integers" else dtype)


def words(count, seed=0, step=0, site=0):
    """The words, one Philox call after another, in plain integers."""
    key = (seed & ONES, seed >> 32)
    return [w for i in range(count) for w in philox((i, site, step & ONES, step >> 32), key)]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    received = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(int(word) for word in received) == words
    assert philox(counter, key) == words


def test_known_answers_elementwise():
    counter = tuple(torch.tensor([k[0][i] for k in KNOWN]) for i in range(4))
    key = tuple(torch.tensor([k[1][i] for k in KNOWN]) for i in range(2))
    words = torch.stack(philox(counter, key), 1)
    assert words.tolist() == [list(k[2]) for k in KNOWN]


PLACE = {"seed": 2**62 + 5, "step": 2**40 + 3, "site": 9}


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
def test_numbers_are_the_upper_digits_of_the_words(dtype):
    numbers = drawn((7,), **PLACE, dtype=dtype)
    found = words(4, **PLACE)
    if dtype is F64:
        expected = [(found[2 * i] * 2**32 + found[2 * i + 1] >> 11) / 2**53 for i in range(7)]
    else:
        expected = [(found[i] >> (32 - DIGITS[dtype])) / 2 ** DIGITS[dtype] for i in range(7)]
    assert numbers.dtype is dtype
    assert numbers.tolist() == expected


def test_words_of_64_bits_are_two_words():
    found = words(4, **PLACE)
    received = [value % 2**64 for value in drawn((7,), **PLACE, kind="integers").tolist()]
    assert received == [found[2 * i] * 2**32 + found[2 * i + 1] for i in range(7)]


def test_a_float32_number_inside_the_interval_has_the_word_s_32_bits():
    found = words(2, **PLACE)
    received = drawn((8,), **PLACE, kind="interior").double()
    assert np.allclose(received, (np.array(found) + 0.5) / 2**32, rtol=2**-24, atol=0)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_extreme_words_make_finite_numbers(dtype):
    four = [torch.tensor(words) for words in zip(*product((0, 1, ONES), repeat=4), strict=True)]
    for numbers in interior(four, dtype):
        assert numbers.min() > 0
        assert numbers.max() < 1
    assert all(numbers.isfinite().all() for numbers in normal(four, dtype))
    assert all(numbers.max() < 1 for numbers in uniform(four, dtype))


@pytest.mark.parametrize("dtype", DIGITS, ids=str)
def test_numbers_are_in_range_and_uniform(dtype):
    numbers = drawn((200_000,), dtype=dtype).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    whole = numbers * 2.0 ** DIGITS[dtype]
    assert torch.equal(whole, whole.round())
    # At the level 10⁻⁴; the numbers are fixed, so this passes always or never.
    counts = torch.bincount((numbers * 256).long(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4


@every_kind
def test_numbers_have_their_distribution(kind, dtype):
    numbers = drawn((200_000,), kind=kind, dtype=dtype)
    assert numbers.isfinite().all()
    if kind == "interior":
        assert numbers.min() > 0
        assert numbers.max() < 1
    distribution = getattr(stats, CDF[kind])
    assert stats.kstest(numbers.double().numpy(), distribution.cdf).pvalue > 1e-4
    error = len(numbers) ** -0.5
    assert abs(float(numbers.double().mean()) - distribution.mean()) < 4 * distribution.std() * error
    kurtosis = float(distribution.stats(moments="k")) + 3
    spread = distribution.var() * (kurtosis - 1) ** 0.5 * error
    assert abs(float(numbers.double().var()) - distribution.var()) < 4 * spread


def test_the_tails_of_normal_numbers_are_those_of_the_distribution():
    numbers = drawn((2_000_000,), kind="normal").abs()
    for bound in (3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(bound) * len(numbers)
        assert abs(int((numbers > bound).sum()) - expected) < 4 * expected**0.5


def test_each_bit_is_balanced_and_alone():
    numbers = drawn((100_000,), kind="integers")
    bits = torch.stack([(numbers >> k) & 1 for k in range(64)]).numpy()
    assert np.abs(bits.mean(1) - 0.5).max() < 4 * 0.5 / np.sqrt(100_000)
    # The largest of 2016 correlations: 4.9 standard deviations are the level 2·10⁻³ for all together.
    assert np.abs(np.corrcoef(bits) - np.eye(64)).max() < 4.9 / np.sqrt(100_000)


@every_kind
@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"seed": 2**32}, {"seed": 2**63 - 1}, {"step": 1}, {"step": 2**32}, {"site": 1}],
    ids=str,
)
def test_seed_step_and_site_each_give_independent_numbers(other, kind, dtype):
    first = drawn(kind=kind, dtype=dtype).numpy()
    second = drawn(**other, kind=kind, dtype=dtype).numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))
    cdf = getattr(stats, CDF[kind]).cdf
    table, *_ = np.histogram2d(cdf(first), cdf(second), bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(table.ravel()).pvalue > 1e-4


@every_kind
def test_neighbouring_numbers_are_independent(kind, dtype):
    numbers = drawn(kind=kind, dtype=dtype).numpy()
    for lag in (1, 2, 3, 4, 5):
        for power in (1, 2):  # two normal numbers of one radius would be uncorrelated, but not their squares
            first, second = numbers[:-lag] ** power, numbers[lag:] ** power
            assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(numbers))


@every_kind
def test_a_number_depends_on_its_place_alone(kind, dtype):
    def of(*shape):
        return drawn(shape, kind=kind, dtype=dtype)

    # Vectorised logarithms and their remainders at the end may differ in the last bit.
    assert torch.allclose(of(10), of(1000)[:10], rtol=1e-6, atol=0)
    assert torch.equal(of(3, 7), of(21).view(3, 7))
    assert of(0).shape == (0,)
    assert of().shape == ()


@every_kind
def test_vmap_over_seeds_is_the_same_numbers(kind, dtype):
    seeds = torch.tensor([0, 5, 2**63 - 1])

    def one(seed):
        return Draws(seed, torch.tensor(2**40 + 3), 2).of(getattr(randomness, kind), (9,), dtype)

    for row, seed in zip(torch.vmap(one)(seeds), seeds.tolist(), strict=True):
        expected = drawn((9,), seed, 2**40 + 3, 2, kind=kind, dtype=dtype)
        assert torch.allclose(row, expected, rtol=1e-6, atol=0)


def test_call_sites_are_numbered():
    draws = Draws(torch.tensor(5), torch.tensor(1))
    ahead = draws.from_here()
    assert torch.equal(draws.of(uniform, (4,)), drawn((4,), 5, 1, 0))
    assert draws.next_site() == 1
    assert torch.equal(draws.of(normal, (4,)), drawn((4,), 5, 1, 2, kind="normal"))
    assert torch.equal(ahead.of(uniform, (4,)), drawn((4,), 5, 1, 0))


def test_stream_seeds_differ_and_fit_a_generator():
    seeds = {
        stream_seed(seed, step, site)
        for seed in (0, 1, 2**63 - 1)
        for step in (*range(50), 2**40)
        for site in range(5)
    }
    assert len(seeds) == 3 * 51 * 5
    for seed in (min(seeds), max(seeds)):
        torch.Generator().manual_seed(seed)


def test_in_a_traced_program_no_product_depends_on_positions_alone():
    """Those Inductor computes in 32 bits for a GPU, which 32-bit words times 32-bit constants overflow."""
    traced = make_fx(lambda seed, step: randomness.words(8, seed, step, 0))(torch.tensor(1), torch.tensor(2))
    valued = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder" or valued & set(node.all_input_nodes):
            valued.add(node)
    products = [node for node in traced.graph.nodes if node.target is torch.ops.aten.mul.Tensor]
    assert len(products) == 20
    assert set(products) <= valued
