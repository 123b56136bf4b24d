"""What a loss is: a function of outputs and labels with parameters, a contract and properties, written once each.

A loss of the catalogue is one class, a frozen dataclass below a family (``RegressionLoss``, ``MarginLoss``,
``MulticlassLoss``, …, or ``Loss`` itself):

* the docstring says what it is for, when *not* to use it, and where it comes from;
* each ``parameter`` field has a default, a doc and a range: checks, columns, the catalogue and the command line's
  flags follow from it;
* ``properties`` states what is known of it, first of all its formula;
* one method computes it, element by element or sample by sample.

To state ``properties`` is to be in the catalogue. A row of ``tests/losses/table.py``, with the formula once more in
plain Python, makes every test of the catalogue prove them.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.hyperparameters import Hyperparameters, Range, validate
from modelspace.losses._probe import check_call, tensors_of
from modelspace.nest import Nest, called, described, mapped, tensors

Reals = Float[Tensor, "..."]
Labels = Shaped[Tensor, "..."]
OutputKind = Literal[
    "real", "score", "logits", "probability", "log-probability", "log-rate", "positive", "embedding"
]
LabelKind = Literal["real", "sign", "unit", "class", "count", "positive", "multi-hot", "rank", "distribution"]
Stated = Any  # the value itself, or a callable of the loss that gives it

_UNDECLARED = Range("the loss's", "a finite number", -math.inf, low_included=False)


def parameter(
    default: float,
    doc: str,
    *,
    above: float | int | None = None,
    at_least: float | int | None = None,
    below: float | int | None = None,
    at_most: float | int | None = None,
) -> Any:
    """Declare a field of a loss as a parameter: one number for all, or one a member as a column.

    Args:
        default: Its value where none is given.
        doc: What it is. Messages name it by what stands before the first colon.
        above: A lower limit that is not allowed itself.
        at_least: One that is.
        below: An upper limit that is not allowed itself.
        at_most: One that is.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Mine(Loss):
        ...     gamma: float = parameter(2.0, "focusing exponent", at_least=0)
        >>> Mine(-1.0)
        Traceback (most recent call last):
        modelspace.errors.ModelspaceError: focusing exponent gamma must be a number of at least 0; received -1.0
    """
    low, high = (above if at_least is None else at_least), (below if at_most is None else at_most)
    given = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    words = " and ".join(f"{word} {limit:g}" for word, limit in given.items() if limit is not None)
    if low is None or high is None:
        words = "a positive number" if words == "above 0" else f"a number {words}"
        words = words.replace("number at least", "number of at least")
    allowed = Range(
        doc.partition(":")[0],
        words,
        -math.inf if low is None else low,
        math.inf if high is None else high,
        low_included=at_least is not None,
        high_included=at_most is not None,
    )
    return field(default=default, metadata={"range": allowed, "doc": doc})


@dataclass(frozen=True)
class Properties:
    """What is known of a loss ℓ(z, y) as a function of the outputs z; each is proved by the tests.

    It is stated once, as an attribute of the loss's class. What depends on the loss's parameters is stated as a
    callable of the loss, and is a value where it is read of a loss: ``Focal(0.0).properties.convex``.

    Attributes:
        formula: ℓ, or φ of the margin v, or F of a residual, in plain text.
        convex: Whether ℓ is convex in z.
        lipschitz: The least L with |ℓ(z, y) − ℓ(z′, y)| ≤ L ‖z − z′‖₂ for all z, z′, y, whatever the number of
            classes or places; inf where there is none; None where nothing is stated.
        smooth: The least L with ‖∇ℓ(z, y) − ∇ℓ(z′, y)‖₂ ≤ L ‖z − z′‖₂, in the same way; inf where there is none (a
            kink, or a curvature that grows without limit); None where nothing is stated.
        bound: The least upper bound of ℓ; inf where there is none.
        minimiser: What minimises the conditional risk E_y ℓ(z, y): ``"mean"``, ``"median"``, or a formula in the
            class probabilities; see also the loss's own ``minimiser``.
        calibrated: Whether minimising the risk gives the best classifier (Bartlett, Jordan, McAuliffe 2006); None
            where labels are no classes.
        proper: Whether the minimiser gives back the probabilities, through ``probability`` (and so is calibrated);
            None where the loss has no probabilities.
        notes: What else to know; may be empty.
        source: Paper or standard: what follows ``Source:`` in the class's docstring.
    """

    formula: Stated
    convex: Stated
    lipschitz: Stated = math.inf
    smooth: Stated = math.inf
    bound: Stated = math.inf
    minimiser: str = ""
    calibrated: Stated = None
    proper: Stated = None
    notes: str = ""
    source: str = ""

    def __get__(self, loss: "Loss | None", owner: type) -> "Properties":
        if loss is None:
            return self
        stated = {each.name: getattr(self, each.name) for each in fields(self)}
        known: dict[str, Any] = {
            name: state(loss) if callable(state) else state for name, state in stated.items()
        }
        known["calibrated"] = True if known["proper"] else known["calibrated"]
        known["source"] = " ".join((owner.__doc__ or "").partition("Source:")[2].split())
        return Properties(**known)


class Loss:
    """A function ℓ(z, y) of outputs and labels; each loss of the catalogue is a frozen dataclass of this kind.

    Numbers among its fields are parameters: one value for all, or one a member as a column of the population.

    Attributes:
        kind: ``regression``, ``margin``, ``multiclass``, or ``structured``, which is all else.
        outputs: What the outputs z are taken for.
        labels: What the labels y are.
        properties: What is known of it; None for a function of the user's.
        catalogued: The classes of this library that state properties, as they were defined.
    """

    kind: ClassVar[str] = "structured"
    outputs: OutputKind | None = None
    labels: LabelKind | None = None
    properties: ClassVar[Properties | None] = None
    catalogued: ClassVar[list[type["Loss"]]] = []

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "properties" in vars(cls) and cls.__module__.startswith(f"{__package__}."):
            cls.catalogued.append(cls)

    def __post_init__(self) -> None:
        if not any(isinstance(value, Tensor) for value in vars(self).values()):
            validate(self, {})

    @property
    def name(self) -> str:
        """Its name in the catalogue: the class's, in small letters (``cross_entropy`` for ``CrossEntropy``)."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def __str__(self) -> str:
        """The name, with what is not at its default: ``focal(gamma=1.5)``, ``hinge(weight=balanced)``."""
        given = self._given()
        return f"{self.name}({', '.join(given)})" if given else self.name

    def _given(self) -> list[str]:
        return [
            f"{name}={value:g}"
            for name, value in self.hyperparameters().items()
            if value != getattr(type(self), name, None) and not isinstance(value, tuple)
        ]

    def made(self, model: Callable[..., Any], inputs: Nest, labels: Nest) -> Any:
        """Compute what the loss is taken of: the model's outputs for these inputs."""
        return called(model, inputs)

    def also(self, outputs: Any) -> dict[str, Tensor]:
        """Give further scalars that were computed with the loss; a loss of outputs and labels has none."""
        return {}

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        """Compute the loss of every label by itself.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Raises:
            ModelspaceError: If the shapes don't fit each other: nothing broadcasts.
        """
        raise NotImplementedError

    def __call__(self, outputs: Reals, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Compute the loss of a batch.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.
            reduction: The ``"mean"`` over the labels, their ``"sum"``, or ``"none"`` for one value a label.

        Raises:
            ModelspaceError: If the shapes don't fit each other, or the reduction is unknown.
        """
        return reduced(self.per_label(prediction(outputs), labels), reduction)

    def sums(self, outputs: Reals, labels: Labels) -> tuple[Reals, Labels]:
        """Compute two sums over labels, the ratio of which is the mean: of their values, and of what each counts."""
        values = self.per_label(outputs, labels)
        return values.sum(), values.new_tensor(values.numel())

    def on(self, labels: Nest) -> "Loss":
        """Return the loss for data of these training labels: what it counts of them is counted."""
        return self

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse values of outputs and labels for which the loss does not mean what it says; see ``check``.

        It reads values, so it runs once, on real (not traced) tensors; the loss itself looks only at shapes.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Raises:
            ModelspaceError: At the first breach: what was expected, how many are others, what to do.
        """

    def probability(self, outputs: Reals) -> Reals | None:
        """Turn outputs into the class probabilities that they stand for, by the inverse link; None without any.

        Args:
            outputs: Scores ``[N]``, of the probability of +1; or ``[N, C, …]``, of each class.
        """
        return None

    def labels_shape(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """Tell the labels' shape from the outputs': without the dimension of classes, where there is one.

        Args:
            outputs: ``[N, …]``, or ``[N, C, …]`` for class labels and ranks.
        """
        return (outputs[0], *outputs[2:]) if self.labels in ("class", "rank") else outputs

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell whether the value of all these labels is the mean over samples of what each has by itself.

        Only of such a loss the value of a split is the mean of its pieces' values. It is known of the losses of the
        catalogue by their very type, and of PyTorch's own as they come. Labels that are left out (``ignore_index``,
        −100) make the mean one of the others. Of a function or a subclass of the user's nothing is known.

        Args:
            labels: All of them, ``[N, …]``.

        Example:
            >>> from modelspace.losses import resolve
            >>> labels = torch.tensor([0, 2, 1])
            >>> resolve(torch.nn.CrossEntropyLoss()).is_sample_mean(labels)
            True
            >>> resolve(torch.nn.CrossEntropyLoss(ignore_index=2)).is_sample_mean(labels)
            False
        """
        return type(self) in self.catalogued

    @property
    def left_out(self) -> int | None:
        """The label that counts nothing, as far as it is known; None where there is none."""
        return None

    @property
    def takes_one(self) -> bool:
        """Whether it is taken of one tensor, and of several outputs of their ``logits``."""
        return True

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the user's that decide what is computed; the loss itself where its class is theirs."""
        return () if type(self).__module__.startswith("modelspace.") else (self,)

    def tensors(self) -> dict[str, Tensor]:
        """Find the tensors that `code` holds, class weights for instance, by name: they decide too."""
        return {name: tensor for part in self.code for name, tensor in tensors_of(part).items()}

    def hyperparameters(self) -> Hyperparameters:
        """Give every parameter, of a user's loss every number among its fields, by name with the loss's own value."""
        declared = self._declared("range")
        return {
            name: value
            for name, value in vars(self).items()
            if (name in declared and not isinstance(value, Tensor))
            or (isinstance(value, int | float) and not isinstance(value, bool))
        }

    def ranges(self) -> Mapping[str, Range]:
        """Give what each of `hyperparameters` may be; any finite number where its field is no ``parameter``."""
        declared = self._declared("range")
        return {**declared, **{n: _UNDECLARED for n in self.hyperparameters() if n not in declared}}

    def parameters(self) -> dict[str, str]:
        """Describe each parameter: ``{"gamma": "2, a number of at least 0: focusing exponent"}``."""
        ranges, docs = self.ranges(), self._declared("doc")
        return {
            name: f"{value:g}, {ranges[name].expected}" + (f": {docs[name]}" if name in docs else "")
            for name, value in self.hyperparameters().items()
        }

    def _declared(self, what: str) -> dict[str, Any]:
        own = fields(self) if is_dataclass(self) else ()
        return {each.name: each.metadata[what] for each in own if what in each.metadata}

    def at(self, values: Mapping[str, Any]) -> "Loss":
        """Return the loss with other values of its parameters, which may be tensors: one member's of a column."""
        return replace(self, **values) if values else self  # pyright: ignore[reportArgumentType, reportCallIssue]

    def check(self, outputs: Labels, labels: Labels) -> None:
        """Hold real outputs and labels against the loss's contract; once, before a fit.

        It reads values and evaluates the loss, so it is not traceable. Labels may be those of a whole split with the
        outputs of the same samples.

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
        if not any(tensor.dtype.is_floating_point for tensor in tensors(outputs)):
            kinds = ", ".join(dict.fromkeys(str(tensor.dtype) for tensor in tensors(outputs)))
            raise ModelspaceError(
                f"loss '{self.name}' received outputs of dtype {kinds}: it needs floating outputs"
            )
        with torch.no_grad():
            self.check_values(prediction(outputs) if self.takes_one else outputs, labels)
        detached, copies = mapped(Tensor.detach, outputs), mapped(Tensor.clone, labels)
        check_call(self, self.code, f"loss '{self.name}'", detached, copies)


def prediction(outputs: Any) -> Any:
    """Return the one tensor that a loss or a metric of this library is taken of: of several outputs, the ``logits``.

    Raises:
        ModelspaceError: there are several and none of that name.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise ModelspaceError(
        f"the model returned a {type(outputs).__name__} ({described(outputs)}) and none of it is called 'logits': "
        "give a "
        "function of (outputs, labels) as loss= or metric, which takes what it needs"
    )


def reduced(values: Reals, reduction: str) -> Reals:
    """Reduce values, one a label, to their ``"mean"`` or ``"sum"``, or leave them (``"none"``).

    Raises:
        ModelspaceError: If the reduction is none of these.
    """
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        return values.mean()
    raise unknown_name("reduction", reduction, ("mean", "sum", "none"))
