"""An ensemble as a module: its members' outputs, its state, its export, what it refuses."""

import io
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from support.cases import CASES
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.data import Split
from modelspace.examples import DummyNet
from modelspace.nest import arguments, only_tensors, tensors

PLAN = {"lowering": "vmap", "shard": 8, "compile": False, "workers": 1}
QUICK = ("DummyNet", "MLP tanh", "residual BatchNorm", "tied embedding", "frozen backbone", "LSTM", "dropout")
UNSTACKED = ("closures over layers", "features kept by a hook")
ACCELERATORS = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
MLP = ms.ModelSpace(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), input_shape=(6,))


def modules_outputs(modules, inputs):
    with torch.no_grad():
        positional, named = arguments(inputs)
        torch.manual_seed(0)
        return [tensors(only_tensors(module.eval()(*positional, **named))) for module in modules]


def cases():
    for case in CASES:
        if case.objective is not None:
            continue  # not called as such
        marks = [] if case.name in QUICK else [pytest.mark.slow]
        yield pytest.param(case, id=case.name, marks=marks)


@pytest.mark.filterwarnings("ignore:.*no batched form")
@pytest.mark.parametrize("case", [*cases()])
def test_outputs_are_the_members(case):
    population, inputs = case.space().sample(seeds=3), case.data().test.inputs
    ensemble = ms.Ensemble(population)
    if case.name in UNSTACKED:
        with pytest.raises(ModelspaceError, match=r"can't be stacked .*neither parameter nor buffer"):
            ensemble.outputs(inputs)
        return
    found = tensors(ensemble.outputs(*arguments(inputs)[0], **arguments(inputs)[1]))
    for k, outputs in enumerate(modules_outputs(population.modules(), inputs)):
        for ours, real in zip(found, outputs, strict=True):
            assert torch.allclose(ours[k], real, rtol=1e-4, atol=1e-5)
    if case.name in QUICK:
        assert [stack.way in ("vmap", "lowered") for stack in ensemble.stacks] == [True]
    again = modules_outputs(ensemble.members, inputs)
    assert all(
        torch.allclose(ours[k], real[0], atol=1e-5) for k, real in enumerate(again) for ours in found[:1]
    )


def test_its_state_is_stacked_and_comes_back():
    x = torch.randn(4, 6)
    ensemble, other = (
        ms.Ensemble(MLP.sample(seeds=seeds), loss="cross_entropy") for seeds in (range(3), range(3, 6))
    )
    state = ensemble.state_dict()
    assert state["stacks.0.net.0.weight"].shape == (3, 8, 6)
    assert not torch.allclose(ensemble(x), other(x))
    ensemble.temperature.fill_(2.0)
    other.load_state_dict(ensemble.state_dict())
    assert torch.equal(ensemble(x), other(x))
    copy = ms.Ensemble(ensemble)
    assert torch.allclose(copy.outputs(x), ensemble.outputs(x))
    assert ensemble.double()(x.double()).dtype == torch.float64


def test_it_is_pickled_and_trained_on():
    space = ms.ModelSpace(DummyNet)
    ensemble, x, y = (
        ms.Ensemble(space.sample(seeds=2), loss="cross_entropy"),
        torch.randn(6, 3, 7, 7),
        torch.arange(6),
    )
    before = ensemble(x)
    assert torch.equal(pickle.loads(pickle.dumps(ensemble))(x), before)
    alone = space.sample(seeds=2).modules()
    for module, outputs in (
        (ensemble.train(), lambda: ensemble.outputs(x)),
        *((m, lambda m=m: m(x)[None]) for m in alone),
    ):
        steps = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(3):
            steps.zero_grad()
            sum(nn.functional.cross_entropy(z, y) for z in outputs()).backward()
            steps.step()
    for k, module in enumerate(alone):
        assert torch.allclose(ensemble.eval().outputs(x)[k], module(x), atol=1e-5)
    assert not torch.allclose(ensemble(x), before)


def test_members_of_several_layouts_and_rates():
    class Net(nn.Sequential):
        def __init__(self, width=4, dropout=0.0):
            super().__init__(nn.Linear(6, width), nn.Dropout(dropout), nn.Linear(width, 3))

    population = ms.ModelSpace(Net, input_shape=(6,)).sample(seeds=2, width=[4, 5], dropout=[0.0, 0.9])
    ensemble, x = ms.Ensemble(population), torch.randn(7, 6)
    assert [len(stack.rows) for stack in ensemble.stacks] == [2, 2, 2, 2]
    for k, outputs in enumerate(modules_outputs(population.modules(), x)):
        assert torch.allclose(ensemble.outputs(x)[k], outputs[0], atol=1e-6)
    with torch.no_grad():
        moving = [
            bool((a != b).any())
            for a, b in zip(ensemble.train().outputs(x), ensemble.outputs(x), strict=True)
        ]
    assert moving == [row.dropout > 0 for row in population.table.itertuples()]
    ones = torch.ones(3, 6)
    with torch.no_grad():  # of one call, members drop units of their own
        outputs = ms.Ensemble([population.module(2)] * 2).train().outputs(ones)
    assert not torch.equal(outputs[0], outputs[1]) or population.table.dropout[2] == 0


@pytest.mark.parametrize("device", ACCELERATORS or ["cpu"])
def test_it_moves_to_a_device(device):
    case = next(case for case in CASES if case.name == "residual BatchNorm")
    ensemble, x = ms.Ensemble(case.space().sample(seeds=3), loss="cross_entropy"), case.data().test.inputs
    with torch.no_grad():
        expected = ensemble(x)
        for moved in (
            ensemble.to(device),
            ms.Ensemble(case.space().sample(seeds=3), loss="cross_entropy").to(device),
        ):
            assert torch.allclose(moved(x.to(device)).cpu(), expected, atol=1e-4)
            assert moved.over(x).device.type == "cpu"


def test_what_is_frozen_and_tied_is_held_once():
    case = next(case for case in CASES if case.name == "frozen backbone")
    population = case.space().sample(seeds=3)
    ensemble = ms.Ensemble(population)
    shared = population.space.shared
    assert ensemble.stacks[0].shared == set(shared)
    assert sum(p.numel() for p in ensemble.parameters()) == 3 * population.space.dimension + sum(
        v.numel() for v in shared.values()
    ) + 3 * sum(population.space.frozen[name].numel() for name in population.space.own_frozen)
    for module in ensemble.members:  # copies: nothing of the ensemble moves with them
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1.0)
    assert all(torch.equal(v, dict(ensemble.stacks[0].net.named_parameters())[n]) for n, v in shared.items())
    case = next(case for case in CASES if case.name == "tied embedding")
    population = case.space().sample(seeds=3)
    assert sum(p.numel() for p in ms.Ensemble(population).parameters()) == 3 * population.space.dimension


def test_a_network_that_writes_into_its_input_leaves_the_caller_s():
    members = [nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)) for _ in range(2)]
    x = torch.randn(4, 6)
    before, ensemble = x.clone(), ms.Ensemble(members)
    for way in ("vmap", "loop"):
        ensemble(x)
        ensemble.stacks[0].way = way
        assert torch.equal(x, before)


def test_a_network_without_a_batched_form_is_computed_one_by_one():
    case = next(case for case in CASES if case.name == "routed experts")
    ensemble = ms.Ensemble(case.space().sample(seeds=2))
    with pytest.warns(UserWarning, match="no batched form .*computed one by one"):
        ensemble.outputs(case.data().test.inputs)
    assert "one by one" in repr(ensemble)


@pytest.fixture(scope="module")
def run():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 6, generator=generator)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    data = ms.data.load((x, y))
    population = MLP.sample(seeds=4, lr=[0.01, 1e39])
    return ms.fit(population, data, optimizer="sgd", epochs=2, plan=PLAN), data


def test_a_run_knows_its_loss_and_who_diverged(run):
    run, data = run
    assert (run.status == "diverged").tolist() == [False] * 4 + [True] * 4
    ensemble = run.ensemble()
    assert len(ensemble) == 4
    assert (str(ensemble.loss), ensemble.combine) == ("cross_entropy", "mean")
    x = data.test.inputs
    with torch.no_grad():
        assert torch.allclose(ensemble(x).float(), run.predict(x)[:4].softmax(2).mean(0), atol=1e-6)
    assert len(run.ensemble(members="seed < 2 and lr < 1")) == 2
    assert run.ensemble(members=[2, 0]).table.seed.tolist() == [2, 0]
    with pytest.raises(ModelspaceError, match="at least one member: all 4 diverged"):
        run.ensemble(members="lr > 1")
    table = ensemble.evaluate(data)
    own = ms.evaluate(run.population[:4], data, metrics=["log_loss", "accuracy"])
    assert table.members["accuracy"] == pytest.approx(own.accuracy.mean(), abs=1e-6)
    assert table.members["log_loss"] == pytest.approx(own.log_loss.mean(), abs=1e-6)
    assert table.ensemble["log_loss"] <= table.members["log_loss"]
    column = MLP.sample(seeds=1, lr=[0.01], loss=["cross_entropy", "crammer_singer"])
    mixed = ms.fit(column, data, epochs=1, plan=PLAN)
    with pytest.raises(ModelspaceError, match=r"2 losses .*members=\"loss == 'cross_entropy'\""):
        mixed.ensemble()
    assert mixed.ensemble(members="loss == 'crammer_singer'").combine == "vote"
    own = ms.fit(MLP.sample(seeds=1, lr=[0.01]), data, loss=nn.CrossEntropyLoss(), epochs=1, plan=PLAN)
    assert own.ensemble().combine == "mean"
    assert own.ensemble().loss.outputs == "logits"


def test_what_is_refused():
    modules = MLP.sample(seeds=2).modules()
    for call, match in [
        (lambda: ms.Ensemble([]), "at least one member: none was given"),
        (lambda: ms.Ensemble(modules, members=[]), r"members=\[\] chose none"),
        (lambda: ms.Ensemble(modules, members=[5]), r"members=\[5\] of 2: .*out of bounds"),
        (lambda: ms.Ensemble(modules, members="lr > 1"), "no table tells these members apart"),
        (
            lambda: ms.Ensemble(MLP.sample(seeds=2), members="rate > 1"),
            r"'rate' is not defined.* \(columns: seed\)",
        ),
        (lambda: ms.Ensemble(modules[0]), "a run, a population or a list of modules; received a Sequential"),
        (lambda: ms.Ensemble(modules, combine="vtoe"), "did you mean 'vote'"),
        (lambda: ms.Ensemble(modules, weights=[1.0, -1.0]), "weights are 2 numbers of at least 0"),
        (lambda: ms.Ensemble(modules).over(torch.zeros(0, 6)), "no samples"),
        (lambda: ms.Ensemble(modules).over(torch.zeros(4, 5)), "Linear"),
        (lambda: ms.Ensemble(modules).plain(), "what they are is not known"),
        (lambda: ms.Ensemble(modules).plain(torch.zeros(1, 6)), "give at least two"),
        (lambda: ms.Ensemble(modules).export("net.bin"), r"to \.pt2 or \.onnx; received 'net\.bin'"),
        (lambda: ms.Ensemble(modules).calibrate(None), "the mean of the outputs has none"),
        (
            lambda: ms.Ensemble(modules).evaluate(Split(torch.zeros(2, 6), torch.zeros(2).long())),
            "give.*|Ensemble\\(…, loss='cross_entropy'\\)",
        ),
    ]:
        with pytest.raises(ModelspaceError, match=match):
            call()


def test_it_says_what_it_is():
    ensemble = ms.Ensemble(MLP.sample(seeds=3), loss="cross_entropy", weights=[1, 1, 2])
    for word in ("Ensemble of 3", "3 Sequential", "249", "mean of the probabilities", "0.25, 0.25, 0.5"):
        assert word in repr(ensemble)
    assert "<th>seed</th>" in ensemble._repr_html_()
    mixed = ms.Ensemble([ensemble, MLP.sample(seeds=1), MLP.module(MLP.sample(seeds=1).points[0])])
    assert (len(mixed), mixed.combine, mixed.table) == (5, "mean", None)


ALONE = """
import sys
sys.modules["modelspace"] = None  # not to be found
import numpy as np, torch
{load}
x = torch.from_numpy(np.load("x.npy"))
for n in (1, 3, len(x)):
    assert np.allclose(f(x[:n]), np.load("p.npy")[:n], atol=1e-5), n
print("alone")
"""
LOADS = {
    "pt2": (
        "program = torch.export.load('net.pt2')\nf = program.module()\n"
        "products = [n for n in program.graph.nodes if 'conv' in str(n.target) or 'mm' in str(n.target)]\n"
        "assert len(products) < 2 * 3  # two layers, not two for each member"
    ),
    "onnx": (
        "from onnx.reference import ReferenceEvaluator as R\n"
        "r = R('net.onnx')\nf = lambda x: r.run(None, {r.input_names[0]: x.numpy()})[0]"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*LOADS])
def test_it_ships_without_this_library(kind, tmp_path):
    """A batched graph of PyTorch's operations, loaded where modelspace can't be imported, for a batch of any size."""
    if kind == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        pytest.skip("needs the extra onnx")
    population = ms.ModelSpace(DummyNet, input_shape=(3, 7, 7)).sample(seeds=3)
    ensemble, x = ms.Ensemble(population, loss="cross_entropy"), torch.randn(5, 3, 7, 7)
    ensemble.temperature.fill_(1.5)
    with torch.no_grad():
        p = ensemble(x)
    ensemble.export(tmp_path / f"net.{kind}")
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "p.npy", p.numpy())
    code = ALONE.format(load=LOADS[kind])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "alone\n", done.stderr


def test_sizes_that_are_equal_by_chance_are_not_taken_for_one():
    """Three samples, three members, three outputs."""

    class Net(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.new_zeros(x.shape[0], 3)

    ensemble = ms.Ensemble([Net(6, 3) for _ in range(3)], loss="cross_entropy")
    plain, x = ensemble.plain(torch.randn(3, 6)), torch.randn(5, 6)
    assert torch.allclose(plain(x), ensemble(x), atol=1e-6)


@pytest.mark.slow
def test_a_number_of_samples_that_is_a_constant_is_refused():
    class Net(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.new_zeros(len(x), 3)

    with pytest.raises(
        ModelspaceError, match=r"no program of any number .*Constraints violated.* x\.shape\[0\]"
    ):
        ms.Ensemble([Net(6, 3)]).plain(torch.randn(3, 6))


def test_torch_s_own_export_takes_it():
    ensemble, x = ms.Ensemble(MLP.sample(seeds=2), loss="cross_entropy"), torch.randn(4, 6)
    program = torch.export.export(ensemble, (x,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert torch.allclose(torch.export.load(file).module()(x), ensemble(x), atol=1e-6)
