"""What is recorded of members as they train: held against a bare loop, in float64."""

import runpy
from itertools import count, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import plans
from support.cases import named
from support.runs import assert_same
from support.sampled import sampled

import modelspace as ms
from modelspace.cli import main
from modelspace.data import Data, Split, epoch_indices, of_tasks
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.fit import Recipe, prepare
from modelspace.fit.footprint import footprint
from modelspace.fit.memory import predict
from modelspace.runs import Keep, Recorder
from modelspace.runs import records as reading

R = ms.Record
G = torch.Generator().manual_seed(0)
X, Y = torch.randn(23, 6, generator=G, dtype=torch.float64), torch.arange(23) % 3
DATA = Data("d", Split(X, Y), Split(X[:6], Y[:6]), Split(X[:6], Y[:6]))
TASKS = of_tasks([(X[:n], Y[:n]) for n in (8, 23, 14, 19)], splits=(0.75, 0.25, 0.0), name="tasks")
SPACE = named("MLP tanh").space(torch.float64)
PLAN = {"lowering": "vmap", "compile": False, "shard": 2, "threads": 1, "workers": 1}
NAMES = ("points", "distance", "loss", "grad_norm", "update_norm")


def fit(population, data=DATA, **settings):
    return ms.fit(population, data, **{"epochs": 3, "batch_size": 5, "plan": PLAN, **settings})


def size(model):
    """What a member's parameters and outputs say, in several shapes and types."""
    outputs = model(X[:2])
    return {"outputs": outputs, "more": (sum((p**2).sum() for p in model.parameters()), outputs.argmax(1))}


def bare(net, optimizer, batches, clip=1e9):
    """A bare loop: all that is known before each update, and at the end."""
    flat = lambda: torch.cat([p.detach().reshape(-1) for p in net.parameters()])  # noqa: E731
    found, start = [], flat()
    for x, y in [*batches, (None, None)]:
        made = size(net)
        here = {"points": flat(), "distance": (flat() - start).norm()}
        here |= {"size.outputs": made["outputs"].detach(), "size.more.0": made["more"][0].detach()}
        here["size.more.1"] = made["more"][1].double()
        if x is not None:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            here |= {
                "loss": loss.detach(),
                "grad_norm": torch.nn.utils.clip_grad_norm_(net.parameters(), clip),
            }
            optimizer.step()
            here["update_norm"] = (flat() - here["points"]).norm()
        found.append(here)
    return found


def of_member(seed, lr, epochs=3):
    net = SPACE.sample(seeds=[seed]).module(0)
    batches = [(X[rows], Y[rows]) for e in range(epochs) for rows in epoch_indices(23, 5, 0, e)]
    return bare(net, torch.optim.SGD(net.parameters(), lr, momentum=0.9), batches, clip=0.5)


def assert_as_the_loop(run, k, known):
    for name, recorded in run.records.items():
        steps, values = recorded.of(k)
        assert len(steps)
        for step, value in zip(steps.tolist(), values, strict=True):
            torch.testing.assert_close(
                value, known[step][name], rtol=1e-9, atol=1e-11, msg=f"{name} at {step}"
            )


TIMES = {
    "at": ({"at": [12, 3, 0, 3]}, [0, 3, 12]),
    "every": ({"every": 5}, [0, 5, 10]),
    "logarithmic": ({"logarithmic": 5}, [0, 1, 2, 5, 12]),
    "epochs": ({"epochs": 2}, [0, 8]),
    "": ({}, [0, 4, 8, 12]),
}


EVERY = [*product(TIMES, [{"lowering": "vmap"}, {"lowering": "loop"}])]
COMPILED = pytest.param("", {"compile": True}, marks=pytest.mark.slow)


@pytest.mark.parametrize(("times", "how"), [*sampled(EVERY, 2), COMPILED], ids=str)
def test_what_is_recorded_is_what_a_loop_sees(times, how):
    times, steps = TIMES[times]
    record = [R(what, **times) for what in (*NAMES, size)]
    population = SPACE.sample(seeds=3, lr=[0.1]).with_columns(momentum=0.9)
    settings = {"optimizer": "sgd", "clip_norm": 0.5, "plan": {**PLAN, **how}}
    if "compile" in how:
        fit(population, **settings)  # a program that gives no norms, and is another
    run = fit(population, **settings, record=record)
    assert sorted(run.records) == sorted([*NAMES, "size.outputs", "size.more.0", "size.more.1"])
    for k in range(3):
        assert_as_the_loop(run, k, of_member(k, 0.1))
    for name, recorded in run.records.items():
        # There is no update after the last.
        ends = name in ("loss", "grad_norm", "update_norm") and steps[-1] == 12
        assert recorded.steps.tolist() == [[*steps[:-1], -1] if ends else steps] * 3
        assert recorded.values.shape[:2] == (3, len(steps))
        assert torch.isnan(recorded.values[:, -1]).all() == ends
        assert np.asarray(recorded).shape == recorded.values.shape
    if steps[-1] == 12:
        assert torch.equal(run.records["points"].values[:, -1], run.population.points)
    assert not torch.equal(run.records["grad_norm"][0], run.records["grad_norm"][1])
    assert f"points: {SPACE.dimension}×float64 of 3 members at {len(steps)} times" in repr(run.records)


def test_recording_changes_nothing_and_an_unrecorded_step_gives_nothing():
    population = SPACE.sample(seeds=3, lr=[0.1])
    assert_same(fit(population, record=[*NAMES, size]), plain := fit(population))
    assert len(plain.records) == 0
    assert repr(plain.records) == "nothing was recorded: fit(…, record='points')"
    with pytest.raises(ModelspaceError, match="unknown record 'points'"):
        plain.records["points"]


def test_members_of_unequal_lengths_go_by_their_own_updates():
    population = SPACE.sample(seeds=[3], task=range(4), lr=[0.05])
    record = {
        "each": R("points", every=4),
        "points": "points",
        "loss": R("loss", at=range(30)),
        "far": "distance",
    }
    run = fit(population, TASKS, record=record, plan={**PLAN, "shard": 4})
    lengths = run.table["steps"].to_numpy()
    assert len(set(lengths.tolist())) > 1
    alone = [fit(population[[k]], TASKS, record=record, plan={**PLAN, "shard": 1}) for k in range(4)]
    for k, own in enumerate(alone):
        each = lengths[k] // 3
        assert run.records["points"].steps[k].tolist() == [0, each, 2 * each, 3 * each]
        assert run.records["each"].of(k)[0].tolist() == list(range(0, lengths[k] + 1, 4))
        assert run.records["loss"].of(k)[0].tolist() == list(range(lengths[k]))
        assert run.records["loss"].values[k, lengths[k] :].isnan().all()
        for name in record:
            torch.testing.assert_close(
                run.records[name].of(k), own.records[name].of(0), rtol=1e-9, atol=1e-11
            )


def test_members_that_stop_or_diverge_have_nothing_from_then_on():
    stop = lambda epoch: np.array([row == 0 for row in epoch.rows]) if epoch.number == 0 else None  # noqa: E731
    population = SPACE.sample(seeds=1, lr=[0.1, 1e308, 0.05])
    run = fit(population, optimizer="sgd", on_epoch=stop, record=["points", "loss", R("distance", every=1)])
    assert run.table["status"].tolist() == ["stopped early", "diverged", "finished"]
    assert run.records["points"].steps.tolist() == [[0, 4, -1, -1], [0, -1, -1, -1], [0, 4, 8, 12]]
    assert run.records["loss"].steps.tolist() == [[0, -1, -1, -1], [0, -1, -1, -1], [0, 4, 8, -1]]
    assert torch.equal(run.records["points"][0][1], run.population.points[0])
    assert run.records["points"][1][1:].isnan().all()
    made = run.records["distance"].of(1)[0].tolist()  # its last whole point, and nothing after
    assert made == list(range(run.steps[1] + 1))
    early = fit(population[[2]], early_stopping=ms.EarlyStopping(1, min_delta=10.0), record="points")
    assert early.records["points"].steps.tolist() == [[0, 4, 8, -1]]


@pytest.mark.parametrize("out", [True, False], ids=["folder", "memory"])
@pytest.mark.parametrize("keep", sampled(["all", "scores", 1], 3))
def test_several_processes_and_a_folder_record_the_same(tmp_path, out, keep):
    population = SPACE.sample(seeds=4, lr=[0.1, 0.05])
    record, place = [*NAMES, R(size, every=3)], {"out": tmp_path / "run"} if out else {}
    one = fit(population, record=record)
    both = fit(population, record=record, plan={**PLAN, "workers": 2}, keep=keep, **place)
    again = [fit(population, record=record, keep=keep, **place), ms.open_run(tmp_path / "run")] if out else []
    for run in (both, *again):
        assert list(run.records) == list(one.records)
        for name, recorded in one.records.items():
            assert torch.equal(run.records[name].steps, recorded.steps)
            assert torch.equal(run.records[name].values.nan_to_num(), recorded.values.nan_to_num())
            assert torch.equal(run.records[name][5].nan_to_num(), recorded[5].nan_to_num())


def test_a_killed_run_goes_on_to_the_same_records(tmp_path, monkeypatch):
    population = SPACE.sample(seeds=3, lr=[0.1])
    record = [*NAMES, R("points", every=5, name="often"), R(size, logarithmic=6)]
    whole = fit(population, record=record)
    for last in (2, 7):
        calls, checkpoint = count(), Recorder.checkpoint

        def interrupted(self, rows, tensors, calls=calls, last=last, checkpoint=checkpoint):
            checkpoint(self, rows, tensors)
            if next(calls) == last:
                raise KeyboardInterrupt

        folder = tmp_path / str(last)
        with monkeypatch.context() as patched:
            patched.setattr(Recorder, "checkpoint", interrupted)
            part = fit(population, record=record, out=folder, checkpoint_seconds=0.0)
        assert part.interrupted
        assert part.records["points"].values.isnan().all() if len(part.records) else True
        resumed = fit(population, record=record, out=folder)
        assert_same(resumed, whole)
        for name, recorded in whole.records.items():
            assert torch.equal(resumed.records[name].steps, recorded.steps)
            assert torch.equal(resumed.records[name].values.nan_to_num(), recorded.values.nan_to_num())


@pytest.mark.parametrize("times", [{}, {"every": 5}, {"at": [0, 7, 15]}, {"logarithmic": 6}], ids=str)
def test_more_epochs_append_and_logarithmic_times_begin_anew(tmp_path, times, monkeypatch):
    population = SPACE.sample(seeds=3, lr=[0.1])
    record = [R("points", **times), R("grad_norm", **times)]
    whole = fit(population, record=record, epochs=4)
    run = fit(population, record=record, epochs=2, out=tmp_path / "run")
    restored = []
    restore = Recorder.restore
    monkeypatch.setattr(
        Recorder, "restore", lambda self, rows: restored.append(restore(self, rows)) or restored[-1]
    )
    longer = fit(run, record=record, epochs=4)
    assert all((tensors is None) == ("logarithmic" in times) for tensors in restored)
    assert_same(longer, whole)
    for name in ("points", "grad_norm"):
        assert torch.equal(longer.records[name].steps, whole.records[name].steps)
        assert torch.equal(longer.records[name].values.nan_to_num(), whole.records[name].values.nan_to_num())


def test_parts_of_the_members_have_their_own_times():
    population = SPACE.sample(seeds=1, lr=[0.1], batch_size=[5, 10])
    run = fit(population, record=["points", R("loss", every=5)])
    assert run.records["points"].steps.tolist() == [[0, 4, 8, 12], [0, 2, 4, 6]]
    assert run.records["loss"].steps.tolist() == [[0, 5, 10], [0, 5, -1]]
    assert run.records["loss"].values.shape == (2, 3)
    assert run.records["loss"][1].shape == (2,)


def test_one_member_is_read_from_its_shard_alone(tmp_path, monkeypatch):
    population = SPACE.sample(seeds=6, lr=[0.1])
    fit(population, record="points", out=tmp_path / "run")
    run, read, files = ms.open_run(tmp_path / "run"), reading.read, []
    monkeypatch.setattr(reading, "read", lambda path: files.append(path) or read(path))
    assert len(run.records["points"][4]) == 4
    assert run.records["points"].of(5)[0].tolist() == [0, 4, 8, 12]  # of the same shard, which is still there
    assert len(set(files)) == 2  # the names, of the first; the member's
    files[-1].write_bytes(b"")
    values = ms.open_run(tmp_path / "run").records["points"].values
    assert values.isnan().all(2).all(1).tolist() == [False] * 4 + [True] * 2
    monkeypatch.setattr(reading, "free_bytes", lambda device: 1000)
    with pytest.raises(ModelspaceError, match=r"points of 6 members is .* take one at a time, run.records"):
        ms.open_run(tmp_path / "run").records["points"].values
    with pytest.raises(IndexError, match="member 6 of 6"):
        run.records["points"][6]


def test_other_records_are_another_run(tmp_path):
    population = SPACE.sample(seeds=2, lr=[0.1])
    fit(population, record="loss", out=tmp_path / "run")
    with pytest.raises(
        ModelspaceError, match=r"record is \['loss epochs=1'\] there and \['loss every=2'\] here"
    ):
        fit(population, record=R("loss", every=2), out=tmp_path / "run")


def test_another_function_of_the_same_name_is_another_run(tmp_path):
    population, functions = SPACE.sample(seeds=2, lr=[0.1]), []
    for power in ("2", "3"):
        (tmp_path / "own.py").write_text(
            f"def own(model):\n    return next(model.parameters()).pow({power}).sum()\n"
        )
        functions.append(runpy.run_path(str(tmp_path / "own.py"))["own"])
    fit(population, record=functions[0], out=tmp_path / "run")
    with pytest.raises(ModelspaceError, match=r"code of loss and metrics: own of own\.py has changed"):
        fit(population, record=functions[1], out=tmp_path / "run")


def test_some_members_of_a_run_in_another_order(tmp_path):
    population = SPACE.sample(seeds=5, lr=[0.1])
    whole = fit(population, record=["points", "loss"], out=tmp_path / "run")
    some = fit(population[[4, 0, 3]], record=["points", "loss"], out=tmp_path / "run")
    for name in ("points", "loss"):
        assert torch.equal(
            some.records[name].values.nan_to_num(), whole.records[name].values[[4, 0, 3]].nan_to_num()
        )
        assert torch.equal(some.records[name].steps, whole.records[name].steps[[4, 0, 3]])


def of_item(model):
    return next(model.parameters()).sum().item()


def test_a_function_without_a_batched_form_is_computed_one_by_one(capsys):
    run = fit(SPACE.sample(seeds=3, lr=[0.1]), record=of_item)
    assert "record 'of_item':" in capsys.readouterr().err
    points = run.records["of_item"].values[:, -1]
    expected = [next(run.population.module(k).parameters()).sum().item() for k in range(3)]
    assert points.tolist() == pytest.approx(expected)


def objective(model, batch):
    x, y = batch
    return {"loss": F.cross_entropy(model(x), y), "spread": model(x).std()}


def test_what_an_objective_names_is_recorded():
    run = fit(SPACE.sample(seeds=2, lr=[0.1]), objective=objective, record=R("spread", every=1))
    first = run.records["spread"].values[:, :4].mean(1)
    assert first.tolist() == pytest.approx(run.history["train_spread"][:, 0].tolist(), rel=1e-9)


MISTAKES = {
    "unknown record 'pionts'": "pionts",
    r"record: two are called loss: give them names": ["loss", R("loss", every=2)],
    r"record: every is at least 1; received 0": lambda: R("loss", every=0),
    r"record: logarithmic is at least 2; received 1": lambda: R("loss", logarithmic=1),
    r"record: every and epochs are given: one of them says when": lambda: R("loss", every=2, epochs=1),
    r"record: at is a list of numbers of updates, 0 or more; received \(-1, 3\)": lambda: R(
        "loss", at=[3, -1]
    ),
    r"record: a function without a name is given one": [lambda model: 1],
    r"record: 3 is no name and no function of a member": [3],
    r"record points at 13: no such time comes in 12 updates": lambda: R("points", at=[13]),
    r"record 'f' returned a str: it must return a tensor": {"f": lambda model: "a"},
    r"record 'f' returned nothing": {"f": lambda model: {}},
    r"record 'f' failed: AttributeError: .*nothing": {"f": lambda model: model.nothing},
}


@pytest.mark.parametrize("message", MISTAKES, ids=str)
def test_mistakes_are_one_line(message):
    given = MISTAKES[message]
    with pytest.raises(ModelspaceError, match=message) as raised:
        fit(
            SPACE.sample(seeds=1, lr=[0.1]),
            record=given() if getattr(given, "__name__", "") == "<lambda>" else given,
        )
    assert "\n" not in str(raised.value)


def test_a_trainer_records_nothing():
    with pytest.raises(ModelspaceError, match=r"a trainer records nothing: read trainer\.population"):
        ms.Trainer(SPACE.sample(seeds=1, lr=[0.1]), (X, Y), record="points")


def test_memory_is_predicted_and_what_does_not_fit_is_refused(monkeypatch):
    population, n = SPACE.sample(seeds=8, lr=[0.1]), SPACE.dimension
    times = {"record": [R("points", every=2), "loss", "distance"], "epochs": 3, "batch_size": 5}
    with_records, without = (
        prepare(population, DATA, Recipe(**settings).resolved(population, DATA))
        for settings in (times, {**times, "record": None})
    )
    each = 7 * (n + 1) * 8 + 2 * 4 * 16  # points and their steps at 0, 2, …, 12; two numbers at 4 times
    keep, plan = Keep(0, "validation_loss", 1.0, records=True), Plan("vmap", 4, False, 1, "", workers=2)
    found, plain = (predict(t, keep, plan, footprint(t, "vmap"), 2**40) for t in (with_records, without))
    assert (found.records, found.recorded) == (4 * each, 8 * each)
    assert found.points - plain.points == 4 * n * 8  # where distances are from
    assert found.needed - plain.needed == 8 * each + 2 * (found.shard - plain.shard)
    assert predict(with_records, Keep(0, "", 1.0), plan, footprint(without, "vmap"), 2**40).recorded == 0
    monkeypatch.setattr(plans.FIT, "free_bytes", lambda device: 500_000)
    many = SPACE.sample(seeds=200, lr=[0.1])
    expected = (
        r"200 members need .* records 3.1 MiB; \d+ members fit; with out=folder, or at fewer times, records"
    )
    with pytest.raises(ModelspaceError, match=expected):
        fit(many, record=R("points", every=1), keep="scores")


def test_the_command_line_records(tmp_path, capsys):
    (tmp_path / "own.py").write_text("def own(model):\n    return sum(p.sum() for p in model.parameters())\n")
    record = f"points@every=10,loss,{tmp_path}/own.py:own@at=3/20"
    target = ["fit", "modelspace.examples:DummyNet", "--data", "digits-7x7", "--seeds", "2", "--plan", "vmap"]
    assert main([*target, "--epochs", "1", "--record", record, "--out", str(tmp_path / "run")]) == 0
    records = ms.open_run(tmp_path / "run").records
    assert records["points"].steps[0].tolist() == [0, 10, 20, 30]
    assert records["own"].steps[1].tolist() == [3, 20]
    assert main([*target, "--record", "points@often=3"]) == 2
    assert "unknown kind of times 'often'" in capsys.readouterr().err


class Wide(torch.nn.Sequential):
    def __init__(self, width=3):
        norm = torch.nn.BatchNorm1d(width)
        super().__init__(torch.nn.Linear(6, width), norm, torch.nn.Dropout(0.5), torch.nn.Linear(width, 3))


def outputs(model):
    return model(X[:3])


@pytest.mark.parametrize("out", [True, False], ids=["folder", "memory"])
def test_members_of_several_spaces_are_recorded_each_as_it_is(tmp_path, out):
    population = ms.ModelSpace(Wide, dtype=torch.float64).sample(seeds=2, width=[3, 5], lr=[0.1])
    run = fit(
        population, record=["points", outputs, "distance"], **({"out": tmp_path / "run"} if out else {})
    )
    for k in range(4):
        member = run.population[[k]]
        assert torch.equal(run.records["points"][k][-1], member.points[0])
        with torch.no_grad():  # in evaluation mode, with the member's buffers
            expected = member.module(0).eval()(X[:3])
        torch.testing.assert_close(run.records["outputs"][k][-1], expected)
        moved = run.records["points"][k] - run.records["points"][k][0]
        torch.testing.assert_close(run.records["distance"][k], moved.norm(dim=1))
    assert run.records["outputs"].values.shape == (4, 4, 3, 3)
    with pytest.raises(
        ModelspaceError, match="points has other shapes from member to member: take one at a time"
    ):
        run.records["points"].values
