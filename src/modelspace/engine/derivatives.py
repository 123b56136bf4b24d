"""Gradients and second-order products of the mean loss over fixed samples, of many members, seen to be right.

Autograd's second derivative is not taken on trust: PyTorch has operations whose double backward is wrong, or is not
there, and so has the code of users. At the start the gradient is held against that of plain modules, and one product
against central differences of it. Where they differ, these differences are the product, and it is said.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import combinations
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.evaluate import SCORED_AT_ONCE, Scoring, is_sample_mean, probe, rows_at_once
from modelspace.engine.function import Function, Named, Verdict, Work
from modelspace.engine.gradient import at, terms_of, work_of
from modelspace.engine.plan import Plan
from modelspace.engine.program import CompileError, compiled, signature
from modelspace.engine.real_modules import dense, evaluated, real_module
from modelspace.engine.second_order import OPERATORS, Way, difference, gradient, product, row
from modelspace.engine.witness import first_and_last, unbatched
from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.losses import Loss, Objective, Objectives
from modelspace.memory import free_bytes
from modelspace.nest import Nest, mapped, mapped_together, on, take, tensors
from modelspace.nest import samples as samples_in
from modelspace.population import Population
from modelspace.processes import is_out_of_memory
from modelspace.progress import notice
from modelspace.space import samples_as
from modelspace.trace import PeakMemory
from modelspace.widest import widest

_PIECE, _HANDFUL = 128, 8  # samples at once; rows at least, where they are computed together
_OF_A_FORWARD = 8  # a product works on so many times as much as a forward, and the cache is as large
_FEW = 8  # samples on which a product is held against differences
_BESIDE = 0.02  # of a point's size, from the point to where it is looked at: a zero may be a kink of the loss
# Steps of differences: short ones are full of rounding, more so where a network rounds to float32 inside, and long
# ones reach over kinks. Two that agree are believed, as far as they agree.
_STEPS = (1.0, 1 / 30, 1e-3, 30.0)
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 2e-2}
_COMPILE_SECONDS, _COMPILE_GAIN = 15.0, 3.0  # of a product's program, as a guess


class Derivatives:
    """Derivatives of the mean loss over fixed samples, in evaluation mode, of c stacked members at a time.

    The mean is what ``evaluate`` gives: of a mean over samples that of its pieces; of any other loss the value of all
    samples together; of an objective the mean over its batches. The formulas of the products stand in
    ``engine/second_order.py``. Coordinates whose gradient is zero whatever the loss, such as a padding row of an
    embedding, count as frozen.

    Args:
        population: Members of one program (``Population.parts``), of which some are tried.
        inputs: A nest of ``[N, …]``.
        labels: The same; None where there are none.
        loss: What is minimised, as of ``goal_of``.
        operator: Whose products: ``"hessian"``, ``"gauss-newton"``, or ``"fisher"``, the empirical one.
        compile: Whether a piece's product is one compiled program; where None, if that is repaid.
        batch_size: Samples in a batch of an objective.
        calls: How many products of ``most`` rows will be asked for, as far as it is known.

    Attributes:
        fallback: Why members are computed one after the other; None where batched.
        finite: Why products are differences of gradients; None where they are exact.
        most: Rows best computed at once; more are computed so many at a time.

    Raises:
        ModelspaceError: an unknown operator, one that such a loss does not have, inputs that do not fit, or a network
            that is no function of its parameters, buffers and inputs.

    Example:
        >>> import modelspace as ms
        >>> from modelspace.engine import Derivatives
        >>> from modelspace.examples import DummyNet
        >>> population, data = ms.ModelSpace(DummyNet).sample(seeds=2), ms.data.digits_7x7().test
        >>> derivatives = Derivatives(population, data.inputs, data.labels, ms.losses.resolve("cross_entropy"))
        >>> derivatives.product(population.points, population.buffers, torch.ones(2, 2512)).shape
        torch.Size([2, 2512])
    """

    def __init__(
        self,
        population: Population,
        inputs: Nest,
        labels: Nest,
        loss: Loss,
        *,
        operator: str = "hessian",
        compile: bool | None = None,
        batch_size: int = SCORED_AT_ONCE,
        calls: int = 0,
    ):
        space, device = population.space, population.device
        self._inputs, self._labels = on(device, samples_as(inputs, space.dtype)), on(device, labels)
        self._count, self._compile, self._calls = samples_in(inputs), compile, calls
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._spent: dict[Any, list[float]] = {}
        _check(operator, loss, population, self._inputs, self._labels)
        alike = not isinstance(loss, Objective) and is_sample_mean(loss, self._labels)
        self._size = min(self._count, _PIECE if alike else batch_size)
        rows = rows_at_once(space, device, self._size)
        alone = rows < _HANDFUL and not compile
        self.fallback = "a member alone fills the processor" if alone else None
        self._way = Way(Function(space, device, twice=True), loss, operator, batched=True)
        self._second, self.finite = self._witnessed(population)
        if compile and self.fallback is not None:
            raise ModelspaceError(f"the product can't be compiled: {self.fallback}")
        if alike:
            plan = Plan("loop" if self.fallback else "vmap", rows, False, torch.get_num_threads(), "")
            given = self._way.function, {"loss": loss}, self._inputs, self._labels, plan, 1, population[[0]]
            self._size = Scoring(*given, piece=self._size).piece
        elif not isinstance(loss, Objective):
            self._size = self._count
        self.most = self._room(rows_at_once(space, device, self._size), population)

    def gradient(
        self,
        points: Float[Tensor, "row parameter"],
        buffers: Named,
        terms: Mapping[str, Float[Tensor, "row"]] | None = None,
    ) -> tuple[Float[Tensor, "row"], Float[Tensor, "row parameter"]]:
        """Compute losses and gradients of members; the arguments are those of ``product``."""
        return self._mean(self._way, gradient, points, buffers, dict(terms or {}))

    def product(
        self,
        points: Float[Tensor, "row parameter"],
        buffers: Named,
        vectors: Float[Tensor, "row parameter"],
        terms: Mapping[str, Float[Tensor, "row"]] | None = None,
    ) -> Float[Tensor, "row parameter"]:
        """Compute A_k v_k; a row is a member, or a member and one of several vectors.

        Args:
            points: ``[c, n]``.
            buffers: ``[c, …]`` each.
            vectors: v, ``[c, n]``.
            terms: The loss's own columns.
        """
        way = self._second
        if self.finite is None:
            return self._mean(way, product, points, buffers, dict(terms or {}), vectors)
        wide = way.function.space.dtype
        held, own = samples_as((dict(buffers), dict(terms or {})), wide.to_real())
        return self._mean(way, difference, points.to(wide), held, own, vectors.to(wide)).to(points.dtype)

    def _mean(self, way: Way, compute: Callable[..., Any], *rows: Nest) -> Any:
        """Average over the pieces what is computed of them, of ``most`` rows at a time."""
        count, inputs = len(rows[0]), samples_as(self._inputs, way.function.space.dtype)
        size = ceil(count / ceil(count / self.most))
        parts = []
        for first in range(0, count, size):
            points, buffers, terms, *more = take(rows, slice(first, first + size))
            total: Any = None
            for begin in range(0, self._count, self._size):
                samples = take((inputs, self._labels), slice(begin, begin + self._size))
                share = min(self._size, self._count - begin) / self._count
                part = self._called(way, compute, points, buffers, *samples, terms, *more)
                part = mapped(partial(torch.mul, other=share), part)
                total = part if total is None else mapped_together(torch.add, total, part)
            parts.append(total)
        return mapped_together(lambda *x: torch.cat(x), *parts)

    def _called(self, way: Way, compute: Callable[..., Any], *given: Any) -> Any:
        """Compute it, by a compiled program where there is one, or it is repaid."""
        if self._compile is False or self.fallback is not None:
            return way(compute, *given)
        made_for = signature(given, compute)
        if made_for in self._programs:
            return self._programs[made_for](*given)
        spent, run = self._spent.setdefault(made_for, []), partial(way, compute)
        ahead = max(sum(spent), self._calls * self._count / self._size * min(spent, default=0.0))
        if self._compile or ahead * (1 - 1 / _COMPILE_GAIN) > _COMPILE_SECONDS:
            key = (way.function.space, way.loss, way.operator, compute)
            try:
                self._programs[made_for] = compiled(run, *given, key=key)
            except CompileError as error:
                if self._compile:
                    raise ModelspaceError(f"the product can't be compiled: {error}") from error
                self._programs[made_for] = run
            return self._programs[made_for](*given)
        began = time.perf_counter()
        result = run(*given)
        if given[0].device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
        return result

    def _room(self, rows: int, population: Population) -> int:
        """Return how many rows are best computed at once, and have room in half of the free memory."""
        device = population.device
        rows = max(_HANDFUL, rows // _OF_A_FORWARD) if device.type == "cpu" else rows
        if self.fallback is not None:
            return rows
        with suppress(Exception):  # a kernel without a meta form: anything may be raised
            few = population[[0, 0]]
            meta = self._way._replace(function=Function(population.space, "meta", twice=True))
            points, buffers = on("meta", (few.points, few.buffers))
            samples = on("meta", take((self._inputs, self._labels), slice(self._size)))
            terms = dict.fromkeys(terms_of(few, self._way.loss), points.real[:, 0])
            with PeakMemory([points, *tensors(samples)]) as memory:
                meta(product, points, buffers, *samples, terms, points)
            rows = min(rows, free_bytes(device) // memory.peak)
        return max(1, rows)

    def _witnessed(self, population: Population) -> tuple[Way, str | None]:
        """Hold gradient and product against plain modules; return what makes products, and why by differences.

        On few samples, of the first and last member, in float64 where the network can be computed in it.
        """
        loss, device = self._way.loss, population.device
        members = first_and_last(population).copy()
        few = slice(self._size if isinstance(loss, Objective) else _FEW)
        inputs, labels = take((self._inputs, self._labels), few)
        terms = {name: term.to(device) for name, term in terms_of(members, loss).items()}
        works = [_gradient_of(at(loss, row(terms, k)), labels) for k in range(len(members))]
        kind = widest(device).to_complex() if population.space.dtype.is_complex else widest(device)
        with suppress(Exception), warnings.catch_warnings():  # one of its own type only may raise anything
            warnings.simplefilter("ignore")
            wide = members if members.space.dtype is kind else members.in_dtype(kind)
            with real_module(wide, 0) as module:
                evaluated(module, samples_as(inputs, kind), works[0])
            members = wide
        space = members.space
        function = Function(space, device, twice=True)
        way = self._way._replace(function=function)
        inputs, real = samples_as(inputs, space.dtype), space.dtype.to_real()
        terms = {name: term.to(real) for name, term in terms.items()}
        given = members.points, members.buffers, inputs, labels, terms

        def gradients(*, batched: bool) -> Nest:
            return way._replace(batched=batched)(gradient, *given)

        why = unbatched(function, members, inputs, works, gradients, "the gradient")
        elsewhere = ("",) if function.single.draws_elsewhere else ()
        self._way.function.trust(Verdict(written=function.written, elsewhere=elsewhere))
        self.fallback = why or self.fallback
        self._way, way = (each._replace(batched=self.fallback is None) for each in (self._way, way))
        finite = _difference(way, *given)
        if finite is None:
            return self._way, None
        notice(f"second derivatives of {space.title} are finite differences of its gradients: {finite}")
        return way, finite


def _check(operator: str, loss: Loss, population: Population, inputs: Nest, labels: Nest) -> None:
    """Refuse an operator that a loss does not have, and inputs that do not fit."""
    count, members = samples_in(inputs), len(population)
    if operator not in OPERATORS:
        raise unknown_name("operator", operator, OPERATORS)
    if not count or not members:
        raise ModelspaceError(f"{members} members and {count} samples: there is nothing to differentiate")
    if isinstance(loss, Objectives):
        raise ModelspaceError(f"objectives {loss.name} are a column: give the members of one of them")
    if isinstance(loss, Objective) and operator != "hessian":
        raise ModelspaceError(
            f"operator '{operator}' is made of outputs and a loss of them, and objective '{loss.name}' is a function "
            "of the model: take operator='hessian', or a loss="
        )
    if operator == "fisher" and not is_sample_mean(loss, labels):
        raise ModelspaceError(
            f"the empirical Fisher matrix is made of each sample's own gradient, and loss '{loss.name}' is not known "
            "to be a mean over samples: take operator='gauss-newton' or 'hessian'"
        )
    if not isinstance(loss, Objective):
        probe(population.module(0), take(inputs, slice(2)))


def _gradient_of(goal: Any, labels: Nest) -> Work:
    """Return what computes a plain module's loss and gradient."""
    work = work_of(goal, labels)

    def compute(module: Any, inputs: Nest) -> tuple[Tensor, Tensor]:
        module.zero_grad()
        value = goal(work(module, inputs), labels)
        value.backward()
        leaves = [p for p in module.parameters() if p.requires_grad]
        parts = [torch.zeros_like(p) if p.grad is None else dense(p.grad) for p in leaves]
        return value, torch.cat([part.reshape(-1) for part in parts])

    return compute


def _difference(way: Way, points: Tensor, *rest: Any) -> str | None:
    """Say in what exact products are others than central differences of the plain loop's gradients; None where not.

    Beside the points, since where a network begins with zeros they may be kinks; and along the coordinates that have
    a gradient: a padding row has none, though the others' depends on it.
    """
    loop, real = way._replace(batched=False), points.dtype.to_real()
    generator = torch.Generator().manual_seed(0)
    noise, vectors = torch.randn(2, *points.shape, dtype=points.dtype, generator=generator).to(points)
    size = points.norm(dim=1, keepdim=True)
    size = torch.where(size > 0, size, 1)
    slope = points
    for point in (points + _BESIDE * size / points.shape[1] ** 0.5 * noise, points):
        slope = loop(gradient, point, *rest)[1]
        if slope.isfinite().all():
            break
    else:
        return None
    vectors = vectors * (slope != 0)
    try:
        ours = way(product, point, *rest, vectors)
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, ModelspaceError):
            raise
        return f"no second derivative: {first_line(error)}"
    rounding = 100 * torch.finfo(real).eps ** (2 / 3) * slope.norm(dim=1) * vectors.norm(dim=1) / size[:, 0]
    made = []
    for step in _STEPS:
        made.append(loop(partial(difference, step=step), point, *rest, vectors))
        limit = _TOLERANCES.get(real, 0.2) * made[-1].norm(dim=1) + rounding / step
        if bool(((ours - made[-1]).norm(dim=1) <= limit).all()):
            return None
    one, other = min(
        combinations(made, 2), key=lambda pair: float((pair[0] - pair[1]).norm().nan_to_num(torch.inf))
    )
    if (ours - one).norm() <= 3 * (one - other).norm():
        return None
    apart = float((ours - one).norm() / one.norm())
    return f"autograd's second derivative is another than that of the gradient, by {apart:.1g} of it"
