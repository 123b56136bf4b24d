"""What is predicted is counted by hand here, or measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import plans
from support.cases import BATCHED, CASES, SAMPLES, named
from support.sampled import sampled

import modelspace as ms
from modelspace import memory as room
from modelspace.cli import main
from modelspace.data import Data, Split
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.fit import Recipe, memory, prepare
from modelspace.fit.footprint import footprint
from modelspace.fit.memory import check_kept, largest_members, largest_shard, predict
from modelspace.memory import Memory
from modelspace.plain import plain, structured
from modelspace.runs import Keep

CASE = named("MLP tanh")
N = CASE.space().dimension
MIB = 2**20
CPU = torch.device("cpu")


def training(case=CASE, seeds=8, columns=None, **settings):
    population = case.space().sample(seeds=seeds, **(columns or {"lr": [0.1]}))
    settings = {**case.goal, "epochs": 4, "batch_size": 5, **settings}
    data = case.data()
    return prepare(population, data, Recipe(**settings).resolved(population, data))


def keep(what="all"):
    return Keep.of(what, ["validation_loss", "validation_accuracy"], ["validation_accuracy"])


def plan(shard=4, lowering="vmap", workers=1):
    return Plan(lowering, shard, False, 1, "", workers=workers)


def predicted(fit, what="all", free=2**40, members=None, **choices):
    chosen = plan(**choices)
    return predict(fit, keep(what), chosen, footprint(fit, chosen.lowering), free, members)


# Parts, by hand


@pytest.mark.parametrize("shard", [1, 4, 8])
@pytest.mark.parametrize(("optimizer", "copies"), [("adam", 2), ("sgd", 1), (ms.Adam(amsgrad=True), 3)])
def test_points_gradients_and_optimizer(shard, optimizer, copies):
    found = predicted(training(optimizer=optimizer), shard=shard)
    assert found.points == found.gradients == shard * N * 4
    assert found.optimizer == copies * shard * N * 4
    # The new points and state stand beside the old ones.
    assert found.update >= (1 + copies) * shard * N * 4


def test_what_depends_on_the_recipe():
    assert predicted(training(accumulate=2)).gradients == 5 * 4 * N * 4
    restoring = ms.EarlyStopping(restore_best=True)
    assert predicted(training(early_stopping=restoring)).points == 2 * 4 * N * 4
    clipped, free = training(clip_norm=1.0), training()
    assert predicted(clipped).update == predicted(free).update + 4 * N * 4


def test_activations_are_those_of_a_perceptron():
    """Autograd keeps what tanh gave; the batch and one layer's gradient are there too."""
    part = Split(torch.zeros(400, 6), torch.zeros(400, dtype=torch.long))
    data, population = Data("zeros", part, part, part), CASE.space().sample(seeds=8, lr=[0.1])
    fits = (
        prepare(population, data, Recipe(loss="cross_entropy", epochs=4, batch_size=b, metrics=["accuracy"]))
        for b in (100, 200)
    )
    few, many = (predicted(fit, shard=8).activations for fit in fits)
    numbers = 8 * (8 + 8 + 3)  # of one sample in 8 members: two hidden layers and the outputs
    assert numbers * 4 * 100 <= many - few <= 3 * numbers * 4 * 100
    assert (
        predicted(training(batch_size=1000)).activations
        == predicted(training(batch_size=SAMPLES)).activations
    )


def test_convolutions_hold_their_columns():
    case = named("CNN")
    found = predicted(training(case), shard=8)
    columns = 16 * 9 * 4 * 5  # the second layer's windows: 16 channels, 9 places, 2×2 positions, 5 samples
    assert found.activations > 8 * columns * 4


def test_the_loop_has_one_member_s_activations():
    few, many = (predicted(training(), lowering="loop", shard=c) for c in (1, 8))
    assert many.activations - few.activations == 7 * N  # a byte a number: which have a gradient
    assert many.points == 8 * few.points


def test_buffers():
    case = named("residual BatchNorm")
    one = sum(b.numel() * b.element_size() for b in case.make().buffers())
    assert predicted(training(case), shard=3).buffers == 2 * 3 * one


@pytest.mark.parametrize(
    ("what", "workers", "rows"), [("all", 1, 16), ("all", 2, 16), ("scores", 2, 0), (3, 1, 6), (3, 2, 12)]
)
def test_kept_points(what, workers, rows):
    fit = training(columns={"lr": [0.1, 0.2]}, seeds=8)
    found = predicted(fit, what, workers=workers)
    each = N * 4 + (16 if what == 3 else 0)  # a score and a position beside
    # A sampled population is drawn, and stays as it is.
    assert found.kept == rows * each * (2 if what == "all" else 1)
    assert found.processes == workers


def test_a_population_that_stands_in_memory_is_not_counted_again():
    population = CASE.space().sample(seeds=8, lr=[0.1])
    assert population.points.shape == (8, N)
    fit = prepare(
        population, CASE.data(), Recipe(loss="cross_entropy", epochs=4, batch_size=5, metrics=["accuracy"])
    )
    assert predicted(fit).kept == 8 * N * 4


def test_curves_and_data():
    fit = training()
    found = predicted(fit)
    assert found.curves >= 8 * 4 * 3 * 8
    data = sum(
        t.nbytes
        for s in ("train", "validation")
        for t in (getattr(fit.data, s).inputs, getattr(fit.data, s).labels)
    )
    assert found.shared == data + N * 4


def test_the_sums():
    found = predicted(training(), workers=2)
    phases = max(found.gradients + found.activations, found.gradients + found.update, found.scoring)
    tensors = found.points + found.optimizer + found.buffers + found.coefficients + phases
    assert found.shard == 2 * tensors  # so little that the heap is as much again
    assert found.needed == found.shards + found.kept + found.curves
    assert found.total == found.needed + found.shared
    assert found.shards > 2 * found.shard


@pytest.mark.parametrize("case", sampled(CASES, 3), ids=str)
def test_every_architecture_has_a_prediction(case):
    found = footprint(training(case), "loop" if case.fallback else "vmap")
    assert found.activations.each >= 0
    assert found.activations(8) >= found.activations(2) > 0
    assert found.scoring(8) > 0
    # Which have no meta kernel, or tensors with values of their own.
    by_hand = case.name in ("packed RNN", "sparse buffer", "distillation")
    assert found.estimated == (case not in BATCHED or by_hand)


# What fits


def test_more_members_and_larger_shards_take_more():
    fit = training(seeds=64)
    found = footprint(fit, "vmap")
    by_shard = [predict(fit, keep(), plan(c), found, 0).needed for c in range(1, 64)]
    by_members = [predict(fit, keep(), plan(), found, 0, m).needed for m in range(4, 500, 7)]
    assert by_shard == sorted(set(by_shard))
    assert by_members == sorted(set(by_members))


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_largest_shard_fits_and_one_more_does_not(lowering, workers):
    fit = training(seeds=64)
    chosen, found = plan(1, lowering, workers), footprint(fit, lowering)
    free = predicted(fit, lowering=lowering, shard=20, workers=workers).needed + 10
    assert largest_shard(fit, keep(), chosen, found, free) == 20
    assert predicted(fit, lowering=lowering, shard=21, workers=workers).needed > free
    assert largest_shard(fit, keep(), chosen, found, 10) == 0
    assert largest_shard(fit, keep(), chosen, found, 2**40) == 64


@pytest.mark.parametrize("what", ["all", 2])
def test_the_largest_population_fits_and_one_more_does_not(what):
    fit = training(seeds=64)
    found, free = footprint(fit, "vmap"), 2 * MIB
    most = largest_members(fit, keep(what), plan(), found, free)
    assert most > 64
    assert predicted(fit, what, shard=1, members=most).needed <= free
    assert predicted(fit, what, shard=1, members=most + 1).needed > free


def fit_with(monkeypatch, free, seeds=64, **settings):
    monkeypatch.setattr(plans.FIT, "free_bytes", lambda device: free)
    population = CASE.space().sample(seeds=seeds, lr=[0.1])
    settings = {"epochs": 1, "batch_size": 5, "compile": False, "threads": 1, "workers": 1, **settings}
    return population, lambda: plans.fit(population, CASE.data(), **settings)


def test_a_smaller_shard_is_taken_and_said(monkeypatch, capsys):
    free = predicted(training(seeds=64, epochs=1), shard=3).needed + 10
    _, fit = fit_with(monkeypatch, free, lowering="vmap")
    run = fit()
    assert run.plan.shard == 3
    assert (run.status == "finished").all()
    assert "no larger shard fits into memory" in run.plan.reason
    assert capsys.readouterr().err.count("which is room for shards of 3 members") == 1
    assert run.memory.needed <= free


def test_fewer_processes_where_memory_has_no_room_for_all(monkeypatch, capsys):
    free = predicted(training(seeds=64, epochs=1), shard=1).needed + 10
    _, fit = fit_with(monkeypatch, free, lowering="vmap", workers=2)
    run = fit()
    assert (run.plan.shard, run.plan.workers) == (1, 1)
    assert "room for shards of 1 member\n" in capsys.readouterr().err


def test_a_shard_that_was_asked_for_and_does_not_fit(monkeypatch):
    free = predicted(training(seeds=64, epochs=1), shard=12).needed + 10
    _, fit = fit_with(monkeypatch, free, lowering="vmap", shard=32)
    with pytest.raises(ModelspaceError, match=r"needs .* free: shards .*shard=12 fits"):
        fit()


def test_a_million_members_too_many_are_refused_before_they_are_drawn(monkeypatch):
    population, fit = fit_with(monkeypatch, 64 * MIB, seeds=200_000)
    expected = r"200,000 members need 2\d\d MiB and 64 MiB are free: .*; [\d,]+ members fit; .*keep='scores'"
    with pytest.raises(ModelspaceError, match=expected):
        fit()
    assert not population.is_made
    fit = training(seeds=1000)
    most = memory._largest(lambda m: memory._kept(fit, keep(), 1, m) + memory._curves(fit, m) <= MIB, 10**6)
    check_kept(training(seeds=most), keep(), 1, MIB)
    with pytest.raises(ModelspaceError, match=f"{most:,} members fit"):
        check_kept(training(seeds=most + 1), keep(), 1, MIB)


def test_no_room_for_a_single_member(monkeypatch):
    least = predicted(training(seeds=2, epochs=1), shard=1)
    _, fit = fit_with(monkeypatch, least.kept + least.curves + 10, seeds=2)
    with pytest.raises(
        ModelspaceError, match=r"with a single member at a time, .*a smaller batch, or precision="
    ):
        fit()


def test_no_room_beside_the_kept_points(monkeypatch):
    fit = training(seeds=64, epochs=1)
    free = predicted(fit, shard=1).needed - 10
    _, fit = fit_with(monkeypatch, free)
    with pytest.raises(ModelspaceError, match=r"63 members fit; keep='scores' fits"):
        fit()


# The record


def test_the_record_is_a_line_plain_values_and_part_of_a_run(tmp_path):
    population = CASE.space().sample(seeds=4, lr=[0.1])
    settings = {"epochs": 1, "batch_size": 5, "lowering": "vmap", "compile": False, "shard": 2, "workers": 1}
    run = plans.fit(population, CASE.data(), **settings, out=tmp_path / "run")
    assert run.memory.shard_size == 2
    assert str(run.memory).startswith("memory: ")
    assert "KiB (points" in str(run.memory)
    assert structured(plain(run.memory), Memory, "it") == run.memory
    assert ms.open_run(tmp_path / "run", population.space).memory == run.memory
    assert plans.fit(population, CASE.data(), **settings, out=tmp_path / "run").memory == run.memory


def test_the_line():
    sizes = {"points": 98, "gradients": 98, "optimizer": 196, "activations": 248, "update": 10, "scoring": 1}
    others = {"shared": 12, "kept": 520, "curves": 0, "buffers": 0, "coefficients": 0}
    found = Memory(
        **{name: size * MIB for name, size in {**sizes, **others}.items()},
        processes=1, members=64, shard_size=32, free=20 * 2**30,
    )  # fmt: skip
    assert str(found) == (
        "memory: 1.4 GiB of 20 GiB free: shards 896 MiB (points 98, optimizer 196, gradients 98, activations 248, "
        "heap 256), kept points 520 MiB, data 12 MiB"
    )


@pytest.mark.parametrize("verb", ["fit", "explore"])
def test_the_command_line_refuses_in_one_line(monkeypatch, capsys, verb):
    monkeypatch.setattr(plans.FIT, "free_bytes", lambda device: 100_000)
    target = "examples/dummynet.py:DummyNet"
    assert main([verb, target, "--data", "digits-7x7", "--seeds", "4", "--epochs", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "free" in err


# What is free


def test_the_least_limit_counts(monkeypatch, tmp_path):
    assert 0 < room.free_bytes(CPU) < 2**46
    monkeypatch.setattr(room, "_left_of_addresses", lambda: [5000])
    assert room.free_bytes(CPU) == 5000
    monkeypatch.setattr(room, "_left_by_groups", lambda: [-1])
    assert room.free_bytes(CPU) == 0


@pytest.mark.parametrize(
    ("lines", "folder", "names", "pages"),
    [
        ("0::/a/b\n", "a", ("memory.max", "memory.current"), "inactive_file"),
        (
            "4:memory:/a/b\n0::/\n",
            "memory/a",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
    ],
)
def test_control_groups(monkeypatch, tmp_path, lines, folder, names, pages):
    group = tmp_path / "groups" / folder
    (group / "b").mkdir(parents=True)
    for name, text in zip(names, ("1000000", "400000"), strict=True):
        (group / name).write_text(text)
        (group / "b" / name).write_text("max")
    (group / "memory.stat").write_text(f"cache 7\n{pages} 50000\n")
    (tmp_path / "membership").write_text(lines)
    monkeypatch.setattr(room, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(room, "_MEMBERSHIP", tmp_path / "membership")
    assert room._left_by_groups() == [650000]


# Against the real thing


MEASURED = """
import sys, torch, modelspace as ms
from benchmarks import plain
from benchmarks.machine import peak_mib
name, batch, shard, lowering = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
shape = {"mlp": (64,), "Encoder": (8, 8)}.get(name, (1, 8, 8))
space = ms.ModelSpace(getattr(plain, name), input_shape=shape)
part = lambda n: (torch.randn(n, *shape), torch.randint(10, (n,)))
data = ms.data.of_splits(train=part(2 * batch), validation=part(200), test=part(20))
plan = dict(lowering=lowering, compile=False, threads=2, workers=1)
ms.fit(space.sample(seeds=2), data, epochs=1, batch_size=8, plan={**plan, "shard": 1})  # what is taken once
before = peak_mib()
run = ms.fit(space.sample(seeds=shard), data, epochs=1, batch_size=batch, plan={**plan, "shard": shard})
print(run.memory.needed / 2**20 / (peak_mib() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux has it")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "shard", "lowering"),
    [("mlp", 1024, 128, "vmap"), ("cnn", 256, 32, "vmap"), ("Residual", 256, 16, "vmap"),
     ("Encoder", 512, 32, "vmap")],
)  # fmt: skip
def test_the_prediction_is_what_a_process_takes(name, batch, shard, lowering):
    arguments = [sys.executable, "-c", MEASURED, name, str(batch), str(shard), lowering]
    root = Path(__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, done.stderr
    assert 0.5 < float(done.stdout) < 2
