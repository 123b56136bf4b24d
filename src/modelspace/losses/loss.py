"""What a loss is: outputs and labels to one value a label, its parameters, its contract and its properties."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, told, unknown_name
from modelspace.hyperparameters import Hyperparameters, Range, validate
from modelspace.losses.contracts import Contract, anything
from modelspace.losses.properties import Properties

Outputs = Literal[
    "real", "score", "logits", "probability", "log-probability", "log-rate", "positive", "embedding"
]
Labels = Literal["real", "sign", "unit", "class", "count", "positive", "multi-hot", "rank", "distribution"]

_DEEP, _MANY = 6, 1000  # how far and how wide a callable is searched for tensors


class Loss:
    """A function ℓ(z, y) of outputs and labels; each loss of the catalogue is a frozen dataclass of this kind.

    Numbers among its fields are hyper-parameters: one value for all, or one a member as a column of the population.

    Attributes:
        outputs: What the outputs z are taken for.
        labels: What the labels y are.
    """

    outputs: Outputs | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if not any(isinstance(value, Tensor) for value in vars(self).values()):
            validate(self, {})

    @property
    def name(self) -> str:
        """Its name in the catalogue: the class's, in small letters (``cross_entropy`` for ``CrossEntropy``)."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def __str__(self) -> str:
        """The name, with the parameters that are not at their defaults: ``focal(gamma=1.5)``."""
        given = [
            f"{name}={value:g}"
            for name, value in self.hyperparameters().items()
            if value != getattr(type(self), name, None) and not isinstance(value, tuple)
        ]
        return f"{self.name}({', '.join(given)})" if given else self.name

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The loss of every label by itself.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Raises:
            ModelspaceError: If the shapes don't fit each other: nothing broadcasts.
        """
        raise NotImplementedError

    def __call__(
        self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."], *, reduction: str = "mean"
    ) -> Float[Tensor, "..."]:
        """The loss of a batch.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.
            reduction: The ``"mean"`` over the labels, their ``"sum"``, or ``"none"`` for one value a label.

        Raises:
            ModelspaceError: If the shapes don't fit each other, or the reduction is unknown.
        """
        return reduced(self.each(outputs, labels), reduction)

    @property
    def contract(self) -> Contract:
        """What the values of outputs and labels must be; see ``check``."""
        return anything

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the user's that decide what is computed; the loss itself where its class is theirs."""
        return () if type(self).__module__.startswith("modelspace.") else (self,)

    @property
    def properties(self) -> Properties | None:
        """What is known of it; None for a function of the user's."""
        return None

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """The class probabilities that outputs stand for, the inverse link; None where there are none.

        Args:
            outputs: Scores ``[N]``, of the probability of +1; or ``[N, C, …]``, of each class.
        """
        return None

    def labels_shape(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the labels of outputs of a shape: without the dimension of classes, where there is one.

        Args:
            outputs: ``[N, …]``, or ``[N, C, …]`` for class labels and ranks.
        """
        return (outputs[0], *outputs[2:]) if self.labels in ("class", "rank") else outputs

    def hyperparameters(self) -> Hyperparameters:
        """Give every number among the fields, by its name, with the loss's own value."""
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def ranges(self) -> Mapping[str, Range]:
        """Give what each of `hyperparameters` may be: of a loss that doesn't say, any finite number."""
        return {
            name: Range("the loss's", "a finite number", -math.inf, low_included=False)
            for name in self.hyperparameters()
        }

    def at(self, values: Mapping[str, Any]) -> Self:
        """The loss with other values of its hyper-parameters, which may be tensors: one member's of a column."""
        return replace(self, **values) if values else self  # pyright: ignore[reportArgumentType, reportCallIssue]

    def check(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the loss's contract; once, before a fit.

        It reads values and evaluates the loss once, so it is not traceable. Labels may be those of a whole
        split with the outputs of the same samples.

        Args:
            outputs: The outputs of one untrained member.
            labels: The labels of the same samples.

        Raises:
            ModelspaceError: If labels are out of range, of the wrong coding or dtype, outputs aren't what the
                loss expects (probabilities, logits), the shapes don't fit, or the loss fails on them; if it returns
                no scalar with a gradient, has trainable parameters of its own, or changes from call to call.

        Example:
            >>> import torch
            >>> from modelspace.losses import resolve
            >>> resolve("cross_entropy").check(torch.zeros(2, 10), torch.tensor([3, 14]))
            Traceback (most recent call last):
            ...
            modelspace.errors.ModelspaceError: labels out of range: 1 of 2 labels are 10 or more ...
        """
        if not outputs.dtype.is_floating_point:
            raise ModelspaceError(
                f"loss '{self.name}' received outputs of dtype {outputs.dtype}: it needs floating outputs"
            )
        with torch.no_grad():
            self.contract(self.name, outputs, labels)
        self._check_value(outputs.detach(), labels.clone())

    def _check_value(self, outputs: Tensor, labels: Tensor) -> None:
        """Refuse what is no function of outputs and labels alone to a number with a gradient."""
        said = f"loss '{self.name}'"
        held = [tensor for function in self.code for tensor in tensors_of(function).values()]
        before = [(id(tensor), tensor._version) for tensor in held]
        leaf, written = outputs.clone().requires_grad_(), labels._version
        try:
            with torch.enable_grad():
                value, apart, again = (
                    self(z, labels) for z in (leaf.clone(), outputs.clone(), outputs.clone())
                )
        except ModelspaceError:
            raise
        except Exception as error:
            raise ModelspaceError(
                f"{said} failed on outputs of shape {list(outputs.shape)} ({outputs.dtype}) "
                f"and labels of shape {list(labels.shape)} ({labels.dtype}): {told(error)}"
            ) from error
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            kind = f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelspaceError(
                f"{said} returned {kind}: it must return a real floating-point scalar tensor"
            )
        if apart.requires_grad:
            names = ", ".join(self._trainable(apart))
            raise ModelspaceError(
                f"{said} has parameters of its own, which nobody would train: {names}; put them into the module that "
                "is fitted, or, if they are to stay as they are, call requires_grad_(False)"
            )
        if not value.requires_grad:
            raise ModelspaceError(
                f"{said} has no gradient with respect to the outputs (argmax, a comparison, .item() or .detach() on "
                "the way?): train under another loss and give this one as a metric"
            )
        if labels._version != written:
            raise ModelspaceError(f"{said} writes into its labels, which members share: work on a copy")
        after = [(id(tensor), tensor._version) for f in self.code for tensor in tensors_of(f).values()]
        if after != before or not torch.equal(apart.nan_to_num(), again.nan_to_num()):
            raise ModelspaceError(
                f"{said} changes from call to call (a buffer, a counter or random numbers of its own), and members "
                "would share that: make it a function of outputs and labels alone"
            )

    def _trainable(self, value: Tensor) -> list[str]:
        """The names of the leaves that a value has a gradient of; their shapes, where no name is known."""
        leaves, seen, left = {}, set(), [value.grad_fn]
        while left:
            node = left.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                leaves[id(leaf)] = leaf
            left += [parent for parent, _ in node.next_functions]
        if value.grad_fn is None:
            leaves[id(value)] = value
        names: dict[int, str] = {}
        for function in self.code:
            for name, tensor in tensors_of(function).items():
                names.setdefault(id(tensor), name)
        return [names.get(key, f"a tensor of shape {list(t.shape)}") for key, t in leaves.items()]


def tensors_of(function: Any) -> dict[str, Tensor]:
    """The tensors that a callable holds, by name: in a module, an object, a closure, a partial's arguments.

    Args:
        function: Any callable.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def look(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            found.setdefault(name, value)
        if isinstance(value, Tensor) or id(value) in seen or depth == _DEEP:
            return
        seen.add(id(value))
        lead = f"{name}." if name else ""
        parts: Mapping[Any, Any] = {}
        if isinstance(value, nn.Module):
            parts = {**dict(value.named_parameters()), **dict(value.named_buffers()), **vars(value)}
        elif isinstance(value, partial):
            parts = {"": value.func, **dict(enumerate(value.args)), **value.keywords}
        elif isinstance(value, FunctionType):
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            parts = {n: cell.cell_contents for n, cell in cells if cell != CellType()}
            parts |= {n: value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__}
            parts = {n: part for n, part in parts.items() if not isinstance(part, ModuleType | type)}
        elif isinstance(value, MethodType):
            parts = {"": value.__func__, "self": value.__self__}
        elif isinstance(value, dict):
            parts = value
        elif isinstance(value, list | tuple):
            parts = dict(enumerate(value))
        elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
            parts = vars(value)
        for key, part in islice(parts.items(), _MANY):
            look(f"{lead}{key}" if key != "" else name, part, depth + 1)

    look("", function, 0)
    return found


def reduced(values: Float[Tensor, "..."], reduction: str) -> Float[Tensor, "..."]:
    """The mean of values, their sum, or the values themselves.

    Args:
        values: One a label.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ModelspaceError: If it is none of these.
    """
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        return values.mean()
    raise unknown_name("reduction", reduction, ("mean", "sum", "none"))
