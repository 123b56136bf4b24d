import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.errors import ModelspaceError
from modelspace.losses import BinaryCrossEntropy, CrossEntropy, Hinge, LeastSquares, Logistic

least_squares, logistic, hinge, cross_entropy = LeastSquares(), Logistic(), Hinge(), CrossEntropy()
binary_cross_entropy = BinaryCrossEntropy()


def batch(kind: str, *shape: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(shape) * 7 + shape[0])
    outputs = 3 * torch.randn(*shape, generator=generator, dtype=dtype)
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    if kind == "classes":
        return outputs, torch.randint(0, shape[-1], shape[:-1], generator=generator)
    if kind == "probability":
        return outputs.sigmoid(), (signs + 1) // 2
    if kind == "signs":
        return outputs, signs
    return outputs, torch.randn(*shape, generator=generator, dtype=dtype)


# Function, labels, torch's exactly equal function, gradient in closed form by z.
CASES = {
    "least_squares": (
        least_squares,
        "real",
        lambda z, y: 0.5 * F.mse_loss(z, y, reduction="none"),
        lambda z, y: z - y,
    ),
    "logistic": (
        logistic,
        "signs",
        lambda z, y: F.soft_margin_loss(z, y.to(z), reduction="none"),
        lambda z, y: -y * torch.sigmoid(-y * z),
    ),
    "hinge": (
        hinge,
        "signs",
        lambda z, y: F.margin_ranking_loss(z, torch.zeros_like(z), y.to(z), margin=1, reduction="none"),
        lambda z, y: -y.to(z) * (y * z < 1),
    ),
    "binary": (
        binary_cross_entropy,
        "probability",
        lambda z, y: nn.BCELoss(reduction="none")(z, y.to(z)),
        lambda z, y: (z - y) / (z * (1 - z)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_torch_function_of_the_same_formula(case):
    function, kind, reference, _ = CASES[case]
    outputs, labels = batch(kind, 32)
    each = reference(outputs, labels)
    torch.testing.assert_close(function(outputs, labels, reduction="none"), each, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(function(outputs, labels), each.mean(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(function(outputs, labels, reduction="sum"), each.sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_closed_form(case):
    function, kind, _, slope = CASES[case]
    outputs, labels = batch(kind, 32)
    gradient = grad(lambda z: function(z, labels, reduction="sum"))(outputs)
    torch.testing.assert_close(gradient, slope(outputs, labels), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", [*CASES, "classes"])
def test_vmap_and_traced_gradients_equal_the_loop(case, dtype):
    function, kind = (cross_entropy, "classes") if case == "classes" else CASES[case][:2]
    outputs, labels = (
        batch(kind, 5, 6, 3, dtype=dtype) if case == "classes" else batch(kind, 5, 6, dtype=dtype)
    )
    loop = torch.stack([grad(function)(z, y) for z, y in zip(outputs, labels, strict=True)])
    assert loop.dtype is dtype
    # fx counts keyword-only arguments among the positional ones, so it traces a function without any.
    batched = vmap(grad(lambda z, y: function(z, y)))
    torch.testing.assert_close(batched(outputs, labels), loop)
    torch.testing.assert_close(make_fx(batched)(outputs, labels)(outputs, labels), loop)


def test_none_of_the_lecture_s_classes_is_its_formula():
    z, y = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0])
    assert nn.MSELoss()(z, y) == 2 * least_squares(z, y)
    assert nn.CrossEntropyLoss()(z, y) != binary_cross_entropy(z.clamp(max=1), y)


@given(st.floats(-1000, 1000), st.sampled_from([-1, 1]))
@settings(max_examples=200, deadline=None)
def test_logistic_is_exact_for_every_margin(z, y):
    v = y * z
    exact = max(-v, 0.0) + math.log1p(math.exp(-abs(v)))
    value = logistic(torch.tensor([z], dtype=torch.float64), torch.tensor([y]))
    assert value.item() == pytest.approx(exact, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logistic_at_extreme_margins_stays_finite(dtype):
    outputs = torch.tensor([-1000.0, 1000.0], dtype=dtype, requires_grad=True)
    value = logistic(outputs, torch.tensor([1, 1]), reduction="none")
    value.sum().backward()
    assert value.tolist() == [1000.0, 0.0]
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [-1.0, 0.0]
    overflowing = F.soft_margin_loss(outputs.float(), torch.ones(2), reduction="none")
    assert overflowing[0] == math.inf, "torch repaired soft_margin_loss: say so in the docstring"


def test_hinge_at_the_kink_has_torch_s_subgradient():
    z, one = torch.ones(1), torch.ones(1)
    reference = grad(lambda x: F.margin_ranking_loss(x, torch.zeros(1), one, margin=1))(z)
    assert grad(lambda x: hinge(x, one))(z) == reference == -1


def test_binary_form_clamps_the_logarithm():
    value = binary_cross_entropy(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1, 0, 1]), reduction="none")
    assert value.tolist() == [100.0, 100.0, 0.0]


@pytest.mark.parametrize("shape", [(8, 4), (8, 4, 5), (8, 4, 2, 3)])
def test_class_form_is_minus_log_softmax_of_the_label(shape):
    outputs = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(outputs[:, 0].numel()).reshape(outputs[:, 0].shape) % 4
    each = -outputs.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(cross_entropy(outputs, labels, reduction="none"), each)
    torch.testing.assert_close(cross_entropy(outputs, labels.int()), each.mean())
    soft = torch.movedim(F.one_hot(labels, 4), -1, 1).to(outputs)
    torch.testing.assert_close(cross_entropy(outputs, soft), each.mean())


@pytest.mark.parametrize("function", [least_squares, logistic, hinge])
@pytest.mark.parametrize(
    ("outputs", "labels", "fix"),
    [
        ((8, 1), (8,), r"outputs of shape \[8, 1\] and labels of shape \[8\].*outputs\.squeeze\(-1\)"),
        ((8,), (8, 1), r"outputs of shape \[8\] and labels of shape \[8, 1\].*labels\.squeeze\(-1\)"),
        ((8, 3), (3,), r"\[8, 3\] and labels of shape \[3\].*make the two shapes equal"),
        ((8,), (), r"\[8\] and labels of shape \[\].*make the two shapes equal"),
    ],
)
def test_nothing_broadcasts(function, outputs, labels, fix):
    with pytest.raises(ModelspaceError, match=fix):
        function(torch.ones(outputs), torch.ones(labels))
    with pytest.raises(ModelspaceError, match="does not broadcast"):
        vmap(function)(torch.ones(2, *outputs), torch.ones(2, *labels))


@pytest.mark.parametrize(
    ("outputs", "labels", "fix"),
    [
        (torch.ones(8), torch.ones(8), r"outputs \[N, C, ...\] with one column for each"),
        (torch.ones(8, 1), torch.zeros(8).long(), r"single column.*squeeze\(1\) with the logistic loss"),
        (torch.ones(8, 1), torch.zeros(8, 1), "single column"),
        (torch.ones(8, 3), torch.zeros(8), r"torch\.float32: it expects integer class labels"),
        (torch.ones(8, 3), torch.zeros(8, 3).long(), r"expects labels of shape \[8\].*argmax\(1\)"),
        (torch.ones(8, 3), torch.zeros(8, 1).long(), r"labels\.squeeze\(1\)"),
        (torch.ones(8, 3), torch.zeros(7).long(), r"\[8, 3\] and labels of shape \[7\]: it expects .*\[8\]"),
        (torch.ones(8, 3, 5), torch.zeros(8).long(), r"it expects labels of shape \[8, 5\]"),
        (torch.tensor(1.0), torch.tensor(1), r"outputs \[N, C, ...\] with one column for each"),
    ],
)
def test_cross_entropy_refuses_shapes_that_fit_no_form(outputs, labels, fix):
    with pytest.raises(ModelspaceError, match=fix):
        cross_entropy(outputs, labels)


@pytest.mark.parametrize("function", [least_squares, logistic, hinge, binary_cross_entropy])
def test_an_unknown_reduction_is_named(function):
    with pytest.raises(ModelspaceError, match="unknown reduction 'average'"):
        function(torch.ones(3), torch.ones(3), reduction="average")
