"""Derivatives of the mean loss over fixed samples, to second order, of many members at once.

    H v = ∇⟨∇L, v⟩                   the Hessian (Pearlmutter 1994)
    G v = (1/N) Σᵢ Jᵢᵀ ∇²ℓᵢ Jᵢ v      the generalised Gauss–Newton matrix (Schraudolph 2002)
    F v = (1/N) Σᵢ gᵢ gᵢᵀ v           the empirical Fisher matrix (Martens 2020)

Jᵢ is the Jacobian of a sample's outputs, gᵢ the gradient of its loss: so F is G with the losses as outputs and the
identity as ∇²ℓ. J v is the derivative along v of w ↦ Jᵀw, which is linear: nothing but backward passes is needed.

Autograd's second derivative is not taken on trust: PyTorch has operations whose double backward is wrong, or is not
there, and so has the code of users. At the start one product is held against central differences,

    A v ≈ (a(θ + εv) − a(θ − εv)) / 2ε,   ε = ∛ε_machine ‖θ‖ / ‖v‖

where a is the plain module's gradient, or for G and F that of the loss by the outputs, then pulled back. Where they
differ, these differences are the product, and it is said.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelspace.engine.evaluate import SCORED_AT_ONCE, Scoring, is_sample_mean, probe, rows_at_once
from modelspace.engine.function import Function, Named, Verdict, Work
from modelspace.engine.gradient import at, terms_of, work_of
from modelspace.engine.plan import Plan
from modelspace.engine.program import CompileError, compiled, signature
from modelspace.engine.real_modules import dense, evaluated, real_module
from modelspace.engine.witness import first_and_last, unbatched
from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.losses import Loss, Objective, Objectives
from modelspace.memory import free_bytes
from modelspace.nest import (
    Nest,
    axes,
    called,
    mapped,
    mapped_together,
    on,
    only_tensors,
    stacked,
    take,
    tensors,
)
from modelspace.nest import samples as samples_in
from modelspace.population import Population
from modelspace.processes import is_out_of_memory
from modelspace.progress import notice
from modelspace.space import ModelSpace, samples_as
from modelspace.trace import PeakMemory
from modelspace.widest import widest

OPERATORS = ("hessian", "gauss-newton", "fisher")
_FEW = 8  # samples on which a product is held against differences
_PIECE, _HANDFUL = 128, 8  # samples at once; rows at least, where they are computed together
_BESIDE = 0.02  # of a point's size, from the point to where it is looked at: a zero may be a kink of the loss
# Relative steps that are tried, since a difference may reach over a kink, and how far apart the two may be.
_STEPS = (1.0, 3e-2, 1e-3)
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 2e-2}
_COMPILE_SECONDS, _COMPILE_GAIN = 25.0, 1.5  # of a product's program, as a guess

Rows = tuple[Tensor, Named, Nest, Nest, Named]  # points, buffers, inputs, labels, the loss's terms


@dataclass(frozen=True)
class _Way:
    """A way to compute derivatives for a piece of the samples: of all rows under ``vmap``, or one after the other.

    What begins with an underscore is of all rows at once, tensors with a member axis, or of one, without.
    """

    function: Function
    loss: Loss
    operator: str
    batched: bool

    def gradient(self, *rows: Any) -> tuple[Float[Tensor, "row"], Float[Tensor, "row parameter"]]:
        """Compute losses and gradients of points, buffers, inputs, labels and terms."""
        return self._each(self._gradient, *rows)

    def product(self, *given: Any) -> Float[Tensor, "row parameter"]:
        """Compute A v by differentiating twice, of what ``gradient`` takes and v."""
        return self._each(self._product, *given)

    def difference(self, *given: Any, step: float = 1.0) -> Float[Tensor, "row parameter"]:
        """Compute A v by central differences, of what ``product`` takes; the step is relative to the best."""
        return self._each(self._difference, *given, step=step)

    def _each(self, compute: Callable[..., Any], *given: Any, **settings: Any) -> Any:
        with torch.enable_grad(), self._differentiable():
            if self.batched:
                return compute(*given, **settings)
            points, buffers, inputs, labels, terms, *vectors = given
            return stacked(
                compute(
                    point,
                    _row(buffers, k),
                    inputs,
                    labels,
                    _row(terms, k),
                    *(v[k] for v in vectors),
                    **settings,
                )
                for k, point in enumerate(points)
            )

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Within the block, PyTorch takes the kernels that have second derivatives where it has a choice."""
        with ExitStack() as stack:
            if not self.batched:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(layer, nn.RNNBase) for layer in self.function.module.modules()):
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # the flags warn about a device that is not there
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield

    def _leaves(self, points: Tensor) -> list[Tensor]:
        if not self.batched:
            return list(self.function.single.leaves.values())
        return [view.detach().requires_grad_() for view in self.function.space.layout.views(points).values()]

    def _run(self, made: Callable[[Nest, Named], Work], leaves: Sequence[Tensor], *rows: Any) -> Any:
        """Run the forward with the work that ``made`` makes of the labels and a row's terms."""
        points, buffers, inputs, labels, terms = rows
        function = self.function
        if not self.batched:
            return function.single(points, buffers, inputs, training=False, work=made(labels, terms))[0]
        names = [block.name for block in function.space.layout]

        def one(own: Sequence[Tensor], kept: Named, inputs: Nest, labels: Nest, terms: Named) -> Any:
            parameters = dict(zip(names, own, strict=True))
            return function(parameters, kept, inputs, training=False, work=made(labels, terms))[0]

        copies = {name: value.clone() for name, value in buffers.items()}
        shared = axes(inputs, None), axes(labels, None)
        return torch.vmap(one, in_dims=(0, 0, *shared, 0))(leaves, copies, inputs, labels, terms)

    def _loss(self, labels: Nest, terms: Named) -> Work:
        goal = at(self.loss, terms)
        work = work_of(goal, labels)
        return lambda module, inputs: goal(work(module, inputs), labels)

    def _outputs(self, labels: Nest, terms: Named) -> Work:
        return lambda module, inputs: only_tensors(called(module, inputs))

    def _gradient(self, *rows: Any) -> tuple[Tensor, Tensor]:
        leaves = self._leaves(rows[0])
        value = self._run(self._loss, leaves, *rows)
        if self.batched:
            parts = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        else:
            value.backward()  # and not grad(): hooks see what they expect
            parts = [leaf.grad for leaf in leaves]
            for leaf in leaves:
                leaf.grad = None
        return value.detach(), self._flat(parts, leaves)

    def _product(self, *given: Any) -> Tensor:
        *rows, vectors = given
        leaves, along = self._leaves(rows[0]), self._views(vectors)
        if self.operator == "hessian":
            value = self._run(self._loss, leaves, *rows)
            slopes = torch.autograd.grad(value.sum(), leaves, create_graph=True, allow_unused=True)
            return self._flat(_transposed(slopes, leaves, along), leaves)
        outputs, ends = self._ends(leaves, *rows)
        if not ends:
            return torch.zeros_like(vectors)
        weights = [torch.zeros_like(end).requires_grad_() for end in ends]
        pulled = torch.autograd.grad(ends, leaves, weights, create_graph=True, allow_unused=True)
        moved = _transposed(pulled, weights, along, keep=True)
        starts, slopes = self._slopes(outputs, *rows[3:])
        return self._flat(_transposed(ends, leaves, _transposed(slopes, starts, moved)), leaves)

    def _difference(self, *given: Any, step: float) -> Tensor:
        points, *rest, vectors = given
        sizes = [torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (points, vectors)]
        size, length = (torch.where(x > 0, x, 1) for x in sizes)
        step = step * torch.finfo(points.dtype).eps ** (1 / 3) * size / length
        ahead, behind = (self._first(points + sign * step * vectors, *rest) for sign in (1, -1))
        slopes = [
            None
            if a is None or b is None
            else (a - b) / (2 * step.view(*step.shape, *[1] * (a.dim() - step.dim())))
            for a, b in zip(ahead, behind, strict=True)
        ]
        if self.operator == "hessian":
            return slopes[0]
        leaves = self._leaves(points)
        _, ends = self._ends(leaves, points, *rest)
        return self._flat(_transposed(ends, leaves, slopes), leaves)

    def _first(self, *rows: Any) -> Sequence[Tensor | None]:
        """Compute the first derivatives whose differences are taken: by the coordinates, or by the outputs."""
        if self.operator == "hessian":
            return [self._gradient(*rows)[1]]
        outputs, _ = self._ends(self._leaves(rows[0]), *rows)
        return [None if s is None else s.detach() for s in self._slopes(outputs, *rows[3:])[1]]

    def _ends(self, leaves: Sequence[Tensor], *rows: Any) -> tuple[Nest, list[Tensor]]:
        """Compute the outputs, and which of them depend on the parameters; of Fisher's matrix each sample's loss."""
        outputs = self._run(self._outputs, leaves, *rows)
        if self.operator == "fisher":
            outputs = self._apiece(outputs, *rows[3:])
        return outputs, [x for x in tensors(outputs) if x.requires_grad]

    def _slopes(
        self, outputs: Nest, labels: Nest, terms: Named
    ) -> tuple[list[Tensor], Sequence[Tensor | None]]:
        """Compute the loss's gradient by the outputs, which can be differentiated, at outputs cut off from the rest."""
        outputs = mapped(lambda x: x.detach().requires_grad_(x.requires_grad), outputs)
        starts = [x for x in tensors(outputs) if x.requires_grad]
        if self.operator == "fisher":  # ½ Σ ℓᵢ² / N
            return starts, [x / x.shape[-1] for x in starts]
        if self.batched:
            value = torch.vmap(self._score, in_dims=(0, axes(labels, None), 0))(outputs, labels, terms).sum()
        else:
            value = at(self.loss, terms)(outputs, labels)
        return starts, torch.autograd.grad(value, starts, create_graph=True, allow_unused=True)

    def _score(self, outputs: Nest, labels: Nest, terms: Named) -> Tensor:
        return self.function.score(at(self.loss, terms), outputs, labels)

    def _apiece(self, outputs: Nest, labels: Nest, terms: Named) -> Tensor:
        """Compute each sample's own loss, ``[(row,) sample]``: rows and samples are one axis of one ``vmap``."""
        count, rows = samples_in(labels), len(tensors(outputs)[0]) if self.batched else 1
        if any(x.shape[self.batched : self.batched + 1] != (count,) for x in tensors(outputs)):
            raise ModelspaceError(
                f"the empirical Fisher matrix is of outputs with one row a sample, {count} here; received "
                f"{[tuple(x.shape[self.batched :]) for x in tensors(outputs)]}"
            )
        if self.batched:
            outputs = mapped(lambda z: z.flatten(0, 1), outputs)
        labels = mapped(lambda y: y.expand(rows, *y.shape).flatten(0, 1), labels)
        terms = {name: term.reshape(-1).repeat_interleave(count) for name, term in terms.items()}

        def one(outputs: Nest, labels: Nest, terms: Named) -> Tensor:
            return self._score(*(mapped(lambda x: x[None], nest) for nest in (outputs, labels)), terms)

        values = torch.vmap(one)(outputs, labels, terms)
        return values.unflatten(0, (rows, count)) if self.batched else values

    def _views(self, vectors: Tensor) -> list[Tensor]:
        return list(self.function.space.layout.views(vectors).values())

    def _flat(self, parts: Sequence[Tensor | None], leaves: Sequence[Tensor]) -> Tensor:
        lead = leaves[0].shape[: int(self.batched)]
        pairs = zip(parts, leaves, strict=True)
        whole = (torch.zeros_like(leaf) if part is None else part for part, leaf in pairs)
        return torch.cat(
            [(x.to_dense() if x.is_sparse else x).reshape(*lead, -1) for x in whole], -1
        ).detach()


def _transposed(
    ends: Sequence[Tensor | None],
    starts: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    *,
    keep: bool = False,
) -> Sequence[Tensor | None]:
    """Return Σ Jᵀw over the ends with respect to each of the starts; None where there is nothing."""
    pairs = [
        (end, weight)
        for end, weight in zip(ends, weights, strict=True)
        if end is not None and weight is not None and end.requires_grad
    ]
    if not pairs:
        return [None] * len(starts)
    kept, of_kept = zip(*pairs, strict=True)
    return torch.autograd.grad(kept, starts, of_kept, retain_graph=keep, allow_unused=True)


def _row(named: Mapping[str, Tensor], k: int) -> Named:
    return {name: value[k] for name, value in named.items()}


class Derivatives:
    """Derivatives of the mean loss over fixed samples, in evaluation mode, of c stacked members at a time.

    The mean is what ``evaluate`` gives: of a mean over samples that of its pieces; of any other loss the value of all
    samples together; of an objective the mean over its batches.

    Args:
        population: Members of one program (``Population.parts``), some of which are probed and held against
            differences.
        inputs: A nest of ``[N, …]``.
        labels: The same; None where there are none.
        loss: What is minimised, as of ``goal_of``.
        operator: Whose products: ``"hessian"``, ``"gauss-newton"``, or ``"fisher"``, the empirical one.
        compile: Whether a piece's product is one compiled program; where None, if it repays its compilation.
        batch_size: Samples in a batch of an objective.
        calls: How many products of ``most`` rows will be asked for, as far as it is known.

    Attributes:
        fallback: Why members are computed one after the other; None where batched.
        finite: Why products are differences of gradients; None where they are exact.
        most: Rows best computed at once; more are computed so many at a time.

    Raises:
        ModelspaceError: an unknown operator, one that such a loss does not have, or a network that is no function of
            its parameters, buffers and inputs.

    Example:
        >>> import modelspace as ms
        >>> from modelspace.engine import Derivatives
        >>> from modelspace.examples import DummyNet
        >>> population, data = ms.ModelSpace(DummyNet).sample(seeds=2), ms.data.digits_7x7().test
        >>> derivatives = Derivatives(population, data.inputs, data.labels, ms.losses.resolve("cross_entropy"))
        >>> points, buffers = population.points, population.buffers
        >>> derivatives.product(points, buffers, torch.ones_like(points)).shape
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
        self._device, self._count, self._compile, self._calls = device, samples_in(inputs), compile, calls
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._spent: dict[Any, list[float]] = {}
        _checked(operator, loss, population, self._inputs, self._labels)
        alike = not isinstance(loss, Objective) and is_sample_mean(loss, self._labels)
        self._size = min(self._count, _PIECE if alike else batch_size)
        rows = rows_at_once(space, device, self._size)
        self.fallback = None if rows >= _HANDFUL else "a member alone fills the processor"
        self._way = _Way(Function(space, device, twice=True), loss, operator, batched=True)
        self._second, self.finite = self._witnessed(population)
        if alike:
            plan = Plan("loop" if self.fallback else "vmap", rows, False, torch.get_num_threads(), "")
            given = self._way.function, {"loss": loss}, self._inputs, self._labels, plan, 1, population[[0]]
            self._size = Scoring(*given, piece=self._size).piece
        elif not isinstance(loss, Objective):
            self._size = self._count
        self.most = self._room(rows_at_once(space, device, self._size))
        if compile and self.fallback is not None:
            raise ModelspaceError(f"the product can't be compiled: {self.fallback}")

    def gradient(
        self,
        points: Float[Tensor, "row parameter"],
        buffers: Named,
        terms: Mapping[str, Float[Tensor, "row"]] | None = None,
    ) -> tuple[Float[Tensor, "row"], Float[Tensor, "row parameter"]]:
        """Compute the losses of members, and their gradients.

        Args:
            points: ``[c, n]``.
            buffers: ``[c, …]`` each.
            terms: The loss's own columns.
        """
        return self._mean(self._way.gradient, self._inputs, points, buffers, dict(terms or {}))

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
            return self._mean(way.product, self._inputs, points, buffers, dict(terms or {}), vectors)
        space = way.function.space
        wide, held = space.dtype, _converted(buffers, space)
        of_loss = {name: term.to(wide.to_real()) for name, term in (terms or {}).items()}
        given = points.to(wide), held, of_loss, vectors.to(wide)
        return self._mean(way.difference, samples_as(self._inputs, wide), *given).to(points.dtype)

    def _mean(self, compute: Callable[..., Any], inputs: Nest, *rows: Nest) -> Any:
        """Average over the pieces what a way computes of them, of ``most`` rows at a time."""
        count = len(rows[0])
        size = ceil(count / ceil(count / self.most))
        parts = []
        for first in range(0, count, size):
            points, buffers, terms, *vectors = take(rows, slice(first, first + size))
            total: Any = None
            for begin in range(0, self._count, self._size):
                piece = slice(begin, begin + self._size)
                samples = take(inputs, piece), take(self._labels, piece)
                share = min(self._size, self._count - begin) / self._count
                part = self._called(compute, points, buffers, *samples, terms, *vectors)
                part = mapped(partial(torch.mul, other=share), part)
                total = part if total is None else mapped_together(torch.add, total, part)
            parts.append(total)
        return mapped_together(lambda *x: torch.cat(x), *parts)

    def _called(self, compute: Callable[..., Any], *given: Any) -> Any:
        """Compute it, by a compiled program where there is one, or it is repaid."""
        if self._compile is False or self.fallback is not None:
            return compute(*given)
        made_for = signature(given, compute.__name__)
        if made_for in self._programs:
            return self._programs[made_for](*given)
        spent = self._spent.setdefault(made_for, [])
        ahead = max(sum(spent), self._calls * self._count / self._size * min(spent, default=0.0))
        if self._compile or ahead * (1 - 1 / _COMPILE_GAIN) > _COMPILE_SECONDS:
            way = self._way
            key = (way.function.space, way.loss, way.operator, compute.__name__)
            try:
                self._programs[made_for] = compiled(compute, *given, key=key)
            except CompileError as error:
                if self._compile:
                    raise ModelspaceError(f"the product can't be compiled: {error}") from error
                self._programs[made_for] = compute
            return self._programs[made_for](*given)
        began = time.perf_counter()
        result = compute(*given)
        if tensors(result)[0].device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
        return result

    def _room(self, rows: int) -> int:
        """Return how many rows are best computed at once, and have room in half of the free memory."""
        if self.fallback is not None:
            return _HANDFUL
        way, piece = self._second, slice(self._size)
        space, device = way.function.space, torch.device("meta")
        with suppress(Exception):  # a kernel without a meta form: anything may be raised
            few = replace(way, function=Function(space, device, twice=True))
            points = torch.empty(2, space.dimension, dtype=space.dtype, device=device)
            buffers = {
                n: b.to(device).expand(2, *b.shape) for n, b in space.buffers_of(space.template).items()
            }
            inputs, labels = on(device, take((samples_as(self._inputs, space.dtype), self._labels), piece))
            terms = {n: points.real[:, 0] for n in self._terms}
            compute = few.product if self.finite is None else few.difference
            with PeakMemory([points, *tensors((inputs, labels))]) as memory:
                compute(points, buffers, inputs, labels, terms, points)
            rows = min(rows, free_bytes(self._device) // memory.peak)
        return max(1, rows)

    def _witnessed(self, population: Population) -> tuple[_Way, str | None]:
        """Hold gradient and product against plain modules; return what makes products, and why by differences.

        On few samples, of the first and last member, in float64 where the network can be computed in it.
        """
        loss, members = self._way.loss, first_and_last(population)
        ends = slice(None, None, max(1, len(population) - 1))
        terms = {name: term[ends].to(self._device) for name, term in terms_of(population, loss).items()}
        self._terms = tuple(terms)
        few = slice(self._size if isinstance(loss, Objective) else _FEW)
        inputs, labels = take((self._inputs, self._labels), few)
        works = [_gradient_of(at(loss, _row(terms, k)), labels) for k in range(len(members))]
        members = _widened(members, inputs, works[0])
        space = members.space
        inputs = samples_as(inputs, space.dtype)
        function = Function(space, self._device, twice=True)
        way = replace(self._way, function=function)
        terms = {name: term.to(space.dtype.to_real()) for name, term in terms.items()}
        given = members.points, members.buffers, inputs, labels, terms

        def gradients(*, batched: bool) -> Nest:
            return replace(way, batched=batched).gradient(*given)

        why = unbatched(function, members, inputs, works, gradients, "the gradient")
        elsewhere = ("",) if function.single.draws_elsewhere else ()
        self._way.function.trust(Verdict(written=function.written, elsewhere=elsewhere))
        self.fallback = why or self.fallback
        self._way, way = (replace(each, batched=self.fallback is None) for each in (self._way, way))
        finite = _difference(way, *given)
        if finite is None:
            return self._way, None
        notice(f"second derivatives of {space.title} are finite differences of its gradients: {finite}")
        return way, finite


def _checked(operator: str, loss: Loss, population: Population, inputs: Nest, labels: Nest) -> None:
    """Refuse an operator that a loss does not have, and inputs that do not fit.

    Raises:
        ModelspaceError: in one line.
    """
    if operator not in OPERATORS:
        raise unknown_name("operator", operator, OPERATORS)
    if not samples_in(inputs) or not len(population):
        raise ModelspaceError(
            f"{len(population)} members and {samples_in(inputs)} samples: there is nothing to differentiate"
        )
    if isinstance(loss, Objectives):
        raise ModelspaceError(f"objectives {loss.name} are a column: give the members of one of them")
    if isinstance(loss, Objective):
        if operator != "hessian":
            raise ModelspaceError(
                f"operator '{operator}' is made of outputs and a loss of them, and objective '{loss.name}' is a "
                "function of the model: take operator='hessian', or a loss="
            )
        return
    if operator == "fisher" and not is_sample_mean(loss, labels):
        raise ModelspaceError(
            f"the empirical Fisher matrix is made of each sample's own gradient, and loss '{loss.name}' is not known "
            "to be a mean over samples: take operator='gauss-newton' or 'hessian'"
        )
    probe(population.module(0), take(inputs, slice(2)))


def _gradient_of(goal: Loss, labels: Nest) -> Work:
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


def _widened(members: Population, inputs: Nest, work: Work) -> Population:
    """Return members in the widest type, where the network can be computed in it; else as they are."""
    space, kind = members.space, widest(members.device)
    if space.dtype.to_real() is kind:
        return members
    with suppress(Exception), warnings.catch_warnings():  # a network of one type only: anything may be raised
        warnings.simplefilter("ignore")
        wide = space.in_dtype(kind.to_complex() if space.dtype.is_complex else kind)
        points, buffers = members.points.to(wide.dtype), _converted(members.buffers, wide)
        made = Population(wide, points, buffers, members.table)
        with real_module(made, 0) as module:
            evaluated(module, samples_as(inputs, wide.dtype), work)
        return made
    return members


def _converted(buffers: Mapping[str, Tensor], space: ModelSpace) -> Named:
    """Return buffers in the types that they have in a space."""
    kinds = {name: value.dtype for name, value in space.buffers_of(space.template).items()}
    return {name: value.to(kinds[name]) for name, value in buffers.items()}


def _difference(way: _Way, points: Tensor, *rest: Any) -> str | None:
    """Say in what exact products differ from central differences of the plain loop's gradients; None where not.

    Beside the points: where a network begins with zeros, they may be kinks. A difference that reaches over a kink is
    none of the gradient's, so shorter steps are tried, until rounding shows.
    """
    loop, real = replace(way, batched=False), points.dtype.to_real()
    generator = torch.Generator().manual_seed(0)
    noise, vectors = (
        torch.randn(points.shape, dtype=points.dtype, generator=generator).to(points) for _ in "nv"
    )
    size = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    size = torch.where(size > 0, size, 1)
    point, slope = points, points
    for point in (points + _BESIDE * size / points.shape[1] ** 0.5 * noise, points):
        slope = loop.gradient(point, *rest)[1]
        if slope.isfinite().all():
            break
    else:
        return None
    vectors = vectors * (slope != 0)  # a padding row has no gradient, though that of others depends on it
    try:
        ours = way.product(point, *rest, vectors)
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, ModelspaceError):
            raise
        return f"no second derivative: {first_line(error)}"
    apart, slope = 0.0, slope.norm(dim=1)
    for step in _STEPS:
        theirs = loop.difference(point, *rest, vectors, step=step)
        rounding = 100 * torch.finfo(real).eps ** (2 / 3) / step * slope * vectors.norm(dim=1) / size[:, 0]
        limit = _TOLERANCES.get(real, 0.2) * theirs.norm(dim=1) + rounding
        errors = (ours - theirs).norm(dim=1)
        if bool((errors <= limit).all()):
            return None
        apart = float((errors / theirs.norm(dim=1)).max())
    return f"autograd's second derivative is another than that of the gradient, by {apart:.1g} of it"
