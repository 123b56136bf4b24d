"""Running statistics of normalisation layers, computed anew at points that no training has been to.

Between two trained points the interpolated statistics are of no batch. As ``torch.optim.swa_utils.update_bn`` does,
training batches are passed and the plain mean over them is taken; of members at once, and with nothing but these
layers in training mode: no dropout.
"""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from modelspace import data as datasets
from modelspace.engine import SCORED_AT_ONCE, Function, unbatched_outputs
from modelspace.errors import ModelspaceError
from modelspace.nest import Nest, called, in_order, mapped, on, samples, stacked, take
from modelspace.population import Population
from modelspace.space import ModelSpace, samples_as


def normalised(space: ModelSpace) -> bool:
    """Tell whether an architecture has layers with running statistics."""
    return any(_tracks(layer) for layer in space.template.modules())


def _tracks(layer: nn.Module) -> bool:
    return isinstance(layer, _NormBase) and layer.running_mean is not None


def recomputed(population: Population, data: Any, batch_size: int = SCORED_AT_ONCE) -> Population:
    """Return the same points, unmade, with running statistics of the training samples in their order.

    Args:
        population: Members of one space.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        batch_size: Samples in a batch; a last batch of one sample is left out.

    Raises:
        ModelspaceError: members have tasks, samples of their own, or the training samples are a stream.
    """
    data = datasets.load(data)
    if "task" in population.table and data.tasks:
        raise ModelspaceError(
            "running statistics are recomputed of all training samples, and members of several tasks have their own: "
            "give statistics='kept'"
        )
    inputs = on(population.device, samples_as(data.part("train").inputs, population.space.dtype))
    rows = pd.DataFrame({"row": np.arange(len(population))})
    pass_on = _Passing(population, inputs, batch_size)
    return Population.from_rows(population.space, rows, pass_on, population.device)._with(population.table)


class _Passing:
    """Makes members of a population with statistics of their own; the engine's function of a space is made once.

    Args:
        population: The members.
        inputs: The training samples.
        batch_size: How many are a batch.
    """

    def __init__(self, population: Population, inputs: Nest, batch_size: int):
        self._population, self._inputs = population, inputs
        count = samples(inputs)
        starts = range(0, count, batch_size)
        self._batches = [slice(b, b + batch_size) for b in starts if count - b > 1 or count == 1]
        self._functions: dict[ModelSpace, tuple[Function, bool]] = {}
        tracking = [name for name, layer in population.space.template.named_modules() if _tracks(layer)]
        kinds = ("running_mean", "running_var", "num_batches_tracked")
        self._own = [f"{name}.{buffer}".lstrip(".") for name in tracking for buffer in kinds]

    def __call__(self, rows: pd.DataFrame) -> tuple[Tensor, dict[str, Tensor]]:
        some = self._population[rows["row"].to_numpy()]
        return in_order([(where, self._made(part)) for where, part in some.parts()])

    def _made(self, some: Population) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the points of members of one program, and their buffers after all batches."""
        if some.space not in self._functions:
            function = Function(some.space, some.device)
            self._functions[some.space] = function, unbatched_outputs(function, some, self._inputs) is None
        points, given = some.points, some.buffers
        buffers = {
            n: (torch.ones_like(b) if n.endswith("_var") else torch.zeros_like(b)) if n in self._own else b
            for n, b in given.items()
        }
        with torch.no_grad():
            for count, batch in enumerate(self._batches, 1):
                inputs = take(self._inputs, batch)
                after = _passed(*self._functions[some.space], points, buffers, inputs, 1 / count)
                buffers |= {n: after[n] for n in self._own if n in after}
        return points, buffers


def _passed(
    function: Function,
    batched: bool,
    points: Tensor,
    buffers: dict[str, Tensor],
    inputs: Nest,
    momentum: float,
) -> dict[str, Tensor]:
    """Return the buffers after one batch."""
    work = partial(_gathering, momentum)

    def after(compute: Any, p: Any, b: dict[str, Tensor]) -> dict[str, Tensor]:
        return compute(p, b, inputs, training=False, work=work)[1]

    if batched:
        copies = {name: value.clone() for name, value in buffers.items()}
        return torch.vmap(partial(after, function))(function.space.layout.views(points), copies)
    made = []
    for k, point in enumerate(points):
        own = after(function.single, point, {name: value[k] for name, value in buffers.items()})
        made.append(mapped(Tensor.clone, own))
    return stacked(made)


def _gathering(momentum: float, module: nn.Module, inputs: Nest) -> tuple[()]:
    """Pass a batch with nothing but the layers with running statistics in training mode."""
    layers = [layer for layer in module.modules() if isinstance(layer, _NormBase) and _tracks(layer)]
    modes = [(layer.training, layer.momentum) for layer in layers]
    try:
        for layer in layers:
            layer.training, layer.momentum = True, momentum
        called(module, inputs)
    finally:
        for layer, (training, own) in zip(layers, modes, strict=True):
            layer.training, layer.momentum = training, own
    return ()
