"""PyTorch's own list of its modules, each with its own inputs: batched, every member is the plain module.

The list is that of PyTorch's tests, ``torch.testing._internal.common_modules.module_db``. Of each entry constructors
and inputs are tried in training and in evaluation: once as it stands, the input shared by the members, and once with
an input of each member's own, multiplied by a parameter. So a gradient passes through the module, and those without
parameters are tried too. Of an entry that has more inputs, a few spread over them are tried; all by the slow tests.
"""

from collections import Counter
from functools import cache
from typing import NamedTuple

import pytest
import torch
from engine.members import Held, assert_members, each_its_own
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


class Outcome(NamedTuple):
    """How an entry's cases were carried out: their number, operations one by one, reasons for the loop, errors."""

    tried: int
    alone: Counter
    refused: Counter
    wrong: Counter


@cache
def inputs_of(name, training, most):
    entry = ENTRIES[name]
    settings = {"device": "cpu", "dtype": torch.float64, "requires_grad": False, "training": training}
    found = entry.module_inputs_func(entry, **settings)
    if most == MANY and not name.endswith("Loss"):
        return found
    return found[:: -(-len(found) // most)]


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


@cache
def outcome(name, most=FEW):
    entry = ENTRIES[name]
    found = Outcome(0, Counter(), Counter(), Counter())
    torch.manual_seed(0)
    tried = 0
    for training in (True, False):
        for given in inputs_of(name, training, most):
            for own in (False, True):
                make = made(entry, given, scaled=own)
                held = make()
                if not any(p.requires_grad for p in held.parameters()):
                    continue
                tried += 1
                x = held.input.detach()
                try:
                    found.alone.update(assert_members(make, each_its_own(x) if own else x, training, own))
                except AssertionError as error:
                    found.wrong[f"{given.desc}: {error}"] += 1
                except Exception as error:
                    found.refused[no_batched_form(error)] += 1
    return found._replace(tried=tried)


SLOW = {name for name in ENTRIES if name.startswith("Transformer")}  # a minute
LONG = SLOW | {"MultiheadAttention", "LSTM", "GRU", "RNN", *(n for n in ENTRIES if n.endswith("Loss"))}


def assert_plain(found):
    assert not found.wrong
    assert found.tried


@pytest.mark.parametrize("name", sorted(ENTRIES.keys() - SLOW))
def test_every_member_is_the_plain_module(name):
    assert_plain(outcome(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LONG))
def test_every_member_is_the_plain_module_on_all_inputs(name):
    assert_plain(outcome(name, MANY))


@pytest.mark.parametrize("names", [ENTRIES.keys() - SLOW, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_how_many_are_batched_natively(names):
    outcomes = {name: outcome(name, MANY if name in SLOW else FEW) for name in names}
    alone = {name: dict(found.alone) for name, found in outcomes.items() if found.alone}
    refused = {name: dict(found.refused) for name, found in outcomes.items() if found.refused}
    cases = sum(found.tried for found in outcomes.values())
    natively = len(outcomes.keys() - alone.keys() - refused.keys())
    print(f"{natively} of {len(outcomes)} modules natively batched, in {cases} cases")
    print(f"an operation member by member: {alone}; only by the loop: {refused}")
    assert set(alone) == MEMBER_BY_MEMBER & names
    assert set(refused) == BY_THE_LOOP & names


def test_the_list_is_the_one_we_know():
    assert len(ENTRIES) >= 100
    assert SLOW
