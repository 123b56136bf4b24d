"""The contracts on every device that this machine has: its runs are the CPU's, which the plain loop's equal.

Without an accelerator a few architectures stand for all, so that the tests themselves are tried.
"""

import pytest
import torch
from support import plans
from support.cases import BATCHED, CASES, named
from support.plain import relative_error

import modelspace as ms

ACCELERATORS = [
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]
FEW = [named("MLP tanh"), named("dropout"), named("residual BatchNorm"), named("LSTM"), named("attention")]
PLACES = [(device, case) for device in ACCELERATORS for case in CASES] + [("cpu", case) for case in FEW]
EVERY = pytest.mark.parametrize(("device", "case"), PLACES, ids=str)
SETTINGS = {"batch_size": 5, "epochs": 3, "optimizer": ms.SGD(momentum=0.9)}


def precision(device, case):
    """The type that the device computes in, and how far it may differ in it from the CPU.

    Sums are added up in another order. The norm of ``weight_norm`` is rounded otherwise on a GPU, in the plain loop
    too: 9e-9 was seen.
    """
    double = device != "mps" and case.dtype == torch.float32
    if not double:
        return case.dtype, 1e-3
    return torch.float64, 1e-7 if case.name == "weight norm" else 1e-9


def way(case):
    return "vmap" if case in BATCHED else "loop"


def fit(population, case, **settings):
    return plans.fit(population, case.data(), **case.goal, **{**SETTINGS, **settings})


@EVERY
@pytest.mark.filterwarnings("ignore:.* member by member")
def test_a_device_s_run_is_the_cpu_s(device, case):
    dtype, tolerance = precision(device, case)
    population = case.space(dtype).sample(seeds=3, lr=[0.05])
    here = fit(population, case, lowering="loop")
    there = fit(population.to(device), case, compile=False, lowering=way(case))
    assert there.population.device.type == device
    assert relative_error(there.population.points.cpu(), here.population.points) <= tolerance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* member by member")
@pytest.mark.parametrize(("device", "case"), [(d, c) for d, c in PLACES if c in BATCHED], ids=str)
def test_compiled_is_eager(device, case):
    dtype, tolerance = precision(device, case)
    population = case.space(dtype).sample(seeds=4, lr=[0.05]).to(device)
    eager = fit(population, case, lowering="vmap", compile=False)
    compiled = fit(population, case, lowering="vmap", compile=True)
    assert relative_error(compiled.population.points.cpu(), eager.population.points.cpu()) <= tolerance


@pytest.mark.parametrize("device", ACCELERATORS)
@pytest.mark.parametrize("kind", ["16-mixed", "bf16-mixed", "tf32"])
def test_number_formats(device, kind):
    if kind == "tf32" and device != "cuda":
        pytest.skip("tf32 is NVIDIA's")
    case = named("MLP tanh")
    population = case.space().sample(seeds=3, lr=[0.05])
    exact = fit(population, case)
    coarse = fit(population.to(device), case, precision=kind, lowering="vmap")
    # The first updates in float16 are left out, until the loss scale has come down.
    assert relative_error(coarse.population.points.cpu(), exact.population.points) <= 0.1
    assert set(coarse.status) == {"finished"}
