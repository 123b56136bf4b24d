"""What an optimizer of K members must equal: torch.optim or a published formula, one member at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from support import optimizers as plain
from support.optimizers import numbers_in

from modelspace import optimizers as ours
from modelspace.hyperparameters import hyper_columns
from modelspace.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

MEMBERS, PARAMETERS, STEPS = 5, 7, 30


def number(low, high):
    return st.floats(low, high)


def number_or_zero(low, high):
    return st.just(0.0) | number(low, high)


RATE = number(1e-3, 0.1)
DECAY = number_or_zero(1e-4, 0.5)
MOMENTUM = number_or_zero(0.1, 0.95)
EPS = st.sampled_from([1e-8, 1e-5, 1e-3])
ADAM = {
    "lr": RATE,
    "betas": st.tuples(number_or_zero(0.1, 0.95), number_or_zero(0.5, 0.9995)),
    "eps": EPS,
    "weight_decay": DECAY,
}
RMSPROP = {"lr": RATE, "alpha": number(0.8, 0.99), "eps": EPS, "weight_decay": DECAY, "momentum": MOMENTUM}
# At β₂ = 0 its step is hardly more than a sign, which rounding turns over.
SMOOTH = st.tuples(number_or_zero(0.1, 0.95), number(0.5, 0.9995))
NADAM = {**ADAM, "betas": SMOOTH, "momentum_decay": number_or_zero(1e-3, 0.1)}
ADAFACTOR = {
    "lr": RATE,
    "beta2_decay": number(-1.0, -0.1),
    "eps": st.tuples(number_or_zero(1e-8, 1e-3), number(1e-4, 1e-2)),
    "d": number(1.0, 3.0),
    "weight_decay": DECAY,
}
ADAGRAD = {
    "lr": RATE,
    "lr_decay": number_or_zero(0.01, 0.5),
    "weight_decay": DECAY,
    "initial_accumulator_value": number_or_zero(0.01, 0.5),
    "eps": EPS,
}
ADADELTA = {"lr": number(0.1, 1.0), "rho": number(0.5, 0.95), "eps": st.just(1e-4), "weight_decay": DECAY}
RPROP = {
    "lr": RATE,
    "etas": st.tuples(number(0.2, 0.8), number(1.05, 1.5)),
    "step_sizes": st.tuples(number(1e-6, 1e-4), number(0.1, 1.0)),
}
T0 = st.sampled_from([0.0, 3.0, 1e6])
ASGD = {"lr": RATE, "lambd": number(1e-4, 0.1), "alpha": number(0.1, 0.9), "t0": T0, "weight_decay": DECAY}
LION = {"lr": RATE, "betas": ADAM["betas"], "weight_decay": DECAY}
FREE = {"lr": RATE, "momentum": number(0.1, 0.95), "weight_decay": DECAY}
FREE_ADAM = {**ADAM, "betas": st.tuples(number(0.1, 0.95), number(0.5, 0.9995))}
TOLERANCES = {"tolerance_grad": number(1e-7, 0.1), "tolerance_change": number(1e-9, 1e-2)}
DAMPED = {"lr": RATE, "momentum": MOMENTUM, "dampening": number_or_zero(-0.5, 0.9), "weight_decay": DECAY}


@dataclass(frozen=True)
class Case:
    """One optimizer with one choice of booleans, torch's own class, and the hyper-parameters to try."""

    optimizer: Optimizer
    torchs: type[torch.optim.Optimizer]
    strategies: dict[str, st.SearchStrategy]
    booleans: dict[str, bool]
    grows: float = 1.0  # how much more of rounding it makes than others

    def __str__(self):
        return "-".join([self.torchs.__name__.lower(), *self.booleans])

    @property
    def single(self):
        """What keeps torch from taking several parameters at once."""
        return {"foreach": False} if self.torchs.__module__.startswith("torch.optim") else {}

    def columns(self):
        """A strategy of every hyper-parameter's column, one value a member."""
        return st.fixed_dictionaries(
            {
                name: st.lists(value, min_size=MEMBERS, max_size=MEMBERS)
                for name, value in self.strategies.items()
            }
        )


CASES = [
    Case(SGD(), torch.optim.SGD, DAMPED, {}),
    Case(
        SGD(nesterov=True),
        torch.optim.SGD,
        {"lr": RATE, "momentum": number(0.1, 0.95), "dampening": st.just(0.0), "weight_decay": DECAY},
        {"nesterov": True},
    ),
    Case(Adam(), torch.optim.Adam, ADAM, {}),
    Case(Adam(amsgrad=True), torch.optim.Adam, ADAM, {"amsgrad": True}),
    Case(AdamW(), torch.optim.AdamW, ADAM, {}),
    Case(AdamW(amsgrad=True), torch.optim.AdamW, ADAM, {"amsgrad": True}),
    Case(RMSprop(), torch.optim.RMSprop, RMSPROP, {}),
    Case(RMSprop(centered=True), torch.optim.RMSprop, RMSPROP, {"centered": True}),
    Case(SGD(maximize=True), torch.optim.SGD, DAMPED, {"maximize": True}),
    Case(Adam(maximize=True), torch.optim.Adam, ADAM, {"maximize": True}),
    Case(AdamW(maximize=True), torch.optim.AdamW, ADAM, {"maximize": True}),
    Case(RMSprop(maximize=True), torch.optim.RMSprop, RMSPROP, {"maximize": True}),
    Case(Adam(decoupled_weight_decay=True), torch.optim.Adam, ADAM, {"decoupled_weight_decay": True}),
    Case(ours.NAdam(), torch.optim.NAdam, NADAM, {}),
    Case(
        ours.NAdam(decoupled_weight_decay=True),
        torch.optim.NAdam,
        NADAM,
        {"decoupled_weight_decay": True},
        10.0,
    ),
    Case(ours.RAdam(), torch.optim.RAdam, ADAM, {}),
    Case(ours.RAdam(decoupled_weight_decay=True), torch.optim.RAdam, ADAM, {"decoupled_weight_decay": True}),
    Case(ours.Adamax(), torch.optim.Adamax, ADAM, {}),
    Case(ours.Adagrad(), torch.optim.Adagrad, ADAGRAD, {}),
    Case(ours.Adadelta(), torch.optim.Adadelta, ADADELTA, {}),
    Case(ours.Rprop(), torch.optim.Rprop, RPROP, {}),
    Case(ours.ASGD(), torch.optim.ASGD, ASGD, {}),
    Case(ours.Adafactor(), torch.optim.Adafactor, ADAFACTOR, {}),
    *(
        Case(kind(maximize=True), getattr(torch.optim, kind.__name__), values, {"maximize": True})
        for kind, values in {
            ours.NAdam: NADAM,
            ours.RAdam: ADAM,
            ours.Adamax: ADAM,
            ours.Adagrad: ADAGRAD,
            ours.Adadelta: ADADELTA,
            ours.Rprop: RPROP,
            ours.ASGD: ASGD,
            ours.Adafactor: ADAFACTOR,
        }.items()
    ),
    Case(ours.Lion(), plain.Lion, LION, {}),
    Case(ours.Lion(maximize=True), plain.Lion, LION, {"maximize": True}),
    Case(ours.LAMB(), plain.LAMB, ADAM, {}),
    Case(ours.LAMB(maximize=True), plain.LAMB, ADAM, {"maximize": True}),
    Case(ours.ScheduleFreeSGD(), plain.ScheduleFreeSGD, FREE, {}),
    Case(ours.ScheduleFreeAdamW(), plain.ScheduleFreeAdamW, FREE_ADAM, {}),
    # A vector goes with AdamW; matrices have tests of their own.
    Case(ours.Muon(), plain.Muon, {"lr": RATE, "weight_decay": DECAY, "betas": ADAM["betas"]}, {}),
    # Gradients here are noise, so its curvatures are.
    Case(
        ours.LBFGS(history_size=5),
        plain.LBFGS,
        {"lr": number(0.01, 0.2), **TOLERANCES},
        {"history_size": 5},
        1e3,
    ),
]


@dataclass(frozen=True)
class Problem:
    """Noisy gradients of one quadratic a member."""

    start: torch.Tensor
    curvature: torch.Tensor
    noise: torch.Tensor

    def gradient(self, points, step, rows):
        return self.curvature[rows] * points + self.noise[step, rows]


def problem(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (MEMBERS, PARAMETERS)
    return Problem(
        start=torch.randn(shape, generator=generator, dtype=dtype),
        curvature=torch.rand(shape, generator=generator, dtype=dtype),
        noise=torch.randn((STEPS, *shape), generator=generator, dtype=dtype),
    )


def chosen(columns, rows):
    """The columns of some members only."""
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def arguments(optimizer, columns, posed, rows):
    """What the first `update` receives."""
    points = posed.start[rows]
    hyper = hyper_columns(optimizer, chosen(columns, rows), len(rows))
    gradient = posed.gradient(points, 0, rows)
    return gradient, optimizer.init(points), points, hyper, torch.tensor(1.0, dtype=torch.float64)


def trained(optimizer, columns, posed, rows=range(MEMBERS), update=None):
    """The points of the members in rows, after STEPS steps of all of them at once."""
    rows = list(rows)
    _, state, points, hyper, _ = arguments(optimizer, columns, posed, rows)
    for step in range(STEPS):
        number = torch.tensor(step + 1.0, dtype=torch.float64)
        gradient = posed.gradient(points, step, rows)
        points, state = (update or optimizer.update)(gradient, state, points, hyper, number)
    return points


def trained_by_torch(case, columns, posed):
    """The same, by the plain optimizer, member after member."""
    ends = []
    for member in range(MEMBERS):
        point = posed.start[member].clone().requires_grad_()
        hyper: dict[str, Any] = {name: values[member] for name, values in columns.items()}
        if case.torchs is torch.optim.Adafactor and not hyper.get("eps", (1,))[0]:
            hyper["eps"] = (None, hyper["eps"][1])
        with numbers_in(posed.start.dtype):
            optimizer = case.torchs([point], **hyper, **case.booleans, **case.single)
            for step in range(STEPS):
                point.grad = posed.gradient(point.detach(), step, member)
                optimizer.step()
        ends.append(point.detach())
    return torch.stack(ends)


def relative_error(received, expected):
    """The largest over the members of the largest error of a row, in units of the row's largest entry."""
    error = (received - expected).abs().amax(dim=1) / expected.abs().amax(dim=1)
    return float(np.max(error.numpy()))
