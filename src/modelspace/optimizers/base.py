"""What an optimizer of K members is, and what its hyper-parameters may be.

The parameters of K members are one matrix ``points`` [K, n], their gradients another, and a
hyper-parameter is a column [K, 1]: an update is a few elementwise operations, and row k depends on row k
of its arguments only. What looks at each parameter as a matrix of its own (`Adafactor`, `Muon`, `LAMB`) is
told of the shapes by `Optimizer.on`.
"""

import math
from collections.abc import Iterator, Mapping
from math import prod
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters, Range, Tunable

Rows = Float[Tensor, "member parameter"]
Points = Shaped[Tensor, "member parameter"]  # complex ones too
State = dict[str, Shaped[Tensor, "member ..."]]
Numbers = Mapping[str, Float[Tensor, "member _"]]
Shapes = tuple[tuple[int, ...], ...]

_FRACTION = "at least 0 and below 1"
RANGES: Mapping[str, Range] = {
    "lr": Range("learning rate", "a positive number", 0.0, low_included=False),
    "betas": Range("decay rates", f"two numbers of {_FRACTION}", 0.0, 1.0, width=2),
    "momentum_decay": Range("momentum's decay", "a number of at least 0", 0.0),
    "rho": Range("smoothing constant", "between 0 and 1", 0.0, 1.0, high_included=True),
    "lr_decay": Range("learning rate's decay", "a number of at least 0", 0.0),
    "initial_accumulator_value": Range("first sum of squares", "a number of at least 0", 0.0),
    "etas": Range(
        "factors of the step sizes",
        "two numbers, the first between 0 and 1 and the second above 1",
        (0.0, 1.0),
        (1.0, math.inf),
        low_included=False,
        width=2,
    ),
    "step_sizes": Range("least and largest step size", "two numbers of at least 0", 0.0, width=2),
    "lambd": Range("decay term", "a number of at least 0", 0.0),
    "t0": Range("update at which averaging starts", "a number of at least 0", 0.0),
    "beta2_decay": Range(
        "decay rate's exponent", "at most 0", -math.inf, 0.0, low_included=False, high_included=True
    ),
    "d": Range("clipping threshold", "at least 1", 1.0),
    "adamw_eps": Range("AdamW's offset", "a number of at least 0", 0.0),
    "tolerance_grad": Range("gradient's tolerance", "a number of at least 0", 0.0),
    "tolerance_change": Range("change's tolerance", "a number of at least 0", 0.0),
    "sam_rho": Range("sharpness's radius", "a number of at least 0", 0.0),
    "ema_decay": Range("average's decay rate", _FRACTION, 0.0, 1.0),
    "swa_start": Range("first update that is averaged", "a whole number of at least 1", 1.0, whole=True),
    "swa_every": Range(
        "updates from one averaged to the next", "a whole number of at least 1", 1.0, whole=True
    ),
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
    "cosine_steps": Range("cosine schedule's length", "a whole number of at least 0", 0.0, whole=True),
    "step_every": Range("step schedule's interval", "a whole number of at least 1", 1.0, whole=True),
    "step_factor": Range("step schedule's factor", "a positive number", 0.0, low_included=False),
    "onecycle_pct_start": Range("one-cycle's rising share", "between 0 and 1", 0.0, 1.0, high_included=True),
    "onecycle_div_factor": Range("one-cycle's first divisor", "a positive number", 0.0, low_included=False),
    "onecycle_final_div_factor": Range(
        "one-cycle's last divisor", "a positive number", 0.0, low_included=False
    ),
    "onecycle_steps": Range("one-cycle's length", "a whole number of at least 0", 0.0, whole=True),
    "multistep_factor": Range("milestones' factor", "a positive number", 0.0, low_included=False),
    "exponential_factor": Range(
        "exponential schedule's factor", "a positive number", 0.0, low_included=False
    ),
    "polynomial_power": Range("polynomial schedule's power", "a positive number", 0.0, low_included=False),
    "polynomial_steps": Range(
        "polynomial schedule's length", "a whole number of at least 0", 0.0, whole=True
    ),
    "hold_steps": Range("held factor's length", "a whole number of at least 0", 0.0, whole=True),
    "hold_factor": Range("held factor", "a positive number", 0.0, low_included=False),
    "restarts_every": Range("first restart", "a whole number of at least 1", 1.0, whole=True),
    "restarts_growth": Range("restarts' growth", "a whole number of at least 1", 1.0, whole=True),
    "restarts_final": Range("restarts' last factor", "between 0 and 1", 0.0, 1.0, high_included=True),
    "plateau_factor": Range("plateau's factor", "between 0 and 1", 0.0, 1.0, low_included=False),
    "plateau_patience": Range("plateau's patience", "a whole number of at least 0", 0.0, whole=True),
    "plateau_threshold": Range("plateau's threshold", "a number of at least 0", 0.0),
    "plateau_cooldown": Range("plateau's cooldown", "a whole number of at least 0", 0.0, whole=True),
    "plateau_min_lr": Range("plateau's least learning rate", "a number of at least 0", 0.0),
    "warmup_end": Range("warm-up's last factor", "between 0 and 1", 0.0, 1.0, high_included=True),
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
    steps at once: `coefficients`, small and in double precision, and `apply`, on whole matrices. An optimizer
    of your own needs `init`, `coefficients` and `apply`; the others have a form that suits most.
    """

    def hyperparameters(self) -> Hyperparameters:
        """Give every number among the fields, by its name, with the optimizer's own value."""
        return {name: value for name, value in vars(self).items() if _is_number(value)}

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be."""
        return ranges_of(self)

    def on(self, shapes: Shapes) -> "Optimizer":
        """Give the optimizer of points that are parameters of these shapes, one after the other.

        Itself, unless it treats each parameter as a matrix. Without it, a row is one vector.

        Args:
            shapes: In the order of the coordinates.
        """
        return self

    def init(self, points: Points) -> State:
        """Make the state before the first step: any tensors whose first axis are the members, by name."""
        ...

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Turn hyper-parameters into the numbers that `apply` multiplies with.

        torch computes these in Python's doubles and rounds each once, when it meets the parameters.

        Args:
            hyper: Every name of `hyperparameters`, ``[…, K, 1]`` each, ``betas`` ``[…, K, 2]``.
            step: The number of the update, 1 at the first; a scalar, or ``[T, 1 or K, 1]`` for many steps.

        Returns:
            Float64, each broadcastable to ``[…, K, 1]``.
        """
        ...

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step, changing none of the arguments.

        Args:
            gradient: Row k is the gradient of member k's loss at row k of ``points``.
            state: What `init` or the last step returned.
            points: The parameters, one row a member.
            c: The `coefficients` of this step, in the points' dtype: ``[K, 1]``, or ``[K, n]`` where groups of
                parameters have their own. `applied` sees to it that all is real.

        Returns:
            The new points and the new state, of the same shapes.
        """
        ...

    def look(self, gradient: Rows, points: Rows, c: Numbers) -> Rows | None:
        """Give the points at which `apply` wants the gradient; None where it is these."""
        return None

    @property
    def takes_groups(self) -> bool:
        """Whether groups of parameters may have their own hyper-parameters."""
        return True

    def evaluated(self, points: Points, state: State) -> Points:
        """Give the points at which members are scored, and which are their result."""
        return points

    def update(
        self, gradient: Rows, state: State, points: Rows, hyper: Columns, step: Float64[Tensor, ""]
    ) -> tuple[Rows, State]:
        """Take one step from the hyper-parameters themselves: `coefficients`, then `apply`."""
        found = self.coefficients(hyper, step)
        real = points.real.dtype
        return applied(self, gradient, state, points, {name: c.to(real) for name, c in found.items()})


def _is_number(value: object) -> bool:
    """Whether a field is a number or a pair of them, and no boolean."""
    values = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def ranges_of(owner: Tunable) -> dict[str, Range]:
    """Look the owner's hyper-parameters up in `RANGES`."""
    return {name: RANGES[name] for name in owner.hyperparameters() if name in RANGES}


def applied(
    optimizer: Optimizer,
    gradient: Points,
    state: Mapping[str, Shaped[Tensor, "member ..."]],
    points: Points,
    c: Numbers,
) -> tuple[Points, State]:
    """Take one step: `Optimizer.apply`, a complex coordinate as two real ones, as torch.optim does.

    So the second moments of real and imaginary part are each its own; state is kept in the points' dtype.

    Args:
        optimizer: The optimizer.
        gradient: As of `Optimizer.apply`; so are the others.
        state: What `Optimizer.init` made.
        points: One row a member.
        c: Real, whatever the points are.
    """
    if not points.is_complex():
        return optimizer.apply(gradient, dict(state), points, c)
    pairs = {name: _as_real(value) for name, value in state.items()}
    new, after = optimizer.apply(_as_real(gradient), pairs, _as_real(points), _of_pairs(c))
    return _as_complex(new), {n: _as_complex(v) if state[n].is_complex() else v for n, v in after.items()}


def looked(
    optimizer: Optimizer,
    gradient: Points,
    points: Points,
    c: Numbers,
) -> Points | None:
    """Give where the gradient is wanted: `Optimizer.look`, a complex coordinate as two real ones."""
    if not points.is_complex():
        return optimizer.look(gradient, points, c)
    found = optimizer.look(_as_real(gradient), _as_real(points), _of_pairs(c))
    return None if found is None else _as_complex(found)


def _of_pairs(c: Numbers) -> dict[str, Tensor]:
    return {
        name: value if value.shape[1] == 1 else value.repeat_interleave(2, 1) for name, value in c.items()
    }


def _as_real(rows: Tensor) -> Tensor:
    return torch.view_as_real(rows.resolve_conj()).flatten(-2) if rows.is_complex() else rows


def _as_complex(rows: Tensor) -> Tensor:
    return torch.view_as_complex(rows.unflatten(-1, (-1, 2)))


def zeros(names: list[str], points: Points) -> State:
    """Make a state of zeros, one matrix a name."""
    return {name: torch.zeros_like(points) for name in names}


def number(points: Points, value: float) -> Shaped[Tensor, "member 1"]:
    """Make a state of one number a member, at least as exact as float32."""
    kind = torch.promote_types(points.real.dtype, torch.float32)
    return torch.full((len(points), 1), value, dtype=kind, device=points.device)


def sign(rows: Rows) -> Rows:
    """Give the signs; NaN of what is not finite, where `torch.sign` says 0: a member that diverges shows."""
    return rows.sign() + (rows - rows)


def decay(hyper: Columns, *, decoupled: bool) -> dict[str, Tensor]:
    """Give the coefficient of weight decay that `decayed` reads."""
    return (
        {"kept": 1 - hyper["lr"] * hyper["weight_decay"]}
        if decoupled
        else {"weight_decay": hyper["weight_decay"]}
    )


def decayed(gradient: Rows, points: Rows, c: Numbers, *, maximize: bool) -> tuple[Rows, Rows]:
    """Give gradient and points with weight decay: it enters the one, or decoupled from it shrinks the other."""
    gradient = -gradient if maximize else gradient
    if "kept" in c:
        return gradient, points * c["kept"]
    return torch.addcmul(gradient, points, c["weight_decay"]), points


def spans(shapes: Shapes, points: Rows) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Yield each parameter's shape and place; one vector where there are no shapes."""
    start, real = 0, points.shape[1] // (sum(map(prod, shapes)) or points.shape[1] or 1)
    for shape in shapes or ((points.shape[1],),):
        stop = start + prod(shape) * real  # twice as many where they are complex
        yield shape, slice(start, stop)
        start = stop


def of_span(c: Numbers, place: slice) -> Numbers:
    """Give the coefficients of one parameter, ``[K, 1]``: a group holds whole parameters."""
    return {n: v if v.shape[1] == 1 else v[:, place.start : place.start + 1] for n, v in c.items()}
