"""The judge: each member as anyone would train it, of which the engine computes nothing.

The user's own callable is called right after ``torch.manual_seed(seed)`` (a module given is used itself, and restored
after), then trained by an ordinary loop with ``torch.optim``. Only where a network draws random numbers are those
matched from outside, by a mode around its forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.engine import dense, evaluated, plainly, real_module, without_fast_paths
from modelspace.losses import Loss
from modelspace.optimizers import Optimizer
from modelspace.population import Population
from modelspace.reference import DrewError, train

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


@dataclass
class Judged:
    """One member, trained plainly.

    Attributes:
        points: After each step, ``[steps, n]``.
        losses: Before each step, ``[steps]``.
        buffers: After the last step, by name.
        outputs: In evaluation mode after the last step, ``[samples, …]``.
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
    samples: tuple[Tensor, Tensor, Tensor],
    loss: Loss,
    make_optimizer: MakeOptimizer,
    *,
    steps: int,
    batch_size: int,
    jitter: int | None = None,
) -> Judged:
    """Train member k plainly.

    Args:
        population: The members.
        k: Which one.
        samples: Inputs and labels to train on, and inputs to evaluate on.
        loss: The loss.
        make_optimizer: Given the trainable parameters.
        steps: Updates.
        batch_size: Samples a step.
        jitter: A seed of noise as small as rounding that the parameters get before each step: as far as the network
            grows it, two right computations may come apart. None for no noise.
    """
    inputs, labels, unseen = samples
    seed = int(population.table["seed"].iloc[k])
    for matched in (False, True):
        rows: list[Tensor] = []
        with real_module(population, k) as module:
            trained = [p for p in module.parameters() if p.requires_grad]
            generator = None if jitter is None else torch.Generator().manual_seed(jitter)

            def after_step(
                rows: list[Tensor] = rows,
                trained: list[nn.Parameter] = trained,
                generator: torch.Generator | None = generator,
            ) -> None:
                rows.append(torch.cat([p.detach().reshape(-1) for p in trained]))
                _shake(trained, generator)

            _shake(trained, generator)
            try:
                losses = train(
                    module,
                    inputs,
                    labels,
                    loss,
                    make_optimizer,
                    steps=steps,
                    batch_size=batch_size,
                    seed=seed,
                    matched=matched,
                    after_step=after_step,
                )
            except DrewError:
                continue  # its numbers are to be the member's own: once more, from the start
            buffers = {name: dense(value) for name, value in population.space.buffers_of(module).items()}
            outputs, _ = evaluated(module, unseen)
            with without_fast_paths():
                ordinary, _ = evaluated(module, unseen)
        curve = torch.tensor(losses, dtype=torch.float64)
        return Judged(torch.stack(rows), curve, buffers, outputs, ordinary, matched)
    raise AssertionError("a loop whose random numbers are matched draws none of its own")


def _shake(parameters: list[nn.Parameter], generator: torch.Generator | None) -> None:
    if generator is None:
        return
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            size = torch.finfo(parameter.dtype).eps / 2
            parameter.mul_(1 + (size * noise).to(parameter.dtype))


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


def narrowest(population: Population, inputs: Tensor) -> torch.dtype:
    """The coarsest floating-point type that a forward computes in, whatever the coordinates' own."""
    with torch.random.fork_rng(), real_module(population, 0) as module, torch.no_grad(), _Types() as types:
        module.train()(inputs.clone())
    return max({population.space.dtype, *types.seen}, key=lambda kind: torch.finfo(kind).eps)


def drawn_point(population: Population, k: int) -> Tensor | None:
    """Member k's point as ``torch.manual_seed(seed); Arch()`` makes it; None where a module was given."""
    if isinstance(population.space.architecture, nn.Module):
        return None
    module = plainly(population.space, int(population.table["seed"].iloc[k]))
    return torch.cat([p.detach().reshape(-1) for p in module.parameters() if p.requires_grad])


def torch_s(optimizer: Optimizer) -> Callable[..., torch.optim.Optimizer] | None:
    """The optimizer of ``torch.optim`` with the same settings; None where there is none of this name."""
    kind = getattr(torch.optim, type(optimizer).__name__, None)
    if kind is None or not type(optimizer).__module__.startswith("modelspace."):
        return None
    settings = vars(optimizer)

    def make(parameters: Any, **columns: float) -> torch.optim.Optimizer:
        return kind(parameters, **{**settings, **columns})

    return make
