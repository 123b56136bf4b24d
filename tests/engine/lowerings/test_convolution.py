"""The lowering of convolution against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.engine.lowerings import lowered

MEMBERS = 3
FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@st.composite
def problems(draw):
    spatial = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    each = lambda strategy: st.one_of(strategy, st.tuples(*[strategy] * spatial))  # noqa: E731
    kernel = draw(st.tuples(*[st.integers(1, 3)] * spatial))
    dilation = draw(each(st.integers(1, 2)))
    padding = draw(st.one_of(each(st.integers(0, 2)), st.sampled_from(["valid", "same"])))
    stride = 1 if padding == "same" else draw(each(st.integers(1, 3)))
    return {
        "spatial": spatial,
        "kernel": kernel,
        "batch": draw(st.sampled_from([None, 1, 2])),
        "size": tuple(draw(st.integers(5, 7)) for _ in range(spatial)),
        "channels": (groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))),
        "bias": draw(st.booleans()),
        "own": draw(st.booleans()),
        "arguments": {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    }


def tensors(problem):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    channels, out = problem["channels"]
    groups = problem["arguments"]["groups"]
    batch = () if problem["batch"] is None else (problem["batch"],)
    own = (MEMBERS,) if problem["own"] else ()
    x = normal(*own, *batch, channels, *problem["size"])
    w = normal(MEMBERS, out, channels // groups, *problem["kernel"])
    return x, w, normal(MEMBERS, out) if problem["bias"] else None


# torch's own convolution, the other side of the comparison, says this once.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=80, deadline=None)
@given(problems())
def test_values_and_gradients_are_torch_s(problem):
    function, arguments = FUNCTIONS[problem["spatial"]], problem["arguments"]
    x, w, b = tensors(problem)

    def one(x, w, b):
        with lowered(None, batched=True):
            return function(x, w, b, **arguments)

    ours = torch.vmap(one, in_dims=(0 if problem["own"] else None, 0, 0 if b is not None else None))(x, w, b)
    theirs = torch.stack(
        [
            function(x[k] if problem["own"] else x, w[k], None if b is None else b[k], **arguments)
            for k in range(MEMBERS)
        ]
    )
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)
    leaves = [t for t in (x, w, b) if t is not None]
    cotangent = torch.linspace(-1, 1, theirs.numel(), dtype=torch.float64).sin().view(theirs.shape)
    found = torch.autograd.grad(ours, leaves, cotangent)
    expected = torch.autograd.grad(theirs, leaves, cotangent)
    for received, wanted in zip(found, expected, strict=True):
        assert torch.allclose(received, wanted, rtol=1e-10, atol=1e-10)


def test_a_kernel_that_all_members_share():
    x, w = torch.randn(MEMBERS, 2, 3, 6, 6), torch.randn(4, 3, 3, 3)

    def one(x):
        with lowered(None, batched=True):
            return F.conv2d(x, w)

    stacked = torch.vmap(one)(x)
    assert torch.allclose(stacked, torch.stack([F.conv2d(row, w) for row in x]), atol=1e-5)


def test_the_loop_calls_torch_itself():
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    with lowered(None, batched=False):
        assert torch.equal(F.conv2d(x, w), torch.conv2d(x, w))
