"""The judge: each member as anyone would train it, of which the engine computes nothing.

The user's own callable is called right after ``torch.manual_seed(seed)`` (a module given is used itself, and restored
after), then trained by an ordinary loop with ``torch.optim``. Only where a network draws random numbers are those
matched from outside, by a mode around its forward. And where the two sides part, the judge names the first operation.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.engine import (
    Function,
    Lowering,
    Work,
    apart,
    dense,
    evaluated,
    plainly,
    real_module,
    without_fast_paths,
    work_of,
)
from modelspace.losses import Loss, Objective
from modelspace.nest import Nest, called, mapped, tensors
from modelspace.optimizers import Optimizer, exactly
from modelspace.population import Population
from modelspace.reference import DrewError, stateless_randomness, train
from modelspace.trace import FunctionCall, recorded

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


@dataclass
class Judged:
    """One member, trained plainly.

    Attributes:
        points: After each step, ``[steps, n]``.
        losses: Before each step, ``[steps]``.
        buffers: After the last step, by name.
        outputs: In evaluation mode after the last step, all in one row; or the values of an objective.
        ordinary: The same where PyTorch's inference path of transformers is switched off.
        matched: Whether the network drew random numbers, which were matched.
    """

    points: Tensor
    losses: Tensor
    buffers: dict[str, Tensor]
    outputs: Tensor
    ordinary: Tensor
    matched: bool


def judge(
    population: Population,
    k: int,
    samples: tuple[tuple[Nest, Nest], tuple[Nest, Nest]],
    loss: Loss,
    make_optimizer: MakeOptimizer,
    *,
    steps: int,
    batch_size: int,
    jitter: int | None = None,
    matched: bool = False,
) -> Judged:
    """Train member k plainly.

    Args:
        population: The members.
        k: Which one.
        samples: Inputs and labels to train on, and to evaluate on.
        loss: The loss.
        make_optimizer: Given the trainable parameters.
        steps: Updates.
        batch_size: Samples a step.
        jitter: A seed of noise as small as rounding that the parameters get before each step: as far as the network
            grows it, two right computations may come apart. None for no noise.
        matched: Whether the network's random numbers are made the member's own. It is left alone otherwise, and done
            once more from the start if it drew.
    """
    (inputs, labels), (unseen, of_unseen) = samples
    work = work_of(loss, of_unseen) if isinstance(loss, Objective) else called
    settings = {"steps": steps, "batch_size": batch_size, "matched": matched}
    generator = None if jitter is None else torch.Generator().manual_seed(jitter)
    rows: list[Tensor] = []
    with real_module(population, k) as module:
        trained = [p for p in module.parameters() if p.requires_grad]

        def after_step() -> None:
            rows.append(_joined(trained))
            _shake(trained, generator)

        _shake(trained, generator)
        with suppress(DrewError):
            seed = int(population.table["seed"].iloc[k])
            losses = train(
                module, inputs, labels, loss, make_optimizer, seed=seed, after_step=after_step, **settings
            )
            buffers = {name: dense(value) for name, value in population.space.buffers_of(module).items()}
            outputs, _ = evaluated(module, unseen, work)
            with without_fast_paths():
                ordinary, _ = evaluated(module, unseen, work)
            curve = torch.tensor(losses, dtype=torch.float64)
            return Judged(torch.stack(rows), curve, buffers, joined(outputs), joined(ordinary), matched)
    settings |= {"jitter": jitter, "matched": True}
    return judge(population, k, samples, loss, make_optimizer, **settings)


def joined(outputs: Nest) -> Tensor:
    """Return all numbers of a nest in one row."""
    parts = [torch.view_as_real(part) if part.is_complex() else part for part in tensors(outputs)]
    return torch.cat([part.detach().reshape(-1).double() for part in parts])


def _joined(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def _shake(parameters: list[nn.Parameter], generator: torch.Generator | None) -> None:
    if generator is None:
        return
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            size = torch.finfo(parameter.dtype).eps / 2
            parameter.mul_(1 + (size * noise).to(parameter.dtype))


def drawn_point(population: Population, k: int) -> Tensor | None:
    """Return member k's point as ``torch.manual_seed(seed); Arch()`` makes it; None where a module was given."""
    if isinstance(population.space.architecture, nn.Module):
        return None
    module = plainly(population.space, int(population.table["seed"].iloc[k]))
    return _joined([p for p in module.parameters() if p.requires_grad])


def of_torch(optimizer: Optimizer) -> Callable[..., torch.optim.Optimizer] | None:
    """Return the optimizer of ``torch.optim`` with the same settings; None where there is none of this name."""
    kind = getattr(torch.optim, type(optimizer).__name__, None)
    if kind in (None, torch.optim.LBFGS, torch.optim.Muon) or not type(optimizer).__module__.startswith(
        "modelspace."
    ):
        return None  # L-BFGS wants a closure, and torch's Muon takes matrices alone
    own = {name: value for name, value in vars(optimizer).items() if name != "shapes"}
    return lambda parameters, **columns: exactly(kind(parameters, **{**own, **columns}))


class _Types(TorchDispatchMode):
    """While entered, note the floating-point types of what operations return."""

    def __init__(self):
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = (x for x in tree_leaves(result) if isinstance(x, Tensor) and x.is_floating_point())
        self.seen |= {x.dtype for x in leaves}
        return result


def narrowest(population: Population, batch: tuple[Nest, Nest], loss: Loss) -> torch.dtype:
    """Return the coarsest floating-point type that a forward computes in, whatever the coordinates' own."""
    inputs, labels = batch
    with (
        torch.random.fork_rng(),
        real_module(population, 0) as module,
        torch.set_grad_enabled(isinstance(loss, Objective)),
        _Types() as types,
    ):
        loss.made(module.train(), mapped(Tensor.clone, inputs), labels)
    return max({population.space.dtype, *types.seen}, key=lambda kind: torch.finfo(kind).eps)


# Where the two sides part


_Call = tuple[
    str, str, list[Tensor]
]  # its name, the line of the user's file if known, the tensors it returned


def parting(
    population: Population, function: Function, lowering: Lowering, batch: tuple[Nest, Nest], loss: Loss
) -> str | None:
    """Name the first operation of a training forward whose results differ, with its line; None if none does.

    Args:
        population: The members; the first is looked at.
        function: The engine's.
        lowering: How it computes.
        batch: Inputs and labels.
        loss: What is minimised.
    """
    (inputs, labels), work = batch, work_of(loss, batch[1])
    member = population[[0]]
    seed = int(member.table["seed"].iloc[0])
    with (
        torch.random.fork_rng(),
        real_module(member, 0) as module,
        recorded(module.train(), copies=True) as operations,
        stateless_randomness(seed, 0),
    ):
        loss.made(module, mapped(Tensor.clone, inputs), labels)
    ours = _calls_of_the_engine(member, function, lowering, inputs, seed, work)
    for i, (name, line, results) in enumerate(_calls(operations)):
        at = f"{name} ({line})" if line else name
        if i >= len(ours) or ours[i][0] != name or len(ours[i][2]) != len(results):
            return at
        if any(map(apart, ours[i][2], results)):
            return at
    return None


def _calls_of_the_engine(
    member: Population, function: Function, lowering: Lowering, inputs: Nest, seed: int, work: Work
) -> list[_Call]:
    settings: dict[str, Any] = {"training": True, "step": torch.tensor(0), "work": work}
    points = member.points.clone()
    if lowering == "loop":
        with recorded(function.single.module, copies=True) as operations:
            own = {name: value[0].clone() for name, value in member.buffers.items()}
            function.single(points[0], own, inputs, seed=torch.tensor(seed), **settings)
        return _calls(operations)
    named: list[tuple[str, str]] = []

    def one(parameters: dict[str, Tensor], own: dict[str, Tensor], seed: Tensor) -> list[list[Tensor]]:
        with recorded(function.module, copies=True) as operations:
            function(parameters, own, inputs, seed=seed, **settings)
        named[:] = [(name, line) for name, line, _ in _calls(operations)]
        return [results for _, _, results in _calls(operations)]

    buffers = {name: value.clone() for name, value in member.buffers.items()}
    stacked = torch.vmap(one)(function.space.layout.views(points), buffers, torch.tensor([seed]))
    return [(*name, [x[0] for x in results]) for name, results in zip(named, stacked, strict=True)]


def _calls(operations: Iterable[FunctionCall]) -> list[_Call]:
    """Return those that make something themselves."""
    return [(o.name, o.line, o.returned) for o in operations if o.returned]
