"""What every optimizer promises, over one list of them."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optimizers.truth import CASES, MEMBERS, arguments, problem, relative_error, trained, trained_by_torch
from torch.fx.experimental.proxy_tensor import make_fx

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

every_case = pytest.mark.parametrize("case", CASES, ids=str)
# Without shrinking, which would take minutes on a defect that every example shows.
few = settings(
    deadline=None,
    max_examples=6,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)


@every_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@few
@given(data=st.data())
def test_every_member_is_trained_as_torch_trains_it_alone(case, dtype, data):
    columns = data.draw(case.columns())
    posed = problem(dtype, seed=data.draw(st.integers(0, 99)))
    received = trained(case.optimizer, columns, posed)
    assert received.dtype == dtype
    assert relative_error(received, trained_by_torch(case, columns, posed)) <= TOLERANCE[dtype]


@every_case
@few
@given(data=st.data())
def test_the_other_members_change_no_bit(case, data):
    columns = data.draw(case.columns())
    rows = data.draw(st.permutations(range(MEMBERS)))[: data.draw(st.integers(1, MEMBERS))]
    posed = problem(torch.float32)
    together = trained(case.optimizer, columns, posed)
    assert torch.equal(trained(case.optimizer, columns, posed, rows), together[rows])


@every_case
@few
@given(data=st.data())
def test_traced_is_eager(case, data):
    columns = data.draw(case.columns())
    posed = problem(torch.float32)
    first = arguments(case.optimizer, columns, posed, list(range(MEMBERS)))
    # make_fx counts the arguments of a bound method wrongly.
    graph = make_fx(lambda *given: case.optimizer.update(*given))(*first)
    traced = trained(case.optimizer, columns, posed, update=graph)
    assert torch.equal(traced, trained(case.optimizer, columns, posed))


@every_case
def test_an_update_changes_none_of_its_arguments(case):
    posed = problem(torch.float64)
    given_ = arguments(case.optimizer, {}, posed, list(range(MEMBERS)))
    before = [torch.clone(leaf) for leaf in torch.utils._pytree.tree_leaves(given_)]
    points, state = case.optimizer.update(*given_)
    assert all(map(torch.equal, before, torch.utils._pytree.tree_leaves(given_)))
    assert state.keys() == case.optimizer.init(points).keys()


@every_case
def test_a_diverged_member_stays_alone(case):
    posed = problem(torch.float64)
    columns = {"lr": [0.01] * MEMBERS}
    healthy = trained(case.optimizer, columns, posed)
    posed.noise[3, 2] = torch.nan
    received = trained(case.optimizer, columns, posed)
    others = [0, 1, 3, 4]
    assert received[2].isnan().all()
    assert torch.equal(received[others], healthy[others])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own imports
@every_case
def test_compiled_is_eager(case):
    posed = problem(torch.float32)
    columns = {"lr": [0.001, 0.003, 0.01, 0.03, 0.1]}
    torch._dynamo.reset()  # it counts every optimizer as one more compilation of the same code
    compiled = torch.compile(case.optimizer.update, fullgraph=True)
    received = trained(case.optimizer, columns, posed, update=compiled)
    assert relative_error(received, trained(case.optimizer, columns, posed)) <= 1e-5


@every_case
def test_the_defaults_are_those_of_torch(case):
    torchs = case.torchs([torch.zeros(1)], **({"momentum": 0.9} if "nesterov" in case.booleans else {}))
    for name, value in case.optimizer.hyperparameters().items():
        if not (name == "momentum" and "nesterov" in case.booleans):
            assert torchs.defaults[name] == value
