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

from modelspace.engine.lowerings import noise
from modelspace.engine.lowerings.batched import Function, Pair, Table, batched, own, vmap_levels
from modelspace.engine.lowerings.packed import backwards, packed, padded, sizes_of
from modelspace.engine.lowerings.recurrence import GRU, LSTM, RNN_RELU, RNN_TANH, Cell, Tensors, recurrence
from modelspace.engine.randomness import Draws

Sizes = tuple[int, ...]  # of the batch, at each step

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
        """Tell whether there is dropout between layers."""
        return self.train and self.dropout > 0 and self.num_layers > 1

    @property
    def states(self) -> Tensors:
        """Return the first states."""
        return (self.hx,) if isinstance(self.hx, Tensor) else tuple(self.hx)


def _call(input: Tensor, *args: Any, **kwargs: Any) -> _Call:
    """Read a call of either form: (input, hx, params, has_biases, …) or (data, batch_sizes, hx, params, …)."""
    of_packed = "batch_sizes" in kwargs or (len(args) > 2 and not isinstance(args[2], bool))
    return _Call(input, *args, **kwargs) if of_packed else _Call(input, None, *args, **kwargs)


def _one_after_the_other(
    call: _Call, input: Tensor, layer: Callable[..., Tensors], drop: Callable[[Tensor], Tensor]
) -> Tensors:
    """Compute all layers of a call: the output, and the last states of all layers."""
    directions, each = 1 + call.bidirectional, len(call.params) // call.num_layers
    last = []
    for k in range(call.num_layers):
        if k and call.drops:
            input = drop(input)
        states = tuple(s[k * directions : (k + 1) * directions] for s in call.states)
        input, *state = layer(input, states, call.params[k * each : (k + 1) * each])
        last.append(state)
    return input, *(torch.cat(states) for states in zip(*last, strict=True))


def layers(cell: Cell, *args: Any, **kwargs: Any) -> Tensors:
    """``torch.lstm`` or its kin under ``vmap``; dropout is left to PyTorch's generator."""
    call = _call(*args, **kwargs)
    return _stacked(cell, call, partial(torch.dropout, p=call.dropout, train=True))


def dropped_layers(cell: Cell, draws: Draws, *args: Any, **kwargs: Any) -> Any:
    """``torch.lstm`` or its kin with dropout between layers whose masks are the member's own."""
    call = _call(*args, **kwargs)
    if not call.drops:
        return NotImplemented
    drop = partial(noise.DRAWN[torch.dropout], draws, p=call.dropout, train=True)
    return (_stacked if vmap_levels() else _in_the_loop)(cell, call, drop)


def one_step(
    cell: Cell, input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Tensor | Tensors:
    """``torch.lstm_cell`` or its kin: a layer of one step."""
    states = [hx] if isinstance(hx, Tensor) else hx
    sizes, weights = (input.shape[0],), (w_ih, w_hh, b_ih, b_hh, None)
    _, *last = batched(_alone, _rule, cell, sizes, input[None], *(s[None] for s in states), *weights)
    last = tuple(s[0] for s in last)
    return last if cell.states > 1 else last[0]


def _stacked(cell: Cell, call: _Call, drop: Callable[[Tensor], Tensor]) -> Tensors:
    """Carry out a call under ``vmap``, packed data padded for all layers together; ``drop`` is a layer's dropout."""
    batch_sizes = call.batch_sizes
    if batch_sizes is None:
        input = call.input.transpose(0, 1) if call.batch_first else call.input
        sizes = (input.shape[1],) * input.shape[0]
    else:
        input, sizes = padded(call.input, batch_sizes), sizes_of(batch_sizes)

    def dropped(x: Tensor) -> Tensor:
        if batch_sizes is None:
            return drop(x)
        return x * padded(drop(x.new_ones(call.input.shape[0], x.shape[-1])), batch_sizes)

    def layer(input: Tensor, states: Tensors, params: Sequence[Tensor]) -> Tensors:
        each = len(params) // (1 + call.bidirectional)
        weights: list[Tensor | None] = []
        for start in range(0, len(params), each):
            w_ih, w_hh, *rest = params[start : start + each]
            biases = rest[:2] if call.has_biases else [None, None]
            projection = rest[2 * call.has_biases :] or [None]
            weights += [w_ih, w_hh, *biases, *projection]
        return batched(_alone, _rule, cell, sizes, input, *states, *weights)

    output, *last = _one_after_the_other(call, input, layer, dropped)
    if batch_sizes is not None:
        return packed(output, batch_sizes), *last
    return output.transpose(0, 1) if call.batch_first else output, *last


def _in_the_loop(cell: Cell, call: _Call, drop: Callable[[Tensor], Tensor]) -> Tensors:
    """Carry out a call with dropout for one member, its layers by PyTorch's own function."""
    flags = (call.has_biases, 1, 0.0, call.train, call.bidirectional)

    def layer(input: Tensor, states: Tensors, params: Sequence[Tensor]) -> Tensors:
        hx = states if cell.states > 1 else states[0]
        if call.batch_sizes is None:
            return _FUNCTIONS[cell](input, hx, params, *flags, False)
        return _FUNCTIONS[cell](input, call.batch_sizes, hx, params, *flags)

    input = call.input.transpose(0, 1) if call.batch_first else call.input
    output, *last = _one_after_the_other(call, input, layer, drop)
    return output.transpose(0, 1) if call.batch_first else output, *last


def _rule(count: int, cell: Pair, sizes: Pair, input: Pair, *rest: Pair) -> Tensors:
    """The batching rule of a layer; see ``_layer`` for the arguments."""
    states, weights = rest[: cell[0].states], rest[cell[0].states :]
    if any(stacked for _, stacked in weights):
        return _layer(cell[0], count, sizes[0], input, states, weights)
    # Weights that all members share: the members are more of the batch.
    folded = (own(pair, count).permute(1, 2, 0, 3).flatten(1, 2) for pair in (input, *states))
    larger = tuple(size * count for size in sizes[0])
    results = _alone(cell[0], larger, *folded, *(value for value, _ in weights))
    return tuple(part.unflatten(1, (-1, count)).permute(2, 0, 1, 3) for part in results)


def _layer(
    cell: Cell, count: int, sizes: Sizes, input: Pair, states: Sequence[Pair], weights: Sequence[Pair]
) -> Tensors:
    """Compute one layer of all members, both its directions as rows of one recurrence.

    The input is ``[(member,) time, batch, feature]``, a state ``[(member,) direction, batch, feature]``, and each
    direction's weights are W_ih, W_hh, b_ih, b_hh, W_hr, likewise; ``sizes`` are the batch sizes of the steps.
    Returned are the outputs, ``[member, time, batch, direction · feature]``, and the last states.
    """
    directions = len(weights) // _WEIGHTS
    inputs = input[0].permute(1, 0, 3, 2) if input[1] else input[0].permute(0, 2, 1)[:, None]
    if directions == 2:
        inputs = torch.cat([inputs, backwards(inputs, sizes)], 1)
    owned = [own(pair, count) for pair in weights]
    of_input, *others = (_cat(owned[k::_WEIGHTS]) for k in range(_WEIGHTS))
    rows = [own(pair, count).permute(1, 0, 3, 2).flatten(0, 1) for pair in states]
    parts = of_input.reshape(inputs.shape[1], -1, of_input.shape[-1])
    outputs, *last = recurrence(cell, sizes, inputs, parts, *others, *rows)
    forth, *back = outputs.unflatten(1, (directions, count)).unbind(1)
    outputs = torch.cat([forth, *(backwards(b, sizes) for b in back)], 2)
    return outputs.permute(1, 0, 3, 2), *(
        state.unflatten(0, (directions, count)).permute(1, 0, 3, 2) for state in last
    )


def _alone(cell: Cell, sizes: Sizes, input: Tensor, *rest: Any) -> Tensors:
    """Compute one layer where nothing has a member axis."""
    states, weights = rest[: cell.states], rest[cell.states :]
    if sizes[-1] == input.shape[1]:
        params = [weight for weight in weights if weight is not None]
        # PyTorch needs to be told that this is training for a gradient, not only for dropout.
        flags = (weights[2] is not None, 1, 0.0, True, len(weights) > _WEIGHTS, False)
        return _FUNCTIONS[cell](input, states if cell.states > 1 else states[0], params, *flags)
    alone = [[(tensor, False) for tensor in part] for part in (states, weights)]
    return tuple(part[0] for part in _layer(cell, 1, sizes, (input, False), *alone))


def _cat(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else torch.cat(list(parts))


TABLE: Table = {
    **{function: partial(layers, cell) for cell, function in _FUNCTIONS.items()},
    torch.lstm_cell: partial(one_step, LSTM),
    torch.gru_cell: partial(one_step, GRU),
    torch.rnn_tanh_cell: partial(one_step, RNN_TANH),
    torch.rnn_relu_cell: partial(one_step, RNN_RELU),
}
DRAWN: Table = {function: partial(dropped_layers, cell) for cell, function in _FUNCTIONS.items()}


def keep_weights_apart(module: nn.Module) -> None:
    """Keep layers from gathering their weights in one piece of memory, as on a GPU: members' can't be."""
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters = lambda: None
