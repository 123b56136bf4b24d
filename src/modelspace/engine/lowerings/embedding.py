"""Embeddings with one table a member.

``F.embedding`` itself is left to ``vmap``, whose rule is as fast as any (eager and compiled, tables of 20 to 1000
rows, within a fifth of a gather from the stacked tables and of one with shifted indices). Gradients are always dense:
those of ``sparse=True`` are the same numbers, and the population's gradient is a matrix. Only the padding row is
taken care of here: where each member has its own indices, ``vmap``'s rule (torch 2.13) knows that of the first member
alone.

``torch.embedding_bag`` has no batched form: all members' bags are one call on the tables stacked as [K·V, E], member
k's indices shifted by k·V; with ``scale_grad_by_freq`` they are K calls, since in torch 2.13 the CPU's gradient of a
row is divided by another row's frequency (pytorch issue 190063), and a population does what a single network does.

``max_norm`` is carried out as PyTorch does, in place and unseen by the gradient, before the rows are read:

    w_i ← w_i · max_norm / (‖w_i‖ + 1e-7)   for each looked-up row i with ‖w_i‖ > max_norm
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from modelspace.engine.lowerings.batched import Pair, Table, batched, own


def embedding(
    weight: Float[Tensor, "row width"],
    indices: Int[Tensor, "*batch"],
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Float[Tensor, "*batch width"]:
    """``torch.embedding`` with a dense gradient, none to the padding row."""
    rows = torch.embedding(weight, indices, -1, scale_grad_by_freq, False)
    if padding_idx < 0:
        return rows
    return torch.where((indices == padding_idx)[..., None], rows.detach(), rows)


def renormalise(
    weight: Float[Tensor, "row width"],
    indices: Int[Tensor, "*batch"],
    max_norm: float,
    norm_type: float = 2.0,
) -> Float[Tensor, "row width"]:
    """``torch.embedding_renorm_``: the formula above, for all rows at once."""
    norms = weight.norm(norm_type, -1)
    looked_up = torch.zeros_like(norms).scatter(0, indices.reshape(-1), 1.0) > 0
    factor = torch.where(looked_up & (norms > max_norm), max_norm / (norms + 1e-7), 1.0)
    return weight.mul_(factor[:, None])


def renormalised(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that the module's forward renormalises in place."""
    tables = {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None
    }
    return tuple(name for name, parameter in module.named_parameters() if id(parameter) in tables)


def embedding_bag(
    weight: Float[Tensor, "row width"],
    indices: Int[Tensor, "entry"],
    offsets: Int[Tensor, "bag"],
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Float[Tensor, "entry"] | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``torch.embedding_bag`` with a dense gradient; of its four results the last three are empty.

    Args:
        weight: The table.
        indices: The rows of all bags, one bag after the other.
        offsets: Where each bag begins; with ``include_last_offset`` also where the last one ends.
        scale_grad_by_freq: Divide a row's gradient by the number of its occurrences.
        mode: 0 for the sum, 1 for the mean, 2 for the maximum.
        sparse: Ignored.
        per_sample_weights: Factors of the rows, with the sum only.
        include_last_offset: See ``offsets``.
        padding_idx: The row that counts for nothing.
    """
    padding = None if padding_idx is None else padding_idx % weight.shape[0]
    settings = scale_grad_by_freq, mode, padding
    bags = batched(_bag, _rule, weight, indices.long(), offsets.long(), per_sample_weights, *settings)
    # What comes after the last offset belongs to no bag: it has been computed as one more.
    bags = bags[:-1] if include_last_offset else bags
    empty = offsets.new_empty(0)
    return bags, empty, empty, empty


def _bag(weight: Tensor, indices: Tensor, offsets: Tensor, samples: Any, *settings: Any) -> Tensor:
    frequency, mode, padding = settings
    return torch.embedding_bag(weight, indices, offsets, frequency, mode, False, samples, False, padding)[0]


def _rule(count: int, *pairs: Pair) -> Tensor:
    weight, stacked = pairs[0]
    indices, starts, weights = (own(pair, count) for pair in pairs[1:4])
    settings = frequency, mode, padding = tuple(value for value, _ in pairs[4:])
    if frequency:
        tables = own(pairs[0], count)
        factors = [None] * count if weights is None else weights
        bags = map(_bag, tables, indices, starts, factors, *([setting] * count for setting in settings))
        return torch.stack(list(bags))
    member = torch.arange(count, device=weight.device)[:, None]
    starts = starts + indices.shape[1] * member
    if stacked:
        rows = weight.shape[1]
        shifted, weight = indices + rows * member, weight.flatten(0, 1)
        if padding is not None:
            # A call has one padding index: here one more row, the same for all members.
            shifted = torch.where(indices == padding, count * rows, shifted)
            weight, padding = torch.cat([weight, weight[:1].detach()]), count * rows
        indices = shifted
    factors = None if weights is None else weights.flatten()
    return _bag(weight, indices.flatten(), starts.flatten(), factors, frequency, mode, padding).unflatten(
        0, (count, -1)
    )


def twice_bag(
    weight: Float[Tensor, "row width"],
    indices: Int[Tensor, "entry"],
    offsets: Int[Tensor, "bag"],
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Float[Tensor, "entry"] | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``torch.embedding_bag`` as sums of rows times factors, which can be differentiated twice.

    Rows that share a maximum, as one that is twice in a bag, share its gradient. See ``embedding_bag``.
    """
    settings = scale_grad_by_freq, mode, sparse, per_sample_weights
    if scale_grad_by_freq:
        return embedding_bag(weight, indices, offsets, *settings, include_last_offset, padding_idx)
    bag = torch.searchsorted(offsets, torch.arange(len(indices), device=offsets.device), right=True) - 1
    rows, none = weight[indices], weight.new_zeros(len(offsets), weight.shape[1])
    kept = (indices != (-1 if padding_idx is None else padding_idx % weight.shape[0]))[:, None]
    if mode == 2:
        most, *_ = embedding_bag(weight.detach(), indices, offsets, *settings, padding_idx=padding_idx)
        kept = kept & (rows.detach() == most[bag])
    factors = kept.to(rows.dtype).expand_as(rows)
    if mode:
        factors = factors / none.index_add(0, bag, factors)[bag].clamp_min(1)
    elif per_sample_weights is not None:
        factors = factors * per_sample_weights[:, None]
    bags, empty = none.index_add(0, bag, rows * factors), offsets.new_empty(0)
    return bags[: len(offsets) - include_last_offset], empty, empty, empty


TABLE: Table = {
    torch.embedding: embedding,
    torch.embedding_renorm_: renormalise,
    torch.embedding_bag: embedding_bag,
}
TWICE: Table = {torch.embedding_bag: twice_bag}
