import torch
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.engine.lowerings.recurrence import tanh


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
