"""Optimizers that torch.optim lacks, one parameter after another: the published formulas as plain loops."""

from contextlib import contextmanager
from typing import ClassVar

import torch


@contextmanager
def numbers_in(dtype):
    """torch.optim keeps a parameter's single numbers (NAdam's product, ASGD's rate) in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Plain(torch.optim.Optimizer):
    """A loop over parameters with a gradient; ``step_of`` does one, with its state and the number of its step."""

    defaults_of: ClassVar = {}

    def __init__(self, params, **given):
        super().__init__(params, {**self.defaults_of, **given})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["step"] = state.get("step", 0) + 1
                    self.step_of(p, -p.grad if group.get("maximize") else p.grad, state, group, state["step"])


class Lion(Plain):
    """Algorithm 2 of arXiv 2302.06675."""

    defaults_of: ClassVar = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0, "maximize": False}

    def step_of(self, p, g, state, group, t):
        beta1, beta2 = group["betas"]
        m = state.get("m", torch.zeros_like(p))
        c = beta1 * m + (1 - beta1) * g
        p.copy_(p - group["lr"] * (torch.sign(c) + group["weight_decay"] * p))
        state["m"] = beta2 * m + (1 - beta2) * g


class LAMB(Plain):
    """Algorithm 2 of arXiv 1904.00962, φ(z) = z."""

    defaults_of: ClassVar = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.0,
        "maximize": False,
    }

    def step_of(self, p, g, state, group, t):
        beta1, beta2 = group["betas"]
        m = state["m"] = beta1 * state.get("m", torch.zeros_like(p)) + (1 - beta1) * g
        v = state["v"] = beta2 * state.get("v", torch.zeros_like(p)) + (1 - beta2) * g * g
        r = (m / (1 - beta1**t)) / (torch.sqrt(v / (1 - beta2**t)) + group["eps"])
        update = r + group["weight_decay"] * p
        ratio = p.norm() / update.norm() if p.norm() > 0 and update.norm() > 0 else 1.0
        p.copy_(p - group["lr"] * ratio * update)


class ScheduleFreeSGD(Plain):
    """Equations 3 to 5 of arXiv 2405.15682; p is y, and ``x`` of the state the result."""

    defaults_of: ClassVar = {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.0}

    def step_of(self, p, g, state, group, t):
        self.move(p, state, group["lr"], group["momentum"], g + group["weight_decay"] * p)

    def move(self, p, state, rate, beta, direction):
        z, x = state.get("z", p.clone()), state.get("x", p.clone())
        state["sum"] = state.get("sum", 0.0) + rate**2
        c = rate**2 / state["sum"]
        state["z"] = z - rate * direction
        state["x"] = (1 - c) * x + c * state["z"]
        p.copy_((1 - beta) * state["z"] + beta * state["x"])


class ScheduleFreeAdamW(ScheduleFreeSGD):
    """Algorithm 1 of arXiv 2405.15682."""

    defaults_of: ClassVar = {"lr": 2.5e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def step_of(self, p, g, state, group, t):
        beta1, beta2 = group["betas"]
        v = state["v"] = beta2 * state.get("v", torch.zeros_like(p)) + (1 - beta2) * g * g
        rate = group["lr"] * (1 - beta2**t) ** 0.5
        self.move(p, state, rate, beta1, g / (v.sqrt() + group["eps"]) + group["weight_decay"] * p)


class Muon:
    """torch's Muon for what has two dimensions, torch's AdamW for the rest, as its documentation says."""

    defaults: ClassVar = {
        **torch.optim.Muon([torch.zeros(1, 1)]).defaults,
        "betas": (0.9, 0.999),
        "adamw_eps": 1e-8,
    }

    def __init__(self, params, betas=(0.9, 0.999), adamw_eps=1e-8, **given):
        params = list(params)
        matrices, others = [p for p in params if p.dim() == 2], [p for p in params if p.dim() != 2]
        shared = {"weight_decay": 0.1, **{n: given[n] for n in ("lr", "weight_decay") if n in given}}
        self.both = [torch.optim.Muon(matrices, **given)] if matrices else []
        if others:
            self.both += [torch.optim.AdamW(others, betas=betas, eps=adamw_eps, foreach=False, **shared)]
        self.param_groups = [group for each in self.both for group in each.param_groups]

    def step(self):
        for each in self.both:
            each.step()

    def zero_grad(self):
        for each in self.both:
            each.zero_grad()


class LBFGS(torch.optim.LBFGS):
    """torch's, of gradients that are there already."""

    def __init__(self, params, **given):
        super().__init__(params, max_iter=1, **given)

    def step(self, closure=None):
        return super().step(closure or (lambda: torch.zeros(())))
