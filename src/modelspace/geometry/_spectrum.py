"""Spectra of many symmetric operators at once: block Lanczos, and stochastic Lanczos quadrature.

An operator A_k is known by its products alone, ``product(rows, vectors)``: row i of what it returns is A_rows[i]
vectors[i]. All rows go on in lock-step, one call a step; one that has converged or whose product is not finite leaves
the others as they are. Sums over coordinates are float64.

Source:
    Golub and Underwood, "The block Lanczos method for computing eigenvalues", 1977; Ubaru, Chen and Saad, "Fast
    estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal. 38, 2017.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from modelspace.data import generator
from modelspace.widest import widest

Product = Callable[[Int64[Tensor, "row"], Float[Tensor, "row n"]], Float[Tensor, "row n"]]
_AT_ONCE = 2**24  # numbers that are cast to float64 at a time
_EXHAUSTED = 64  # times the rounding of a product: what is smaller is no direction


class Drawn(NamedTuple):
    """Random vectors of ±1, or standard normal, each a function of seed, purpose, member and number alone."""

    seed: int
    purpose: int
    members: Sequence[int]
    signs: bool = False

    def vectors(self, like: Tensor, first: int, count: int) -> Float[Tensor, "row vector n"]:
        """Return each member's vectors from the ``first``-th on, as wide and of the type of ``like``."""
        n = like.shape[-1]
        found = like.new_empty(len(self.members), count, n)
        for k, member in enumerate(self.members):
            for i in range(count):
                drawn = generator(self.seed, self.purpose, member, first + i)
                if self.signs:
                    bits = np.frombuffer(drawn.bytes((n + 7) // 8), np.uint8)
                    found[k, i] = torch.from_numpy(np.unpackbits(bits, count=n)).to(like) * 2 - 1
                else:
                    found[k, i] = torch.from_numpy(drawn.standard_normal(n))
        return found


class Krylov(NamedTuple):
    """What each row's operator is on the space that its products have spanned.

    Attributes:
        basis: Orthonormal vectors V; zeros from a row's own number on.
        projected: VᵀAV.
        sizes: How many vectors each row has.
        trace: tr VᵀAV.
        square: ‖AV‖²_F.
        by_layer: Σ_j v_jᵦᵀ(A v_j)ᵦ of each layer β.
        lost: Where a product was not finite.
    """

    basis: Float[Tensor, "row vector n"]
    projected: Float[Tensor, "row vector vector"]
    sizes: Int64[Tensor, "row"]
    trace: Float[Tensor, "row"]
    square: Float[Tensor, "row"]
    by_layer: Float[Tensor, "row layer"]
    lost: Bool[Tensor, "row"]


def inner(
    left: Float[Tensor, "row vector n"], right: Float[Tensor, "row other n"]
) -> Float[Tensor, "row vector other"]:
    """Return left rightᵀ of each row, summed in float64, a piece of the coordinates after the other."""
    kind, (rows, vectors, n) = widest(left.device), left.shape
    piece = n if left.dtype == kind else max(1, _AT_ONCE // max(1, rows * (vectors + right.shape[1])))
    total = torch.zeros(rows, vectors, right.shape[1], dtype=kind, device=left.device)
    for a, b in zip(left.split(piece, -1), right.split(piece, -1), strict=True):
        total += a.to(kind) @ b.to(kind).mT
    return total


def without(vectors: Float[Tensor, "row other n"], basis: Float[Tensor, "row vector n"]) -> Tensor:
    """Return vectors without their parts in the span of an orthonormal basis."""
    return vectors - inner(basis, vectors).mT.to(vectors.dtype) @ basis


def sums_by(layer: Int64[Tensor, "n"] | None, values: Float[Tensor, "row vector n"]) -> Tensor:
    """Return the sums of values over each layer's coordinates, ``[r, vector, layer]``, in float64; none of None."""
    count = 0 if layer is None else int(layer.max()) + 1
    found = torch.zeros(*values.shape[:2], count, dtype=widest(values.device), device=values.device)
    if layer is not None:
        for k, own in enumerate(values):
            found[k].index_add_(1, layer, own.to(found.dtype))
    return found


def krylov(
    product: Product,
    start: Float[Tensor, "row width n"],
    most: int,
    fresh: Drawn,
    tolerance: float | None = None,
    layer: Int64[Tensor, "n"] | None = None,
) -> Krylov:
    """Span the block Krylov space of every row, with full reorthogonalisation.

    A block of b vectors sees an eigenvalue up to b times, where one vector sees each once. Where a direction is
    exhausted, a fresh one, orthogonal to all, takes its place. The basis takes ``r · most · n`` numbers.

    Args:
        product: Of the operators.
        start: Independent random vectors of each row.
        most: The most vectors of a row; no more than n come.
        fresh: Where fresh directions come from.
        tolerance: A row is done when as many of its largest eigenvalues as ``start`` has vectors, and the least, have
            ‖Av − λv‖ ≤ tolerance · max|λ|. Where None, all go on to the end.
        layer: Of each coordinate, its layer, from 0.
    """
    (rows, width, n), device = start.shape, start.device
    most, kind = min(most, n), widest(device)
    basis = start.new_empty(rows, most, n)
    projected = torch.zeros(rows, most, most, dtype=kind, device=device)
    square = by_layer = projected.new_zeros(())
    sizes = torch.zeros(rows, dtype=torch.int64, device=device)
    going = torch.ones(rows, dtype=torch.bool, device=device)
    lost, done, look = ~going, 0, 2 * width
    block = torch.linalg.qr(start.mT).Q.mT
    while going.any():
        block = block[:, : most - done] * going[:, None, None]
        begin, done = done, done + block.shape[1]
        basis[:, begin:done] = block
        known, image = basis[:, :done], _images(product, block, going)
        bad = ~image.isfinite().all(-1).all(-1)
        lost, going, image = lost | bad, going & ~bad, image.masked_fill(bad[:, None, None], 0)
        entries = inner(known, image)
        entries[:, begin:] = (entries[:, begin:] + entries[:, begin:].mT) / 2
        projected[:, :done, begin:done], projected[:, begin:done, :done] = entries, entries.mT
        sizes[going] = done
        square = square + torch.stack([own.to(kind).square().sum() for own in image])
        by_layer = by_layer + sums_by(layer, block * image).sum(1)
        if done == most:
            break
        block, coupling = _next(without(without(image, known), known), known, projected, going, fresh)
        if tolerance is not None and done >= look:
            look, index = ceil(done * 1.2), going.nonzero()[:, 0]
            # The residual of a Ritz vector V y is ‖R y_last‖.
            values, vectors = torch.linalg.eigh(projected[index, :done, :done])
            residuals = torch.linalg.vector_norm(coupling[index] @ vectors[:, -coupling.shape[1] :], dim=1)
            worst = torch.cat([residuals[:, :1], residuals[:, -width:]], 1).amax(1)
            going[index[worst <= tolerance * values.abs().amax(1)]] = False
    projected = projected[:, :done, :done]
    trace = projected.diagonal(dim1=1, dim2=2).sum(1)
    return Krylov(basis[:, :done], projected, sizes, trace, square, by_layer, lost)


def _images(product: Product, block: Float[Tensor, "row vector n"], going: Bool[Tensor, "row"]) -> Tensor:
    """The products of some rows with all their vectors; zeros of the others."""
    image, index = torch.zeros_like(block), going.nonzero()[:, 0]
    if len(index):
        found = product(index.repeat_interleave(block.shape[1]), block[index].flatten(0, 1))
        image[index] = found.unflatten(0, (len(index), -1))
    return image


def _next(
    rest: Tensor, known: Tensor, projected: Tensor, going: Tensor, fresh: Drawn
) -> tuple[Tensor, Tensor]:
    """The next block and R: the rest of the products made orthonormal; fresh directions where nothing is left."""
    q, r = torch.linalg.qr(rest.mT)
    least = _EXHAUSTED * torch.finfo(rest.dtype).eps * projected.abs().amax((1, 2)).to(rest.dtype)
    exhausted = r.diagonal(dim1=1, dim2=2).abs() <= least[:, None]
    block, need = q.mT.contiguous(), (exhausted.any(1) & going).nonzero()[:, 0]
    if len(need):
        drawn = fresh._replace(members=[fresh.members[k] for k in need.tolist()])
        new = drawn.vectors(rest, known.shape[1], block.shape[1])
        block[need] = torch.where(exhausted[need][..., None], new, block[need])
    for _ in range(2):  # what was small was mostly rounding before it was made of length 1
        block = torch.linalg.qr(without(block, known).mT).Q.mT
    return block, r.masked_fill(exhausted[..., None], 0).to(projected.dtype)


def extremes(product: Product, space: Krylov, top: int) -> dict[str, Float[Tensor, "row *top"]]:
    """Take each row's extreme eigenvalues: some eigenvalue is within ‖Av − λv‖ of each, which takes a product.

    Returns:
        ``top``, the largest, descending, ``[r, top]``; ``least``, ``[r]``; ``top_bound`` and ``least_bound``, their
        ‖Av − λv‖. NaN where there is none.
    """
    values = space.projected.new_full((len(space.sizes), top + 1), torch.nan)
    vectors = space.basis.new_zeros(len(values), top + 1, space.basis.shape[2])
    for k, size in enumerate(space.sizes.tolist()):
        if not space.lost[k]:
            own, ritz = torch.linalg.eigh(space.projected[k, :size, :size])
            few = min(top, size)
            places, which = [*range(few), top], [*range(size - 1, size - 1 - few, -1), 0]
            values[k, places] = own[which]
            vectors[k, places] = ritz[:, which].mT.to(vectors.dtype) @ space.basis[k, :size]
    away = _images(product, vectors, ~space.lost).to(values.dtype) - values[..., None] * vectors
    bounds = torch.linalg.vector_norm(away, dim=2)
    found = {"top": values[:, :top], "top_bound": bounds[:, :top]}
    return found | {"least": values[:, top], "least_bound": bounds[:, top]}


def quadrature(space: Krylov) -> tuple[Float[Tensor, "row node"], Float[Tensor, "row node"]]:
    """Return nodes θ and weights w of each row's density, of a space that one vector began; NaN where it is lost.

    E Σ wᵢ f(θᵢ) over random starts is tr f(A)/n, for polynomials f of a degree below twice the number of nodes.
    """
    values, vectors = torch.linalg.eigh(space.projected)
    return values.masked_fill(space.lost[:, None], torch.nan), vectors[:, 0].square()
