"""A kit: an optimizer of K members held against a plain one of torch.optim, member by member."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import Range, hyper_columns, validate
from modelspace.optimizers.base import Optimizer, Shapes, State

Plain = Callable[..., torch.optim.Optimizer]


def check(
    optimizer: Optimizer,
    plain: Plain,
    *,
    shapes: Shapes = ((4, 3), (4,), (2, 3, 2)),
    members: int = 4,
    steps: int = 20,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> float:
    """Hold an optimizer against a plain one, over random points, gradients and hyper-parameters, in float64.

    The first member has the optimizer's own hyper-parameters, the others random ones within their ranges. Beside the
    points after each step it is seen that an update changes none of its arguments, keeps the state's names, shapes
    and types, and computes each row from its own alone.

    Args:
        optimizer: Of K members.
        plain: Makes a `torch.optim.Optimizer` of parameters and of the hyper-parameters by their names:
            ``torch.optim.SGD``, or a partial of it, or your own.
        shapes: Of the parameters.
        members: K.
        steps: Updates.
        seed: Of all that is random.
        tolerance: The largest relative error, by parameter.

    Returns:
        The largest relative error found.

    Raises:
        ModelspaceError: They part, and where: the update, the member with its hyper-parameters, the parameter. Or
            the optimizer breaks one of its other promises.

    Example:
        >>> from modelspace.optimizers import Adam
        >>> check(Adam(), torch.optim.Adam) < 1e-12
        True
        >>> check(Adam(), torch.optim.NAdam)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        modelspace.errors.ModelspaceError: Adam and NAdam part at update 1: member 0 (lr=0.001, ...
    """
    draws = torch.Generator().manual_seed(seed)
    columns = _columns(optimizer, members, np.random.default_rng(seed))
    validate(optimizer, columns)
    n = sum(map(prod, shapes))
    start, slope = (torch.randn(members, n, generator=draws, dtype=torch.float64) for _ in range(2))
    noise = torch.randn(steps, members, n, generator=draws, dtype=torch.float64)

    def gradient(points: Tensor, step: int, rows: slice) -> Tensor:
        return slope[rows] ** 2 * points + noise[step, rows]

    every = _trained(optimizer.on(shapes), columns, start, gradient, steps)
    alone = _trained(optimizer.on(shapes), columns, start, gradient, steps, slice(members - 1, members))
    name, theirs = type(optimizer).__name__, getattr(plain, "func", plain).__name__
    if not torch.allclose(alone[:, 0], every[:, -1], rtol=1e-12, atol=0):
        raise ModelspaceError(f"{name}: a member alone takes other steps than among others: rows are mixed")
    worst = 0.0
    for k in range(members):
        own = {hyper: values[k] for hyper, values in columns.items()}
        expected = _plainly(
            plain, own, shapes, start[k], lambda p, t, k=k: gradient(p[None], t, slice(k, k + 1))[0]
        )
        error, step, place = _apart(every[:, k], expected, shapes, tolerance)
        if not error <= tolerance:
            said = ", ".join(f"{hyper}={_said(value)}" for hyper, value in own.items())
            raise ModelspaceError(
                f"{name} and {theirs} part at update {step + 1}: member {k} ({said}), parameter {place} of shape "
                f"{shapes[place]}, relative error {error:.1e}"
            )
        worst = max(worst, error)
    return worst


def _columns(optimizer: Optimizer, members: int, draws: np.random.Generator) -> dict[str, list[Any]]:
    """Each hyper-parameter's own value, and random ones."""
    found = {}
    for name, value in optimizer.hyperparameters().items():
        allowed = optimizer.ranges().get(name, Range(name, "", -np.inf))
        found[name] = [value, *(_near(value, allowed, draws) for _ in range(members - 1))]
    return found


def _near(value: Any, allowed: Range, draws: np.random.Generator) -> Any:
    """A random value that is allowed; the given one where none is found."""
    own = np.atleast_1d(np.asarray(value, dtype=np.float64))
    low, high = (np.broadcast_to(limit, own.shape) for limit in (allowed.low, allowed.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    for _ in range(20):
        around = own * 10 ** draws.uniform(-0.5, 0.5, own.shape)
        around = np.where(own == 0, draws.choice([0.0, draws.uniform(0, 0.5)]), around)
        within = draws.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0))
        found = np.where(bounded, within, around).astype(np.float64)
        found = np.round(found) if allowed.whole else found
        if allowed.admits(found[None]).all():
            return tuple(found.tolist()) if allowed.width > 1 else float(found[0])
    return value


def _trained(
    optimizer: Optimizer,
    columns: Mapping[str, list[Any]],
    start: Tensor,
    gradient: Callable[[Tensor, int, slice], Tensor],
    steps: int,
    rows: slice = slice(None),
) -> Tensor:
    """The points after each step, of all members or of some."""
    points = start[rows]
    hyper = hyper_columns(optimizer, {n: values[rows] for n, values in columns.items()}, len(points))
    state, found = optimizer.init(points), []
    for step in range(steps):
        given = (gradient(points, step, rows), state, points)
        before = [leaf.clone() for leaf in pytree.tree_leaves(given)]
        points, after = optimizer.update(*given, hyper, torch.tensor(step + 1.0, dtype=torch.float64))
        name = type(optimizer).__name__
        if not all(map(torch.equal, before, pytree.tree_leaves(given))):
            raise ModelspaceError(f"{name}: an update changes its arguments: it is to make new tensors")
        if _form(after) != _form(state):
            raise ModelspaceError(
                f"{name}: an update changes the state's form: {_form(state)} to {_form(after)}"
            )
        state = after
        found.append(points)
    return torch.stack(found)


def _form(state: State) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(value.shape), value.dtype) for name, value in state.items()}


def _plainly(
    plain: Plain,
    own: dict[str, Any],
    shapes: Shapes,
    start: Tensor,
    gradient: Callable[[Tensor, int], Tensor],
) -> Callable[[int], Tensor]:
    """A member's points after a step, which is asked for in order."""
    sizes = [prod(shape) for shape in shapes]
    split = zip(start.split(sizes), shapes, strict=True)
    parameters = [part.clone().view(shape).requires_grad_() for part, shape in split]
    made = exactly(plain(parameters, **own))

    def after(step: int) -> Tensor:
        point = torch.cat([p.detach().flatten() for p in parameters])
        for p, part in zip(parameters, gradient(point, step).split(sizes), strict=True):
            p.grad = part.clone().view_as(p)
        made.step()
        return torch.cat([p.detach().flatten() for p in parameters])

    return after


def exactly(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let a plain optimizer keep a parameter's single numbers in the parameters' type, and not in the default one.

    torch's NAdam and ASGD do so of the product of momenta and of the step size.
    """
    dtype, before = optimizer.param_groups[0]["params"][0].dtype.to_real(), torch.get_default_dtype()
    optimizer.register_step_pre_hook(lambda *_: torch.set_default_dtype(dtype))
    optimizer.register_step_post_hook(lambda *_: torch.set_default_dtype(before))
    return optimizer


def _apart(
    ours: Tensor, theirs: Callable[[int], Tensor], shapes: Shapes, tolerance: float
) -> tuple[float, int, int]:
    """The first relative error of a parameter that is too large, else the largest; its update and its parameter."""
    worst = (0.0, 0, 0)
    for step, row in enumerate(ours):
        pairs = zip(*(x.split([prod(shape) for shape in shapes]) for x in (row, theirs(step))), strict=True)
        for place, (received, expected) in enumerate(pairs):
            error = float((received - expected).norm() / expected.norm().clamp_min(1e-30))
            if not error <= tolerance:
                return error, step, place
            worst = max(worst, (error, step, place))
    return worst


def _said(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else f"({', '.join(f'{v:.3g}' for v in value)})"
