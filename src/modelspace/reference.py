"""The plain loop that every row of a population is held against: ordinary PyTorch, one network after another.

Read it in a minute: it is what ``modelspace.fit`` promises to compute, only faster.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.construction import seeded_elsewhere
from modelspace.data import epoch_indices
from modelspace.engine import Draws, lowered, stream_seed
from modelspace.losses import Loss
from modelspace.nest import Nest, called, device_of, samples, take


class DrewError(Exception):
    """A network that was to draw nothing drew from PyTorch's generator."""


def train(
    module: nn.Module,
    inputs: Nest,
    labels: Nest,
    loss: Callable[[Any, Any], Tensor],
    make_optimizer: Callable[[Any], torch.optim.Optimizer],
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
    data_seed: int = 0,
    make_scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    products: torch.dtype | None = None,
    matched: bool = True,
    after_step: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train one module in place with ``torch.optim``.

    Args:
        module: The network.
        inputs: ``[N, …]``; of a nest, each tensor.
        labels: The same; None without labels.
        loss: Of outputs and labels, a scalar; or an objective, a function of the module and the batch.
        make_optimizer: Given the trainable parameters.
        steps: Updates to make.
        batch_size: Samples a step.
        seed: What the network's random numbers (dropout) are a function of.
        data_seed: What the order of the data is a function of.
        make_scheduler: Given the optimizer; stepped after each update.
        clip_norm: As ``torch.nn.utils.clip_grad_norm_``.
        clip_value: As ``torch.nn.utils.clip_grad_value_``.
        accumulate: Batches whose gradients' mean makes one update.
        products: The type of matrix products under ``torch.autocast``; float16 with a ``torch.amp.GradScaler``.
        matched: Whether the random numbers of the forward are made a function of ``seed`` and step, from outside;
            otherwise the module is left alone, and is to draw none.
        after_step: Called after each update.

    Returns:
        The loss at each step, before its update.

    Raises:
        DrewError: without ``matched``, the forward drew random numbers.
    """
    randomness = stateless_randomness if matched else _none_drawn
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters)
    scheduler = make_scheduler(optimizer) if make_scheduler else None
    module.train()
    work = loss.made if isinstance(loss, Loss) else lambda module, inputs, labels: called(module, inputs)
    device = device_of(inputs).type
    scaler = torch.amp.GradScaler(device, enabled=products is torch.float16)
    losses: list[float] = []
    epoch = 0
    while True:
        batches = epoch_indices(samples(inputs), batch_size, data_seed, epoch).split(accumulate)
        for group in batches[: len(batches) - (len(batches[-1]) < accumulate)]:
            if len(losses) == steps:
                return losses
            optimizer.zero_grad()
            total = 0.0
            for i, index in enumerate(group):
                batch = take((inputs, labels), index)
                with (
                    randomness(seed, step=len(losses) * accumulate + i),
                    torch.autocast(device, products, enabled=products is not None),
                ):
                    outputs = work(module, *batch)
                value = loss(outputs, batch[1]) / accumulate
                scaler.scale(value).backward()
                total += value.item()
            scaler.unscale_(optimizer)
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            if clip_value is not None:
                nn.utils.clip_grad_value_(parameters, clip_value)
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
            losses.append(total)
            after_step()
        epoch += 1


@contextmanager
def stateless_randomness(seed: int, step: int) -> Iterator[None]:
    """Within the block, a module's random numbers are a function of the seed and the step alone."""
    draws = Draws(torch.tensor(seed), torch.tensor(step))
    with lowered(draws, batched=False), seeded_elsewhere(stream_seed(seed, step, 0)):
        yield


@contextmanager
def _none_drawn(seed: int, step: int) -> Iterator[None]:
    """Python's and NumPy's random numbers are a function of seed and step; drawing from PyTorch's is an error."""
    before = torch.get_rng_state()
    with seeded_elsewhere(stream_seed(seed, step, 0)):
        yield
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise DrewError
