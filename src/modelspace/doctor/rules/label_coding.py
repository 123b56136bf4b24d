"""Labels in another coding than the loss's own."""

from collections.abc import Iterator

from torch import Tensor

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    labels = subject.labels
    assert labels is not None
    kind = subject.expected.labels
    if kind not in ("sign", "unit", "class", "multi-hot"):
        raise Inapplicable("the loss takes labels of any value, or its label set is not known")
    if labels.is_complex() or not labels.numel():
        return
    name = subject.loss.name if subject.loss else "the loss"
    if kind == "class":
        yield from _classes(subject, labels, name)
        return
    low, high = float(labels.min()), float(labels.max())
    if kind == "sign" and bool(((labels != 1) & (labels != -1)).any()):
        zero_one = bool(((labels == 0) | (labels == 1)).all())
        yield _observed(
            f"{name} takes labels +1 and −1, and they lie in {'{0, 1}' if zero_one else f'[{low:g}, {high:g}]'}: "
            "a label of 0 has no gradient at all",
            "labels = 2 * labels - 1" if zero_one else "labels = torch.where(labels > 0, 1, -1)",
        )
    elif kind != "sign" and (low < 0 or high > 1):
        signs = bool(((labels == 1) | (labels == -1)).all())
        yield _observed(
            f"{name} takes labels in [0, 1], and they reach from {low:g} to {high:g}: "
            "outside, the loss falls without limit",
            "labels = (labels + 1) / 2" if signs else "labels = labels.float().clamp(0, 1)  # or recode them",
        )


def _classes(subject: Subject, labels: Tensor, name: str) -> Iterator[Observation]:
    outputs = subject.outputs
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        return  # single-output says more
    classes = outputs.shape[1]
    one_hot = (
        labels.shape[1:] == outputs.shape[1:]
        and bool(((labels == 0) | (labels == 1)).all())
        and bool((labels.sum(1) == 1).all())
    )
    probabilities_too = "cross" in name.lower() and labels.is_floating_point()
    if one_hot and not probabilities_too:
        yield _observed(
            f"{name} takes class numbers, and the labels of shape {list(labels.shape)} are one-hot",
            "labels = labels.argmax(1)",
        )
    elif labels.is_floating_point() and not one_hot and labels.shape[1:] == outputs.shape[2:]:
        yield _observed(
            f"{name} takes integer class numbers, and the labels are {str(labels.dtype).removeprefix('torch.')}",
            "labels = labels.long()",
        )
    elif not labels.is_floating_point() and labels.shape[1:] == outputs.shape[2:]:
        low, high = int(labels.min()), int(labels.max())
        if low == 1 and high == classes:
            yield _observed(
                f"the labels go from 1 to {high} and the {classes} classes from 0 to {classes - 1}",
                "labels = labels - 1",
            )
        elif low < 0 and low != -100:  # -100 is what PyTorch's losses leave out
            yield _observed(
                f"the smallest label is {low} and classes are numbered from 0",
                "labels = (labels + 1) // 2" if (low, high) == (-1, 1) else f"labels = labels - ({low})",
            )


def _observed(evidence: str, fix: str) -> Observation:
    return Observation("the labels", evidence, fix)


RULE = Rule(
    "label-coding",
    "error",
    "the labels are coded otherwise than the loss takes them",
    _probe,
    needs=("inputs", "loss", "data"),
)
