"""The record of one mistake: a faulty model, and its twin that differs only by the fix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from modelspace.data import Data
from modelspace.doctor import Diagnosis, doctor


@dataclass(frozen=True)
class Fault:
    """One mistake as people make it; above it stand where it was seen, and what the user sees happen.

    Attributes:
        name: What it is, in a few words.
        faulty: What makes the faulty model.
        corrected: What makes its twin.
        shape: One sample's shape.
        loss: A name that ``modelspace.losses.resolve`` knows, or a loss module.
        corrected_loss: The twin's loss where the loss is the fix; None: the same.
        classes: The number of classes that the user declares; None: not declared.
        tokens: Samples are integers below this; floating-point numbers where 0.
        data: What makes the data, for a mistake that lies between model and data.
        corrected_data: The twin's data where the data is the fix; None: the same.
        formula: The formula that the user takes the loss for, by its name in the catalogue of losses.
        optimizer: What makes the optimizer of a module.
        corrected_optimizer: The twin's.
        rule: The rule that must fire on the faulty side, and stay silent on the corrected one.
    """

    name: str
    faulty: Callable[[], nn.Module]
    corrected: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loss: Any = "cross_entropy"
    corrected_loss: Any = None
    classes: int | None = None
    tokens: int = 0
    data: Callable[[], Data] | None = None
    corrected_data: Callable[[], Data] | None = None
    formula: str | None = None
    optimizer: Callable[[nn.Module], Any] | None = None
    corrected_optimizer: Callable[[nn.Module], Any] | None = None
    rule: str = ""

    def __str__(self):
        return self.name


def under(rule, *faults):
    """The faults, filed under a rule."""
    return [replace(fault, rule=rule) for fault in faults]


def examine(fault: Fault, *, faulty: bool, only: Sequence[str] | None = None) -> Diagnosis:
    """Examine one side of one fault as its user would have it: the faulty model, or its twin."""
    loss, data = fault.loss, fault.data
    if not faulty:
        loss = loss if fault.corrected_loss is None else fault.corrected_loss
        data = data if fault.corrected_data is None else fault.corrected_data
    return doctor(
        fault.faulty if faulty else fault.corrected,
        loss=loss,
        classes=fault.classes,
        formula=fault.formula,
        optimizer=fault.optimizer if faulty else fault.corrected_optimizer,
        tokens=fault.tokens or None,
        only=only,
        **({"data": data()} if data is not None else {"inputs": fault.shape}),
    )
