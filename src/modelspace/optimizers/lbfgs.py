"""L-BFGS, K members at once: each with a history of its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from modelspace.hyperparameters import Hyperparameters
from modelspace.optimizers.base import Columns, Numbers, Optimizer, Points, Rows, State, number, zeros


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Newton's step with a Hessian from the last gradients, as `torch.optim.LBFGS` with ``max_iter=1``.

    For gradients of all data (``batch_size`` the training split's), without line search. With g the gradient, y
    and s the last change of gradient and point, kept where y·s > 10⁻¹⁰, and H the inverse Hessian that
    the two-loop recursion makes of those kept::

        d = −Hg               (d = −g at the first)
        p ← p + ηd            (p ← p + min(1, 1/‖g‖₁) ηd at the first)

    A member whose largest gradient entry is at most ``tolerance_grad`` rests; one stands still where g·d is
    above −``tolerance_change``.

    Attributes:
        lr: η > 0.
        tolerance_grad: At least 0.
        tolerance_change: At least 0.
        history_size: Pairs kept, the same for all members: two numbers a coordinate each.

    Example:
        >>> import torch
        >>> LBFGS(history_size=3).init(torch.zeros(2, 5))["old_dirs"].shape
        torch.Size([2, 3, 5])

    Source:
        Nocedal and Wright, "Numerical Optimization", algorithm 7.4; the tolerances are torch's.
    """

    lr: float = 1.0
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    history_size: int = 100

    def hyperparameters(self) -> Hyperparameters:
        """Give the numbers that may be columns."""
        return {n: v for n, v in Optimizer.hyperparameters(self).items() if n != "history_size"}

    @property
    def takes_groups(self) -> bool:
        """No: its products are over all parameters."""
        return False

    def init(self, points: Points) -> State:
        """Make an empty history."""
        shape, real = (len(points), self.history_size), points.new_empty(0).real
        return {
            **zeros(["d", "prev_grad"], points),
            "old_dirs": points.new_zeros(*shape, points.shape[1]),
            "old_stps": points.new_zeros(*shape, points.shape[1]),
            "ro": real.new_zeros(shape),
            **{name: number(points, 0.0) for name in ("t", "h_diag", "n_iter")},
        }

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return dict(hyper)

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        goes = gradient.abs().amax(1, keepdim=True) > c["tolerance_grad"]
        # NaN is no number at which to rest.
        goes = goes | gradient.isnan().any(1, keepdim=True)
        first = state["n_iter"] == 0
        change, step = gradient - state["prev_grad"], state["d"] * state["t"].to(points.dtype)
        curvature = _dot(change, step)
        kept = goes & ~first & (curvature > 1e-10)
        ys, ss, ro = (
            torch.where(
                kept[..., None] if old.dim() == 3 else kept, torch.cat([old[:, 1:], new[:, None]], 1), old
            )
            for old, new in (
                (state["old_dirs"], change),
                (state["old_stps"], step),
                (state["ro"], 1 / curvature[:, 0]),
            )
        )
        diagonal = torch.where(kept, curvature / _dot(change, change), state["h_diag"].to(points.dtype))
        d = torch.where(first, -gradient, _direction(gradient, ys, ss, ro, diagonal))
        t = torch.where(first, (1 / gradient.abs().sum(1, keepdim=True)).clamp(max=1) * c["lr"], c["lr"])
        moves = goes & ~(_dot(gradient, d) > -c["tolerance_change"])
        after = {
            "d": d,
            "prev_grad": gradient,
            "old_dirs": ys,
            "old_stps": ss,
            "ro": ro,
            "t": t.to(state["t"].dtype),
            "h_diag": torch.where(first, 1.0, diagonal).to(state["h_diag"].dtype),
            "n_iter": state["n_iter"] + 1,
        }
        kept_as = {name: goes.view(-1, *[1] * (value.dim() - 1)) for name, value in after.items()}
        new = {name: torch.where(kept_as[name], value, state[name]) for name, value in after.items()}
        return torch.where(moves, torch.addcmul(points, d, t), points), new


def _dot(a: Rows, b: Rows) -> Float[Tensor, "member 1"]:
    return (a * b).sum(1, keepdim=True)


def _direction(
    gradient: Rows,
    ys: Float[Tensor, "member pair parameter"],
    ss: Float[Tensor, "member pair parameter"],
    ro: Float[Tensor, "member pair"],
    diagonal: Float[Tensor, "member 1"],
) -> Rows:
    """The two-loop recursion. A place in the history that is empty has ro = 0, and adds nothing."""
    q, shares = -gradient, []
    for i in reversed(range(ys.shape[1])):
        shares.append(_dot(ss[:, i], q) * ro[:, i : i + 1])
        q = torch.addcmul(q, ys[:, i], shares[-1], value=-1)
    r = q * diagonal
    for i, share in enumerate(reversed(shares)):
        r = torch.addcmul(r, ss[:, i], share - _dot(ys[:, i], r) * ro[:, i : i + 1])
    return r
