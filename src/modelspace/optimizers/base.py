"""What an optimizer of K members is, and what its hyper-parameters may be.

The parameters of K members are one matrix ``points`` [K, n], their gradients another, and a
hyper-parameter is a column [K, 1]: an update is a few elementwise operations, and row k depends on row k
of its arguments only.
"""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Inexact, Shaped
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters, Range, Tunable

State = dict[str, Float[Tensor, "member parameter"]]

_FRACTION = "at least 0 and below 1"
RANGES: Mapping[str, Range] = {
    "lr": Range("learning rate", "a positive number", 0.0, low_included=False),
    "betas": Range("decay rates", f"two numbers of {_FRACTION}", 0.0, 1.0, width=2),
    "alpha": Range("smoothing constant", _FRACTION, 0.0, 1.0),
    "eps": Range("offset", "a number of at least 0", 0.0),
    "weight_decay": Range("weight decay", "a number of at least 0", 0.0),
    "momentum": Range("momentum factor", "a number of at least 0", 0.0),
    "dampening": Range("momentum's dampening", "a finite number", -math.inf, low_included=False),
    "clip_norm": Range(
        "gradient norm's limit", "a positive number or inf", 0.0, low_included=False, high_included=True
    ),
    "clip_value": Range(
        "gradient entries' limit", "a positive number or inf", 0.0, low_included=False, high_included=True
    ),
    "cosine_final": Range("cosine schedule's last factor", "between 0 and 1", 0.0, 1.0, high_included=True),
    "step_every": Range("step schedule's interval", "a whole number of at least 1", 1.0, whole=True),
    "step_factor": Range("step schedule's factor", "a positive number", 0.0, low_included=False),
    "onecycle_pct_start": Range("one-cycle's rising share", "between 0 and 1", 0.0, 1.0, high_included=True),
    "onecycle_div_factor": Range("one-cycle's first divisor", "a positive number", 0.0, low_included=False),
    "onecycle_final_div_factor": Range(
        "one-cycle's last divisor", "a positive number", 0.0, low_included=False
    ),
    "warmup_steps": Range("warm-up's length", "a whole number of at least 0", 0.0, whole=True),
    "warmup_start": Range(
        "warm-up's first factor", "above 0 and at most 1", 0.0, 1.0, low_included=False, high_included=True
    ),
}


Columns = Mapping[str, Float64[Tensor, "*step member _"]]


@runtime_checkable
class Optimizer(Tunable, Protocol):
    """An optimizer of K members at once: `init` once, then `update` at every step.

    Booleans (``nesterov``, ``amsgrad``, ``maximize``) are fields of the optimizer and the same for all
    members; numbers are columns. An update is in two parts, so that a training loop can do the first for many
    steps at once: `coefficients`, small and in double precision, and `apply`, elementwise on whole matrices.
    """

    def hyperparameters(self) -> Hyperparameters:
        """Give every number among the fields, by its name, with the optimizer's own value."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, bool)}

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be."""
        return ranges_of(self)

    def init(self, points: Inexact[Tensor, "member parameter"]) -> State:
        """Make the state before the first step: zeros of the points' shape, dtype and device."""
        ...

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Turn hyper-parameters into the numbers that `apply` multiplies with.

        torch computes these in Python's doubles and rounds each once, when it meets the parameters.

        Args:
            hyper: Every name of `hyperparameters`, ``[…, K, 1]`` each, ``betas`` ``[…, K, 2]``.
            step: The number of the update, 1 at the first; a scalar, or ``[T, 1, 1]`` for many steps.

        Returns:
            Float64, each broadcastable to ``[…, K, 1]``.
        """
        ...

    def apply(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        c: Mapping[str, Float[Tensor, "member 1"]],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step, changing none of the arguments.

        Args:
            gradient: Row k is the gradient of member k's loss at row k of ``points``.
            state: What `init` or the last step returned.
            points: The parameters, one row a member.
            c: The `coefficients` of this step, in the points' dtype. `applied` sees to it that all is real.

        Returns:
            The new points and the new state.
        """
        ...

    def update(
        self,
        gradient: Float[Tensor, "member parameter"],
        state: State,
        points: Float[Tensor, "member parameter"],
        hyper: Columns,
        step: Float64[Tensor, ""],
    ) -> tuple[Float[Tensor, "member parameter"], State]:
        """Take one step from the hyper-parameters themselves: `coefficients`, then `apply`."""
        found = self.coefficients(hyper, step)
        real = points.real.dtype
        return applied(self, gradient, state, points, {name: c.to(real) for name, c in found.items()})


def ranges_of(owner: Tunable) -> dict[str, Range]:
    """Look the owner's hyper-parameters up in `RANGES`."""
    return {name: RANGES[name] for name in owner.hyperparameters() if name in RANGES}


def applied(
    optimizer: Optimizer,
    gradient: Shaped[Tensor, "member parameter"],
    state: Mapping[str, Shaped[Tensor, "member parameter"]],
    points: Shaped[Tensor, "member parameter"],
    c: Mapping[str, Float[Tensor, "member 1"]],
) -> tuple[Shaped[Tensor, "member parameter"], dict[str, Shaped[Tensor, "member parameter"]]]:
    """Take one step: `Optimizer.apply`, a complex coordinate as two real ones, as torch.optim does.

    So the second moments of real and imaginary part are each its own; state is kept in the points' dtype.

    Args:
        optimizer: The optimizer.
        gradient: As of `Optimizer.apply`; so are the others.
        state: One matrix a name.
        points: One row a member.
        c: Real, whatever the points are.
    """
    if not points.is_complex():
        return optimizer.apply(gradient, dict(state), points, c)
    pairs = {name: _as_real(value) for name, value in state.items()}
    new, new_state = optimizer.apply(_as_real(gradient), pairs, _as_real(points), c)
    return _as_complex(new), {name: _as_complex(value) for name, value in new_state.items()}


def _as_real(rows: Tensor) -> Tensor:
    return torch.view_as_real(rows.resolve_conj()).flatten(1)


def _as_complex(rows: Tensor) -> Tensor:
    return torch.view_as_complex(rows.unflatten(1, (-1, 2)))


def zeros(names: list[str], points: Inexact[Tensor, "member parameter"]) -> State:
    """Make a state of zeros, one matrix a name."""
    return {name: torch.zeros_like(points) for name in names}
