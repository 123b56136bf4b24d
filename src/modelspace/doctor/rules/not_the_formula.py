"""A loss that is another function than the formula it is taken for."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from modelspace.doctor.expected import Expected, expected
from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.samples import made_labels
from modelspace.doctor.subject import Subject
from modelspace.errors import first_line
from modelspace.losses import Loss, resolve

_SAMPLES, _CLASSES = 8, 3
# Two ways to compute one formula in float64 agree to far more digits than two formulas do.
_TOLERANCE = 1e-6

# The same two classes, coded another way.
_RECODINGS: dict[tuple[str | None, str | None], Callable[[Tensor], Tensor]] = {
    ("sign", "unit"): lambda y: (y + 1) / 2,
    ("unit", "sign"): lambda y: 2 * y - 1,
}


def _probe(subject: Subject) -> Iterator[Observation]:
    loss, formula = subject.loss, subject.formula
    assert loss is not None
    assert formula is not None
    if formula.name == "cross_entropy" and _one_number_a_sample(subject):
        formula = resolve("binary_cross_entropy")  # what cross-entropy means for outputs [N]
    wanted, taken = expected(formula), subject.expected
    outputs, labels = _points(wanted, _SAMPLES)
    if labels is None:
        raise Inapplicable(f"labels of {formula.name} are not known")
    right = float(formula(outputs, labels))
    recoding = _RECODINGS.get((wanted.labels, taken.labels))
    try:
        found = float(loss(outputs, labels))
        if recoding is not None and _same(float(loss(outputs, recoding(labels))), right):
            return
    except Exception as error:
        message = first_line(error)
        yield _observed(loss, formula, f"{_contract(taken)}; on the formula's own it raises: {message}")
        return
    one_output, one_label = outputs[:1], labels[:1]
    one_right, one_found = float(formula(one_output, one_label)), float(loss(one_output, one_label))
    if _same(found, right) and _same(one_found, one_right):
        return
    factors = [a / b if b else float("nan") for a, b in ((found, right), (one_found, one_right))]
    if _same(factors[0], factors[1]):
        yield _observed(loss, formula, f"it is {factors[0]:g} times the formula", factor=factors[0])
    elif _same(factors[0], _SAMPLES * factors[1]):
        yield _observed(loss, formula, "it is the formula's sum over the batch, not its mean")
    else:
        example = ", ".join(f"z = {z:.2f} and y = {y:g}" for z, y in _pair(one_output, one_label))
        yield _observed(
            loss,
            formula,
            f"{_contract(taken)}; at {example} the formula is {one_right:.4g} and the loss {one_found:.4g}, and over "
            f"a batch of {_SAMPLES} they are {right:.4g} and {found:.4g}",
        )


def _one_number_a_sample(subject: Subject) -> bool:
    return subject.shape is not None and subject.trace.failure is None and subject.outputs.ndim == 1


def _points(wanted: Expected, count: int) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    size = (count, _CLASSES) if wanted.by_class else (count,)
    outputs = torch.randn(size, generator=generator, dtype=torch.float64)
    if wanted.outputs == "probability":
        outputs = outputs.sigmoid()
    elif wanted.outputs == "log-probability":
        outputs = outputs.log_softmax(-1)
    elif wanted.outputs == "positive":
        outputs = outputs.exp()
    return outputs, made_labels(outputs, wanted.labels or "real", seed=1)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


def _pair(output: Tensor, label: Tensor) -> list[tuple[float, float]]:
    return [(float(output.flatten()[0]), float(label.flatten()[0]))]


def _contract(taken: Expected) -> str:
    if taken.outputs is None:
        return "it is another function"
    coding = {"sign": "±1", "unit": "in [0, 1]", "class": "that are class numbers", "real": "of any value"}
    return f"it takes {taken.outputs} outputs and labels {coding.get(taken.labels or '', 'of its own')}"


def _observed(loss: Loss, formula: Loss, what: str, factor: float | None = None) -> Observation:
    return Observation(
        "the loss",
        f"{loss.name} is not {formula.name}: {what}",
        f"import modelspace as ms\n\nloss = ms.losses.resolve({formula.name!r})"
        + (
            f"     # or {1 / factor:g} * loss, or a learning rate {factor:g} times as small" if factor else ""
        ),
    )


RULE = Rule(
    "not-the-formula",
    "warning",
    "the loss is another function than the formula it is taken for",
    _probe,
    needs=("loss", "formula"),
)
