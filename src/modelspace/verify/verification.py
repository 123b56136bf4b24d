"""``verify``: train a handful of members both ways, as a population and in the plain loop, and compare."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from modelspace import data as datasets
from modelspace.data import Data
from modelspace.engine import Lowering, Plan, choose_plan, compiled
from modelspace.engine.plan import no_batched_form
from modelspace.errors import ModelspaceError, first_line
from modelspace.fit.recipe import Recipe, make_recipe
from modelspace.fit.training import Training
from modelspace.losses import Loss
from modelspace.optimizers import SGD
from modelspace.population import Population
from modelspace.reference import train
from modelspace.space import ModelSpace
from modelspace.space.forward import samples_as
from modelspace.verify.made import made_data, made_loss

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
_MOMENTUM = 0.9
_RATES = (0.01, 0.003, 0.03)
_SPEED_MEMBERS = 64


@dataclass(frozen=True)
class Errors:
    """How far members trained as a population are from the same members trained in the plain loop.

    Attributes:
        dtype: The type of the coordinates.
        points: After each step, the largest over the members of ‖p − q‖ / ‖q‖, q the plain loop's point.
        losses: Before each step, the largest over the members of |l − m| / |m|.
        buffers: After the last step, the same of all buffers together (a single one may be nothing but rounding
            noise: the mean of what has mean zero).
        tolerance: What ``points`` and ``buffers`` may be at most.
    """

    dtype: str
    points: tuple[float, ...]
    losses: tuple[float, ...]
    buffers: float
    tolerance: float

    @property
    def largest(self) -> float:
        """The largest of all points and buffers; infinite where one is not a number."""
        values = (*self.points, self.buffers)
        return max(v if v == v else float("inf") for v in values)

    @property
    def within(self) -> bool:
        """Whether that is within the tolerance."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        space: The architecture's name.
        dimension: n.
        members: How many were trained both ways.
        steps: How many updates each made.
        batch_size: Samples a step.
        data: The data's name.
        loss: The loss's name.
        lowering: ``"vmap"``, or ``"loop"`` where there is no batched form.
        compiled: Whether the population's step was one compiled program.
        fallbacks: What has no batched form: the reason for the loop, or the operations that alone are computed member
            by member.
        operations: How each operation of the forward is carried out, by name.
        errors: For float64 and float32; a type in which the architecture itself does not run is left out.
        left_out: Why a type was left out, by its name.
        plan: How 64 members would be trained.
        loop_seconds: A step of the plain PyTorch loop, one member.
        population_seconds: A step of the population, over its members.
    """

    space: str
    dimension: int
    members: int
    steps: int
    batch_size: int
    data: str
    loss: str
    lowering: Lowering
    compiled: bool
    fallbacks: tuple[str, ...]
    operations: dict[str, str]
    errors: tuple[Errors, ...]
    left_out: dict[str, str]
    plan: Plan
    loop_seconds: float
    population_seconds: float

    @property
    def equivalent(self) -> bool:
        """Whether every type was within its tolerance."""
        return bool(self.errors) and all(each.within for each in self.errors)

    @property
    def max_relative_error(self) -> float:
        """The largest relative error of any type."""
        return max(each.largest for each in self.errors)

    @property
    def speedup(self) -> float:
        """The plain loop's time over the population's."""
        return self.loop_seconds / self.population_seconds

    def __repr__(self) -> str:
        from modelspace.verify.text import text

        return text(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"


def verify(
    space: ModelSpace,
    data: Any = None,
    *,
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    members: int = 3,
    steps: int = 10,
    batch_size: int = 8,
    tokens: int | None = None,
    compile: bool = False,
) -> Verification:
    """Train a few members as a population and, one by one, in the plain loop of ``modelspace.reference``.

    Members differ in seed and learning rate; the optimizer is SGD with momentum, whose updates are as exact as the
    gradients (Adam divides a gradient that is nothing but rounding noise by itself).

    Args:
        space: The architecture.
        data: What ``modelspace.data.load`` takes; random samples of the space's ``input_shape`` where None.
        loss: Cross-entropy for class labels and squared error for numbers where None.
        members: Members to train both ways.
        steps: Updates.
        batch_size: Samples a step.
        tokens: With random samples, what integer inputs are below.
        compile: Whether to hold the compiled step against the loop, instead of the eager one.

    Returns:
        Errors by type and step, the lowering of each operation, what has no batched form, and the speed measured.

    Raises:
        ModelspaceError: the architecture does not train in plain PyTorch either; the message is its own.
    """
    if min(members, steps, batch_size) < 1:
        raise ModelspaceError(
            f"members, steps and batch are at least 1; received {members}, {steps}, {batch_size}"
        )
    samples = 4 * batch_size
    found, left_out, setup = [], {}, None
    for dtype, tolerance in TOLERANCES.items():
        name = str(dtype).removeprefix("torch.")
        try:
            cast = space.in_dtype(dtype)
            material = made_data(cast, samples, tokens=tokens) if data is None else datasets.load(data)
            setup = _Setup(cast, material, made_loss(material, loss), members, steps, batch_size, compile)
            found.append(setup.errors(name, tolerance))
        except (ModelspaceError, RuntimeError) as error:
            left_out[name] = first_line(error)
    if setup is None or not found:
        raise ModelspaceError(f"{space.title} can't be trained: {next(iter(left_out.values()))}")
    plan, population_seconds = setup.speed()
    return Verification(
        space=space.title,
        dimension=space.dimension,
        members=members,
        steps=steps,
        batch_size=batch_size,
        data=setup.data.name,
        loss=setup.recipe.loss.name,
        lowering=setup.lowering,
        compiled=compile and setup.lowering == "vmap",
        fallbacks=setup.fallbacks,
        operations=dict(setup.training.function.operations),
        errors=tuple(found),
        left_out=left_out,
        plan=plan,
        loop_seconds=setup.loop_seconds(),
        population_seconds=population_seconds,
    )


class _Setup:
    """One architecture, in one type, with its data and recipe."""

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
        self.data = data
        self.steps = steps
        self.compile = compile
        self.population = space.sample(range(members)).with_columns(
            lr=[_RATES[k % len(_RATES)] for k in range(members)]
        )
        self.recipe = self._recipe(loss, batch_size, 1)
        batches = Training(self.population, data, self.recipe).steps
        self.recipe = self._recipe(loss, batch_size, ceil(steps / batches))
        self.training = Training(self.population, data, self.recipe)
        self.training.function.watched = True
        self.rows = torch.arange(members)
        self.lowering: Lowering
        self.lowering, self.step, self.fallbacks = self._step()

    @staticmethod
    def _recipe(loss: Loss, batch_size: int, epochs: int) -> Recipe:
        return make_recipe(
            loss=loss,
            optimizer=SGD(momentum=_MOMENTUM),
            schedule=None,
            epochs=epochs,
            batch_size=batch_size,
            clip_norm=None,
            clip_value=None,
            data_seed=0,
            metrics_=[],
            early_stopping=None,
        )

    def _step(self) -> tuple[Lowering, Callable[..., Any], tuple[str, ...]]:
        """The population's step; the loop's where there is no batched form, and why."""
        step, arguments = self.training.build("vmap", len(self.population))
        try:
            step(*arguments)
        except Exception as error:
            loop, arguments = self.training.build("loop", len(self.population))
            loop(*arguments)  # what fails in the loop too is the architecture's own
            return "loop", loop, (no_batched_form(error),)
        alone = tuple(f"{name}: member by member" for name in self.training.function.one_by_one)
        return "vmap", compiled(step, *arguments) if self.compile else step, alone

    def errors(self, name: str, tolerance: float) -> Errors:
        """Train both ways."""
        ours, our_losses, our_buffers = self._as_population()
        theirs, their_losses, their_buffers = self._one_by_one()
        return Errors(
            name,
            tuple(relative_error(p, q) for p, q in zip(ours, theirs, strict=True)),
            tuple(float(((a - b) / b).abs().max()) for a, b in zip(our_losses, their_losses, strict=True)),
            relative_error(_joined(our_buffers), _joined(their_buffers)),
            tolerance,
        )

    def _as_population(self) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        points, losses = [], []
        shard = self.training.shard(self.rows)
        for epoch in range(self.recipe.epochs):
            for found in self.training.updates(shard, self.rows, self.step, epoch):
                losses.append(found.double())
                points.append(shard.points.clone())
                if len(points) == self.steps:
                    return points, losses, shard.buffers
        return points, losses, shard.buffers

    def _one_by_one(self) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        space = self.population.space
        rows: list[list[Tensor]] = []
        losses, buffers = [], []
        for k, lr in enumerate(self.population.table["lr"]):
            module = self.population.module(k)
            row: list[Tensor] = []
            curve = train(
                module,
                samples_as(self.data.train.inputs, space.dtype),
                self.data.train.labels,
                self.recipe.loss,
                lambda parameters, lr=lr: torch.optim.SGD(parameters, lr=lr, momentum=_MOMENTUM),
                steps=self.steps,
                batch_size=self.recipe.batch_size,
                seed=k,
                after_step=lambda module=module, row=row: row.append(space.read(module).point.clone()),
            )
            rows.append(row)
            losses.append(torch.tensor(curve, dtype=torch.float64))
            buffers.append(space.read(module).buffers)
        stacked = {name: torch.stack([b[name] for b in buffers]) for name in space.buffer_shapes}
        return [torch.stack(step) for step in zip(*rows, strict=True)], [*torch.stack(losses).T], stacked

    def speed(self) -> tuple[Plan, float]:
        """How 64 members would be trained, eager, and the seconds of a step over them."""
        population = self.population.space.sample([0]).with_columns(lr=0.01)
        members = Population(
            population.space,
            population.points.expand(_SPEED_MEMBERS, -1),
            {n: b.expand(_SPEED_MEMBERS, *b.shape[1:]) for n, b in population.buffers.items()},
            population.table.loc[[0] * _SPEED_MEMBERS],
        )
        training = Training(members, self.data, self.recipe)
        lowering: Lowering | None = "loop" if self.lowering == "loop" else None
        plan, step = choose_plan(training.build, _SPEED_MEMBERS, 1000, lowering=lowering, compile=False)
        chunk = 1 if plan.lowering == "loop" else plan.chunk
        step, arguments = training.build(plan.lowering, chunk)
        return plan, _seconds(lambda: step(*arguments)) / chunk

    def loop_seconds(self) -> float:
        """A step of an ordinary PyTorch loop."""
        module = self.population.module(0).train()
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.01, _MOMENTUM)
        size = self.recipe.batch_size
        inputs = samples_as(self.data.train.inputs[:size], self.population.space.dtype)
        labels = self.data.train.labels[:size]

        def step() -> None:
            optimizer.zero_grad()
            self.recipe.loss(module(inputs.clone()), labels).backward()
            optimizer.step()

        with _undisturbed():
            return _seconds(step)


def relative_error(received: Tensor, expected: Tensor) -> float:
    """‖received − expected‖ / ‖expected‖, the largest over the rows."""
    a, b = (x.reshape(len(x), -1).double() for x in (received, expected))
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp_min(1e-30)).max()) if a.numel() else 0.0


def _joined(buffers: dict[str, Tensor]) -> Tensor:
    rows = [value.reshape(len(value), -1).double() for _, value in sorted(buffers.items())]
    return torch.cat(rows, 1) if rows else torch.zeros(1, 0)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The global generator is put back: a plain loop draws from it."""
    with torch.random.fork_rng():
        yield


def _seconds(step: Callable[[], Any]) -> float:
    """The median of several calls, after two that warm up."""
    times = []
    began = time.perf_counter()
    while len(times) < 7 or (time.perf_counter() - began < 0.3 and len(times) < 200):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times[2:])[len(times[2:]) // 2]
