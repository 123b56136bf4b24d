"""Loop, population and peers by turns, the matrix product beside every turn."""

from collections.abc import Callable
from dataclasses import asdict

from benchmarks.contest import contenders
from benchmarks.limit import product_gflops
from benchmarks.plain import PlainLoop, step_flop
from benchmarks.population import Training
from benchmarks.record import Repeat, StepTimes
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from modelspace import Population


def measure(workload: Workload, settings: Settings, advance: Callable[[int], None]) -> StepTimes:
    """Time a workload.

    Args:
        workload: Which.
        settings: How large.
        advance: Told of each finished turn; planning is one, starting the peers another.
    """
    data = workload.data()
    device = settings.device
    loop = PlainLoop(workload, data, device)
    training = Training(workload, data, settings.members, settings.run_steps, device)
    advance(1)
    seconds = settings.turn_seconds
    repeats: list[Repeat] = []
    with contenders(workload, data, settings) as peers:
        advance(1)
        for seed in range(settings.repeats):
            loop_ms = loop.milliseconds(seconds, seed)
            population_ms = training.milliseconds(seconds)
            for peer in peers:
                peer.turn(seconds)
            repeats.append(Repeat(loop_ms, population_ms, product_gflops(seconds / 4, device)))
            advance(1)
        found = tuple(peer.result for peer in peers)
    return StepTimes(
        workload.name,
        training.population.space.dimension,
        settings.members,
        workload.batch,
        step_flop(workload, data),
        *_bytes(training.population),
        asdict(training.plan),
        workload.targets_on(device),
        tuple(repeats),
        found,
    )


def _bytes(population: Population) -> tuple[int, int]:
    """Of a member's own numbers, and of what all members share."""
    own = sum(t.nbytes for t in (population.points, *population.buffers.values()))
    return own // len(population), sum(t.nbytes for t in population.space.shared.values())
