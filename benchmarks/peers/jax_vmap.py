"""JAX: Equinox networks and Optax's Adam, ``vmap`` over the members, ``jit`` of the whole step.

The networks are those of ``benchmarks.networks``, their fields in the order of PyTorch's parameters. Each is called
on one sample and a state (BatchNorm's; empty elsewhere), inside a ``vmap`` over the batch.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from equinox import nn

from benchmarks.peers.pace import Pace
from benchmarks.peers.samples import read

_LR = 1e-3
_BATCH = "batch"  # the axis that BatchNorm averages over
_TRY_SECONDS = 0.2
_WORSE = 1.5

Called = tuple[jax.Array, nn.State]


class DummyNet(eqx.Module):
    """A convolution, a ReLU, a linear head."""

    conv: nn.Conv2d
    head: nn.Linear

    def __init__(self, key: jax.Array):
        first, second = jax.random.split(key)
        self.conv = nn.Conv2d(3, 9, 3, key=first)
        self.head = nn.Linear(225, 10, key=second)

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample."""
        return self.head(jax.nn.relu(self.conv(x)).reshape(-1)), state


class MLP(eqx.Module):
    """64-64-64-10."""

    layers: list[nn.Linear]

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 3)
        sizes = pairwise((64, 64, 64, 10))
        self.layers = [nn.Linear(i, o, key=k) for (i, o), k in zip(sizes, keys, strict=True)]

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample."""
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x), state


class CNN(eqx.Module):
    """Two convolutions, 16 and 32 filters of 3×3, a linear head."""

    first: nn.Conv2d
    second: nn.Conv2d
    head: nn.Linear

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.first = nn.Conv2d(1, 16, 3, key=keys[0])
        self.second = nn.Conv2d(16, 32, 3, key=keys[1])
        self.head = nn.Linear(512, 10, key=keys[2])

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample."""
        x = jax.nn.relu(self.second(jax.nn.relu(self.first(x))))
        return self.head(x.reshape(-1)), state


class Residual(eqx.Module):
    """A stem, one residual block with BatchNorm, global average pooling, a linear head."""

    stem: nn.Conv2d
    branch: list[tuple[nn.BatchNorm, nn.Conv2d]]
    head: nn.Linear

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 4)
        self.stem = nn.Conv2d(1, 16, 3, padding=1, use_bias=False, key=keys[0])
        self.branch = [
            (
                nn.BatchNorm(16, _BATCH, momentum=0.9, mode="batch"),
                nn.Conv2d(16, 16, 3, padding=1, use_bias=False, key=k),
            )
            for k in keys[1:3]
        ]
        self.head = nn.Linear(16, 10, key=keys[3])

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample."""
        x = branch = self.stem(x)
        for norm, conv in self.branch:
            branch, state = norm(branch, state)
            branch = conv(jax.nn.relu(branch))
        return self.head((x + branch).mean((1, 2))), state


class Encoder(eqx.Module):
    """One transformer encoder layer (normalised after each part), mean over the rows, a linear head."""

    embed: nn.Linear
    attention: nn.MultiheadAttention
    feedforward: tuple[nn.Linear, nn.Linear]
    norms: tuple[nn.LayerNorm, nn.LayerNorm]
    head: nn.Linear

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 5)
        biases = dict.fromkeys(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True)
        self.embed = nn.Linear(8, 32, key=keys[0])
        self.attention = nn.MultiheadAttention(4, 32, **biases, key=keys[1])
        self.feedforward = nn.Linear(32, 64, key=keys[2]), nn.Linear(64, 32, key=keys[3])
        self.norms = nn.LayerNorm(32), nn.LayerNorm(32)
        self.head = nn.Linear(32, 10, key=keys[4])

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample, ``[rows, pixels]``."""
        up, down = self.feedforward
        x = jax.vmap(self.embed)(x)
        x = jax.vmap(self.norms[0])(x + self.attention(x, x, x))
        x = jax.vmap(lambda row: self.norms[1](row + down(jax.nn.relu(up(row)))))(x)
        return self.head(x.mean(0)), state


class Recurrent(eqx.Module):
    """An LSTM 8→32, a linear head on its last output. One bias a gate, where PyTorch adds two."""

    cell: nn.LSTMCell
    head: nn.Linear

    def __init__(self, key: jax.Array):
        first, second = jax.random.split(key)
        self.cell = nn.LSTMCell(8, 32, key=first)
        self.head = nn.Linear(32, 10, key=second)

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample, ``[rows, pixels]``."""
        zeros = jnp.zeros(32)
        (last, _), _ = jax.lax.scan(lambda carry, row: (self.cell(row, carry), None), (zeros, zeros), x)
        return self.head(last), state


class Adapted(eqx.Module):
    """A frozen 64-960-960-10, shared by all members, with a trained adapter of rank 4 beside each layer."""

    down: list[jax.Array]
    up: list[jax.Array]

    def __init__(self, key: jax.Array):
        sizes = list(pairwise((64, 960, 960, 10)))
        keys = jax.random.split(key, 3)
        self.down = [
            jax.random.uniform(k, (4, i), minval=-(i**-0.5), maxval=i**-0.5)
            for (i, _), k in zip(sizes, keys, strict=True)
        ]
        self.up = [jnp.zeros((o, 4)) for _, o in sizes]

    def __call__(self, x: jax.Array, state: nn.State) -> Called:
        """Of one sample."""
        for (weight, bias), down, up in zip(base(), self.down, self.up, strict=True):
            x = jnp.asarray(weight) @ x + bias + up @ (down @ x)
            x = jax.nn.relu(x) if len(x) > 10 else x
        return x, state


@cache
def base() -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each frozen layer of ``Adapted``: constants of the program."""
    random = np.random.default_rng(0)
    return [
        (
            random.uniform(-(i**-0.5), i**-0.5, (o, i)).astype(np.float32),
            random.uniform(-(i**-0.5), i**-0.5, o).astype(np.float32),
        )
        for i, o in pairwise((64, 960, 960, 10))
    ]


NETWORKS: dict[str, Callable[[jax.Array], Any]] = {
    "dummynet": DummyNet,
    "mlp": MLP,
    "cnn": CNN,
    "residual": Residual,
    "encoder": Encoder,
    "lstm": Recurrent,
    "lora": Adapted,
}


class Peer:
    """The step at the K, of a few, where it is fastest.

    Args:
        network: Its name.
        batches: The file of the batches.
        sizes: The K to try, in this order, until one is much slower than the best so far.
        device: Where; ``JAX_PLATFORMS`` has to name its kind.
    """

    def __init__(self, network: str, batches: str, sizes: Sequence[int], device: str = "cpu"):
        jax.config.update("jax_default_device", jax.devices()[int(device.partition(":")[2] or 0)])
        samples = [(jnp.asarray(x), jnp.asarray(y)) for x, y in read(batches)]
        tried: dict[int, float] = {}
        for members in sizes:
            ensemble = Ensemble(network, members)
            pace = Pace(ensemble.step, samples, ensemble.wait)
            tried[members] = pace.turn(_TRY_SECONDS) / members
            least = min(tried.values())
            if tried[members] == least:
                self._pace = pace
                self.facts = {"members": members, "compile_seconds": pace.first_ms / 1e3}
            if tried[members] > _WORSE * least:
                break
        self.facts["tried"] = tried

    def milliseconds(self, seconds: float) -> float:
        """A step and member, over about so many seconds."""
        return self._pace.turn(seconds) / self.facts["members"]


class Ensemble:
    """K members in training, with float32 Adam."""

    def __init__(self, network: str, members: int):
        keys = jax.random.split(jax.random.key(0), members)
        made, state = eqx.filter_vmap(nn.make_with_state(NETWORKS[network]))(keys)
        points, static = eqx.partition(made, eqx.is_inexact_array)
        optimizer = optax.adam(_LR)

        def one(point: Any, state: nn.State, moments: Any, x: jax.Array, y: jax.Array) -> Any:
            gradient, state = jax.grad(loss, has_aux=True)(point, static, state, x, y)
            updates, moments = optimizer.update(gradient, moments)
            return optax.apply_updates(point, updates), state, moments

        def every(*arguments: Any) -> Any:
            return eqx.filter_vmap(one, in_axes=(0, 0, 0, None, None))(*arguments)

        self._step = jax.jit(every, donate_argnums=(0, 1, 2))
        self._state = points, state, eqx.filter_vmap(optimizer.init)(points)

    def step(self, batch: tuple[jax.Array, jax.Array]) -> None:
        """Begin one update of every member."""
        self._state = self._step(*self._state, *batch)

    def wait(self) -> None:
        """Until the updates are made."""
        jax.block_until_ready(self._state)


def loss(point: Any, static: Any, state: nn.State, x: jax.Array, y: jax.Array) -> tuple[jax.Array, nn.State]:
    """The mean cross-entropy of one member on a batch, and BatchNorm's state after it."""
    network = jax.vmap(eqx.combine(point, static), axis_name=_BATCH, in_axes=(0, None), out_axes=(0, None))
    outputs, state = network(x, state)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), state


def loss_and_gradient(
    network: str, parameters: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Of one member at a given point.

    Args:
        network: Its name.
        parameters: In the order of its fields; a bias of whatever shape has as many numbers.
        x: The samples.
        y: Their labels.
    """
    made, state = nn.make_with_state(NETWORKS[network])(jax.random.key(0))
    point, static = eqx.partition(made, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(point)
    given = [jnp.asarray(p).reshape(leaf.shape) for p, leaf in zip(parameters, leaves, strict=True)]
    samples = jnp.asarray(x), jnp.asarray(y)
    found = jax.jit(jax.value_and_grad(lambda p: loss(p, static, state, *samples)[0]))(
        jax.tree.unflatten(tree, given)
    )
    return float(found[0]), [np.asarray(g) for g in jax.tree.leaves(found[1])]
