"""What is wrong with a data set, all of it at once, before anything is computed from it."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from modelspace.data.dataset import Data, Split, is_class_labels
from modelspace.errors import ModelspaceError
from modelspace.nest import LEFT_OUT, Nest, Shared, named_leaves, spoken, unweighted
from modelspace.progress import progress

_ROWS_NAMED = 5
_AT_ONCE = 2**20  # numbers of which it is seen at once whether they are finite


def check_data(data: Data, *, rows: bool = True) -> None:
    """Raise if the data can't be trained on.

    Args:
        data: The three splits.
        rows: Whether to look at every row too; not where that is done.

    Raises:
        ModelspaceError: the train split is empty, inputs and labels differ in number, inputs or float labels
            hold NaN or Inf, class labels are negative, or the splits differ in the shape or dtype of a
            sample. All that is found is reported in one error.
    """
    problems: list[str] = []
    for name, split in data.splits.items() if rows else ():
        problems += split_problems(split, f"the {name} split")
    for name, split in data.splits.items():
        if len(split):
            problems += differences(split, f"the {name} split", data.train, "the train split")
    if not len(data.train):
        problems.append("the train split is empty: there is nothing to fit; give it a larger fraction")
    raise_problems(data.name, problems)


def check_labels(labels: Nest, classes: int, left_out: int | None = None) -> None:
    """Raise if a class label has no output of the model.

    Args:
        labels: Class labels, 0 … classes − 1, perhaps with weights.
        classes: The model's number of outputs.
        left_out: The label that the loss leaves out, if there is one.

    Raises:
        ModelspaceError: labels are negative or ≥ ``classes``.

    >>> check_labels(torch.tensor([0, 9]), classes=10)
    """
    problems: list[str] = []
    labels = unweighted(labels)
    if left_out is not None:
        labels = labels[labels != left_out]
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


def split_problems(split: Split, where: str) -> list[str]:
    """What is wrong with inputs and their labels, one sentence each; ``where`` says which they are."""
    if isinstance(split.inputs, Shared):
        parts = Split(split.inputs.rows, split.labels), Split(split.inputs.of)
        return [problem for part in parts for problem in split_problems(part, where)]
    problems: list[str] = []
    inputs, labels = named_leaves(split.inputs), named_leaves(split.labels)
    parts = [*((_part("inputs", p), v) for p, v in inputs), *((_part("labels", p), v) for p, v in labels)]
    bare = [f"{kind} of {where} is one number" for kind, value in parts if value.ndim == 0]
    if bare:
        more = ", …" if len(bare) > _ROWS_NAMED else ""
        return [f"{', '.join(bare[:_ROWS_NAMED])}{more}: the first dimension counts samples"]
    if len({len(value) for _, value in parts}) > 1:
        if len(parts) == 2 and split.labels is not None:
            (_, x), (_, y) = parts
            problems.append(
                f"{where} has {len(x)} inputs {list(x.shape)} but {len(y)} labels {list(y.shape)}: one label a "
                "sample "
                "is needed, the first dimension counts samples"
            )
        else:
            sizes = ", ".join(f"{kind} {list(value.shape)}" for kind, value in parts)
            problems.append(
                f"{where} has parts of several lengths ({sizes}): the first dimension counts samples"
            )
    for kind, values in parts:
        bad = _not_finite(values)
        if bad.any():
            problems.append(
                f"{_rows(bad)} of the {kind} of {where} hold NaN or Inf: leave these rows out or fill them in"
            )
    labels = unweighted(split.labels)
    if is_class_labels(labels):
        below = labels[labels < 0].unique()
        # −100 and one more may be a loss's ignore_index, or one of ±1: the loss says.
        if len(below[below != LEFT_OUT]) > 1:
            problems += _negative(labels, where, ())
    return problems


def check_classes(data: Data, allowed: Iterable[int | None]) -> None:
    """Raise if there are negative labels, where a loss takes them for classes.

    Args:
        data: The three splits.
        allowed: Negative labels that the loss takes: the one that it leaves out, a sign.

    Raises:
        ModelspaceError: a class is negative and none of those.
    """
    labels = {name: unweighted(split.labels) for name, split in data.splits.items()}
    given = [(f"the {name} split", each) for name, each in labels.items() if is_class_labels(each)]
    problems = [line for where, each in given for line in _negative(each, where, allowed)]
    raise_problems(data.name, problems[:1])


def _negative(labels: Tensor, where: str, allowed: Iterable[int | None]) -> list[str]:
    negative = labels < 0
    for label in allowed:
        negative = negative if label is None else negative & (labels != label)
    if not negative.any():
        return []
    least = int(labels[negative].min())
    return [
        f"{_rows(negative)} of the labels of {where} are negative (smallest {least}): number classes from 0, or make "
        f"the labels floats if they are quantities, or leave them out by the loss, such as "
        f"CrossEntropy(ignore_index={least})"
    ]


def _part(kind: str, path: str) -> str:
    """What a part of a nest is called: ``inputs 'mask'``."""
    return f"{kind} '{spoken(path)}'" if path else kind


def raise_problems(name: str, problems: list[str]) -> None:
    """One error for all the problems of the data set ``name``, if there are any."""
    if problems:
        raise ModelspaceError(f"data '{name}': " + "; ".join(problems))


def _not_finite(values: Shaped[Tensor, "row *shape"]) -> Bool[Tensor, "row"]:
    """Which rows hold NaN or Inf; of many, a piece at a time, so that what is mapped stays in its file."""
    if not (values.is_floating_point() or values.is_complex()) or not values.numel():
        return torch.zeros(len(values), dtype=torch.bool)
    size = max(1, _AT_ONCE // values[0].numel())
    if len(values) > size:
        bad = []
        with progress(f"checking {len(values):,} rows for NaN and Inf", len(values), "rows") as advance:
            for piece in values.split(size):
                bad.append(_not_finite(piece))
                advance(len(piece))
        return torch.cat(bad)
    if values.sum().isfinite():  # so is every one of them, seen ten times as fast
        return torch.zeros(len(values), dtype=torch.bool)
    return ~values.isfinite().flatten(start_dim=1).all(dim=1) if values.ndim > 1 else ~values.isfinite()


def differences(split: Split, where: str, first: Split, of_first: str) -> list[str]:
    """What of a sample is another part, shape or type than in the first of several, one sentence each."""
    problems: list[str] = []
    for kind in ("inputs", "labels"):
        here, there = (dict(named_leaves(getattr(each, kind))) for each in (split, first))
        if here.keys() != there.keys():
            parts = [", ".join(spoken(path) or "one tensor" for path in x) or "none" for x in (here, there)]
            problems.append(
                f"the {kind} of {where} are {parts[0]}, of {of_first} {parts[1]}: they have to be alike"
            )
            continue
        for path, value in here.items():
            other = there[path]
            if value.shape[1:] != other.shape[1:] or value.dtype != other.dtype:
                problems.append(
                    f"one of the {_part(kind, path)} of {where} is {list(value.shape[1:])} {value.dtype}, "
                    f"of {of_first} {list(other.shape[1:])} {other.dtype}: they have to be alike"
                )
    return problems


def _rows(bad: Bool[Tensor, "row"]) -> str:
    rows = bad.nonzero().flatten().tolist()
    more = ", …" if len(rows) > _ROWS_NAMED else ""
    return f"{len(rows)} of {len(bad)} rows ({', '.join(map(str, rows[:_ROWS_NAMED]))}{more})"


def _are(count: int) -> str:
    return f"{count} label is" if count == 1 else f"{count} labels are"
