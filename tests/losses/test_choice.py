import torch
from torch.func import grad, vmap

from modelspace.losses import Choice, CrossEntropy, Given, Hinge, Logistic

AMONG = (Logistic(), Hinge(), CrossEntropy())
OUTPUTS = torch.randn(3, 5, 4, dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 1, 2])


def test_each_member_has_its_own():
    choice, place = Choice(AMONG), torch.tensor([2.0, 0.0, 1.0])

    def value(outputs, place):
        return choice.at({"loss": place})(outputs, LABELS)

    found = vmap(value)(OUTPUTS, place)
    slopes = vmap(grad(value))(OUTPUTS, place)
    for k, loss in enumerate((AMONG[2], AMONG[0], AMONG[1])):
        assert torch.allclose(found[k], loss(OUTPUTS[k], LABELS))
        assert torch.allclose(slopes[k], grad(lambda z, loss=loss: loss(z, LABELS))(OUTPUTS[k]))


def test_what_overflows_in_one_loss_leaves_no_trace_in_another():
    explosive = Given("explosive", lambda z, y: torch.exp(z.square()).sum())
    choice = Choice((explosive, Hinge()))
    outputs = 100 * OUTPUTS[0]
    slope = grad(lambda z, place: choice.at({"loss": place})(z, LABELS))
    assert not slope(outputs, torch.tensor(0.0)).isfinite().all()
    assert torch.equal(slope(outputs, torch.tensor(1.0)), grad(lambda z: Hinge()(z, LABELS))(outputs))


def test_per_label_values_are_the_chosen_ones():
    choice = Choice(AMONG, loss=1)
    assert torch.equal(choice(OUTPUTS[0], LABELS, reduction="none"), Hinge().each(OUTPUTS[0], LABELS))
    assert str(choice) == "logistic|hinge|cross_entropy"
    assert choice.places(["hinge", "hinge", "logistic"]) == [1, 1, 0]
