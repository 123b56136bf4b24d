import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.cases import ARCHITECTURES, DummyNet, FrozenBackbone, Residual, mlp, named
from support.sampled import sampled
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError


def loss(module, inputs, labels):
    with torch.no_grad():
        return float(F.cross_entropy(module.eval()(inputs), labels))


def test_the_lecture_s_two_nets_are_one_space_and_two_points():
    a, b = DummyNet(), DummyNet()
    found = ms.compare(a, b)
    assert found.same_space
    assert found.same_point is False
    assert found.differences == ()
    assert ms.compare(a, copy.deepcopy(a)).same_point is True


@pytest.mark.parametrize("case", sampled([c for c in ARCHITECTURES if c.fallback is None], 3), ids=str)
def test_two_seeds_of_every_architecture(case):
    a, b = case.space().sample(seeds=2).modules()
    data = case.data()
    found = ms.compare(
        a, b, inputs=data.test.inputs, labels=data.test.labels, loss=case.loss, points=3, space=case.space()
    )
    assert found.same_space
    assert not found.same_point
    assert found.output_distance > 0
    assert ms.compare(a, copy.deepcopy(a), inputs=data.test.inputs).output_distance == 0


def test_one_number_or_one_buffer_makes_another_point():
    a = Residual()
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.head.bias[0] = torch.nextafter(b.head.bias[0], torch.tensor(9.0))
    assert not ms.compare(a, b).same_point
    c = copy.deepcopy(a)
    c.norm1.running_mean[0] += 1
    found = ms.compare(a, c)
    assert found.same_space
    assert not found.same_point
    assert found.distance.l2 == 0


def test_distances_are_numpy_s():
    a, b = mlp(), mlp()
    found = ms.compare(a, b)
    p, q = (np.concatenate([x.detach().double().numpy().ravel() for x in m.parameters()]) for m in (a, b))
    norm = np.linalg.norm
    assert np.isclose(found.distance.l2, norm(p - q))
    assert np.isclose(found.distance.relative, norm(p - q) / ((norm(p) + norm(q)) / 2))
    assert np.isclose(found.distance.cosine, p @ q / (norm(p) * norm(q)))
    assert np.isclose(found.distance.l2**2, sum(block.l2**2 for block in found.blocks))
    assert [block.name for block in found.blocks] == [name for name, _ in a.named_parameters()]


def test_outputs_and_disagreement_are_the_plain_modules():
    a, b, x = mlp(), mlp(), torch.randn(50, 6)
    with torch.no_grad():
        p, q = a(x).double().numpy(), b(x).double().numpy()
    found = ms.compare(a, b, inputs=x)
    assert found.inputs == 50
    assert np.isclose(found.output_distance, np.sqrt(((p - q) ** 2).mean()))
    assert np.isclose(found.output_scale, np.sqrt((p.var(0).mean() + q.var(0).mean()) / 2))
    assert np.isclose(found.disagreement, (p.argmax(1) != q.argmax(1)).mean())


def test_permuted_hidden_units_are_a_far_point_and_the_same_function():
    a = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3)).double()
    b = copy.deepcopy(a)
    order = torch.randperm(32)
    with torch.no_grad():
        b[0].weight.copy_(a[0].weight[order])
        b[0].bias.copy_(a[0].bias[order])
        b[2].weight.copy_(a[2].weight[:, order])
    x, y = torch.randn(40, 6), torch.randint(3, (40,))
    found = ms.compare(a, b, inputs=x, labels=y)
    assert found.same_space
    assert not found.same_point
    assert found.distance.relative > 1
    assert found.output_distance < 1e-14
    assert found.disagreement == 0
    assert np.isclose(found.path_losses[0], found.path_losses[-1])


def test_the_line_is_made_of_plain_modules_and_ends_at_the_two():
    space = ms.ModelSpace(Residual)
    x, y = torch.randn(20, 2, 4, 4), torch.randint(3, (20,))
    a, b = space.draw(0), space.draw(1)
    a.train()(x)
    found = ms.compare(a, b, inputs=x, labels=y, points=5)
    assert found.path == (0.0, 0.25, 0.5, 0.75, 1.0)
    state = a.state_dict(), b.state_dict()
    for alpha, value in zip(found.path, found.path_losses, strict=True):
        between = Residual()
        between.load_state_dict(
            {
                n: (1 - alpha) * state[0][n] + alpha * state[1][n] if v.is_floating_point() else v
                for n, v in state[0].items()
            }
        )
        assert np.isclose(value, loss(between, x, y), rtol=1e-5)
    chord = (1 - np.array(found.path)) * found.path_losses[0] + np.array(found.path) * found.path_losses[-1]
    assert np.isclose(found.barrier, max(0, (np.array(found.path_losses) - chord).max()))
    assert found.loss == "cross_entropy"


def test_comparing_changes_neither_network():
    a, b = Residual(), Residual()
    a.train()
    before = copy.deepcopy(a.state_dict())
    ms.compare(a, b, inputs=torch.randn(4, 2, 4, 4), labels=torch.tensor([0, 1, 2, 0]))
    assert a.training
    assert all(torch.equal(value, before[name]) for name, value in a.state_dict().items())


def test_different_architectures_name_every_difference():
    a = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    b = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))
    x = torch.randn(9, 6)
    found = ms.compare(a, b, inputs=x, labels=torch.zeros(9, dtype=torch.long), names=("small", "large"))
    assert not found.same_space
    assert found.same_point is None
    assert found.distance is None
    assert found.differences == (
        "only small has 2.bias (3,)",
        "0.weight is (4, 6) in small and (5, 6) in large",
        "0.bias is (4,) in small and (5,) in large",
        "2.weight is (3, 4) in small and (3, 5) in large",
    )
    assert found.output_distance > 0, "their functions can be compared all the same"
    assert found.barrier is None
    assert "small and large are points of different spaces" in repr(found)


def test_another_activation_is_another_space():
    relu, tanh = (
        nn.Sequential(nn.Linear(3, 4), activation, nn.Linear(4, 2)) for activation in (nn.ReLU(), nn.Tanh())
    )
    tanh.load_state_dict(relu.state_dict())
    found = ms.compare(relu, tanh, names=("relu", "tanh"))
    assert not found.same_space
    assert found.differences == ("1 is ReLU() in relu and Tanh() in tanh",)


def test_writing_in_place_is_the_same_space():
    plain, in_place = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=flag)) for flag in (False, True))
    assert ms.compare(plain, in_place).same_space


def test_other_frozen_values_are_another_space():
    first = FrozenBackbone()
    second = FrozenBackbone()
    found = ms.compare(first, second)
    assert not found.same_space
    assert any("backbone.0.weight" in difference for difference in found.differences)


def test_what_does_not_fit_is_said():
    a, b = mlp(), mlp()
    with pytest.raises(ModelspaceError, match="labels need inputs"):
        ms.compare(a, b, labels=torch.zeros(3))
    with pytest.raises(ModelspaceError, match="received points=1"):
        ms.compare(a, b, points=1)
    with pytest.raises(ModelspaceError, match=r"layer 0 \(Linear\) received \[4, 5\]"):
        ms.compare(a, b, inputs=torch.zeros(4, 5))


def test_regression_outputs_have_no_predictions():
    case = named("MLP tanh")
    a, b = (nn.Sequential(nn.Linear(6, 1)) for _ in range(2))
    assert ms.compare(a, b, inputs=case.data().test.inputs).disagreement is None


def test_it_reads_as_a_table():
    a, b = DummyNet(), DummyNet()
    text = repr(ms.compare(a, b, inputs=torch.randn(8, 3, 7, 7), labels=torch.arange(8)))
    assert [line.split()[0] for line in text.splitlines()] == [
        "space",
        "point",
        "parameters",
        "outputs",
        "predictions",
        "line",
    ]
    assert "&lt;b&gt;" in ms.compare(a, nn.Linear(2, 2), names=("<b>", "c"))._repr_html_()


class Wave(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(3, 5, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(self.w.dtype) @ self.w.T).abs()


def test_distances_of_complex_coordinates_are_those_of_two_real_ones_each():
    torch.manual_seed(0)
    a, b = Wave(), Wave()
    found = ms.compare(a, b)
    pairs = [torch.view_as_real(m.w.detach()).flatten() for m in (a, b)]
    assert found.distance.l2 == pytest.approx(float((pairs[0] - pairs[1]).norm()), rel=1e-12)
    cosine = torch.nn.functional.cosine_similarity(pairs[0], pairs[1], 0)
    assert found.distance.cosine == pytest.approx(float(cosine), rel=1e-12)
