"""Optimizers that treat each parameter as a matrix of its own, K members at once: Adafactor, Muon, LAMB.

Which coordinates are which parameter they are told by `Optimizer.on`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.optimizers.adam import adam_coefficients, adam_step
from modelspace.optimizers.base import (
    Columns,
    Numbers,
    Optimizer,
    Points,
    Rows,
    Shapes,
    State,
    decay,
    decayed,
    of_span,
    ranges_of,
    spans,
    zeros,
)


@dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adam's second moment from its row and column means, as `torch.optim.Adafactor`.

    For each parameter of at least two dimensions, with g the gradient, t the number of the step, η the learning
    rate, β = 1 − t^τ, and means over the last and over the last but one dimension::

        r ← βr + (1 − β) mean g² by rows,   c ← βc + (1 − β) mean g² by columns
        v = rc / max(mean r, ε₁)            (v ← βv + (1 − β)g² where the parameter is a vector)
        u = g / max(√v, ε₁)
        p ← (1 − ηλ)p − max(ε₂, RMS(p)) · min(η, 1/√t) · u / max(1, RMS(u)/d)

    with RMS(p) from before the decay.

    Attributes:
        lr: η > 0, the largest relative step, and the decay's.
        beta2_decay: τ ≤ 0.
        eps: ε₁, the type's own where None or 0, and ε₂ ≥ 0.
        d: At least 1.
        weight_decay: λ ≥ 0, decoupled.
        maximize: Climb: g is minus the gradient.
        shapes: See `Optimizer.on`.

    Example:
        >>> import torch
        >>> state = Adafactor().on(((30, 20), (30,))).init(torch.zeros(5, 630))
        >>> {name: tuple(value.shape) for name, value in state.items()}
        {'row_var.0': (5, 30, 1), 'col_var.0': (5, 1, 20), 'variance.1': (5, 30)}

    Source:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", arXiv 1804.04235;
        the use of η, ε₁ and λ is torch's.
    """

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    weight_decay: float = 0.0
    maximize: bool = False
    shapes: Shapes = field(default=(), repr=False, kw_only=True)

    def hyperparameters(self) -> Hyperparameters:
        """Give the numbers; an ε₁ of 0 is the type's own."""
        named = {n: getattr(self, n) for n in ("lr", "beta2_decay", "d", "weight_decay")}
        return {**named, "eps": (self.eps[0] or 0.0, self.eps[1])}

    def ranges(self) -> Mapping[str, Range]:
        """Give what each column may be: ``eps`` is two numbers."""
        return {**ranges_of(self), "eps": Range("offsets", "two numbers of at least 0", 0.0, width=2)}

    def on(self, shapes: Shapes) -> Optimizer:
        """Give the optimizer of parameters of these shapes."""
        return replace(self, shapes=shapes)

    def init(self, points: Points) -> State:
        """Make the means by rows and columns of each matrix, and the second moment of each vector.

        Raises:
            ModelspaceError: the points are complex.
        """
        _real(self, points)
        state: State = {}
        for i, (shape, _) in enumerate(spans(self.shapes, points)):
            if len(shape) < 2:
                state[f"variance.{i}"] = points.new_zeros(len(points), *shape)
            else:
                state[f"row_var.{i}"] = points.new_zeros(len(points), *shape[:-1], 1)
                state[f"col_var.{i}"] = points.new_zeros(len(points), *shape[:-2], 1, shape[-1])
        return state

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        return {
            **decay(hyper, decoupled=True),
            "rest": step ** hyper["beta2_decay"],
            "eps1": hyper["eps"][..., :1],
            "eps2": hyper["eps"][..., 1:],
            "relative": torch.minimum(hyper["lr"], 1 / step.sqrt()),
            "d": hyper["d"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient, kept = decayed(gradient, points, c, maximize=self.maximize)
        new: State = {}
        steps = []
        for i, (shape, place) in enumerate(spans(self.shapes, points)):
            own = of_span(c, place)
            grads, rest = (
                gradient[:, place].unflatten(1, shape or (1,)),
                own["rest"].view(-1, *[1] * len(shape)),
            )
            least = torch.where(own["eps1"] > 0, own["eps1"], torch.finfo(points.dtype).eps)
            least = least.view(-1, *[1] * max(1, len(shape)))
            if len(shape) < 2:
                old = state[f"variance.{i}"]
                variance = new[f"variance.{i}"] = torch.lerp(old, grads.view_as(old).square(), rest)
                variance = variance.view_as(grads)
            else:
                row, column = (grads.square().mean(dim, keepdim=True) for dim in (-1, -2))
                row = new[f"row_var.{i}"] = torch.lerp(state[f"row_var.{i}"], row, rest)
                column = new[f"col_var.{i}"] = torch.lerp(state[f"col_var.{i}"], column, rest)
                variance = row * column / torch.maximum(row.mean(-2, keepdim=True), least)
            direction = (torch.maximum(variance, least * least).rsqrt() * grads).flatten(1)
            scale = torch.maximum(own["eps2"], _rms(points[:, place])) * own["relative"]
            steps.append(direction * (scale / (_rms(direction) / own["d"]).clamp(min=1)))
        return kept - torch.cat(steps, 1), new


@dataclass(frozen=True)
class LAMB(Optimizer):
    """Adam whose step is as long as the parameter it changes.

    For each parameter, with m and v of `Adam`, u = m̂/(√v̂ + ε) + λp, and a ratio of 1 where a norm is 0::

        p ← p − η ‖p‖/‖u‖ · u

    Attributes:
        lr: η > 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε ≥ 0.
        weight_decay: λ ≥ 0.
        maximize: Climb: g is minus the gradient.
        shapes: See `Optimizer.on`.

    Example:
        >>> LAMB().hyperparameters()["eps"]
        1e-06

    Source:
        You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv
        1904.00962, algorithm 2, with φ(z) = z.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.0
    maximize: bool = False
    shapes: Shapes = field(default=(), repr=False, kw_only=True)

    def on(self, shapes: Shapes) -> Optimizer:
        """Give the optimizer of parameters of these shapes."""
        return replace(self, shapes=shapes)

    def init(self, points: Points) -> State:
        """Make the moments."""
        return zeros(["exp_avg", "exp_avg_sq"], points)

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        one = {**hyper, "lr": torch.ones_like(hyper["lr"])}
        return {**decay(hyper, decoupled=False), **adam_coefficients(one, step), "lr": hyper["lr"]}

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        gradient = -gradient if self.maximize else gradient
        adam, new = adam_step(gradient, state, torch.zeros_like(points), c)
        update = torch.addcmul(-adam, points, c["weight_decay"])
        ratios = []
        for _, place in spans(self.shapes, points):
            norm, length = (
                torch.linalg.vector_norm(x[:, place], dim=1, keepdim=True) for x in (points, update)
            )
            ratio = torch.where((norm > 0) & (length > 0), norm / length, 1.0)
            ratios.append(ratio.expand(-1, place.stop - place.start))
        return torch.addcmul(points, update * torch.cat(ratios, 1), -c["lr"]), new


@dataclass(frozen=True)
class Muon(Optimizer):
    """Momentum whose singular values are all made about 1, as `torch.optim.Muon`; AdamW for what is no matrix.

    For each parameter of two dimensions, A × B, with g the gradient and η the learning rate::

        b ← μb + (1 − μ)g
        u = b   (with nesterov, u = (1 − μ)g + μb)
        p ← (1 − ηλ)p − η s · NewtonSchulz(u),   s = √max(1, A/B)

    NewtonSchulz is in bfloat16, as in torch: x ← u/max(‖u‖, ε), then ``ns_steps`` times x ← ax + (bG + cG²)x with
    G = xxᵀ. torch refuses any other parameter, and its users give those to a second optimizer; here they go
    with `AdamW` at the same ``lr`` and ``weight_decay``. Where they are to have their own, that is a group:
    ``groups={"vectors": "*.bias"}`` and a column ``lr.vectors``.

    Attributes:
        lr: η > 0.
        weight_decay: λ ≥ 0, decoupled.
        momentum: μ ≥ 0.
        nesterov: Look ahead along the momentum.
        ns_coefficients: a, b, c; the same for all members.
        eps: ε ≥ 0.
        ns_steps: Below 100; the same for all members.
        adjust_lr_fn: s: None or ``"original"`` as above, ``"match_rms_adamw"`` 0.2√max(A, B), with which
            the learning rates of AdamW suit.
        betas: AdamW's.
        adamw_eps: AdamW's.
        shapes: See `Optimizer.on`.

    Raises:
        ModelspaceError: an unknown ``adjust_lr_fn``, or 100 steps and more.

    Example:
        >>> Muon().hyperparameters()["momentum"]
        0.95

    Source:
        Jordan, "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon;
        match_rms_adamw: Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982.
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None
    betas: tuple[float, float] = field(default=(0.9, 0.999), kw_only=True)
    adamw_eps: float = field(default=1e-8, kw_only=True)
    shapes: Shapes = field(default=(), repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.adjust_lr_fn not in (None, "original", "match_rms_adamw") or self.ns_steps >= 100:
            raise ModelspaceError(
                "Muon needs adjust_lr_fn 'original' or 'match_rms_adamw' and fewer than 100 ns_steps; received "
                f"{self.adjust_lr_fn!r} and {self.ns_steps}"
            )

    def hyperparameters(self) -> Hyperparameters:
        """Give the numbers that may be columns."""
        return {n: v for n, v in Optimizer.hyperparameters(self).items() if n != "ns_steps"}

    def on(self, shapes: Shapes) -> Optimizer:
        """Give the optimizer of parameters of these shapes."""
        return replace(self, shapes=shapes)

    def init(self, points: Points) -> State:
        """Make the momentum of all, and AdamW's second moment of what is no matrix.

        Raises:
            ModelspaceError: the points are complex.
        """
        _real(self, points)
        count = sum(
            place.stop - place.start for shape, place in spans(self.shapes, points) if len(shape) != 2
        )
        return {**zeros(["momentum_buffer"], points), "exp_avg_sq": points.new_zeros(len(points), count)}

    def coefficients(self, hyper: Columns, step: Float64[Tensor, "..."]) -> dict[str, Tensor]:
        """Give the step's numbers: see `Optimizer.coefficients`."""
        adamw = adam_coefficients({**hyper, "eps": hyper["adamw_eps"]}, step)
        return {
            **decay(hyper, decoupled=True),
            **{f"adamw_{name}": value for name, value in adamw.items()},
            "lr": hyper["lr"],
            "momentum": hyper["momentum"],
            "rest": 1 - hyper["momentum"],
            "eps": hyper["eps"],
        }

    def apply(self, gradient: Rows, state: State, points: Rows, c: Numbers) -> tuple[Rows, State]:
        """Take one step: see `Optimizer.apply`."""
        points = points * c["kept"]
        rows, momenta, moments, seen = [], [], [], 0
        for shape, place in spans(self.shapes, points):
            own, part, grad = of_span(c, place), points[:, place], gradient[:, place]
            momentum = state["momentum_buffer"][:, place]
            if len(shape) == 2:
                momentum = torch.lerp(momentum, grad, own["rest"])
                update = torch.lerp(grad, momentum, own["momentum"]) if self.nesterov else momentum
                update = self._orthogonal(update.unflatten(1, shape), own["eps"]).flatten(1).to(points.dtype)
                part = torch.addcmul(part, update, -own["lr"] * self._scale(*shape))
            else:
                adamw = {n.removeprefix("adamw_"): v for n, v in own.items() if n.startswith("adamw_")}
                second = state["exp_avg_sq"][:, seen : seen + grad.shape[1]]
                held = {"exp_avg": momentum, "exp_avg_sq": second}
                part, held = adam_step(grad, held, part, adamw)
                momentum, seen = held["exp_avg"], seen + grad.shape[1]
                moments.append(held["exp_avg_sq"])
            rows.append(part)
            momenta.append(momentum)
        second = torch.cat(moments, 1) if moments else state["exp_avg_sq"].clone()
        return torch.cat(rows, 1), {"momentum_buffer": torch.cat(momenta, 1), "exp_avg_sq": second}

    def _orthogonal(
        self, matrices: Float[Tensor, "member row column"], eps: Float[Tensor, "member 1"]
    ) -> Float[Tensor, "member row column"]:
        a, b, c = self.ns_coefficients
        tall = matrices.shape[1] > matrices.shape[2]
        x = matrices.bfloat16()
        x = x.mT if tall else x
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        x = x / torch.maximum(norm, eps[..., None].to(x.dtype))
        for _ in range(self.ns_steps):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.mT if tall else x

    def _scale(self, rows: int, columns: int) -> float:
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * sqrt(max(rows, columns))
        return sqrt(max(1, rows / columns))


def _rms(rows: Rows) -> Float[Tensor, "member 1"]:
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True) / sqrt(max(1, rows.shape[1]))


def _real(optimizer: Optimizer, points: Tensor) -> None:
    if points.is_complex():
        raise ModelspaceError(
            f"{type(optimizer).__name__} has no form for complex coordinates, in torch.optim neither: AdamW has one"
        )
