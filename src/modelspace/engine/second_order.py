"""Derivatives of the mean loss of a few samples, to second order, of rows of points.

    H v = ∇⟨∇L, v⟩                   the Hessian (Pearlmutter 1994)
    G v = (1/N) Σᵢ Jᵢᵀ ∇²ℓᵢ Jᵢ v      the generalised Gauss–Newton matrix (Schraudolph 2002)
    F v = (1/N) Σᵢ gᵢ gᵢᵀ v           the empirical Fisher matrix (Martens 2020)

Jᵢ is the Jacobian of a sample's outputs, gᵢ the gradient of its loss: so F is G with the losses as outputs and the
identity as ∇²ℓ. J v is the derivative along v of w ↦ Jᵀw, which is linear: nothing but backward passes is needed.
Where these can't be differentiated twice, central differences of first derivatives are the same to rounding,

    A v ≈ (a(θ + εv) − a(θ − εv)) / 2ε,   ε = ∛ε_machine ‖θ‖ / ‖v‖

where a is the gradient, or for G and F that of the loss by the outputs, which Jᵀ then pulls back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelspace.engine.function import Function, Named, Work
from modelspace.engine.gradient import at, work_of
from modelspace.losses import Loss
from modelspace.nest import Nest, axes, called, mapped, only_tensors, stacked, tensors
from modelspace.nest import samples as samples_in

OPERATORS = ("hessian", "gauss-newton", "fisher")


class Way(NamedTuple):
    """How derivatives are computed: of all rows under ``vmap``, or of one after the other as in plain PyTorch."""

    function: Function
    loss: Loss
    operator: str
    batched: bool

    def __call__(self, compute: Callable[..., Any], *given: Any) -> Any:
        """Compute ``gradient``, ``product`` or ``difference`` of rows.

        Args:
            compute: Which of them. What it is given has a member axis under ``vmap``, and none in the loop.
            *given: Points, buffers, inputs, labels, the loss's terms, and what else it takes.
        """
        with torch.enable_grad(), _second_derivatives(self):
            if self.batched:
                return compute(self, *given)
            points, buffers, inputs, labels, terms, *more = given
            rows = zip(points, *more, strict=True)
            return stacked(
                compute(self, point, row(buffers, k), inputs, labels, row(terms, k), *own)
                for k, (point, *own) in enumerate(rows)
            )


def gradient(way: Way, *rows: Any) -> tuple[Tensor, Tensor]:
    """Compute the loss and its gradient, of points, buffers, inputs, labels and terms."""
    leaves = _leaves(way, rows[0])
    value = _run(way, _loss_of, leaves, *rows)
    if way.batched:
        parts = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        return value.detach(), _flat(way, parts, leaves)
    value.backward()  # and not grad(): hooks see what they expect
    parts = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return value.detach(), _flat(way, parts, leaves)


def product(way: Way, *given: Any) -> Tensor:
    """Compute A v by differentiating twice, of what ``gradient`` takes and v."""
    *rows, vectors = given
    leaves, along = _leaves(way, rows[0]), list(way.function.space.layout.views(vectors).values())
    if way.operator == "hessian":
        value = _run(way, _loss_of, leaves, *rows)
        slopes = torch.autograd.grad(value.sum(), leaves, create_graph=True, allow_unused=True)
        return _flat(way, _pulled(slopes, leaves, along), leaves)
    outputs, ends = _outputs(way, leaves, *rows)
    if not ends:
        return torch.zeros_like(vectors)
    weights = [torch.zeros_like(end).requires_grad_() for end in ends]
    pulled = torch.autograd.grad(ends, leaves, weights, create_graph=True, allow_unused=True)
    moved = _pulled(pulled, weights, along, keep=True)
    starts, slopes = _slopes(way, outputs, *rows[3:])
    return _flat(way, _pulled(ends, leaves, _pulled(slopes, starts, moved)), leaves)


def difference(way: Way, *given: Any, step: float = 1.0) -> Tensor:
    """Compute A v by central differences, of what ``product`` takes; the step is relative to ε above."""
    points, *rest, vectors = given
    size, length = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (points, vectors))
    size, length = (torch.where(x > 0, x, 1) for x in (size, length))
    moved = step * torch.finfo(points.dtype).eps ** (1 / 3) * size / length

    def first(points: Tensor) -> Sequence[Tensor | None]:
        if way.operator == "hessian":
            return [gradient(way, points, *rest)[1]]
        outputs, _ = _outputs(way, _leaves(way, points), points, *rest)
        return [None if s is None else s.detach() for s in _slopes(way, outputs, *rest[2:])[1]]

    whole = 2 * moved[..., 0]
    slopes = [
        None
        if a is None or b is None
        else (a - b) / whole.reshape(*whole.shape, *[1] * (a.dim() - whole.dim()))
        for a, b in zip(first(points + moved * vectors), first(points - moved * vectors), strict=True)
    ]
    if way.operator == "hessian":
        return slopes[0]  # pyright: ignore[reportReturnType]
    leaves = _leaves(way, points)
    _, ends = _outputs(way, leaves, points, *rest)
    return _flat(way, _pulled(ends, leaves, slopes), leaves)


def row(named: Mapping[str, Tensor], k: int) -> Named:
    """Return member k's of some tensors."""
    return {name: value[k] for name, value in named.items()}


@contextmanager
def _second_derivatives(way: Way) -> Iterator[None]:
    """Within the block, PyTorch takes the kernels that have second derivatives where it has a choice."""
    with ExitStack() as stack:
        if not way.batched:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        recurrent = any(isinstance(layer, nn.RNNBase) for layer in way.function.module.modules())
        if recurrent and way.function.device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _leaves(way: Way, points: Tensor) -> list[Tensor]:
    if not way.batched:
        return list(way.function.single.leaves.values())
    return [view.detach().requires_grad_() for view in way.function.space.layout.views(points).values()]


def _run(way: Way, made: Callable[..., Work], leaves: Sequence[Tensor], *rows: Any) -> Any:
    """Run the forward with the work that is ``made`` of loss, labels and terms."""
    points, buffers, inputs, labels, terms = rows
    function = way.function
    if not way.batched:
        work = made(way.loss, labels, terms)
        return function.single(points, buffers, inputs, training=False, work=work)[0]
    names = [block.name for block in function.space.layout]

    def one(own: Sequence[Tensor], kept: Named, inputs: Nest, labels: Nest, terms: Named) -> Any:
        work = made(way.loss, labels, terms)
        return function(dict(zip(names, own, strict=True)), kept, inputs, training=False, work=work)[0]

    copies = {name: value.clone() for name, value in buffers.items()}
    dims = (0, 0, axes(inputs, None), axes(labels, None), 0)
    return torch.vmap(one, in_dims=dims)(leaves, copies, inputs, labels, terms)


def _loss_of(loss: Loss, labels: Nest, terms: Named) -> Work:
    goal = at(loss, terms)
    work = work_of(goal, labels)
    return lambda module, inputs: goal(work(module, inputs), labels)


def _outputs_of(loss: Loss, labels: Nest, terms: Named) -> Work:
    return lambda module, inputs: only_tensors(called(module, inputs))


def _outputs(way: Way, leaves: Sequence[Tensor], *rows: Any) -> tuple[Nest, list[Tensor]]:
    """Compute the outputs, and which of them depend on the parameters; of Fisher's matrix each sample's loss."""
    outputs = _run(way, _outputs_of, leaves, *rows)
    if way.operator == "fisher":
        outputs = _apiece(way, outputs, *rows[3:])
    return outputs, [x for x in tensors(outputs) if x.requires_grad]


def _slopes(
    way: Way, outputs: Nest, labels: Nest, terms: Named
) -> tuple[list[Tensor], Sequence[Tensor | None]]:
    """Compute the loss's gradient by the outputs, to be differentiated, at outputs cut off from the parameters."""
    outputs = mapped(lambda x: x.detach().requires_grad_(x.requires_grad), outputs)
    starts = [x for x in tensors(outputs) if x.requires_grad]
    if way.operator == "fisher":  # of ½ Σ ℓᵢ² / N
        return starts, [x / x.shape[-1] for x in starts]
    if way.batched:
        dims = (0, axes(labels, None), 0)
        value = torch.vmap(partial(_score, way), in_dims=dims)(outputs, labels, terms).sum()
    else:
        value = at(way.loss, terms)(outputs, labels)
    return starts, torch.autograd.grad(value, starts, create_graph=True, allow_unused=True)


def _score(way: Way, outputs: Nest, labels: Nest, terms: Named) -> Tensor:
    return way.function.score(at(way.loss, terms), outputs, labels)


def _apiece(way: Way, outputs: Nest, labels: Nest, terms: Named) -> Tensor:
    """Compute each sample's own loss, ``[(row,) sample]``: rows and samples are one axis of one ``vmap``."""
    count, rows = samples_in(labels), len(tensors(outputs)[0]) if way.batched else 1
    if way.batched:
        outputs = mapped(lambda z: z.flatten(0, 1), outputs)
    labels = mapped(lambda y: y.expand(rows, *y.shape).flatten(0, 1), labels)
    terms = {name: term.reshape(-1).repeat_interleave(count) for name, term in terms.items()}

    def one(outputs: Nest, labels: Nest, terms: Named) -> Tensor:
        z, y = (mapped(lambda x: x[None], nest) for nest in (outputs, labels))
        return _score(way, z, y, terms)

    values = torch.vmap(one)(outputs, labels, terms)
    return values.unflatten(0, (rows, count)) if way.batched else values


def _pulled(
    ends: Sequence[Tensor | None],
    starts: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    *,
    keep: bool = False,
) -> Sequence[Tensor | None]:
    """Return Σ Jᵀw over the ends, by each of the starts; None where there is nothing."""
    pairs = [
        (end, weight)
        for end, weight in zip(ends, weights, strict=True)
        if end is not None and weight is not None and end.requires_grad
    ]
    if not pairs:
        return [None] * len(starts)
    kept, of_kept = zip(*pairs, strict=True)
    return torch.autograd.grad(kept, starts, of_kept, retain_graph=keep, allow_unused=True)


def _flat(way: Way, parts: Sequence[Tensor | None], leaves: Sequence[Tensor]) -> Tensor:
    lead = leaves[0].shape[: int(way.batched)]
    whole = (
        torch.zeros_like(leaf) if part is None else part for part, leaf in zip(parts, leaves, strict=True)
    )
    return torch.cat([(x.to_dense() if x.is_sparse else x).reshape(*lead, -1) for x in whole], -1).detach()
