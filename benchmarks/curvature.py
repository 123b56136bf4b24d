"""Top five eigenvalues and trace of a population's Hessians, against curvlinops and hessian-eigenthings in a loop.

In a fresh process on one thread: DummyNet on the training split of its digits. The loops take a few members, their
seconds scaled to as many as the population has; each has Hutch++ with thrice our probes, about its equal in error.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table

from benchmarks.machine import in_fresh_process, seconds_of
from benchmarks.tables import check, table
from benchmarks.workloads import WORKLOADS, Settings
from modelspace.geometry import curvature

_MEMBERS, _FEW, _TOP, _TOLERANCE, _PROBES = 256, 3, 5, 1e-3, 10


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Time the call once, its compiling included, and both loops."""
    return in_fresh_process("curvature:sides", threads=1, **asdict(settings))


def sides(**given: Any) -> list[dict[str, Any]]:
    """In a fresh process: seconds and eigenvalues of each side; of one that is not installed, that it is absent."""
    settings, workload = Settings(**given), WORKLOADS["dummynet-32"]
    members, device = min(_MEMBERS, settings.members), settings.device
    population, data = workload.space().sample(seeds=members).copy().to(device), workload.data()
    batch = tuple(part.to(device) for part in (data.train.inputs, data.train.labels))
    modules = [population.module(k).to(device).eval() for k in range(min(_FEW, members))]
    ours = curvature(population, data, top=_TOP, tolerance=_TOLERANCE, probes=_PROBES)
    known = torch.from_numpy(ours.top[: len(modules)])
    size = {"workload": workload.name, "members": members, "samples": ours.samples}
    found = [size | {"side": "modelspace", "seconds": ours.seconds, "apart": 0.0, "absent": ""}]
    for name, side in {"curvlinops": _curvlinops, "hessian_eigenthings": _eigenthings}.items():
        if importlib.util.find_spec(name) is None:
            found.append(size | {"side": name, "absent": " (not installed)"})
            continue
        side(modules[0], batch)  # imports and warms up
        tops: list[torch.Tensor] = []
        seconds = seconds_of(
            lambda side=side, tops=tops: tops.extend(side(m, batch) for m in modules), device
        )
        apart = float((torch.stack(tops) - known).abs().max() / known.max())
        times = {"seconds": seconds / len(modules) * members, "apart": apart, "absent": ""}
        found.append(size | {"side": name} | times | {"ratio": times["seconds"] / ours.seconds})
    return found


def _curvlinops(module: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    from curvlinops import HessianLinearOperator, hutchpp_trace
    from scipy.sparse.linalg import eigsh

    loss, parameters = torch.nn.CrossEntropyLoss(), list(module.parameters())
    hessian = HessianLinearOperator(module, loss, parameters, [batch], check_deterministic=False)
    hutchpp_trace(hessian, 3 * _PROBES)
    values = eigsh(hessian.to_scipy(), _TOP, which="LA", tol=_TOLERANCE, return_eigenvectors=False)
    return torch.from_numpy(values).double().sort(descending=True).values


def _eigenthings(module: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    import hessian_eigenthings as he

    hessian = he.HessianOperator(module, [batch], he.supervised_loss(torch.nn.functional.cross_entropy))
    he.hutch_plus_plus(hessian, num_matvecs=3 * _PROBES)
    found = he.lanczos(
        hessian, k=_TOP, which="LA", max_iter=100, tol=_TOLERANCE, reorthogonalize=True, seed=0
    )
    return found.eigenvalues.double().cpu().sort(descending=True).values


def checks(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ten times as fast as either loop, with the same eigenvalues."""
    found = []
    for c in (c for c in calls if "ratio" in c):
        found.append(check(f"curvature, times {c['side']}", "≥ 10", f"{c['ratio']:.1f}", c["ratio"] >= 10))
        apart = f"curvature, eigenvalues apart from {c['side']}'s"
        found.append(check(apart, "≤ 0.001", f"{c['apart']:.1g}", c["apart"] <= 1e-3))
    return found


def tables(calls: Sequence[dict[str, Any]]) -> list[Table]:
    """One table of all sides."""
    return table(
        "Top five eigenvalues and trace of the Hessian, on one thread, against loops over members (a few, scaled)",
        "side: {side}{absent} | workload: {workload} | K: {members:,} | samples: {samples} | "
        "seconds: {seconds:.0f} | modelspace ×: {ratio:.2f} × | eigenvalues apart: {apart:.1g} | target: ≥ 10",
        calls,
    )
