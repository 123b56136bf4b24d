"""The lowering of convolutions against torch's own, member after member; and which of two forms it takes."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.engine.lowerings import convolution, lowered
from modelspace.engine.lowerings.convolution import grouped_is_faster

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
    given = [x for x in tensors(problem) if x is not None]
    own = [problem["own"], True, True][: len(given)]
    assert_lowered(lambda *x: function(*x, **arguments), given, own, 1e-10)


def test_a_kernel_that_all_members_share():
    x, w = torch.randn(MEMBERS, 2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    assert_lowered(F.conv2d, [x, w], [True, False], 1e-5)


def test_the_loop_calls_torch_itself():
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    with lowered(None, batched=False):
        assert torch.equal(F.conv2d(x, w), torch.conv2d(x, w))


ONES = ((1, 1), (1, 1), (1, 1))


@pytest.fixture(params=[0.5, 3.0], ids=["columns", "grouped"])
def gain(request, monkeypatch):
    monkeypatch.setattr(convolution, "gain", lambda name, trial: request.param)
    return request.param


@pytest.mark.parametrize("own", [False, True])
def test_both_forms_are_the_convolution(gain, own):
    x = torch.randn(*([MEMBERS] if own else []), 4, 2, 6, 5, dtype=torch.float64).requires_grad_()
    w = torch.randn(MEMBERS, 5, 2, 3, 3, dtype=torch.float64).requires_grad_()
    assert_lowered(lambda x, w: F.conv2d(x, w, stride=2, padding=1), [x, w], [own, True])


def test_a_trial_times_both_forms(monkeypatch):
    timed = []
    monkeypatch.setattr(convolution, "seconds_of", lambda call: timed.append(call()) or 1.0)
    monkeypatch.setattr(convolution, "gain", lambda name, trial: (lambda a, b: a / b)(*trial()))
    x, w = torch.randn(2, 4, 3, 6, 6), torch.randn(2, 5, 3, 3, 3)
    # Columns: laid out, added up again, and four products of which the faster of two counts; grouped: there and back.
    assert grouped_is_faster(x, w, True, *ONES) == (5 / 2 > 1.5)
    assert len(timed) == 7


def test_shapes_without_values_choose_as_the_run_does(gain):
    x, w = torch.empty(2, 4, 3, 6, 6), torch.empty(2, 5, 3, 3, 3)
    assert grouped_is_faster(x.to("meta"), w.to("meta"), True, *ONES) == grouped_is_faster(x, w, True, *ONES)


def test_what_is_too_large_to_be_tried_is_grouped_unless_its_columns_are_the_image(monkeypatch):
    monkeypatch.setattr(convolution, "gain", None)
    x = torch.empty(2, 32, 64, 224, 224, device="meta")
    assert grouped_is_faster(x, torch.empty(2, 64, 64, 3, 3, device="meta"), True, *ONES)
    assert not grouped_is_faster(x, torch.empty(2, 64, 64, 1, 1, device="meta"), True, *ONES)
