"""PyTorch's own list of its modules, each with its own inputs: batched, every member is the plain module.

The list is that of PyTorch's tests, ``torch.testing._internal.common_modules.module_db``. Of each entry constructors
and inputs are tried in training and in evaluation: once as it stands, the input shared by the members, and once with
an input of each member's own, multiplied by a parameter. So a gradient passes through the module, and those without
parameters are tried too. Of an entry that has more inputs, a few spread over them are tried; all by the slow tests.
"""

from collections import Counter
from itertools import product

import pytest
import torch
from engine.members import Held, assert_members, each_its_own
from support.sampled import sampled
from torch.nn.modules.lazy import LazyModuleMixin
from torch.testing._internal.common_modules import module_db

from modelspace.engine.plan import no_batched_form

pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss"),
    pytest.mark.filterwarnings("ignore:linear_cross_entropy. ``options`` ignored"),
]

ENTRIES = {entry.module_cls.__name__: entry for entry in module_db}
FEW, MANY = 10, 40  # inputs tried in each mode; some have 64, one thousands

# What is known not to be batched natively: by an operation, member by member; or by the whole loop.
MEMBER_BY_MEMBER: set[str] = set()
BY_THE_LOOP: set[str] = set()


def inputs_of(name, training, most):
    entry = ENTRIES[name]
    settings = {"device": "cpu", "dtype": torch.float64, "requires_grad": False, "training": training}
    found = entry.module_inputs_func(entry, **settings)
    every = 1 if most == MANY and not name.endswith("Loss") else -(-len(found) // most)
    return found[::every]


def made(entry, given, scaled):
    """What makes the module with its arguments held."""

    def make():
        built = given.constructor_input
        module = entry.module_cls(*built.args, **built.kwargs).to(torch.float64)
        held = Held(module, given.forward_input.args, given.forward_input.kwargs, scaled)
        if issubclass(entry.module_cls, LazyModuleMixin):
            held(held.input)
        return held

    return make


def assert_members_of(name, most):
    """Every member is the plain module, and nothing is computed one by one that is not known to be."""
    tried, alone, refused, wrong = 0, Counter(), Counter(), Counter()
    torch.manual_seed(0)
    for training, own in product((True, False), (False, True)):
        for given in inputs_of(name, training, most):
            make = made(ENTRIES[name], given, scaled=own)
            held = make()
            if not any(p.requires_grad for p in held.parameters()):
                continue
            tried += 1
            x = held.input.detach()
            try:
                alone.update(assert_members(make, each_its_own(x) if own else x, training, own))
            except AssertionError as error:
                wrong[f"{given.desc}: {error}"] += 1
            except Exception as error:
                refused[no_batched_form(error)] += 1
    assert not wrong
    assert tried
    assert bool(alone) == (name in MEMBER_BY_MEMBER), alone
    assert bool(refused) == (name in BY_THE_LOOP), refused


SLOW = {name for name in ENTRIES if name.startswith("Transformer")}  # a minute
LONG = SLOW | {"MultiheadAttention", "LSTM", "GRU", "RNN", *(n for n in ENTRIES if n.endswith("Loss"))}


@pytest.mark.parametrize("name", sampled(sorted(ENTRIES.keys() - SLOW), 3))
def test_every_member_is_the_plain_module(name):
    assert_members_of(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LONG))
def test_every_member_is_the_plain_module_on_all_inputs(name):
    assert_members_of(name, MANY)


def test_the_list_is_the_one_we_know():
    assert len(ENTRIES) >= 100
    assert SLOW
