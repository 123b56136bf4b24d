"""JAX: Equinox networks and Optax's Adam, ``vmap`` over the members, ``jit`` of the whole step.

The networks are those of ``benchmarks.plain``, their layers in the order of PyTorch's parameters. Each is called
on one sample and a state (BatchNorm's; empty elsewhere), inside a ``vmap`` over the batch.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from equinox import nn

from benchmarks.peers import OWN, Pace, read

_LR = 1e-3
_BATCH = "batch"  # the axis that BatchNorm averages over
_TRY_SECONDS = 0.2
_WORSE = 1.5
_relu, _ravel = nn.Lambda(jax.nn.relu), nn.Lambda(jnp.ravel)


class Network(eqx.Module):
    """Layers, and what is computed of them, a sample and a state: outputs and the state after it."""

    layers: list[Any]
    forward: Callable[..., tuple[jax.Array, nn.State]] = eqx.field(static=True)

    def __call__(self, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        return self.forward(self.layers, x, state)


def dummynet(key: jax.Array) -> nn.Sequential:
    a, b = jax.random.split(key)
    return nn.Sequential([nn.Conv2d(3, 9, 3, key=a), _relu, _ravel, nn.Linear(225, 10, key=b)])


def mlp(key: jax.Array) -> nn.Sequential:
    return nn.Sequential([nn.MLP(64, 10, width_size=64, depth=2, key=key)])


def cnn(key: jax.Array) -> nn.Sequential:
    keys = jax.random.split(key, 3)
    convolutions = [nn.Conv2d(1, 16, 3, key=keys[0]), _relu, nn.Conv2d(16, 32, 3, key=keys[1]), _relu]
    return nn.Sequential([*convolutions, _ravel, nn.Linear(512, 10, key=keys[2])])


def residual(key: jax.Array) -> Network:
    """A stem, one residual block with BatchNorm, global average pooling, a linear head."""
    keys = jax.random.split(key, 4)
    how = {"kernel_size": 3, "padding": 1, "use_bias": False}
    stem, *convolutions = (nn.Conv2d(i, 16, key=k, **how) for i, k in zip((1, 16, 16), keys[:3], strict=True))
    norms = [nn.BatchNorm(16, _BATCH, momentum=0.9, mode="batch") for _ in convolutions]

    def forward(layers: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        stem, branch, head = layers
        x = y = stem(x)
        for norm, convolution in branch:
            y, state = norm(y, state)
            y = convolution(jax.nn.relu(y))
        return head((x + y).mean((1, 2))), state

    branch = list(zip(norms, convolutions, strict=True))
    return Network([stem, branch, nn.Linear(16, 10, key=keys[3])], forward)


def encoder(key: jax.Array) -> Network:
    """One transformer encoder layer, mean over the rows, a linear head."""
    keys = jax.random.split(key, 3)

    def forward(layers: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        embed, layer, head = layers
        return head(_encoded(layer, jax.vmap(embed)(x)).mean(0)), state

    embed, head = nn.Linear(8, 32, key=keys[0]), nn.Linear(32, 10, key=keys[1])
    return Network([embed, _layer(keys[2]), head], forward)


def _layer(key: jax.Array) -> list[Any]:
    keys = jax.random.split(key, 3)
    biases = dict.fromkeys(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True)
    up, down = nn.Linear(32, 64, key=keys[0]), nn.Linear(64, 32, key=keys[1])
    attention = nn.MultiheadAttention(4, 32, **biases, key=keys[2])
    return [attention, up, down, nn.LayerNorm(32), nn.LayerNorm(32)]


def _encoded(layer: Any, x: jax.Array, padding: jax.Array | None = None) -> jax.Array:
    """What a transformer encoder layer gives for the rows of one sample; normalised after each part."""
    attention, up, down, first, second = layer
    mask = None if padding is None else jnp.broadcast_to(~padding, (len(x), len(x)))
    x = jax.vmap(first)(x + attention(x, x, x, mask=mask))
    return jax.vmap(lambda row: second(row + down(jax.nn.relu(up(row)))))(x)


def lstm(key: jax.Array) -> Network:
    """An LSTM 8→32, a linear head on its last output. One bias a gate, where PyTorch adds two."""
    first, second = jax.random.split(key)

    def forward(layers: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        cell, head = layers
        zeros = jnp.zeros(32)
        (last, _), _ = jax.lax.scan(lambda carry, row: (cell(row, carry), None), (zeros, zeros), x)
        return head(last), state

    return Network([nn.LSTMCell(8, 32, key=first), nn.Linear(32, 10, key=second)], forward)


def vae(key: jax.Array) -> Network:
    """An encoder, a decoder, and the key of the draws between them."""
    keys = jax.random.split(key, 3)
    ends = nn.MLP(64, 16, 64, 1, key=keys[0]), nn.MLP(8, 64, 64, 1, key=keys[1])
    draws = nn.StateIndex(jax.random.key_data(keys[2]))

    def forward(layers: Any, x: jax.Array, state: nn.State) -> Any:  # of a whole batch
        encoder, decoder, draws = layers
        key, own = jax.random.split(jax.random.wrap_key_data(state.get(draws)))
        mean, log_variance = jnp.split(jax.vmap(encoder)(x), 2, -1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(own, mean.shape)
        return (jax.vmap(decoder)(z), mean, log_variance), state.set(draws, jax.random.key_data(key))

    return Network([*ends, draws], forward)


def pinn(key: jax.Array) -> nn.Sequential:
    return nn.Sequential([nn.MLP(2, 1, 32, 2, activation=jnp.tanh, key=key)])


def masked(key: jax.Array) -> Network:
    """A transformer encoder layer over tokens, of which the padding is not attended to."""
    keys = jax.random.split(key, 3)

    def forward(layers: Any, x: Any, state: nn.State) -> tuple[jax.Array, nn.State]:
        place, embed, layer, head = layers
        return jax.vmap(head)(_encoded(layer, jax.vmap(embed)(x[0]) + place, x[1])), state

    embed, head = nn.Embedding(20, 32, key=keys[0]), nn.Linear(32, 20, key=keys[1])
    return Network([jnp.zeros((16, 32)), embed, _layer(keys[2]), head], forward)


def forecaster(key: jax.Array) -> Network:
    """A GRU 1→16, a linear head on its last state."""
    first, second = jax.random.split(key)

    def forward(layers: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        cell, head = layers
        last, _ = jax.lax.scan(lambda h, value: (cell(value[None], h), None), jnp.zeros(16), x)
        return head(last), state

    return Network([nn.GRUCell(1, 16, key=first), nn.Linear(16, 1, key=second)], forward)


def lora(key: jax.Array) -> Network:
    """A frozen 64-960-960-10, shared by all members, with a trained adapter of rank 4 beside each layer."""
    sizes = list(zip(pairwise((64, 960, 960, 10)), jax.random.split(key, 3), strict=True))
    down = [jax.random.uniform(k, (4, i), minval=-(i**-0.5), maxval=i**-0.5) for (i, _), k in sizes]

    def forward(layers: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
        for (weight, bias), (down, up) in zip(_BASE, layers, strict=True):
            x = jnp.asarray(weight) @ x + bias + up @ (down @ x)
            x = jax.nn.relu(x) if len(x) > 10 else x
        return x, state

    return Network([(d, jnp.zeros((o, 4))) for d, ((_, o), _) in zip(down, sizes, strict=True)], forward)


_DRAW = np.random.default_rng(0).uniform
# Weight and bias of each frozen layer of `lora`: constants of the program.
_BASE = [
    [_DRAW(-(i**-0.5), i**-0.5, shape).astype(np.float32) for shape in ((o, i), (o,))]
    for i, o in pairwise((64, 960, 960, 10))
]
NETWORKS = {made.__name__: made for made in (dummynet, mlp, cnn, residual, encoder, lstm, lora)}
NETWORKS |= {made.__name__: made for made in (vae, pinn, masked, forecaster)}


def _outputs(network: Any, x: Any, state: nn.State) -> tuple[jax.Array, nn.State]:
    """What a network gives for a batch, and BatchNorm's state after it."""
    return jax.vmap(network, axis_name=_BATCH, in_axes=(0, None), out_axes=(0, None))(x, state)


def cross_entropy(network: Any, state: nn.State, x: jax.Array, y: jax.Array) -> tuple[jax.Array, nn.State]:
    outputs, state = _outputs(network, x, state)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), state


def known(network: Any, state: nn.State, tokens: Any, padding: Any, y: Any) -> tuple[jax.Array, nn.State]:
    """The same of the labels that are not −100."""
    outputs, state = _outputs(network, (tokens, padding), state)
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(y, 0))
    return (losses * (y >= 0)).sum() / (y >= 0).sum(), state


def squared(network: Any, state: nn.State, x: jax.Array, y: jax.Array) -> tuple[jax.Array, nn.State]:
    outputs, state = _outputs(network, x, state)
    return ((outputs - y) ** 2).mean(), state


def elbo(network: Any, state: nn.State, x: jax.Array, _: Any) -> tuple[jax.Array, nn.State]:
    (outputs, mean, log_variance), state = network(x, state)
    kl = (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(-1) / 2
    return (((outputs - x) ** 2).sum(-1) + kl).mean(), state


def burgers(network: Any, state: nn.State, x: jax.Array, y: jax.Array) -> tuple[jax.Array, nn.State]:
    def u(point: jax.Array) -> jax.Array:
        return network(point)[0]

    def residual(point: jax.Array) -> jax.Array:
        slope, second = jax.jvp(jax.grad(u), (point,), (jnp.array([0.0, 1.0]),))
        return slope[0] + u(point) * slope[1] - second[1] / 100

    start = jax.vmap(u)(x.at[:, 0].set(0)) - y[:, 0]
    return (jax.vmap(residual)(x) ** 2).mean() + (start**2).mean(), state


OBJECTIVES = {"vae": elbo, "pinn": burgers, "masked": known, "forecaster": squared}


class Ensemble:
    """K members in training, with float32 Adam."""

    def __init__(self, network: str, members: int):
        keys = jax.random.split(jax.random.key(0), members)
        made, state = eqx.filter_vmap(nn.make_with_state(NETWORKS[network]))(keys)
        points, static = eqx.partition(made, eqx.is_inexact_array)
        optimizer = optax.adam(_LR)

        objective = OBJECTIVES.get(network, cross_entropy)

        def loss(point: Any, state: nn.State, batch: Any) -> tuple[jax.Array, nn.State]:
            return objective(eqx.combine(point, static), state, *batch)

        def one(point: Any, state: nn.State, moments: Any, batch: Any) -> Any:
            gradient, state = jax.grad(loss, has_aux=True)(point, state, batch)
            updates, moments = optimizer.update(gradient, moments)
            return optax.apply_updates(point, updates), state, moments

        def every(*arguments: Any) -> Any:
            own = 0 if network in OWN else None
            return eqx.filter_vmap(one, in_axes=(0, 0, 0, own))(*arguments)

        self._step = jax.jit(every, donate_argnums=(0, 1, 2))
        self._state = points, state, eqx.filter_vmap(optimizer.init)(points)

    def step(self, batch: tuple[jax.Array, ...]) -> None:
        """Begin one update of every member, on one batch, or on each one's own."""
        self._state = self._step(*self._state, batch)

    def wait(self) -> None:
        """Until the updates are made."""
        jax.block_until_ready(self._state)


def ensemble(
    network: str, batches: str, sizes: Sequence[int], device: str = "cpu"
) -> tuple[dict[str, Any], Callable[[float], float]]:
    """The step at the K where it is fastest, of a few, tried in their order until one is much slower than the best.

    ``JAX_PLATFORMS`` has to name the device's kind.
    """
    jax.config.update("jax_default_device", jax.devices()[int(device.partition(":")[2] or 0)])
    tried: dict[int, float] = {}
    facts, best = {}, None
    for members in sizes:
        made = Ensemble(network, members)
        samples = [tuple(map(jnp.asarray, batch)) for batch in read(batches, members * (network in OWN))]
        pace = Pace(made.step, samples, made.wait, members)
        tried[members] = pace.turn(_TRY_SECONDS)
        if tried[members] == min(tried.values()):
            facts, best = {"members": members, "compile_seconds": pace.first_ms / 1e3}, pace
        elif tried[members] > _WORSE * min(tried.values()):
            break
    assert best is not None
    return facts | {"tried": tried}, best.turn
