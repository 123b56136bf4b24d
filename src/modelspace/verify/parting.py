"""The first operation at which the engine's forward and the real module's part."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from modelspace.engine import Function, Lowering, apart, real_module
from modelspace.errors import users_line
from modelspace.population import Population
from modelspace.reference import stateless_randomness


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


class _Recorder(TorchFunctionMode):
    """Keeps what each call returns that the forward itself makes."""

    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        results = [x.detach().clone() for x in tree_leaves(result) if isinstance(x, Tensor)]
        if results:
            name = getattr(func, "__name__", type(func).__name__)
            self.calls.append(Call(name, users_line(traceback.extract_stack()), results))
        return result


@contextmanager
def _recorded(module: nn.Module) -> Iterator[list[Call]]:
    """What the module's next forwards call; within all modes that are entered around them."""
    recorder, forward = _Recorder(), module.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        with recorder:
            return forward(*args, **kwargs)

    own = "forward" in vars(module)
    module.forward = recording
    try:
        yield recorder.calls
    finally:
        if own:
            module.forward = forward
        else:
            del module.forward


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
        _recorded(module.train()) as theirs,
        stateless_randomness(seed, 0),
    ):
        module(inputs.clone())
    ours = _engine_s(member, function, lowering, inputs, seed)
    for i, call in enumerate(theirs):
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
        with _recorded(function.single.module) as calls:
            own = {name: value[0] for name, value in buffers.items()}
            function.single(points[0], own, inputs, training=True, seed=torch.tensor(seed), step=step)
        return calls
    named: list[tuple[str, str]] = []

    def one(parameters: dict[str, Tensor], own: dict[str, Tensor], seed: Tensor) -> list[list[Tensor]]:
        with _recorded(function.module) as calls:
            function(parameters, own, inputs, training=True, seed=seed, step=step)
        named[:] = [(call.name, call.line) for call in calls]
        return [call.results for call in calls]

    stacked = torch.vmap(one)(function.space.layout.views(points), buffers, torch.tensor([seed]))
    return [Call(*name, [x[0] for x in results]) for name, results in zip(named, stacked, strict=True)]
