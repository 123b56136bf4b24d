"""What is wrong with a data set, all of it at once, before anything is computed from it."""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from modelspace.data.dataset import Data, is_class_labels
from modelspace.errors import ModelspaceError

_ROWS_NAMED = 5


def check_data(data: Data) -> None:
    """Raise if the data can't be trained on.

    Args:
        data: The three splits.

    Raises:
        ModelspaceError: the train split is empty, inputs and labels differ in number, inputs or float labels
            hold NaN or Inf, class labels are negative, or the splits differ in the shape or dtype of a
            sample. All that is found is reported in one error.
    """
    problems: list[str] = []
    for name, split in data.splits.items():
        problems += pair_problems(split.inputs, split.labels, f"the {name} split")
    problems += _disagreements(data)
    if not len(data.train):
        problems.append("the train split is empty: there is nothing to fit; give it a larger fraction")
    raise_problems(data.name, problems)


def check_labels(labels: Shaped[Tensor, "sample *target"], classes: int) -> None:
    """Raise if a class label has no output of the model.

    Args:
        labels: Class labels, 0 … classes − 1.
        classes: The model's number of outputs.

    Raises:
        ModelspaceError: labels are negative or ≥ ``classes``.

    >>> check_labels(torch.tensor([0, 9]), classes=10)
    """
    problems: list[str] = []
    over = labels[labels >= classes]
    if over.numel():
        largest = int(over.max())
        problems.append(
            f"{_are(over.numel())} ≥ {classes} (largest {largest}), but the model has {classes} outputs: "
            f"give it {largest + 1}, or number the classes from 0"
        )
    under = labels[labels < 0]
    if under.numel():
        problems.append(f"{_are(under.numel())} negative (smallest {int(under.min())}): number them from 0")
    if problems:
        raise ModelspaceError("labels out of range: " + "; ".join(problems))


def pair_problems(
    inputs: Shaped[Tensor, "row *shape"], labels: Shaped[Tensor, "label *target"], where: str
) -> list[str]:
    """What is wrong with inputs and their labels, one sentence each; ``where`` says which they are."""
    problems: list[str] = []
    if len(inputs) != len(labels):
        problems.append(
            f"{where} has {len(inputs)} inputs {list(inputs.shape)} but {len(labels)} labels "
            f"{list(labels.shape)}: one label a sample is needed, the first dimension counts samples"
        )
    for kind, values in (("inputs", inputs), ("labels", labels)):
        bad = _not_finite(values)
        if bad.any():
            problems.append(
                f"{_rows(bad)} of the {kind} of {where} hold NaN or Inf: leave these rows out or fill them in"
            )
    if is_class_labels(labels) and (negative := labels < 0).any():
        problems.append(
            f"{_rows(negative)} of the labels of {where} are negative (smallest {int(labels.min())}): "
            "number classes from 0, or make the labels floats if they are quantities"
        )
    return problems


def raise_problems(name: str, problems: list[str]) -> None:
    """One error for all the problems of the data set ``name``, if there are any."""
    if problems:
        raise ModelspaceError(f"data '{name}': " + "; ".join(problems))


def _not_finite(values: Shaped[Tensor, "row *shape"]) -> Bool[Tensor, "row"]:
    if not (values.is_floating_point() or values.is_complex()) or not values.numel():
        return torch.zeros(len(values), dtype=torch.bool)
    return ~torch.isfinite(values).flatten(start_dim=1).all(dim=1) if values.ndim > 1 else ~values.isfinite()


def _disagreements(data: Data) -> list[str]:
    problems: list[str] = []
    for name, split in data.splits.items():
        for kind in ("inputs", "labels"):
            here, first = getattr(split, kind), getattr(data.train, kind)
            if len(here) and (here.shape[1:] != first.shape[1:] or here.dtype != first.dtype):
                problems.append(
                    f"one of the {kind} of the {name} split is {list(here.shape[1:])} {here.dtype}, "
                    f"of the train split {list(first.shape[1:])} {first.dtype}: they have to be alike"
                )
    return problems


def _rows(bad: Bool[Tensor, "row"]) -> str:
    rows = bad.nonzero().flatten().tolist()
    more = ", …" if len(rows) > _ROWS_NAMED else ""
    return f"{len(rows)} of {len(bad)} rows ({', '.join(map(str, rows[:_ROWS_NAMED]))}{more})"


def _are(count: int) -> str:
    return f"{count} label is" if count == 1 else f"{count} labels are"
