"""LSTM, GRU and RNN with weights of every member's own, their cells, and the dropout between layers.

``vmap`` has no form of them. Here a layer is one recurrence over all members' stacked matrices, both directions at
once (``recurrence``); a cell is a layer of one step. Weights that all members share are left to PyTorch's own
function, with the members folded into the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.engine.lowerings import dropout
from modelspace.engine.lowerings.batched import batched
from modelspace.engine.lowerings.cells import GRU, LSTM, RNN_RELU, RNN_TANH, Cell, Tensors
from modelspace.engine.lowerings.generators import vmap_levels
from modelspace.engine.lowerings.packed import backwards, packed, padded, sizes_of
from modelspace.engine.lowerings.recurrence import recurrence
from modelspace.engine.randomness import Draws

Function = Callable[..., Any]
Pair = tuple[Any, bool]

_WEIGHTS = 5  # a direction's: W_ih, W_hh, b_ih, b_hh, W_hr; None for one that it lacks
_FUNCTIONS: Mapping[Cell, Function] = {
    LSTM: torch.lstm,
    GRU: torch.gru,
    RNN_TANH: torch.rnn_tanh,
    RNN_RELU: torch.rnn_relu,
}


@dataclass(frozen=True)
class _Call:
    """The arguments of ``torch.lstm`` or its kin, under their names there; ``input`` may be packed data."""

    input: Tensor
    batch_sizes: Tensor | None
    hx: Tensor | Sequence[Tensor]
    params: Sequence[Tensor]
    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool = False

    @property
    def drops(self) -> bool:
        """Whether there is dropout between layers."""
        return self.train and self.dropout > 0 and self.num_layers > 1

    @property
    def states(self) -> Tensors:
        """The first states."""
        return (self.hx,) if isinstance(self.hx, Tensor) else tuple(self.hx)


def _call(input: Tensor, *args: Any, **kwargs: Any) -> _Call:
    """The call of either form: (input, hx, params, has_biases, …) or (data, batch_sizes, hx, params, …)."""
    of_packed = "batch_sizes" in kwargs or (len(args) > 2 and not isinstance(args[2], bool))
    return _Call(input, *args, **kwargs) if of_packed else _Call(input, None, *args, **kwargs)


def _one_after_the_other(
    call: _Call, input: Tensor, layer: Callable[..., Tensors], drop: Callable[[Tensor], Tensor]
) -> Tensors:
    """All layers of a call: the output, and the last states of all layers."""
    directions, each = 1 + call.bidirectional, len(call.params) // call.num_layers
    last = []
    for k in range(call.num_layers):
        if k and call.drops:
            input = drop(input)
        states = tuple(s[k * directions : (k + 1) * directions] for s in call.states)
        input, *state = layer(input, states, call.params[k * each : (k + 1) * each])
        last.append(state)
    return input, *(torch.cat(states) for states in zip(*last, strict=True))


def _stacked(cell: Cell, call: _Call, drop: Callable[[Tensor], Tensor]) -> Tensors:
    """A call under ``vmap``.

    Args:
        cell: The kind of cell.
        call: The call.
        drop: Dropout of a layer's output, ``[time, batch, feature]`` or packed.
    """
    if call.batch_sizes is not None:
        return _stacked_packed(cell, call, call.batch_sizes, drop)
    input = call.input.transpose(0, 1) if call.batch_first else call.input
    sizes = (input.shape[1],) * input.shape[0]
    output, *last = _one_after_the_other(call, input, _layer_of(cell, call, sizes), drop)
    return output.transpose(0, 1) if call.batch_first else output, *last


def _stacked_packed(
    cell: Cell, call: _Call, batch_sizes: Tensor, drop: Callable[[Tensor], Tensor]
) -> Tensors:
    """A call on packed data, which is padded for all layers together."""
    sizes = sizes_of(batch_sizes)

    def drop_packed(x: Tensor) -> Tensor:
        factors = drop(x.new_ones(call.input.shape[0], x.shape[-1]))
        return x * padded(factors, batch_sizes)

    input = padded(call.input, batch_sizes)
    output, *last = _one_after_the_other(call, input, _layer_of(cell, call, sizes), drop_packed)
    return packed(output, batch_sizes), *last


def _layer_of(cell: Cell, call: _Call, sizes: tuple[int, ...]) -> Callable[..., Tensors]:
    def layer(input: Tensor, states: Tensors, params: Sequence[Tensor]) -> Tensors:
        each = len(params) // (1 + call.bidirectional)
        weights: list[Tensor | None] = []
        for start in range(0, len(params), each):
            w_ih, w_hh, *rest = params[start : start + each]
            biases = rest[:2] if call.has_biases else [None, None]
            projection = rest[2 * call.has_biases :] or [None]
            weights += [w_ih, w_hh, *biases, *projection]
        return _LAYERS[cell](sizes, input, *states, *weights)

    return layer


def _in_the_loop(cell: Cell, call: _Call, drop: Callable[[Tensor], Tensor]) -> Tensors:
    """A call with dropout for one member, its layers by PyTorch's own function."""
    flags = (call.has_biases, 1, 0.0, call.train, call.bidirectional)

    def layer(input: Tensor, states: Tensors, params: Sequence[Tensor]) -> Tensors:
        hx = states if cell.states > 1 else states[0]
        if call.batch_sizes is None:
            return _FUNCTIONS[cell](input, hx, params, *flags, False)
        return _FUNCTIONS[cell](input, call.batch_sizes, hx, params, *flags)

    input = call.input.transpose(0, 1) if call.batch_first else call.input
    output, *last = _one_after_the_other(call, input, layer, drop)
    return output.transpose(0, 1) if call.batch_first else output, *last


def _table(cell: Cell) -> Function:
    def lowered(*args: Any, **kwargs: Any) -> Tensors:
        call = _call(*args, **kwargs)
        return _stacked(cell, call, partial(torch.dropout, p=call.dropout, train=True))

    return lowered


def _drawn(cell: Cell) -> Function:
    def drawn(draws: Draws, *args: Any, **kwargs: Any) -> Any:
        call = _call(*args, **kwargs)
        if not call.drops:
            return NotImplemented
        drop = partial(dropout.DRAWN[torch.dropout], draws, p=call.dropout, train=True)
        return (_stacked if vmap_levels() else _in_the_loop)(cell, call, drop)

    return drawn


def _cell(cell: Cell) -> Function:
    """The lowering of ``torch.lstm_cell`` or its kin: a layer of one step."""

    def lowered(
        input: Tensor,
        hx: Tensor | Sequence[Tensor],
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor | Tensors:
        states = [hx] if isinstance(hx, Tensor) else hx
        sizes = (input.shape[0],)
        weights = (w_ih, w_hh, b_ih, b_hh, None)
        _, *last = _LAYERS[cell](sizes, input[None], *(s[None] for s in states), *weights)
        last = tuple(s[0] for s in last)
        return last if cell.states > 1 else last[0]

    return lowered


def _rule(cell: Cell, count: int, sizes: Pair, input: Pair, *rest: Pair) -> Tensors:
    """The batching rule of a layer; see ``_layer`` for the arguments."""
    states, weights = rest[: cell.states], rest[cell.states :]
    if any(own for _, own in weights):
        return _layer(cell, count, sizes[0], input, states, weights)
    return _with_shared_weights(cell, count, sizes[0], input, states, [value for value, _ in weights])


def _layer(
    cell: Cell,
    count: int,
    sizes: tuple[int, ...],
    input: Pair,
    states: Sequence[Pair],
    weights: Sequence[Pair],
) -> Tensors:
    """One layer of all members, both its directions as rows of one recurrence.

    Args:
        cell: The kind of cell.
        count: Members.
        sizes: The batch size of each step.
        input: ``[(member,) time, batch, feature]``, and whether it has a member axis.
        states: ``[(member,) direction, batch, feature]``, likewise.
        weights: Of each direction W_ih, W_hh, b_ih, b_hh, W_hr, likewise.

    Returns:
        The outputs ``[member, time, batch, direction · feature]`` and the last states.
    """
    directions = len(weights) // _WEIGHTS
    inputs = input[0].permute(1, 0, 3, 2) if input[1] else input[0].permute(0, 2, 1)[:, None]
    if directions == 2:
        inputs = torch.cat([inputs, backwards(inputs, sizes)], 1)
    owned = [_own(pair, count) for pair in weights]
    of_input, *others = (_cat(owned[k::_WEIGHTS]) for k in range(_WEIGHTS))
    rows = [_own(pair, count).permute(1, 0, 3, 2).flatten(0, 1) for pair in states]
    parts = of_input.reshape(inputs.shape[1], -1, of_input.shape[-1])
    outputs, *last = recurrence(cell, sizes, inputs, parts, *others, *rows)
    forth, *back = outputs.unflatten(1, (directions, count)).unbind(1)
    outputs = torch.cat([forth, *(backwards(b, sizes) for b in back)], 2)
    return outputs.permute(1, 0, 3, 2), *(
        state.unflatten(0, (directions, count)).permute(1, 0, 3, 2) for state in last
    )


def _with_shared_weights(
    cell: Cell,
    count: int,
    sizes: tuple[int, ...],
    input: Pair,
    states: Sequence[Pair],
    weights: Sequence[Tensor | None],
) -> Tensors:
    """One layer whose weights all members share: the members are more of the batch."""
    folded = (_own(pair, count).permute(1, 2, 0, 3).flatten(1, 2) for pair in (input, *states))
    found = _alone(cell, tuple(size * count for size in sizes), *folded, *weights)
    return tuple(part.unflatten(1, (-1, count)).permute(2, 0, 1, 3) for part in found)


def _alone(cell: Cell, sizes: tuple[int, ...], input: Tensor, *rest: Any) -> Tensors:
    """One layer where nothing has a member axis."""
    states, weights = rest[: cell.states], rest[cell.states :]
    if sizes[-1] == input.shape[1]:
        params = [weight for weight in weights if weight is not None]
        # PyTorch needs to be told that this is training for a gradient, not only for dropout.
        flags = (weights[2] is not None, 1, 0.0, True, len(weights) > _WEIGHTS, False)
        return _FUNCTIONS[cell](input, states if cell.states > 1 else states[0], params, *flags)
    alone = [[(tensor, False) for tensor in part] for part in (states, weights)]
    return tuple(part[0] for part in _layer(cell, 1, sizes, (input, False), *alone))


def _own(pair: Pair, count: int) -> Any:
    """The value with a member axis, None as it is."""
    value, own = pair
    return value if own or value is None else value.expand(count, *value.shape)


def _cat(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else torch.cat(list(parts))


_LAYERS = {cell: batched(partial(_alone, cell), partial(_rule, cell)) for cell in _FUNCTIONS}

DRAWN: Mapping[Function, Function] = {function: _drawn(cell) for cell, function in _FUNCTIONS.items()}
TABLE: Mapping[Function, Function] = {
    **{function: _table(cell) for cell, function in _FUNCTIONS.items()},
    torch.lstm_cell: _cell(LSTM),
    torch.gru_cell: _cell(GRU),
    torch.rnn_tanh_cell: _cell(RNN_TANH),
    torch.rnn_relu_cell: _cell(RNN_RELU),
}


def keep_weights_apart(module: nn.Module) -> None:
    """On a GPU a layer would gather its weights in one piece of memory whenever they change; members' can't be."""
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters = lambda: None
