"""Two peers in PyTorch: all members stacked by ``torch.func``, and one process a member.

The first is PyTorch's tutorial on model ensembling, ``vmap`` of ``grad``
(https://docs.pytorch.org/tutorials/intermediate/ensembling.html), with an Adam written elementwise, since
``torch.optim`` takes one learning rate for a stack. The imports are those of a script that trains one network, so
that starting the second's processes costs what it would cost there.
"""

import copy
import re
from collections.abc import Callable
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from benchmarks.machine import seconds_of, synchronise, use
from benchmarks.peers import OWN, Pace, read
from benchmarks.plain import LR, NETWORKS, OBJECTIVES, Batch, fresh, train

_BETAS, _EPS = (0.9, 0.999), 1e-8

Turn = Callable[[float], float]


def ensemble(network: str, batches: str, members: int, device: str = "cpu") -> tuple[dict[str, Any], Turn]:
    """All K members at once; frozen parameters are the first member's, shared by all."""
    made = Ensemble(network, members, device)
    samples = _samples(batches, device, members * made.own)
    try:
        pace = Pace(made.step, samples, lambda: synchronise(device), members)
    except RuntimeError as error:
        operation = re.search(r"Batching rule not implemented for (aten::[\w.]*\w)", str(error))
        raise RuntimeError(f"no batched form of {operation[1]}" if operation else str(error)) from error
    return {"members": members}, pace.turn


def process(network: str, batches: str, steps: int, device: str = "cpu") -> tuple[dict[str, Any], Turn]:
    """One member after the other by the plain loop, each trained from its seed for all of its updates."""
    samples = _samples(batches, device)
    samples = [samples[i % len(samples)] for i in range(steps)]
    seeds = count()

    def trained(samples: list[Batch]) -> None:
        train(*fresh(NETWORKS[network], next(seeds), device), samples, OBJECTIVES[network])

    def turn(seconds: float) -> float:
        del seconds  # one whole member, however many it takes
        return seconds_of(lambda: trained(samples), device) * 1e3 / steps

    # A process's first step is longer; a process that trains one member pays for it, so it belongs to starting.
    trained(samples[:1])
    return {"members": 1, "steps": steps}, turn


def _samples(path: str, device: str, members: int = 0) -> list[Batch]:
    use(device)
    return [tuple(torch.from_numpy(x).to(device) for x in batch) for batch in read(path, members)]


def burgers(network: Any, batch: Batch) -> Tensor:
    """``plain.burgers``, whose ``autograd.grad`` has no batched form in ``torch.func``."""
    points, start = batch

    def u(point: Tensor) -> Tensor:
        return network(point)[0]

    def residual(point: Tensor) -> Tensor:
        slope, second = jvp(grad(u), (point,), (torch.eye(2)[1],))
        return slope[0] + u(point) * slope[1] - second[1] / 100

    return vmap(residual)(points).square().mean() + F.mse_loss(network(F.pad(points[:, 1:], (1, 0))), start)


class Ensemble:
    """K stacked members of a network, drawn one after the other, and their Adam, on a device.

    Attributes:
        points: The trained parameters, ``[K, …]`` each.
        buffers: ``[K, …]`` each.
        own: Whether a batch is each member's own, ``[K, …]``.
    """

    def __init__(self, network: str, members: int, device: str = "cpu"):
        modules = [NETWORKS[network]().to(device) for _ in range(members)]
        stacked, self.buffers = stack_module_state(modules)
        alike = {n: p.detach() for n, p in modules[0].named_parameters() if not p.requires_grad}
        self.points = {name: p.detach() for name, p in stacked.items() if name not in alike}
        skeleton = copy.deepcopy(modules[0]).to("meta")

        self.own, objective = network in OWN, {**OBJECTIVES, "pinn": burgers}[network]

        def loss(
            point: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch
        ) -> tuple[Tensor, dict[str, Tensor]]:
            # BatchNorm writes into its buffers, which grad allows only for what was made inside it.
            buffers = {name: value.clone() for name, value in buffers.items()}
            values = {**point, **alike}, buffers
            return objective(lambda *inputs: functional_call(skeleton, values, inputs), batch), buffers

        gradient: Any = grad(loss, has_aux=True)
        self._gradient = vmap(gradient, in_dims=(0, 0, 0 if self.own else None), randomness="different")
        self._moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in self.points.items()}
        self._count = 0

    def step(self, batch: Batch) -> None:
        """Update every member once, on one batch."""
        gradient, self.buffers = self._gradient(self.points, self.buffers, batch)
        self._count += 1
        first, second = (1 - beta**self._count for beta in _BETAS)
        for name, g in gradient.items():
            m, v = self._moments[name]
            m.lerp_(g, 1 - _BETAS[0])
            v.mul_(_BETAS[1]).addcmul_(g, g, value=1 - _BETAS[1])
            self.points[name].addcdiv_(m, (v / second).sqrt_().add_(_EPS), value=-LR / first)
