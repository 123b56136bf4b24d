"""What travels between the driver and the workers: one job for all tasks, and the members of one shard."""

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save
from torch import Tensor

from modelspace.data import Data
from modelspace.engine import known_gains
from modelspace.errors import ModelspaceError
from modelspace.fit import Job, Recipe
from modelspace.population import Population
from modelspace.runs import Needs
from modelspace.space import ModelSpace


@dataclass(frozen=True)
class Common:
    """What all shards of a fit share.

    Attributes:
        architecture: The space's class, factory or module.
        options: What the space is built with beside it.
        data: The data.
        recipe: The settings.
        members: How many the fit has.
        updates: The most that any of them makes.
        device: The kind of device that trains: ``"cpu"``, ``"cuda"``.
        trials: Which ways of computing were measured to be faster on the driver: they decide the last bits.
        needs: What is to come back of a finished shard.
        torch: The driver's version of it, which decides the last bits too.
    """

    architecture: Any
    options: dict[str, Any]
    data: Data
    recipe: Recipe
    members: int
    updates: int
    device: str
    trials: dict[str, float]
    needs: Needs
    torch: str

    def space(self) -> ModelSpace:
        """The space, built anew."""
        return ModelSpace(self.architecture, **self.options)


@dataclass(frozen=True)
class Piece:
    """The members of one shard.

    Attributes:
        table: Their rows.
        seeds: What their random numbers are a function of.
        begun: The tensors of their last checkpoint, as bytes; None where they start.
        points: Their points and buffers, as bytes; None where the rows' seeds draw them.
    """

    table: pd.DataFrame
    seeds: list[int]
    begun: bytes | None
    points: bytes | None

    def population(self, space: ModelSpace, device: torch.device) -> Population:
        """The members."""
        if self.points is None:
            return Population.from_seeds(space, self.table, device)
        values = unpacked(self.points)
        points = values.pop("points")
        return Population(space, points, values, self.table).to(device)


def common_of(job: Job, needs: Needs) -> Common:
    """What all shards of a job share."""
    task = job.task
    space = task.population.space
    return Common(
        space.architecture,
        {
            "input_shape": space.input_shape,
            "dtype": space.dtype,
            "input_dtype": space.input_dtype,
            **space.hyperparameters,
        },
        task.data,
        task.recipe,
        task.total,
        task.updates,
        task.device.type,
        known_gains(),
        needs,
        torch.__version__,
    )


def piece_of(job: Job, rows: Sequence[int], begun: Mapping[str, Tensor] | None) -> Piece:
    """The members of one shard, with their points where their seeds do not say them."""
    population, rows = job.task.population, job.task.local(rows)
    points = None
    if begun is None and not population.is_drawn:
        some = population[rows]
        points = packed({"points": some.points, **some.buffers})
    return Piece(
        population.table.iloc[list(rows)].reset_index(drop=True),
        job.task.seeds[list(rows)].tolist(),
        None if begun is None else packed(begun),
        points,
    )


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as bytes, in the format of safetensors."""
    return save({name: value.cpu().contiguous() for name, value in tensors.items()})


def unpacked(parcel: bytes) -> dict[str, Tensor]:
    """The tensors that were packed."""
    return load(parcel)


def pickled(common: Common, cloudpickle: ModuleType) -> bytes:
    """The common part as bytes that any worker can read: code of the user's own files is written out in them.

    Args:
        common: What all shards share.
        cloudpickle: Ray's.

    Raises:
        ModelspaceError: something in it can't be sent; the message says what.
    """
    functions = (*common.recipe.loss.code, *(metric.function for metric in common.recipe.measured))
    modules = _own_modules((common.architecture, *functions))
    known = cloudpickle.list_registry_pickle_by_value()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(common)
    except Exception as error:
        raise ModelspaceError(
            f"this fit can't be sent to other processes: {type(error).__name__}: {error}. Architecture, loss, "
            "metrics and data must be picklable: no open files, locks or generators in them"
        ) from error
    finally:
        for module in modules:
            if module.__name__ not in known:
                cloudpickle.unregister_pickle_by_value(module)


def _own_modules(sources: Sequence[Callable[..., Any]]) -> list[ModuleType]:
    """The modules of these that are no installed package's, and those that lie beside them."""
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")]
    modules = [sys.modules.get(getattr(source, "__module__", None) or "") for source in sources]
    folders = {folder for module in modules if (folder := _folder(module)) is not None}
    own = {f for f in folders if not any(Path(f).resolve().is_relative_to(place) for place in installed)}
    # A copy: looking at a module may import another.
    return [module for module in list(sys.modules.values()) if _folder(module) in own]


def _folder(module: ModuleType | None) -> str | None:
    """Where a module lies; None for what is sent in any case (the program itself), or never (this library)."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "")
    if not isinstance(file, str) or name == "__main__" or name.partition(".")[0] == "modelspace":
        return None
    return os.path.dirname(os.path.abspath(file))
