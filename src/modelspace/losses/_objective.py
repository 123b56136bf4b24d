"""An objective that is the user's own function of (model, batch), where no loss of outputs and labels says it."""

import inspect
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.hyperparameters import Hyperparameters, numbers_of
from modelspace.losses._base import Labels, Loss, Reals
from modelspace.losses._probe import parts_of
from modelspace.nest import Nest, called, mapped

Result = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Objective(Loss):
    """What is minimised as a function f(model, batch) ↦ a scalar, or a dict with ``loss`` and further scalars.

    ``model`` is the member itself, a module of the user's own class with this member's parameters and buffers: any
    method, submodule or attribute of it may be used. Random numbers that the function draws with PyTorch are the
    member's own, a function of its seed and the step. Numbers among its keyword arguments with defaults are
    hyper-parameters: columns of the population.

    Attributes:
        function: f.
        form: What a batch is made of: ``pair``, (inputs, labels); ``flat``, (input, …, label); ``inputs`` alone; or
            a dict, whose labels have the name after ``dict:``.
        named: The further scalars' names, once one batch was seen.
        values: Values of the hyper-parameters, where they are others than the defaults.
    """

    function: Callable[..., Any]
    form: str = "pair"
    named: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the function is called; ``model`` is what the model says itself."""
        if self.function is of_the_model:
            return "model"
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objective) and self._known == other._known

    def __hash__(self) -> int:
        return hash(self._known)

    @property
    def _known(self) -> tuple[Any, ...]:
        """What tells two objectives apart: a program compiled for one computes the other.

        What the function reads beside its arguments is a constant of such a program: numbers, and the values of
        tensors as far as they were written into.
        """
        held = [(name, id(tensor), tensor._version) for name, tensor in self.tensors().items()]
        function = self.function if isinstance(self.function, Hashable) else id(self.function)
        read = [(n, v) for n, v in parts_of(self.function).items() if isinstance(v, int | float | str)]
        return function, self.form, self.named, *sorted(self.values.items()), *held, *read

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value:g}" for name, value in self.values.items())
        return f"{self.name}({given})" if given else self.name

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """The function; of what a model says itself, its own code is known from the space."""
        return () if self.function is of_the_model else (self.function,)

    def hyperparameters(self) -> Hyperparameters:
        """Give every keyword argument whose default is a number."""
        return numbers_of(self.function, after=2)

    def at(self, values: Mapping[str, Any]) -> "Objective":
        """Return the objective with other values of its hyper-parameters."""
        return replace(self, values={**self.values, **values}) if values else self

    def batch(self, inputs: Nest, labels: Nest) -> Nest:
        """Make a batch as its source gave it of inputs and labels."""
        if self.form == "inputs":
            return inputs
        if self.form == "flat":
            return (*inputs, labels)
        return (inputs, labels) if self.form == "pair" else {**inputs, self.form.partition(":")[2]: labels}

    def made(self, model: Callable[..., Any], inputs: Nest, labels: Nest) -> Result:
        """Compute f(model, batch), as a dict with ``loss`` and the further scalars.

        Raises:
            ModelspaceError: it gave no scalar loss.
        """
        batch = mapped(
            Tensor.clone, self.batch(inputs, labels)
        )  # a function may write into what belongs to the data
        return self._scalars(self.function(model, batch, **self.values))

    def __call__(self, outputs: Any, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Return the ``loss`` of what was ``made``."""
        return outputs["loss"]

    def also(self, outputs: Any) -> dict[str, Tensor]:
        """Return the further scalars of what was ``made``."""
        return {name: value.detach() for name, value in outputs.items() if name != "loss"}

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell that nothing is known of it."""
        return False

    def _scalars(self, result: Any) -> Result:
        what = f"objective '{self.name}'"
        if isinstance(result, Tensor):
            result = {"loss": result}
        elif not isinstance(result, Mapping):
            loss = getattr(result, "loss", None)
            if not isinstance(loss, Tensor):
                raise ModelspaceError(
                    f"{what} returned a {type(result).__name__}: it must return a scalar tensor, or a dict of "
                    "scalars one of which is 'loss'"
                )
            result = {"loss": loss}
        loss = result.get("loss")
        if not isinstance(loss, Tensor):
            names = ", ".join(map(str, result)) or "nothing"
            raise ModelspaceError(
                f"{what} returned a dict of {names}: one of them must be 'loss', a scalar tensor"
            )
        if loss.ndim:
            raise ModelspaceError(
                f"{what} returned a loss of shape {list(loss.shape)}: it must be a scalar, such as its mean over the "
                "batch (.mean())"
            )
        if not loss.is_floating_point():
            raise ModelspaceError(f"{what} returned a loss of {loss.dtype}: it must be a real number")
        scalars = {"loss": loss}
        for name, value in result.items():
            number = torch.as_tensor(value, device=loss.device) if isinstance(value, int | float) else value
            if isinstance(number, Tensor) and not number.ndim and not number.is_complex():
                scalars[str(name)] = number
            elif type(result) is dict and self.function is not of_the_model:
                kind = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ModelspaceError(
                    f"{what}: '{name}' is {kind}: what is named beside 'loss' must be one real number"
                )
        return scalars


@dataclass(frozen=True, eq=False)
class Objectives(Objective):
    """Several objectives, each member its own: a column ``objective`` holds its name.

    Each is a program of its own; computed is one of them, taken by its name.

    Attributes:
        among: They, by name.
    """

    among: Mapping[str, Objective] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The names of all: ``elbo|iwae``."""
        return "|".join(self.among)

    def __str__(self) -> str:
        return "|".join(self.among)

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """That of all."""
        return tuple(part for each in self.among.values() for part in each.code)

    def hyperparameters(self) -> Hyperparameters:
        """Give every number of any of them."""
        return {name: value for each in self.among.values() for name, value in each.hyperparameters().items()}

    def at(self, values: Mapping[str, Any]) -> "Objective":
        """Return them with other values of their numbers, each for those that have it."""
        own = {
            name: each.at({n: v for n, v in values.items() if n in each.hyperparameters()})
            for name, each in self.among.items()
        }
        return replace(self, among=own)

    def of(self, name: str) -> Objective:
        """Return one of them, for the same batches.

        Raises:
            ModelspaceError: none has this name.
        """
        if name not in self.among:
            raise unknown_name("objective", name, self.among)
        return replace(self.among[name], form=self.form)


def of_the_model(model: Any, batch: Any) -> Any:
    """Return what a model says of its own loss: Lightning's ``training_step``, or the ``loss`` of its output.

    What ``training_step`` logs (``self.log``, ``self.log_dict``) is taken along.

    Raises:
        ModelspaceError: it optimizes by hand, reads what only a Trainer has, or returned nothing.
    """
    if not callable(getattr(model, "training_step", None)):
        return called(model, batch)
    if getattr(model, "automatic_optimization", True) is False:
        raise ModelspaceError(
            f"{type(model).__name__} optimizes by hand (automatic_optimization = False), and the optimizer here is "
            "fit's: give objective=f, its loss as a function of (model, batch)"
        )
    with _logged(model) as values:
        parameters = inspect.signature(model.training_step).parameters
        result = model.training_step(batch, 0) if len(parameters) > 1 else model.training_step(batch)
    if result is None:
        raise ModelspaceError(f"{type(model).__name__}.training_step returned None: it must return the loss")
    return {**values, **(result if isinstance(result, Mapping) else {"loss": result})}


class _NoTrainer:
    """What stands for Lightning's Trainer: one process that logs nowhere, and nothing that goes on in time."""

    logger, loggers, world_size, is_global_zero, sanity_checking = None, (), 1, True, False
    global_rank = local_rank = node_rank = 0

    def __getattr__(self, name: str) -> Any:
        raise ModelspaceError(
            f"the model's training_step reads self.trainer.{name} (as self.{name}, perhaps), and there is no Trainer "
            "here: give objective=f, its loss as a function of (model, batch)"
        )


@contextmanager
def _logged(model: Any) -> Iterator[dict[str, Any]]:
    """Take what a Lightning module logs within the block; of a metric of torchmetrics its value on the batch.

    Names lose a leading ``train_`` or ``train/``: both splits are scored by the one step.
    """
    values: dict[str, Any] = {}

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        values[re.sub(r"^train(ing)?[_/]", "", name)] = getattr(value, "_forward_cache", value)

    def log_dict(pairs: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for name, value in pairs.items():
            log(name, value)

    taken = {"log": log, "log_dict": log_dict}
    if "_trainer" in vars(model):  # Lightning's own: without one, current_epoch is 0 for ever, and silently
        taken["_trainer"] = _NoTrainer()
    held = {name: vars(model)[name] for name in taken if name in vars(model)}
    metrics = [each for each in model.modules() if "_forward_cache" in vars(each)]
    vars(model).update(taken)
    try:
        yield values
    finally:
        for metric in metrics:  # what it has summed is of all members of this step, and of no other
            metric.reset()
        for name in taken:
            vars(model).pop(name, None)
        vars(model).update(held)


def objective_of(given: Any) -> "Objective | None":
    """Give the objective that a function stands for; ``"model"`` is what the model says of its own loss.

    Args:
        given: A function of (model, batch), or ``"model"``; or a dict of them by name, of which a column
            ``objective`` says each member's. None is none.

    Raises:
        ModelspaceError: it is neither.
    """
    if given is None or isinstance(given, Objective):
        return given
    if isinstance(given, Mapping):
        if not given:
            raise ModelspaceError("objective is an empty dict: give functions by name, {'elbo': elbo, …}")
        return Objectives(of_the_model, among={str(n): _named(f) for n, f in given.items()})
    if given == "model":
        return Objective(of_the_model)
    if not callable(given) or isinstance(given, Loss | nn.Module):
        raise ModelspaceError(
            f"objective is {given!r}: give a function of (model, batch) that returns a scalar, or 'model' where the "
            "model itself has a training_step, or outputs with .loss; a function of (outputs, labels) is a loss="
        )
    return Objective(given)


def _named(given: Any) -> Objective:
    """One of several objectives.

    Raises:
        ModelspaceError: it is none.
    """
    found = objective_of(given)
    if found is None or isinstance(found, Objectives):
        raise ModelspaceError(f"objective: {given!r} is not one function of (model, batch)")
    return found


def has_own(architecture: Any) -> bool:
    """Tell whether a module says itself what its loss is, by a ``training_step``."""
    return callable(getattr(architecture, "training_step", None))
