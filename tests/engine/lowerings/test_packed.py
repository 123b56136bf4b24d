"""Packed sequences of many members against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpad_sequence,
)

import modelspace as ms
from modelspace.engine import Batch, Function, loop_gradient, vmap_gradient
from modelspace.engine.lowerings import lowered
from modelspace.engine.lowerings.packed import backwards
from modelspace.engine.program import CompileError, compiled

TIME, BATCH, FEATURES, HIDDEN = 6, 4, 3, 5
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def assert_same(function, *given):
    """``function`` of members is ``function`` of each, bit for bit: values and gradients."""
    given = [x.clone().requires_grad_() for x in given]
    assert assert_lowered(function, given, [True] * len(given), tolerance=0) == ()


lengths = st.lists(st.integers(1, TIME), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(lengths, st.booleans(), st.sampled_from([0.0, 0.5]), st.sampled_from([None, TIME + 2]), st.booleans())
def test_packing_and_padding(lengths, batch_first, padding, total, sort):
    lengths = sorted(lengths, reverse=True) if sort else lengths
    lead = (len(lengths), TIME) if batch_first else (TIME, len(lengths))

    def packs(x):
        return pack_padded_sequence(x, lengths, batch_first, enforce_sorted=sort)

    assert_same(lambda x: packs(x).data, torch.randn(MEMBERS, *lead, 2))

    def there_and_back(x):
        found, _ = pad_packed_sequence(packs(x), batch_first, padding, total)
        return found.sin()

    assert_same(there_and_back, torch.randn(MEMBERS, *lead, 2))


def test_lengths_come_back():
    packs = pack_padded_sequence(torch.randn(TIME, 3), torch.tensor([2, 5, 1]), enforce_sorted=False)
    found = {}

    def one(x):
        with lowered(None, batched=True):
            ours = pack_padded_sequence(x, torch.tensor([2, 5, 1]), enforce_sorted=False)
            found.update(sizes=ours.batch_sizes, lengths=pad_packed_sequence(ours)[1])
        return ours.data

    torch.vmap(one)(torch.randn(MEMBERS, TIME, 3))
    assert torch.equal(found["sizes"], packs.batch_sizes)
    assert found["lengths"].tolist() == [2, 5, 1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_pad_sequence(batch_first, side):
    tensors = [torch.randn(MEMBERS, n, 2) for n in (3, 1, 4)]
    assert_same(lambda *xs: pad_sequence(xs, batch_first, 0.5, side), *tensors)
    with pytest.raises(RuntimeError, match="padding_side is 'up'"):
        assert_same(lambda x: pad_sequence([x], padding_side="up"), tensors[0])


def test_pack_sequence_and_unpad():
    tensors = [torch.randn(MEMBERS, n, 2) for n in (3, 1, 4)]

    def function(*xs):
        padded, lengths = pad_packed_sequence(pack_sequence(xs, enforce_sorted=False))
        return torch.cat(unpad_sequence(padded, lengths))

    assert_same(function, *tensors)


def test_backwards_reverses_each_sequence():
    x = torch.arange(12.0).view(4, 1, 3).requires_grad_()
    y = backwards(x, (3, 2, 1, 1))
    assert y[:, 0].T.tolist() == [[9, 6, 3, 0], [4, 1, 7, 10], [2, 5, 8, 11]]
    assert torch.equal(backwards(y, (3, 2, 1, 1)), x)
    (gradient,) = torch.autograd.grad(y, x, x.detach())
    assert torch.equal(gradient, y)
    assert torch.equal(backwards(x, (3, 3, 3, 3)), x.flip(0))


class Packed(nn.Module):
    """A network on packed sequences, the lengths as given or asked of the data."""

    def __init__(self, kind, lengths, enforce_sorted, given_state, **options):
        super().__init__()
        self.recurrent = KINDS[kind](FEATURES, HIDDEN, batch_first=True, **options)
        self.lengths, self.enforce_sorted, self.given_state = lengths, enforce_sorted, given_state
        self.head = nn.Linear(HIDDEN * (1 + self.recurrent.bidirectional), 3)

    def state(self, x):
        rows = self.recurrent.num_layers * (1 + self.recurrent.bidirectional)
        h = x[:, 0, :1].sin()[None].expand(rows, -1, HIDDEN)
        return ((h, h.cos()) if isinstance(self.recurrent, nn.LSTM) else h) if self.given_state else None

    def forward(self, x):
        lengths = self.lengths(x) if callable(self.lengths) else self.lengths
        packs = pack_padded_sequence(x, lengths, True, self.enforce_sorted)
        outputs, last = self.recurrent(packs, self.state(x))
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, padding_value=0.2)
        last = torch.stack(last).sum(0) if isinstance(last, tuple) else last
        return self.head(outputs.mean(1)) + last.sum((0, 2))[:, None]


def gradient(compute, make, own=False):
    space = ms.ModelSpace(make, dtype=torch.float64)
    population = space.sample(seeds=MEMBERS)
    generator = torch.Generator().manual_seed(1)
    lead = (*(MEMBERS,) * own, BATCH)
    inputs = torch.randn(*lead, TIME, FEATURES, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, lead, generator=generator)
    function = Function(space)
    seeds = torch.tensor(population.table["seed"].to_numpy())
    found = compute(
        function, F.cross_entropy, population.points, {}, Batch(inputs, labels, own), seeds, torch.tensor(2)
    )
    assert function.one_by_one == ()
    return found


@st.composite
def networks(draw):
    return {
        "kind": draw(st.sampled_from(list(KINDS))),
        "lengths": draw(
            st.sampled_from([[6, 4, 4, 1], [2, 5, 1, 5], [3, 3, 3, 3], torch.tensor([1, 2, 3, 4])])
        ),
        "given_state": draw(st.booleans()),
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.4])),
    }


# torch's own modules say this of dropout after the only layer.
@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last")
@settings(max_examples=40, deadline=None)
@given(networks(), st.booleans())
def test_a_step_is_the_loop_s(network, own):
    lengths = torch.as_tensor(network["lengths"])
    network["enforce_sorted"] = torch.equal(lengths, lengths.sort(descending=True)[0])
    batched = gradient(vmap_gradient, lambda: Packed(**network), own)
    looped = gradient(loop_gradient, lambda: Packed(**network), own)
    assert torch.allclose(batched.losses, looped.losses, rtol=1e-12)
    assert torch.allclose(batched.gradient, looped.gradient, rtol=1e-10, atol=1e-13)


def test_projections_and_shared_weights():
    module = nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True, proj_size=2).double().requires_grad_(False)

    def function(x, scale):
        packs = pack_padded_sequence(x * scale, [6, 4, 4, 1])
        outputs, (h, c) = module(packs)
        return torch.cat([outputs.data.flatten(), h.flatten(), c.flatten()])

    x, scale = torch.randn(MEMBERS, TIME, BATCH, FEATURES).double(), torch.rand(MEMBERS).double()
    assert assert_lowered(function, [x, scale], [True, True], 1e-5) == ()


def asked(x):
    return (x[:, :, 0] > 0).sum(1).clamp_min(1)


def test_lengths_asked_of_shared_data():
    make = lambda: Packed("GRU", asked, False, False)  # noqa: E731
    batched, looped = gradient(vmap_gradient, make), gradient(loop_gradient, make)
    assert torch.allclose(batched.gradient, looped.gradient, rtol=1e-10, atol=1e-13)


def test_lengths_that_differ_between_members_are_refused():
    with pytest.raises(RuntimeError, match="packed sequences whose lengths differ between members"):
        gradient(vmap_gradient, lambda: Packed("GRU", asked, False, False), own=True)


def step_of(make):
    space = ms.ModelSpace(make)
    population, function = space.sample(seeds=MEMBERS), Function(space)
    labels, seeds = torch.randint(3, (BATCH,)), torch.arange(MEMBERS)

    def step(points, inputs):
        batch = Batch(inputs, labels, own=False)
        return vmap_gradient(function, F.cross_entropy, points, {}, batch, seeds, torch.tensor(0))[:2]

    return step, (population.points, torch.randn(BATCH, TIME, FEATURES))


def test_lengths_asked_of_the_data_can_t_be_compiled():
    step, arguments = step_of(lambda: Packed("GRU", asked, False, False))
    with pytest.raises(CompileError, match="packed sequences whose lengths depend on the data"):
        compiled(step, *arguments)


@pytest.mark.slow
def test_given_lengths_are_compiled():
    step, arguments = step_of(
        lambda: Packed("LSTM", [2, 5, 1, 5], False, False, num_layers=2, bidirectional=True, dropout=0.3)
    )
    program = compiled(step, *arguments)
    for inputs in (arguments[1], torch.randn(BATCH, TIME, FEATURES)):
        losses, found = program(arguments[0], inputs)
        expected = step(arguments[0], inputs)
        assert torch.allclose(losses, expected[0], atol=1e-6)
        assert torch.allclose(found, expected[1], atol=1e-6)
