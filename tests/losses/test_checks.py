"""What is refused: shapes that do not fit, values that a loss does not mean, parameters out of range."""

import math
import re

import pytest
import torch
from losses.table import CASES, at
from torch import nn
from torch.func import vmap

from modelspace import losses as ms
from modelspace.errors import ModelspaceError
from modelspace.losses import resolve

HALF, LOGITS, SETS = torch.full((4,), 0.5), torch.zeros(4, 3), torch.zeros(4, 3)
CLASSES = torch.zeros(4).long()

# A loss, outputs, labels, and what is said of them.
BREACHES = [
    ("mse", torch.ones(4).long(), torch.ones(4), "outputs of dtype torch.int64"),
    # classes
    (
        "cross_entropy",
        torch.zeros(1078, 10),
        torch.tensor([14, *[10] * 11, *[9] * 1066]),
        r"labels out of range: 12 of 1078 labels are 10 or more \(the largest is 14\), but the model has 10 outputs: "
        "give it 15 outputs",
    ),
    (
        "cross_entropy",
        LOGITS,
        torch.tensor([0, -1, -100, 2]),
        r"1 of 4 .*negative \(the smallest is -1\).*from 0 to 2.*ignore_index=-1",
    ),
    ("cross_entropy", LOGITS, torch.full((4, 3), 0.5), "sum to 1 .* one sum is 1.5"),
    ("cross_entropy", LOGITS, -torch.ones(4, 3), "labels between 0 and 1: 12 of 12"),
    ("cross_entropy", torch.ones(8), torch.ones(8), r"outputs \[N, C, ...\] with one column for each"),
    ("cross_entropy", at(1.0)[0], CLASSES[0], r"outputs \[N, C, ...\] with one column for each"),
    (
        "cross_entropy",
        torch.ones(8, 1),
        torch.zeros(8).long(),
        r"single column.*squeeze\(1\) with the logistic loss",
    ),
    ("cross_entropy", torch.ones(8, 1), torch.ones(8, 1), "single column"),
    ("cross_entropy", torch.ones(8, 3), torch.zeros(8), r"torch\.float32: it expects integer class labels"),
    (
        "cross_entropy",
        torch.ones(8, 3),
        torch.zeros(8, 3).long(),
        r"expects labels of shape \[8\].*argmax\(1\)",
    ),
    ("cross_entropy", torch.ones(8, 3), torch.zeros(8, 1).long(), r"labels\.squeeze\(1\)"),
    (
        "cross_entropy",
        torch.ones(8, 3),
        torch.zeros(7).long(),
        r"\[8, 3\] and labels of shape \[7\]: it expects .*\[8\]",
    ),
    ("cross_entropy", torch.ones(8, 3, 5), torch.zeros(8).long(), r"it expects labels of shape \[8, 5\]"),
    (nn.CrossEntropyLoss(), LOGITS, torch.tensor([0, 1, 2, 7]), "CrossEntropyLoss' failed on"),
    ("nll", LOGITS + 2, CLASSES, "largest output is 2.*log_softmax"),
    # numbers
    (
        "least_squares",
        LOGITS,
        CLASSES,
        "use a loss of classes such as 'cross_entropy', or make the labels one-hot",
    ),
    ("poisson_nll", HALF, -torch.ones(4), "smallest label is -1"),
    ("poisson", HALF, -torch.ones(4), "poisson expects counts, at least 0, and the smallest label is -1"),
    (
        "gamma",
        at(0, 0, 0),
        at(1.0, 0.0, -2.0),
        r"gamma expects labels above 0: 2 of 3 .*the first is 0\); 'tweedie'",
    ),
    ("gamma", at(0, 0, 0), at(1.0, math.nan, 2.0), r"1 of 3 are not \(the first is nan\)"),
    ("tweedie", at(0, 0, 0), at(1.0, 0.0, -2.0), r"labels of at least 0: 1 of 3 .*-2\); 'least_squares'"),
    *(
        (
            "gaussian",
            torch.ones(z),
            torch.ones(y),
            r"gaussian received .*\[N, 2, ...\].*two outputs for each label, or",
        )
        for z, y in (((4,), (4,)), ((4, 1), (4,)), ((4, 2), (4, 1)), ((4, 2), (3,)), ((4, 3), (4,)))
    ),
    # two classes
    ("logistic", HALF, torch.tensor([0, 1, 1, 0]), r"2 of 4 .*2 \* labels - 1"),
    ("hinge", HALF, torch.tensor([2, 1, 1, -1]), r"the first is 2\); code the two classes"),
    ("soft_margin", HALF, torch.zeros(4), r"soft_margin_loss expects labels \+1 and -1"),
    (
        "binary_cross_entropy",
        at(0.5, 1.5, -2, 0.1),
        torch.ones(4),
        r"outputs between 0 and 1: 2 of 4 .*1.5\); end the model",
    ),
    ("binary_cross_entropy", HALF, torch.tensor([1, -1, 1, 1]), r"\(labels \+ 1\) / 2"),
    ("binary_cross_entropy", HALF * math.nan, torch.ones(4), "outputs between 0 and 1: 4 of 4"),
    ("binary_cross_entropy_with_logits", HALF, -torch.ones(4), "labels between 0 and 1"),
    # sets, ranks, embeddings, teachers
    ("multilabel_logistic", SETS, CLASSES, r"one_hot\(labels, 3\), or use 'cross_entropy'"),
    ("multilabel_logistic", SETS, -torch.ones(4, 3), r"labels 0 and 1: 12 of 12 .*\(labels \+ 1\) / 2"),
    ("multilabel_logistic", SETS, torch.zeros(4, 2), "make the two shapes equal"),
    ("multilabel_ranking", SETS, torch.full((4, 3), 0.3), "cut probabilities at 1/2"),
    ("multilabel_ranking", SETS, torch.full((4, 3), 2), "the first is 2.*what belongs as 1"),
    (
        "multilabel_ranking",
        torch.zeros(4, 3, 2),
        torch.zeros(4, 3, 2),
        r"it expects \[N, C\], a score for each class",
    ),
    ("coral", SETS, torch.tensor([0, 3, 4, 5]), "ranks from 0 to 3.*2 of 4 labels.*first is 4.*5 outputs"),
    ("coral", SETS, torch.tensor([-1, 0, 1, 2]), "number the ranks from 0"),
    ("coral", SETS, torch.zeros(4), r"integer ranks \[N\]"),
    ("info_nce", SETS, torch.arange(4), "no two of them the same.*at least twice"),
    ("triplet", SETS, torch.zeros(4, 1).long(), r"embeddings \[N, D\] and integer labels \[N\]"),
    ("distillation", SETS, CLASSES, "teacher's logits.*'cross_entropy' for class labels"),
    ("distillation", SETS, torch.full((4, 3), 1 / 3), r"probabilities that sum to 1: give labels.log\(\)"),
    ("distillation", SETS, torch.full((4, 3), math.inf), "finite logits of the teacher: 12 are not"),
    ("distillation", torch.zeros(4, 1), torch.zeros(4, 1), "single column"),
    # regions
    ("dice", torch.zeros(4, 5, 5), torch.full((4, 5, 5), 255), "labels / 255"),
    ("dice", torch.zeros(4, 1, 5, 5), torch.zeros(4, 5, 5).long(), "does not broadcast"),
    ("tversky", torch.zeros(4, 3, 5, 5), torch.full((4, 5, 5), 3), "100 of 100 labels are 3 or more"),
    ("tversky", torch.zeros(4), torch.zeros(4), r"\[N, \.\.\.\] with at least one dimension of places"),
    ("lovasz_hinge", torch.zeros(4, 5), -torch.ones(4, 5), r"\(labels \+ 1\) / 2"),
    ("lovasz_softmax", torch.zeros(4, 3, 5), torch.full((4, 5), -1), "20 of 20 labels are negative"),
    ("lovasz_softmax", torch.zeros(4, 1, 5), torch.zeros(4, 5).long(), "single column"),
]


@pytest.mark.parametrize(("loss", "outputs", "labels", "says"), BREACHES)
def test_check_names_the_breach(loss, outputs, labels, says):
    with pytest.raises(ModelspaceError, match=says):
        resolve(loss).check(outputs, labels)


def test_check_accepts_what_fits_in_every_form():
    for name, outputs, labels in (
        ("logistic", HALF, torch.tensor([1.0, -1.0, 1.0, -1.0])),
        ("logistic", LOGITS, torch.tensor([0, 1, 2, 2])),
        ("cross_entropy", LOGITS, torch.tensor([0, 1, 2, 2], dtype=torch.uint8)),
        ("cross_entropy", LOGITS, torch.full((4, 3), 1 / 3)),
        ("binary_cross_entropy", HALF, torch.tensor([0, 1, 1, 0])),
        ("huber", HALF, torch.arange(4)),
        ("tweedie", HALF, torch.arange(4)),
        ("gaussian", torch.zeros(4, 2), torch.arange(4)),
        (nn.CrossEntropyLoss(ignore_index=-1), LOGITS, torch.tensor([0, -1, 2, 1])),
    ):
        resolve(name).check(outputs.requires_grad_(), labels)


PAIRED = [loss for loss in ms.CATALOGUE.values() if isinstance(loss, ms.MarginLoss | ms.RegressionLoss)]


@pytest.mark.parametrize("loss", [*PAIRED, ms.BinaryCrossEntropy()], ids=str)
def test_nothing_broadcasts(loss):
    for outputs, labels, fix in (
        ((8, 1), (8,), r"outputs\.squeeze\(-1\)"),
        ((8,), (8, 1), r"labels\.squeeze\(-1\)"),
        ((8, 3), (3,), "make the two shapes equal"),
        ((8,), (), "make the two shapes equal"),
    ):
        shapes = re.escape(
            f"{loss.name} received outputs of shape {[*outputs]} and labels of shape {[*labels]}"
        )
        with pytest.raises(ModelspaceError, match=f"{shapes}.*does not broadcast; .*{fix}"):
            loss(torch.ones(outputs), torch.ones(labels))
        with pytest.raises(ModelspaceError, match="does not broadcast"):
            vmap(loss)(torch.ones(2, *outputs), torch.ones(2, *labels))


@pytest.mark.parametrize(
    "loss", list(dict.fromkeys(c.loss for c in CASES if isinstance(c.loss, ms.MarginLoss))), ids=str
)
def test_margin_losses_refuse_other_codings_and_classes_without_an_output(loss):
    with pytest.raises(ModelspaceError, match=rf"{loss.name} expects labels \+1 and -1.*2 \* labels - 1"):
        loss.check(torch.zeros(4), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(ModelspaceError, match=r"3 or more .*the model has 3 outputs"):
        loss.check(torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize(
    "loss", list(dict.fromkeys(c.loss for c in CASES if isinstance(c.loss, ms.MulticlassLoss))), ids=str
)
def test_multiclass_losses_refuse_one_column_and_one_hot_labels(loss):
    with pytest.raises(ModelspaceError, match="single column"):
        loss(torch.zeros(4, 1), CLASSES)
    with pytest.raises(ModelspaceError, match=r"labels\.argmax\(1\)"):
        loss(LOGITS, torch.zeros(4, 3).long())
    with pytest.raises(ModelspaceError, match="2 of 4 labels are 3 or more"):
        loss.check(LOGITS, torch.tensor([0, 3, 3, 1]))


EDGES = [(loss, name, allowed) for loss in ms.CATALOGUE.values() for name, allowed in loss.ranges().items()]


@pytest.mark.parametrize(
    ("loss", "name", "allowed"), EDGES, ids=lambda x: getattr(x, "name", x if isinstance(x, str) else "")
)
def test_parameters_are_held_to_their_ranges(loss, name, allowed):
    """At both limits and beyond, as the words of the range say."""
    least, most = (1e-9 if word in allowed.expected else 0 for word in ("at least", "at most"))
    says = (
        rf"{name} must be {re.escape(allowed.expected)}; received|several values go as a column, one a member"
    )
    for value in (allowed.low - least, allowed.high + most, math.nan, "much", [0.5, 0.6]):
        with pytest.raises(ModelspaceError, match=says):
            type(loss)(**{name: value})
    for value in (allowed.low + (0 if least else 1e-9), min(allowed.high - (0 if most else 1e-9), 1e6)):
        assert type(loss)(**{name: value}).hyperparameters()[name] == value


def test_what_is_wrong_with_parameters_is_said_in_words():
    for make, says in (
        (lambda: ms.Focal(-1.0), "focusing exponent gamma must be a number of at least 0; received -1.0"),
        (lambda: ms.Huber(0.0), "threshold delta must be a positive number; received 0.0"),
        (lambda: ms.Tukey(math.inf), "scale scale must be a positive number; received inf"),
        (
            lambda: ms.LabelSmoothing(1.0),
            "label smoothing smoothing must be at least 0 and below 1; received 1.0",
        ),
        (lambda: ms.GeneralisedCrossEntropy(0.0), "exponent q must be above 0 and at most 1; received 0.0"),
        (lambda: ms.Tweedie(2.0), "variance power power must be above 1 and below 2; received 2.0"),
        (lambda: ms.Asymmetric(-1, -2), "gamma_positive must .*; .*gamma_negative must"),
    ):
        with pytest.raises(ModelspaceError, match=says):
            make()
