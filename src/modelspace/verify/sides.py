"""Both ways of training an architecture's members: as a population, in every way of computing it, and plainly."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor

from modelspace.data import Data, epoch_indices
from modelspace.engine import (
    Lowering,
    Plan,
    choose_plan,
    compiled,
    no_batched_form,
    objective_values,
    stacked_outputs,
)
from modelspace.fit import Recipe, Task, build, prepare, start, updates
from modelspace.losses import Loss, Objective
from modelspace.nest import Nest, mapped, take
from modelspace.optimizers import SGD, Optimizer
from modelspace.population import Population
from modelspace.space import ModelSpace, samples_as
from modelspace.verify.judge import Judged, drawn_point, joined, judge, narrowest, of_torch, parting
from modelspace.verify.record import TOLERANCES, Errors

_JITTERS = (1, 2, 3)
_RATES = (0.01, 0.003, 0.03)
_SPEED_MEMBERS = 64


Trained = tuple[list[Tensor], Tensor, dict[str, Tensor], Tensor]  # points, losses, buffers, outputs


class Sides:
    """One architecture in one type, its members, and both ways of training them."""

    def __init__(
        self,
        space: ModelSpace,
        data: Data,
        loss: Loss,
        members: int,
        steps: int,
        batch_size: int,
        compile: bool,
    ):
        self.data, self.steps = data, steps
        self.population = space.sample(range(members)).with_columns(
            lr=[_RATES[k % len(_RATES)] for k in range(members)]
        )
        batches = len(epoch_indices(len(data.train), batch_size, 0, 0))
        self._recipe = partial(
            Recipe, loss=loss, epochs=ceil(steps / batches), batch_size=batch_size, metrics=()
        )
        self.task = prepare(self.population, data, self._recipe(optimizer=SGD()), trusting=True)
        self.refused = self.task.verdict.refused
        self.lowering: Lowering
        self.lowering, self.fallbacks = self._lowering()
        batched = ["vmap", "vmap in shards of 2", *(["compiled"] if compile else [])]
        self.ways = [*(batched if self.lowering == "vmap" else []), "loop"]
        self.notes: list[str] = []
        self._look_at_the_start()
        unseen = (data.test if len(data.test) else data.train).take(slice(batch_size))
        self.unseen = samples_as(unseen.inputs, space.dtype), unseen.labels
        self.samples = (samples_as(data.train.inputs, space.dtype), data.train.labels), self.unseen
        self.narrowest = narrowest(self.population, samples_as(self._first, space.dtype), loss)

    @property
    def _first(self) -> tuple[Nest, Nest]:
        """A batch."""
        return take(self.samples[0], slice(self.task.recipe.batch_size))

    def _lowering(self) -> tuple[Lowering, tuple[str, ...]]:
        """Return how ``fit`` computes it, and why not all under ``vmap``."""
        if why := self.task.verdict.refused or self.task.unbatched():
            return "loop", (why,)
        step, arguments = build(self.task, "vmap", len(self.population))
        try:
            step(*arguments)
        except Exception as error:
            loop, arguments = build(self.task, "loop", len(self.population))
            loop(*arguments)  # what fails in the loop too is the architecture's own
            return "loop", (no_batched_form(error),)
        return "vmap", tuple(f"{name}: member by member" for name in self.task.function.one_by_one)

    def _look_at_the_start(self) -> None:
        """Look whether each row is what the seed makes; a draw that PyTorch itself does not repeat is named."""
        for k in range(len(self.population)):
            drawn = drawn_point(self.population, k)
            if drawn is None or torch.equal(drawn, self.population.points[k]):
                continue
            again = drawn_point(self.population, k)
            assert again is not None
            if torch.equal(drawn, again):
                self.refused = self.refused or f"row {k} is not what its seed makes in plain PyTorch"
            else:
                off = relative_error(again[None], drawn[None])
                self.notes.append(
                    f"the draw is not repeatable in plain PyTorch: two networks of one seed are {off:.0e} apart"
                )
            return

    def errors(self, name: str, tolerance: float, optimizer: Optimizer) -> Errors:
        """Train both ways, in every way, and compare."""
        if self.narrowest != self.population.space.dtype:
            tolerance = TOLERANCES.get(self.narrowest, 2e-2)
            self._note(f"it computes in {self.narrowest} here and there, whatever its own type")
        task = self.task.under(self._recipe(optimizer=optimizer))
        plain = self._plainly(optimizer)
        compared = [
            self._compared(name, tolerance, optimizer, way, self._as_population(task, way), plain)
            for way in self.ways
        ]
        worst = max(compared, key=lambda errors: errors.excess)
        if not worst.within:
            growth = self._growth(optimizer, plain)
            compared = [replace(errors, growth=growth) for errors in compared]
            worst = max(compared, key=lambda errors: errors.excess)
        if any(judged.matched for judged in plain):
            self._note(
                "the random numbers that its forward draws are matched from outside: see docs/engine.md"
            )
        return worst

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _compared(
        self,
        name: str,
        tolerance: float,
        optimizer: Optimizer,
        way: str,
        ours: Trained,
        plain: Sequence[Judged],
    ) -> Errors:
        points, losses, buffers, outputs = ours
        theirs = torch.stack([judged.losses for judged in plain])
        kept = {n: torch.stack([judged.buffers[n] for judged in plain]) for n in buffers}
        off = relative_error(outputs, torch.stack([judged.outputs for judged in plain]))
        ordinary = relative_error(outputs, torch.stack([judged.ordinary for judged in plain]))
        if ordinary < off / 2 and off > tolerance:
            self._note(
                "in evaluation PyTorch's inference path of transformers gives other outputs than its ordinary path "
                "(zeros at padded positions), which a population takes"
            )
            off = ordinary
        return Errors(
            name,
            type(optimizer).__name__,
            tuple(relative_error(p, torch.stack([j.points[i] for j in plain])) for i, p in enumerate(points)),
            tuple(((losses - theirs) / theirs).abs().amax(0).tolist()),
            relative_error(_joined(buffers), _joined(kept)),
            off,
            tolerance,
            None,
            way,
        )

    def _growth(self, optimizer: Optimizer, plain: Sequence[Judged]) -> tuple[float, ...]:
        """Return how far apart plain loops come whose parameters are disturbed in their last digit."""
        rows = []
        for jitter in _JITTERS:
            for a, b in zip(self._plainly(optimizer, jitter), plain, strict=True):
                points = [relative_error(p[None], q[None]) for p, q in zip(a.points, b.points, strict=True)]
                kept = ({n: v[None] for n, v in judged.buffers.items()} for judged in (a, b))
                buffers = relative_error(*map(_joined, kept))
                rows.append((*points, buffers, relative_error(a.outputs[None], b.outputs[None])))
        return tuple(max(column) for column in zip(*rows, strict=True))

    def _plainly(self, optimizer: Optimizer, jitter: int | None = None) -> list[Judged]:
        make = of_torch(optimizer)
        assert make is not None
        recipe = self.task.recipe
        settings = {"steps": self.steps, "batch_size": recipe.batch_size, "jitter": jitter}
        return [
            judge(self.population, k, self.samples, recipe.loss, partial(make, lr=lr), **settings)
            for k, lr in enumerate(self.population.table["lr"])
        ]

    def _as_population(self, task: Task, way: str) -> Trained:
        members = len(self.population)
        lowering: Lowering = "loop" if way == "loop" else "vmap"
        size = min(2, members) if way == "vmap in shards of 2" else members
        step, arguments = build(task, lowering, size)
        if way == "compiled":
            step = compiled(step, *arguments)
        shards = [self._shard(task, step, first, size) for first in range(0, members, size)]
        points = [torch.cat(rows) for rows in zip(*(shard[0] for shard in shards), strict=True)]
        buffers = {name: torch.cat([shard[2][name] for shard in shards]) for name in shards[0][2]}
        function, loss, last = task.function, self.task.recipe.loss, points[-1].clone()
        (inputs, labels), how = self.unseen, lowering == "vmap"
        if isinstance(loss, Objective):
            made = objective_values(function, loss, last, buffers, inputs, labels, {}, batched=how)
        else:
            made = stacked_outputs(function, last, buffers, inputs, batched=how)
        outputs = torch.stack([joined(take(made, k)) for k in range(members)])
        return points, torch.cat([shard[1] for shard in shards]), buffers, outputs

    def _shard(
        self, task: Task, step: Callable[..., Any], first: int, size: int
    ) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        last = len(self.population) - 1
        rows = [min(row, last) for row in range(first, first + size)]
        real = min(size, len(self.population) - first)
        points, losses = [], []
        own = task.of_shard(rows)
        shard = start(own, rows).shard
        for epoch in range(task.recipe.epochs):
            for stepped, after in updates(own, shard, step, epoch):
                shard = after
                losses.append(stepped.losses[:real].double())
                points.append(shard.points[:real].clone())
                if len(points) == self.steps:
                    break
        return points, torch.stack(losses, 1), {name: value[:real] for name, value in shard.buffers.items()}

    def parted(self) -> str | None:
        """Name the first operation whose results differ."""
        return parting(self.population, self.task.function, self.lowering, self._first, self.task.recipe.loss)

    def speed(self) -> tuple[Plan, float]:
        """Return how 64 members would be trained, eager, and the seconds of a step over them."""
        population = self.population.space.sample([0]).with_columns(lr=0.01)
        members = Population(
            population.space,
            population.points.expand(_SPEED_MEMBERS, -1),
            {n: b.expand(_SPEED_MEMBERS, *b.shape[1:]) for n, b in population.buffers.items()},
            population.table.loc[[0] * _SPEED_MEMBERS],
        )
        task = self.task.of(members, torch.zeros(_SPEED_MEMBERS, dtype=torch.int64))
        lowering: Lowering | None = "loop" if self.lowering == "loop" else None
        plan, step = choose_plan(partial(build, task), _SPEED_MEMBERS, 1000, lowering=lowering, compile=False)
        shard = 1 if plan.lowering == "loop" else plan.shard
        step, arguments = build(task, plan.lowering, shard)
        return plan, _seconds(lambda: step(*arguments)) / shard

    def loop_seconds(self) -> float:
        """Time a step of an ordinary PyTorch loop."""
        module = self.population.module(0).train()
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.01, 0.9)
        (inputs, labels), loss = self._first, self.task.recipe.loss

        def step() -> None:
            optimizer.zero_grad()
            loss(loss.made(module, mapped(Tensor.clone, inputs), labels), labels).backward()
            optimizer.step()

        with torch.random.fork_rng():  # a plain loop draws from the global generator
            return _seconds(step)


def _joined(buffers: dict[str, Tensor]) -> Tensor:
    """Return all buffers as one row a member."""
    rows = [torch.view_as_real(v) if v.is_complex() else v for _, v in sorted(buffers.items())]
    return torch.cat([v.reshape(len(v), -1).double() for v in rows], 1) if rows else torch.zeros(1, 0)


def _seconds(step: Callable[[], Any]) -> float:
    """Take the median of several calls, after two that warm up."""
    times = []
    began = time.perf_counter()
    while len(times) < 7 or (time.perf_counter() - began < 0.3 and len(times) < 200):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times[2:])[len(times[2:]) // 2]


def relative_error(received: Tensor, expected: Tensor) -> float:
    """Return ‖received − expected‖ / ‖expected‖, the largest over the rows."""
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = (x.reshape(len(x), -1).to(wide) for x in (received, expected))
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp_min(1e-30)).max()) if a.numel() else 0.0
