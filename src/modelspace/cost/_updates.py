"""What an optimizer holds: its state from step to step, and what its update takes for a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.trace import PeakMemory, Subject, in_phase

Maker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

_NAMED: dict[str, Maker] = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "sgd+momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


@dataclass(frozen=True)
class Matrix:
    """The bytes of an optimizer of this library, which updates all coordinates as one matrix.

    Attributes:
        state: What it keeps from step to step.
        update: What an update takes beside points, gradient and state.
    """

    state: int
    update: int


def prepared(optimizer: Any, module: nn.Module, dtype: torch.dtype | None) -> Maker | Matrix:
    """What the update of a module's parameters will be.

    Args:
        optimizer: A name (``"sgd"``, ``"momentum"``, ``"adam"``, ``"adamw"``, ``"rmsprop"``), a function that makes
            a ``torch.optim.Optimizer`` of a list of parameters, or an optimizer of this library.
        module: Whose parameters.
        dtype: The type that they are cast to; as they are where None.

    Raises:
        ModelspaceError: it is none of these.
    """
    if isinstance(optimizer, str):
        if optimizer.lower() not in _NAMED:
            raise unknown_name("optimizer", optimizer, _NAMED)
        return _NAMED[optimizer.lower()]
    if all(hasattr(optimizer, name) for name in ("init", "apply", "coefficients", "hyperparameters")):
        return _matrix(optimizer, module, dtype)
    if callable(optimizer):
        return cast(Maker, optimizer)
    raise ModelspaceError(
        f"an optimizer is one of {', '.join(_NAMED)}, a function of a list of parameters that makes a "
        f"torch.optim.Optimizer, or an optimizer of this library; received {type(optimizer).__name__}"
    )


def begin(subject: Subject, update: Maker | Matrix) -> torch.optim.Optimizer | None:
    """Put an optimizer's state on the books, as it is from the second step on; the peak counts from here.

    Raises:
        ModelspaceError: the optimizer can't be made of these parameters.
    """
    trainable = [p for p in subject.module.parameters() if p.requires_grad]
    if isinstance(update, Matrix):
        subject.ledger.hold(update.state, "optimizer state")
        subject.ledger.forget_peak()
        return None
    if not trainable:
        return None
    with _explained():
        made = update(trainable)
        with in_phase(subject.tracer, "update"):
            for parameter in trainable:
                parameter.grad = torch.zeros_like(parameter)
            made.step()
            made.zero_grad(set_to_none=True)
    for tensor in _states(made):
        block = subject.ledger.block_of(tensor)
        if block is not None:
            block.kind = "optimizer state"
    subject.ledger.forget_peak()
    return made


def finish(subject: Subject, update: Maker | Matrix, made: torch.optim.Optimizer | None) -> None:
    """Run the update that ends a step."""
    with in_phase(subject.tracer, "update"):
        if isinstance(update, Matrix):
            subject.ledger.hold(update.update, "temporaries")
        elif made is not None:
            with _explained():
                made.step()


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what an optimizer refuses as a mistake of its choice."""
    try:
        yield
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(
            f"the optimizer can't update these parameters: {first_line(error)} (sgd takes sparse gradients; adam and "
            "rmsprop need layers without sparse=True)"
            if "sparse" in str(error)
            else f"the optimizer can't update these parameters: {first_line(error)}"
        ) from error


def _states(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _matrix(optimizer: Any, module: nn.Module, dtype: torch.dtype | None) -> Matrix:
    trainable = [p for p in module.parameters() if p.requires_grad]
    kind = dtype or (trainable[0].dtype if trainable else torch.float32)
    count = sum(p.numel() for p in trainable)
    columns = {
        name: torch.tensor(value, dtype=torch.float64).reshape(1, -1)
        for name, value in optimizer.hyperparameters().items()
    }
    found = optimizer.coefficients(columns, torch.tensor(2.0, dtype=torch.float64))
    coefficients = {name: c.to("meta", kind).expand(1, 1) for name, c in found.items()}
    points, gradient = (torch.empty(1, count, dtype=kind, device="meta") for _ in range(2))
    state = optimizer.init(points)
    given = [points, gradient, *state.values()]
    with PeakMemory(given) as memory:
        optimizer.apply(gradient, state, points, coefficients)
    held = sum(tensor.nbytes for tensor in state.values())
    return Matrix(held, max(0, memory.peak - 2 * points.nbytes - held))
