"""The population's side: the plan for a long run, timed in the very ``fit`` that a user calls.

Only the scores after each epoch are left out, as they are on the loop's side: the validation split is empty.
"""

import warnings
from math import ceil

import modelspace as ms
from benchmarks.loop import LR
from benchmarks.workloads import Workload
from modelspace.data import Data, Split
from modelspace.fit import Recipe, measured, prepare


class Training:
    """Shards of a population in steady state: the plan is made, the program compiled.

    Args:
        workload: Network and batch size.
        data: Its data.
        members: K.
        steps: The updates of the run that the plan is chosen for; a long run repays compiling.
        device: Where the members lie, and are trained.

    Attributes:
        plan: The plan.
        population: The members before training.
    """

    def __init__(self, workload: Workload, data: Data, members: int, steps: int, device: str = "cpu"):
        # Drawn now: a selection of drawn members is copied on the device, and no timed run draws its own.
        self.population = workload.space().sample(seeds=range(members)).copy().to(device)
        self._data = _unscored(data)
        self._settings = {"optimizer": ms.Adam(lr=LR), "batch_size": workload.batch}
        self._epoch = len(data.train) // workload.batch
        self.plan = self._plan(ceil(steps / self._epoch))
        self._next, self._epochs = 0, 2
        self._seconds(epochs=1)  # warms up

    def milliseconds(self, seconds: float) -> float:
        """The time a step and member, over at least so many seconds of the next shards, one for each process.

        Two runs are made, a short and a long one, and their difference is what counts: so what a run costs once
        is left out, starting its processes above all, and gathering the batches is in it.
        """
        short = self._seconds(epochs=1)
        while (beyond := self._seconds(self._epochs) - short) < seconds:
            self._epochs *= 2
        steps = (self._epochs - 1) * self._epoch * self.plan.shard * self.plan.workers
        return beyond * 1e3 / steps

    def _seconds(self, epochs: int) -> float:
        rows = [(self._next + i) % len(self.population) for i in range(self.plan.shard * self.plan.workers)]
        self._next = rows[-1] + 1
        with warnings.catch_warnings():
            # What is computed member by member stands in the table.
            warnings.simplefilter("ignore")
            run = ms.fit(self.population[rows], self._data, epochs=epochs, **self._settings, plan=self.plan)
        return run.seconds - run.plan.seconds

    def _plan(self, epochs: int) -> ms.Plan:
        """As ``fit`` makes it for a run of so many epochs, which is not run."""
        recipe = Recipe(epochs=epochs, metrics=(), **self._settings)
        return measured(prepare(self.population, self._data, recipe), {})[0]


def _unscored(data: Data) -> Data:
    nothing = Split(data.train.inputs[:0], data.train.labels[:0])
    return Data(data.name, data.train, nothing, nothing)
