"""The first operation at which the engine's forward and the real module's part."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from modelspace.engine import Function, Lowering, apart, real_module
from modelspace.population import Population
from modelspace.reference import stateless_randomness
from modelspace.trace import FunctionCall, recorded


class Call(NamedTuple):
    """One call of the user's forward.

    Attributes:
        name: What was called.
        line: By which line of the user's file; empty where it can't be told.
        results: The tensors that it returned, copied.
    """

    name: str
    line: str
    results: list[Tensor]


def parting(population: Population, function: Function, lowering: Lowering, inputs: Tensor) -> str | None:
    """Name the first operation of a training forward whose results differ, with its line; None if none does.

    Args:
        population: The members; the first is looked at.
        function: The engine's.
        lowering: How it computes.
        inputs: A batch.
    """
    member = population[[0]]
    seed = int(member.table["seed"].iloc[0])
    with (
        torch.random.fork_rng(),
        real_module(member, 0) as module,
        recorded(module.train(), copies=True) as operations,
        stateless_randomness(seed, 0),
    ):
        module(inputs.clone())
    ours = _engine_s(member, function, lowering, inputs, seed)
    for i, call in enumerate(_calls(operations)):
        at = f"{call.name} ({call.line})" if call.line else call.name
        if i >= len(ours) or ours[i].name != call.name:
            return at
        if len(ours[i].results) != len(call.results) or any(map(apart, ours[i].results, call.results)):
            return at
    return None


def _engine_s(
    member: Population, function: Function, lowering: Lowering, inputs: Tensor, seed: int
) -> list[Call]:
    points, step = member.points.clone(), torch.tensor(0)
    buffers = {name: value.clone() for name, value in member.buffers.items()}
    if lowering == "loop":
        with recorded(function.single.module, copies=True) as operations:
            own = {name: value[0] for name, value in buffers.items()}
            function.single(points[0], own, inputs, training=True, seed=torch.tensor(seed), step=step)
        return _calls(operations)
    named: list[tuple[str, str]] = []

    def one(parameters: dict[str, Tensor], own: dict[str, Tensor], seed: Tensor) -> list[list[Tensor]]:
        with recorded(function.module, copies=True) as operations:
            function(parameters, own, inputs, training=True, seed=seed, step=step)
        calls = _calls(operations)
        named[:] = [(call.name, call.line) for call in calls]
        return [call.results for call in calls]

    stacked = torch.vmap(one)(function.space.layout.views(points), buffers, torch.tensor([seed]))
    return [Call(*name, [x[0] for x in results]) for name, results in zip(named, stacked, strict=True)]


def _calls(operations: Iterable[FunctionCall]) -> list[Call]:
    """Those that return what the forward itself makes."""
    return [Call(o.name, o.line, o.returned) for o in operations if o.returned]
