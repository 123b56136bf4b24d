import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from support.drawing import assert_same_in_any_packing, drawn, drawn_together
from torch import distributions as D

from modelspace.engine.lowerings import lowered
from modelspace.engine.program import compiled
from modelspace.engine.randomness import Draws

N = 200_000
WEIGHTS = torch.tensor([1.0, 0.0, 2.0, 4.0, 0.0, 0.5])


def assert_distributed(values, probabilities):
    """Pearson's χ² at the level 10⁻⁴: whole numbers 0, 1, … have these probabilities."""
    probabilities = np.asarray(probabilities, dtype=float)
    counts = np.bincount(values.reshape(-1).long().numpy(), minlength=len(probabilities))
    assert len(counts) == len(probabilities), "a number out of range"
    assert counts[probabilities == 0].sum() == 0
    positive = probabilities > 0
    expected = probabilities[positive] / probabilities.sum() * counts.sum()
    assert stats.chisquare(counts[positive], expected).pvalue > 1e-4


def events(make, p):
    """Whether something of probability p happened, N times, has that rate and no memory."""
    values = drawn(make).double()
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert abs(float(values.mean()) - p) < 4 * (p * (1 - p) / N) ** 0.5
    first, second = values[:-1].numpy(), values[1:].numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / N**0.5


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda: torch.randint(10, (N,)), 0, 10),
        (lambda: torch.randint(high=10, size=(N,)), 0, 10),
        (lambda: torch.randint(-3, 4, (N,)), -3, 4),
        (lambda: torch.randint(low=-3, high=4, size=(N,), dtype=torch.int32), -3, 4),
        (lambda: torch.randint(2, high=5, size=[N]), 2, 5),
        (lambda: torch.randint_like(torch.zeros(N), 10), 0, 10),
        (lambda: torch.randint_like(torch.zeros(N), -3, 4), -3, 4),
        (lambda: torch.randint_like(torch.zeros(N), low=-3, high=4), -3, 4),
        (lambda: torch.zeros(N).random_(10), 0, 10),
        (lambda: torch.zeros(N, dtype=torch.int64).random_(-3, 4), -3, 4),
        (lambda: torch.zeros(N).random_(**{"from": -3, "to": 4}), -3, 4),
        (lambda: torch.zeros(N, dtype=torch.uint8).random_(), 0, 256),
        (lambda: torch.zeros(N, dtype=torch.int8).random_(), 0, 128),
        (lambda: torch.zeros(N, dtype=torch.int8).random_(100, None), 100, 128),
        (lambda: torch.zeros(N, dtype=torch.bool).random_(), 0, 2),
        (lambda: torch.zeros(N, dtype=torch.bfloat16).random_(), 0, 257),
    ],
)
def test_integers_are_uniform_and_of_torch_s_range_and_type(make, low, high):
    ours, theirs = drawn(make), make()
    assert (ours.shape, ours.dtype) == ((N,), theirs.dtype)
    assert (theirs.min(), theirs.max()) == (low, high - 1)
    assert_distributed(ours.double() - low, np.ones(high - low))


@pytest.mark.parametrize(
    ("low", "high"),
    [(-(2**63), 2**63 - 1), (-(2**63), 2**62), (-1, 2**63 - 1), (0, 2**63 - 1), (2**62, 2**62 + 2**40)],
)
def test_integers_of_wide_ranges(low, high):
    numbers = drawn(lambda: torch.randint(low, high, (N,)))
    assert low <= int(numbers.min())
    assert int(numbers.max()) < high
    assert float(numbers.double().max() - numbers.double().min()) > 0.999 * (high - low)
    if high - low <= 2**63:  # above, some are twice as likely as others
        assert_distributed((numbers.double() - float(low)) / float(high - low) * 16, np.ones(16))


@pytest.mark.parametrize("low", [-(2**63), -(2**62), 0, 2**62])
def test_integers_up_to_the_largest(low):
    numbers = drawn(lambda: torch.empty(N, dtype=torch.int64).random_(low, None))
    assert low <= int(numbers.min())
    if low in (-(2**63), 0):
        assert_distributed((numbers >> 59) - (low >> 59), np.ones(32 if low else 16))


def test_integers_of_no_bounds_are_the_upper_half():
    ours = drawn(lambda: torch.empty(N, dtype=torch.int64).random_())
    assert torch.equal(ours, drawn(lambda: torch.empty(N, dtype=torch.int64).random_(0, None)))


def test_an_empty_range_is_refused():
    with pytest.raises(RuntimeError, match="from < to; received from=3, to=3"):
        drawn(lambda: torch.randint(3, 3, (2,)))


def test_permutations_are_permutations_and_all_alike():
    orders = drawn_together(lambda: torch.randperm(4), seeds=range(12_000))
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand_as(orders))
    assert orders.dtype is torch.int64
    codes = orders @ torch.tensor([64, 16, 4, 1])
    _, kinds = codes.unique(return_inverse=True)
    assert_distributed(kinds, np.ones(24))
    long = drawn(lambda: torch.randperm(1000, dtype=torch.int32))
    assert long.dtype is torch.int32
    assert torch.equal(long.sort().values, torch.arange(1000, dtype=torch.int32))
    assert abs(np.corrcoef(long.numpy(), np.arange(1000))[0, 1]) < 4 / 1000**0.5
    assert drawn(lambda: torch.randperm(0)).shape == (0,)


@pytest.mark.parametrize("p", [0.2, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_events_have_their_probability(p, dtype):
    chance = torch.full((N,), p, dtype=dtype)
    rate = float(chance[0])
    events(lambda: torch.bernoulli(chance), rate)
    events(lambda: chance.bernoulli(), rate)
    events(lambda: torch.empty(N).bernoulli_(chance), rate)
    events(lambda: torch.zeros(N, dtype=torch.int32).bernoulli_(p), p)
    events(lambda: torch.zeros(N, dtype=dtype).bernoulli(p), p)
    events(lambda: D.Bernoulli(chance).sample(), rate)


def test_events_that_are_certain_or_impossible():
    chance = torch.tensor([0.0, 1.0]).repeat(N)
    assert torch.equal(drawn(lambda: torch.bernoulli(chance)), chance)
    with pytest.raises(RuntimeError, match=r"p=1\.5"):
        drawn(lambda: torch.zeros(3).bernoulli_(1.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_categories_have_their_weights(dtype):
    weights = WEIGHTS.to(dtype)
    assert_distributed(drawn(lambda: torch.multinomial(weights, N, replacement=True)), WEIGHTS)
    rows = torch.stack([weights, weights.flip(0)]).repeat(N // 10, 1)
    for replacement in (True, False):
        found = drawn(lambda replacement=replacement: rows.multinomial(1, replacement))
        assert found.shape == (len(rows), 1)
        assert_distributed(found[::2], WEIGHTS)
        assert_distributed(found[1::2], WEIGHTS.flip(0))
    logits = WEIGHTS.log().to(dtype)
    assert_distributed(drawn(lambda: D.Categorical(logits=logits).sample((N,))), WEIGHTS)
    found = drawn(lambda: F.gumbel_softmax(logits.float().expand(N, 6), hard=True)).argmax(1)
    assert_distributed(found, WEIGHTS)


def test_categories_without_replacement_come_one_after_the_other():
    rows = WEIGHTS.expand(N, 6)
    found = drawn(lambda: torch.multinomial(rows, 3))
    assert (found.sort(1).values.diff() > 0).all()
    p = (WEIGHTS / WEIGHTS.sum()).double().numpy()
    # The first by the weights; the second by the weights of what is left.
    expected = [[p[i] * p[j] / (1 - p[i]) if i != j else 0 for j in range(6)] for i in range(6)]
    assert_distributed(found[:, 0] * 6 + found[:, 1], np.ravel(expected))
    with pytest.raises(RuntimeError, match="7 of 6 categories without replacement"):
        drawn(lambda: torch.multinomial(WEIGHTS, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_waiting_times_are_geometric(dtype):
    numbers = drawn(lambda: torch.empty(N, dtype=dtype).geometric_(0.3))
    assert numbers.dtype is dtype
    assert numbers.min() == 1
    p = stats.geom(0.3).pmf(np.arange(1, 26))
    assert_distributed(numbers.clamp_max(25) - 1, [*p[:-1], 1 - p[:-1].sum()])


def test_gradients_are_torch_s():
    p = torch.rand(5, requires_grad=True)
    for value in (torch.bernoulli(p), drawn(torch.bernoulli, p)):
        assert torch.autograd.grad(value.sum(), p)[0].tolist() == [0] * 5


X = torch.rand(3, 4, 5)
OPERATIONS = {
    "randint": lambda x: torch.randint(1000, (6,)),
    "randint_like": lambda x: torch.randint_like(x, -5, 1000),
    "randperm": lambda x: torch.randperm(20),
    "random_": lambda x: torch.zeros_like(x).random_(1000),
    "bernoulli": lambda x: torch.bernoulli(x),
    "bernoulli float64": lambda x: torch.bernoulli(x.double()),
    "bernoulli with p": lambda x: torch.bernoulli(torch.zeros(50), 0.3),
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.4),
    "bernoulli_ of a shared tensor": lambda x: torch.empty(50).bernoulli_(0.4),
    "multinomial of a row": lambda x: torch.multinomial(x[0], 20, replacement=True),
    "multinomial": lambda x: torch.multinomial(x, 7, replacement=True),
    "multinomial without replacement": lambda x: torch.multinomial(x, 3),
    "multinomial of shared weights": lambda x: torch.multinomial(torch.ones(4, 5), 3),
    "Categorical": lambda x: D.Categorical(logits=x).sample((3,)),
    "Bernoulli": lambda x: D.Bernoulli(logits=x).sample((3,)),
    "Multinomial": lambda x: D.Multinomial(10, logits=x).sample(),
    "a permuted batch": lambda x: x[torch.randperm(4)],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_members_draw_the_same_in_any_packing(name):
    stacked = assert_same_in_any_packing(OPERATIONS[name], X)
    assert not torch.equal(stacked[0], stacked[1])


@pytest.mark.slow
def test_compiled_choices_are_the_same():
    names = ["randint", "randperm", "bernoulli", "multinomial", "multinomial without replacement"]

    def together(seeds, step, x):
        def one(seed, x):
            with lowered(Draws(seed, step), batched=True):
                return {name: OPERATIONS[name](x) for name in names}

        return torch.vmap(one)(seeds, x)

    seeds = torch.tensor([0, 7, 2**63 - 1])
    program = compiled(together, seeds, torch.tensor(4), X)
    for step in (torch.tensor(4), torch.tensor(5)):
        for name, values in program(seeds, step, X).items():
            assert torch.equal(values, together(seeds, step, X)[name]), (name, step)
