"""Loop and population by turns in one process, the matrix product beside every turn."""

from collections.abc import Callable
from dataclasses import asdict

from benchmarks.limit import product_gflops
from benchmarks.plain import PlainLoop, step_flop
from benchmarks.population import Training
from benchmarks.record import Repeat, StepTimes
from benchmarks.workloads import Workload

_FIRST_STEPS = 10


def measure(
    workload: Workload,
    *,
    members: int,
    run_steps: int,
    repeats: int,
    seconds: float,
    advance: Callable[[int], None],
) -> StepTimes:
    """Time a workload.

    Args:
        workload: Which.
        members: K.
        run_steps: The updates a member of the run that the plan is chosen for.
        repeats: Turns.
        seconds: About how long each side of a turn goes on.
        advance: Told of each finished turn; planning is one.
    """
    data = workload.data()
    loop = PlainLoop(workload, data)
    training = Training(workload, data, members, run_steps)
    loop_steps = _steps_in(seconds, loop.milliseconds(_FIRST_STEPS, seed=0))
    first_ms = training.milliseconds(_FIRST_STEPS) * training.plan.chunk
    population_steps = _steps_in(seconds, first_ms)
    advance(1)
    turns = []
    for seed in range(repeats):
        loop_ms = loop.milliseconds(loop_steps, seed)
        turns.append(Repeat(loop_ms, training.milliseconds(population_steps), product_gflops(seconds / 4)))
        advance(1)
    return StepTimes(
        workload.name,
        training.dimension,
        members,
        workload.batch,
        step_flop(workload, data),
        asdict(training.plan),
        workload.target,
        tuple(turns),
    )


def _steps_in(seconds: float, milliseconds: float) -> int:
    return max(_FIRST_STEPS, round(seconds * 1e3 / milliseconds))
