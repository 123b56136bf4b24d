"""The speed-up against the plain loop from one member to many."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks import whole_fit
from benchmarks.contest import contenders_of_size
from benchmarks.plain import PlainLoop
from benchmarks.record import Curve, PeerPoint
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from modelspace.data import Data


def measure(
    workloads: Sequence[Workload], settings: Settings, advance: Callable[[int], None]
) -> tuple[Curve, ...]:
    """Every K in a process of its own; beside the first workload, the peers at every K.

    Args:
        workloads: Which.
        settings: How large.
        advance: Told of each finished K.
    """
    found = []
    for workload in workloads:
        names = () if found else settings.peers
        found.append(_curve(workload, replace(settings, peers=names), advance))
    return tuple(found)


def _curve(workload: Workload, settings: Settings, advance: Callable[[int], None]) -> Curve:
    data = workload.data()
    fits, points = [], []
    for members in settings.curve_members:
        fits.append(
            whole_fit.measure(
                workload,
                members=members,
                epochs=settings.curve_epochs,
                threads=torch.get_num_threads(),
                device=settings.device,
            )
        )
        if settings.peers:
            points.append(_peers(workload, data, settings, members))
        advance(1)
    return Curve(workload.name, tuple(fits), tuple(points))


def _peers(workload: Workload, data: Data, settings: Settings, members: int) -> PeerPoint:
    loop = PlainLoop(workload, data, settings.device)
    loop_ms = []
    with contenders_of_size(workload, data, settings.peers, members, settings.device) as peers:
        for seed in range(settings.repeats):
            loop_ms.append(loop.milliseconds(settings.turn_seconds, seed))
            for peer in peers:
                peer.turn(settings.turn_seconds)
        return PeerPoint(members, tuple(loop_ms), tuple(peer.result for peer in peers))
