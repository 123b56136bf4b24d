import pytest
import torch
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.losses import resolve

HALF = torch.full((4,), 0.5)
LOGITS = torch.zeros(4, 3)

BREACHES = {
    "out of range": (
        "cross_entropy",
        torch.zeros(1078, 10),
        torch.tensor([14, *[10] * 11, *[9] * 1066]),
        r"labels out of range: 12 of 1078 labels are 10 or more \(the largest is 14\), but the model has 10 "
        r"outputs: give it 15 outputs",
    ),
    "negative": (
        "cross_entropy",
        LOGITS,
        torch.tensor([0, -1, -100, 2]),
        r"2 of 4 labels are negative \(the smallest is -100\).*from 0 to 2",
    ),
    "floating classes": ("cross_entropy", LOGITS, torch.zeros(4), "it expects integer class labels"),
    "not a distribution": ("cross_entropy", LOGITS, torch.full((4, 3), 0.5), "sum to 1 .* one sum is 1.5"),
    "negative distribution": ("cross_entropy", LOGITS, -torch.ones(4, 3), "labels between 0 and 1: 12 of 12"),
    "scores as probabilities": (
        "binary_cross_entropy",
        torch.tensor([0.5, 1.5, -2, 0.1]),
        torch.ones(4),
        r"outputs between 0 and 1: 2 of 4 are outside \(the first is 1.5\); end the model in a sigmoid",
    ),
    "signs in the binary form": (
        "binary_cross_entropy",
        HALF,
        torch.tensor([1, -1, 1, 1]),
        r"\(labels \+ 1\) / 2",
    ),
    "zeros in logistic": ("logistic", HALF, torch.tensor([0, 1, 1, 0]), r"2 of 4 .*2 \* labels - 1"),
    "twos in hinge": ("hinge", HALF, torch.tensor([2, 1, 1, -1]), r"the first is 2\); code the two classes"),
    "zeros in soft margin": (
        "soft_margin",
        HALF,
        torch.zeros(4),
        r"soft_margin_loss expects labels \+1 and -1",
    ),
    "signs with logits": ("binary_cross_entropy_with_logits", HALF, -torch.ones(4), "labels between 0 and 1"),
    "not a number": (
        "binary_cross_entropy",
        HALF * torch.nan,
        torch.ones(4),
        "outputs between 0 and 1: 4 of 4",
    ),
    "logits as log-probabilities": (
        "nll",
        LOGITS + 2,
        torch.zeros(4).long(),
        "largest output is 2.*log_softmax",
    ),
    "negative counts": ("poisson_nll", HALF, -torch.ones(4), "smallest label is -1"),
    "integer outputs": ("mse", torch.ones(4).long(), torch.ones(4), "outputs of dtype torch.int64"),
    "classes for quantities": (
        "least_squares",
        LOGITS,
        torch.tensor([0, 1, 2, 0]),
        "use a loss of classes such as 'cross_entropy', or make the labels one-hot",
    ),
    "shapes": ("mse", torch.ones(4, 1), torch.ones(4), r"squeeze\(-1\)"),
    "the user's own": (
        nn.CrossEntropyLoss(),
        LOGITS,
        torch.tensor([0, 1, 2, 7]),
        "CrossEntropyLoss' failed on",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_check_names_the_breach(breach):
    loss, outputs, labels, message = BREACHES[breach]
    with pytest.raises(ModelspaceError, match=message):
        resolve(loss).check(outputs, labels)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels"),
    [
        ("least_squares", torch.randn(4), torch.randn(4)),
        ("logistic", torch.randn(4), torch.tensor([1, -1, 1, -1])),
        ("hinge", torch.randn(4), torch.tensor([1.0, -1.0, 1.0, -1.0])),
        ("cross_entropy", LOGITS, torch.tensor([0, 1, 2, 2], dtype=torch.uint8)),
        ("cross_entropy", LOGITS, torch.full((4, 3), 1 / 3)),
        ("binary_cross_entropy", HALF, torch.tensor([0, 1, 1, 0])),
        (nn.CrossEntropyLoss(ignore_index=-1), LOGITS, torch.tensor([0, -1, 2, 1])),
    ],
)
def test_check_accepts_what_fits(loss, outputs, labels):
    resolve(loss).check(outputs.requires_grad_(), labels)
