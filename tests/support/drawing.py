"""Calls with a member's own random numbers: one member in the plain loop, or several under ``vmap``."""

import torch

from modelspace.engine.lowerings import lowered, writes_into_shared
from modelspace.engine.randomness import Draws

SEEDS = (0, 7, 2**63 - 1)


def drawn(function, *args, seed=3, step=0, site=0):
    """What one member draws."""
    with lowered(Draws(torch.tensor(seed), torch.tensor(step), site), batched=False):
        return function(*args)


def drawn_together(function, *args, seeds=SEEDS, step=4, said=None):
    """What the members draw under ``vmap``; the arguments have a member axis."""
    said = {} if said is None else said

    def together(spread):
        def one(seed, *args):
            draws = Draws(seed, torch.tensor(step))
            anchor = seed if spread else None
            with lowered(draws, batched=True, anchor=anchor, operations=said):
                return function(*args)

        return torch.vmap(one)(torch.tensor(seeds), *args)

    try:
        return together(spread=False)
    except RuntimeError as error:
        if not writes_into_shared(error):
            raise
        return together(spread=True)


def assert_same_in_any_packing(function, *args, atol=0.0):
    """Batched, permuted, in part and in the plain loop: the same numbers, and no generator is touched.

    Args:
        function: Draws; of tensors to a tensor.
        *args: The tensors, ``[3, …]`` each.
        atol: What batched arithmetic may differ by.
    """
    state = torch.random.get_rng_state()
    stacked = drawn_together(function, *args)
    for k, seed in enumerate(SEEDS):
        alone = drawn(function, *[x[k] for x in args], seed=seed, step=4)
        assert alone.dtype == stacked.dtype
        assert torch.allclose(stacked[k], alone, rtol=0, atol=atol)
    order = [2, 0]
    part = drawn_together(function, *[x[order] for x in args], seeds=[SEEDS[k] for k in order])
    assert torch.allclose(part, stacked[order], rtol=0, atol=atol)
    assert torch.equal(torch.random.get_rng_state(), state)
    return stacked
