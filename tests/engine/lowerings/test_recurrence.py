import pytest
import torch
from torch.func import grad, jvp
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.engine.lowerings.recurrence import GRU, LSTM, RNN_RELU, RNN_TANH, recurrence, tanh

TIME, ROWS, FEATURES, HIDDEN, BATCH = 4, 3, 2, 3, 5
CELLS = {"LSTM": (LSTM, 4), "GRU": (GRU, 3), "RNN tanh": (RNN_TANH, 1), "RNN relu": (RNN_RELU, 1)}
every_cell = pytest.mark.parametrize("name", CELLS)
every_size = pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (5, 4, 2, 2)], ids=["even", "ending early"])


def problem(name, projected=None, bias=True):
    """The cell, and the tensors of a recurrence whose rows all have their own inputs."""
    cell, gates = CELLS[name]
    shapes = [
        (TIME, ROWS, FEATURES, BATCH),
        (ROWS, gates * HIDDEN, FEATURES),
        (ROWS, gates * HIDDEN, projected or HIDDEN),
        (ROWS, gates * HIDDEN) if bias else None,
        (ROWS, gates * HIDDEN) if bias else None,
        (ROWS, projected, HIDDEN) if projected else None,
        (ROWS, projected or HIDDEN, BATCH),
        *[(ROWS, HIDDEN, BATCH)] * (cell.states - 1),
    ]
    return cell, [s and torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]


def weighted(results):
    """A number that depends on all results."""
    return sum((r.sin() * torch.arange(1.0, r.numel() + 1).view(r.shape)).sum() for r in results)


@every_size
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("name", "projected"), [*((name, None) for name in CELLS), ("LSTM", 2)])
def test_gradients_are_those_of_finite_differences(name, projected, bias, sizes):
    cell, given = problem(name, projected, bias)
    there = [i for i, tensor in enumerate(given) if tensor is not None]

    def function(*tensors):
        filled = list(given)
        for i, tensor in zip(there, tensors, strict=True):
            filled[i] = tensor
        return recurrence(cell, sizes, *filled)

    torch.autograd.gradcheck(function, [given[i] for i in there], fast_mode=True)


@every_size
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN tanh"])
def test_second_derivatives(name, sizes):
    cell, given = problem(name)

    def function(*given):
        return recurrence(cell, sizes, *given[:5], None, *given[5:])

    there = [tensor for tensor in given if tensor is not None]
    torch.autograd.gradgradcheck(function, there, fast_mode=True)


# torch's own rules of forward differentiation say this once.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@every_cell
def test_function_transforms_see_the_same(name):
    cell, given = problem(name)
    inputs, *rest = given

    def function(inputs):
        return weighted(recurrence(cell, (BATCH,) * TIME, inputs, *rest))

    (expected,) = torch.autograd.grad(function(inputs), inputs)
    assert torch.allclose(grad(function)(inputs), expected, rtol=1e-11, atol=1e-11)
    direction = torch.randn_like(inputs)
    _, along = jvp(function, (inputs,), (direction,))
    assert torch.allclose(along, (expected * direction).sum(), rtol=1e-10)


@every_cell
def test_rows_that_share_their_inputs(name):
    cell, (inputs, of_input, *rest) = problem(name)
    shared = inputs[:, :1]
    wide = recurrence(cell, (BATCH,) * TIME, shared, of_input.view(1, -1, FEATURES), *rest)
    each = recurrence(cell, (BATCH,) * TIME, shared.expand_as(inputs), of_input, *rest)
    for ours, theirs in zip(wide, each, strict=True):
        assert torch.allclose(ours, theirs)


@every_cell
def test_columns_that_end_early_keep_their_state(name):
    cell, given = problem(name)
    outputs, *last = recurrence(cell, (5, 4, 2, 2), *given)
    assert (outputs[1, :, :, 4:] == 0).all()
    assert torch.equal(last[0][..., 4], outputs[0, ..., 4])
    assert torch.equal(last[0][..., 2:4], outputs[1, ..., 2:4])
    assert torch.equal(last[0][..., :2], outputs[3, ..., :2])


def test_without_gradients_nothing_is_kept():
    cell, given = problem("LSTM")
    with torch.no_grad():
        assert recurrence(cell, (BATCH,) * TIME, *given)[0].grad_fn is None


def traced(x):
    return make_fx(tanh)(x)(x)


def test_the_traced_tanh_is_tanh():
    x = torch.cat([torch.linspace(-12, 12, 200_001), torch.logspace(-38, 20, 100_001), torch.zeros(1)])
    exact = x.double().tanh()
    error = (traced(x).double() - exact).abs() / exact.abs().clamp_min(2.0**-126)
    assert float(error.max()) < 5 * 2.0**-24
    assert traced(torch.tensor([float("inf"), float("-inf")])).tolist() == [1, -1]
    assert traced(torch.tensor([float("nan")])).isnan().all()


def test_other_tanhs_are_torch_s():
    x = torch.randn(1000)
    assert torch.equal(tanh(x), x.tanh())
    assert torch.equal(traced(x.double()), x.double().tanh())
    assert torch.equal(traced(x.bfloat16()), x.bfloat16().tanh())
