"""What shows, without the doctor, that outputs, labels and loss don't fit each other."""

import math

import torch
from doctor.ailments.side import shaken


def outputs_of(side):
    with torch.no_grad():
        return side.model().train()(side.inputs(8))


def softmax_before_cross_entropy(side):
    """Rows on the simplex, wherever the parameters are, and a loss that keeps above its floor."""
    if side.name not in ("cross_entropy", "CrossEntropyLoss"):
        return False
    with torch.no_grad():
        outputs = shaken(side)(side.inputs(8))
    if outputs.ndim < 2 or not torch.allclose(outputs.sum(1), torch.ones(()), atol=1e-4):
        return False
    rows = outputs.movedim(1, -1).flatten(0, -2)
    count = rows.shape[1]
    floor = math.log((math.e + count - 1) / math.e)
    best = -torch.log_softmax(rows, 1).max(1).values
    return bool((rows >= 0).all()) and best.min().item() > floor - 1e-4


def log_probabilities_expected(side):
    if side.name not in ("nll_loss", "NLLLoss"):
        return False
    outputs = outputs_of(side)
    return outputs.ndim > 1 and outputs.logsumexp(1).abs().max().item() > 1e-3


def sigmoid_twice(side):
    """Outputs between 0 and 1, wherever the parameters are: a sample of the other class costs ln 2."""
    if side.wants not in ("bits", "signs") or side.name in ("hinge", "HingeEmbeddingLoss"):
        return False
    outputs = shaken(side)(side.inputs(8))
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def probabilities_expected(side):
    if side.wants != "probabilities":
        return False
    outputs = shaken(side)(side.inputs(8))
    return bool(((outputs < 0) | (outputs > 1)).any())


def output_count(side):
    if side.wants != "classes":
        return False
    labelled = side.data().classes if side.data is not None else None
    count = side.classes if side.classes is not None else labelled
    outputs = outputs_of(side)
    return count is not None and outputs.ndim > 1 and outputs.shape[1] != count


def single_output(side):
    """A loss of 0 and a gradient of 0."""
    if side.wants != "classes":
        return False
    outputs = side.model()(side.inputs(8))
    if outputs.ndim < 2 or outputs.shape[1] > 1:
        return False
    labels = torch.zeros(outputs.shape[:1] + outputs.shape[2:], dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(outputs, labels)
    loss.backward(inputs=[outputs])
    return loss.item() == 0 and outputs.grad.abs().max().item() == 0


def class_dimension(side):
    """The declared number of classes at the end, another number (1, or one of the inputs') second."""
    if side.wants != "classes" or side.classes is None:
        return False
    outputs = outputs_of(side)
    return outputs.ndim > 2 and outputs.shape[-1] == side.classes and outputs.shape[1] in (1, *side.shape)


def column_broadcast(side):
    """The outputs compared with the labels are a matrix, each output with each label."""
    if side.data is None or side.wants == "classes":
        return False
    inputs, labels = side.batch(8)
    outputs = side.model()(inputs)
    return outputs.shape != labels.shape and (outputs - labels).shape == (8, 8)


def label_coding(side):
    if side.data is None:
        return False
    labels = side.data().train.labels
    if side.wants == "signs":
        return bool((labels.abs() != 1).any())
    if side.wants in ("bits", "probabilities"):
        return bool(((labels < 0) | (labels > 1)).any())
    if side.wants != "classes":
        return False
    if labels.ndim > 1:
        return True
    # More labels than outputs with none left out is another mistake: that of ``output_count``.
    return labels.min().item() != 0


def not_the_formula(side):
    """Differs from the formula, computed number by number, or raises."""
    if side.formula is None:
        return False
    formula, codes = {
        "least_squares": (lambda y, z: (y - z) ** 2 / 2, (0.5, -1.5)),
        "logistic": (lambda y, z: math.log(1 + math.exp(-y * z)), (1.0, -1.0)),
        "hinge": (lambda y, z: max(0.0, 1 - y * z), (1.0, -1.0)),
        "cross_entropy": (lambda y, z: -math.log(z if y else 1 - z), (1.0, 0.0)),
    }[side.formula]
    scores = [0.2, 0.7, 0.4, 0.9] if side.formula == "cross_entropy" else [0.2, -1.7, 3.0, -0.4]
    labels = [codes[0], codes[1], codes[1], codes[0]]
    expected = sum(map(formula, labels, scores)) / 4
    try:
        value = side.value(torch.tensor(scores), torch.tensor(labels)).item()
    except (RuntimeError, ValueError):
        return True
    return abs(value - expected) > 1e-4


def initial_loss(side):
    """More than twice the loss of even odds."""
    chance = {"classes": None, "bits": math.log(2), "probabilities": math.log(2)}
    if side.wants not in chance or side.name == "multi_margin_loss":
        return False
    if output_count(side) or column_broadcast(side) or label_coding(side):
        return False
    inputs, labels = side.batch(16, chance=True)
    outputs = side.model().train()(inputs)
    if outputs.ndim < 2 and side.wants == "classes":
        return False
    expected = math.log(outputs.shape[1]) if side.wants == "classes" else math.log(2)
    return side.value(outputs, labels).item() > 2 * expected


def saturating_output(side):
    """Bounded to one side or to [-1, 1], wherever the parameters are, before a loss on any real number."""
    if side.wants == "probabilities" or side.name in ("nll_loss", "NLLLoss"):
        return False
    with torch.no_grad():
        outputs = torch.stack([shaken(side, seed)(side.inputs(64)) for seed in (0, 1)])
    return outputs.min().item() >= 0 or outputs.abs().max().item() <= 1.001
