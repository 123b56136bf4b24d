"""Masks of padding that a model is given and whose padding reaches its outputs all the same."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.samples import seed_all
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import defined_at, output_of, place
from modelspace.nest import Nest, arguments, mapped, named_leaves, spoken, take

# Names under which padding is said; of attn_mask and tgt_mask, which say who looks at whom, nothing is known.
_MASKS = frozenset(
    {
        *("mask", "attention_mask", "padding_mask", "pad_mask", "key_padding_mask", "src_padding_mask"),
        *("src_key_padding_mask", "src_mask", "input_mask", "token_mask", "valid_mask"),
        *("seq_mask", "sequence_mask"),
    }
)
# What is no content of its position: to change it would tell nothing.
_NO_CONTENT = ("label", "target", "position", "type", "segment", "decoder", "length", "mask")
# As in batch-mixing: in float64 what is left of equal arithmetic is rounding.
_IN_FLOAT64, _IN_FLOAT32 = 1e-10, 1e-5
_AWAY = -1e9  # added to a score, it leaves nothing of a softmax's weight


@rule("error", needs=("values",))
def ignored_mask(subject: Subject) -> Seen:
    """A mask of padding is given, and the padding reaches the outputs all the same."""
    trials = _of_the_data(subject) if subject.nest is not None else _of_the_forward(subject)
    moved, used, given = 0.0, False, ""
    for name, gap, effect in trials:
        if gap == 0:
            return  # with this reading of the mask, what it hides is hidden
        moved, used, given = max(moved, gap), used or effect, name
    if not given:
        raise Inapplicable("there is no mask of padding, or the forward takes none of its usual shapes")
    module = subject.fresh()
    how = (
        "the mask does change the outputs, but not everywhere that positions meet (attention, pooling, convolutions)"
        if used
        else "the outputs are the same whatever the mask says"
    )
    yield (
        place("", module, defined_at(type(module).forward)),
        f"other values at the positions that {given} hides move the outputs at those that are kept by up to "
        f"{moved:.3g} times their size: {how}",
        "scores = scores.masked_fill(~mask[:, None, :], float('-inf'))     # before the softmax\n"
        "pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)     # not x.mean(1)",
        "warning" if used else "error",
    )


# A call's positional and keyword arguments.
_Call = tuple[tuple[Any, ...], dict[str, Any]]
# The mask's name; how far the kept outputs move, as a share of their size, where the hidden inputs change; and
# whether the mask itself moves the outputs.
_Trials = Iterator[tuple[str, float, bool]]


def _of_the_data(subject: Subject) -> _Trials:
    """Hold each reading of the data's own mask, 1 for kept or 1 for hidden, against each other input."""
    for name, mask in _parts(subject.nest):
        if name not in _MASKS or mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
            continue
        rows = torch.nonzero((mask == 0).any(1) & (mask == 1).any(1)).flatten()[:BATCH]
        nest = take(subject.nest, rows)
        parts = _parts(nest)
        mask = next(x for own, x in parts if own == name)
        flipped = _with(nest, mask, (mask == 0).to(mask.dtype))
        for own, x in parts if len(rows) else ():
            if x.shape[:2] != mask.shape or any(word in own for word in _NO_CONTENT):
                continue
            for hidden in (mask == 0, mask == 1):
                calls = (nest, _with(nest, x, _changed(x, hidden)), flipped)
                found = _compared(subject, hidden, *map(arguments, calls))
                if found is not None:
                    yield name, *found


def _parts(nest: Nest) -> list[tuple[str, Tensor]]:
    """List a nest's tensors with the last word of what each is called."""
    return [(spoken(path).rpartition(".")[2], x) for path, x in named_leaves(nest) if isinstance(x, Tensor)]


def _with(nest: Nest, old: Tensor, new: Tensor) -> Nest:
    return mapped(lambda leaf: new if leaf is old else leaf, nest)


def _of_the_forward(subject: Subject) -> _Trials:
    """Give a mask that the forward takes as an option, in each of its usual shapes and codings."""
    shape = subject.shape
    options = inspect.signature(type(subject.skeleton).forward).parameters.items()
    names = [name for name, parameter in options if name in _MASKS and parameter.default is None]
    whole = subject.dtype in (torch.int64, torch.int32)
    # [length] tokens or [length, feature]: of one number a feature, a mask of features or of actions may be meant.
    if not names or shape is None or len(shape) != (1 if whole else 2) or shape[0] < 3:
        return
    length = shape[0]
    batch = BATCH if length != BATCH else BATCH + 1
    x = subject.inputs(batch)
    kept = (length - torch.arange(batch)).clamp(min=1)  # the longest first, as packing wants it
    hidden = torch.arange(length) >= kept[:, None]
    other = _changed(x, hidden)
    for name in names:
        for view in ((batch, length), (batch, 1, length), (batch, 1, 1, length)):
            for coded in (~hidden, hidden, (~hidden).float(), hidden.float() * _AWAY, hidden.float()):
                mask = coded.reshape(view)
                nothing = mask[:1].expand(view)  # the first sample is kept whole
                calls = [((one,), {name: given}) for one, given in ((x, mask), (other, mask), (x, nothing))]
                found = _compared(subject, hidden, *calls)
                if found is not None:
                    yield name, *found


def _changed(x: Tensor, hidden: Tensor) -> Tensor:
    """Return other values at hidden positions: numbers far off, or other tokens that occur."""
    hidden = hidden.reshape(*hidden.shape, *[1] * (x.ndim - 2))
    if not x.is_floating_point():
        return torch.where(hidden, (x.long() + 1) % (int(x.max()) + 1), x.long()).to(x.dtype)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
    return torch.where(hidden, x + 3 * noise, x)


def _compared(
    subject: Subject, hidden: Tensor, first: _Call, other: _Call, without: _Call
) -> tuple[float, bool] | None:
    """Return how far the kept outputs move, 0 where that is rounding, and whether the mask acts.

    None where the forward fails, has no rows for samples, or is not the same twice.
    """
    for double in (True, False):
        module = subject.fresh()
        try:
            before, again, after, unmasked = (
                _outputs(subject, module.double() if double else module, call, double)
                for call in (first, first, other, without)
            )
        except Exception:  # types of its own, or a mask of another shape
            continue
        if before.ndim == 0 or len(before) != len(hidden) or before.shape != after.shape:
            return None
        if not torch.equal(before.nan_to_num(), again.nan_to_num()) or not bool(before.isfinite().any()):
            return None
        kept = torch.ones_like(before, dtype=torch.bool)
        for dimension in range(1, before.ndim):
            if before.shape[dimension] == hidden.shape[1]:  # of positions: [N, T, …], or [N, C, T]
                view = [len(hidden), *[1] * (before.ndim - 1)]
                view[dimension] = hidden.shape[1]
                kept &= ~hidden.reshape(view)
        values = before[kept].nan_to_num(0, 0, 0)
        size = float(values.abs().max())
        if not float(values.max() - values.min()) > _IN_FLOAT32 * size:
            return None  # read this way, the mask leaves nothing at all of what is kept
        gap = float((after - before)[kept].abs().nan_to_num(0, 0, 0).max()) / size
        acts = unmasked.shape != before.shape or not torch.allclose(unmasked, before, equal_nan=True)
        return (gap if gap > (_IN_FLOAT64 if double else _IN_FLOAT32) else 0.0), acts
    return None


def _outputs(subject: Subject, module: nn.Module, call: _Call, double: bool) -> Tensor:
    if double:
        call = mapped(lambda x: x.double() if x.is_floating_point() else x, call)
    seed_all(subject.seed)
    with torch.no_grad():
        return output_of(module(*call[0], **call[1])).detach()
