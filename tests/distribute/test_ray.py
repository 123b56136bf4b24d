"""Shards as Ray tasks: the same run as without, whatever happens to the workers."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from support import plans
from support.cases import BATCH, named
from support.runs import assert_same
from torch import nn

import modelspace as ms
from modelspace.distribute import RayRunner
from modelspace.loading import load_object

# Ray is not imported here: the library does that, after it has set what Ray reads then.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray"),
    # Ray's own code warns of what it does with sockets, logs and old interfaces.
    pytest.mark.filterwarnings("ignore"),
]

CASE = named("residual BatchNorm")
CHOICES = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    """One Ray for all tests here, on two cores: a runner uses the one that is there."""
    from modelspace.distribute.cluster import connected

    with connected(None, 2):
        yield


def members(seeds=10, dtype=torch.float64, **columns):
    return CASE.space(dtype).sample(seeds=seeds, **{"lr": [0.01], **columns})


def fit(population, *, data=None, **settings):
    settings = {"epochs": 3, "batch_size": 8, **CHOICES, **settings}
    return plans.fit(population, data or CASE.data(), **settings)


def in_ray(population, **settings):
    return fit(population, **{"runner": RayRunner(), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "metrics": ["accuracy", "error"]},
        {"optimizer": ms.SGD(momentum=0.9), "schedule": "cosine", "clip_norm": 1.0},
        {"early_stopping": ms.EarlyStopping(1, restore_best=True), "epochs": 5},
        {"precision": "16-mixed", "accumulate": 2, "batch_size": BATCH},
        {"lowering": "loop"},
        {"shard": 3, "threads": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_run_is_the_local_one_bit_for_bit(settings, dtype):
    population = members(lr=[0.01, 1e300], dtype=dtype)
    assert_same(in_ray(population, **settings), fit(population, **settings))


def test_a_compiled_plan_is_carried_out_as_it_is():
    population = members(8, dtype=torch.float32)
    assert_same(in_ray(population, compile=True), fit(population, compile=True))


def test_random_numbers_and_own_data_orders_are_the_members():
    case = named("MLP dropout")
    population = case.space(torch.float64).sample(seeds=9, data_seed=[3, 4])
    assert_same(in_ray(population, data=case.data()), fit(population, data=case.data()))


@pytest.mark.parametrize("name", ["VAE", "padding mask", "temporal difference", "training step"])
def test_objectives_and_nests(name):
    case = named(name)
    population, settings = case.space(torch.float64).sample(seeds=9), {**case.goal, "data": case.data()}
    assert_same(in_ray(population, **settings), fit(population, **settings))


def test_points_that_no_seed_draws_travel():
    population = members(6)
    population.points[2] += 0.5
    population.buffers[next(iter(population.buffers))][1] += 1
    assert_same(in_ray(population), fit(population))
    without = ms.Population(population.space, population.points, population.buffers, population.table[["lr"]])
    assert_same(in_ray(without), fit(without))


@pytest.mark.parametrize("keep", ["all", "scores", 2])
def test_what_is_kept_and_written_down(tmp_path, keep):
    population = members(lr=[0.01, 0.02])
    plain = fit(population, keep=keep)
    assert_same(in_ray(population, keep=keep), plain)
    assert_same(in_ray(population, keep=keep, out=tmp_path), plain)
    assert_same(ms.open_run(tmp_path, CASE.space(torch.float64)), plain)


def test_a_run_goes_on_from_either_runner_in_the_other(tmp_path, monkeypatch):
    whole = fit(members())
    make = plans.TRAIN.updates
    left = iter(range(7))

    def stopping(*arguments):
        for update in make(*arguments):
            yield update
            if next(left, None) is None:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(plans.TRAIN, "updates", stopping)
        assert fit(members(), out=tmp_path, checkpoint_seconds=0.0).interrupted
    assert list((tmp_path / "shards").glob("*.part.*"))
    assert_same(in_ray(members(), out=tmp_path), whole)
    assert_same(fit(members(), out=tmp_path, epochs=4), in_ray(members(), epochs=4))
    assert_same(in_ray(members(12), out=tmp_path, epochs=4), fit(members(12), epochs=4))


class Slow(nn.Module):
    """Takes its time, and on its first forward in training in any process may meet with an accident.

    ``accident`` is a file: whoever removes it is the one.
    """

    def __init__(self, seconds=0.0, accident="", kind=""):
        super().__init__()
        self.flat, self.linear = nn.Flatten(), nn.Linear(8, 3)
        self.seconds, self.accident, self.kind, self.driver = seconds, accident, kind, os.getpid()

    def forward(self, x):
        here = os.environ.get("MODELSPACE_TEST_DRIVER") != str(os.getpid())
        if self.training and here:
            time.sleep(self.seconds)
            try:
                os.unlink(self.accident)
            except OSError:
                return self.linear(self.flat(x))
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise (
                torch.OutOfMemoryError("CUDA out of memory") if self.kind == "memory" else ValueError("boom")
            )
        return self.linear(self.flat(x))


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """Runs of ``Slow``, whose accidents are not the driver's."""
    monkeypatch.setenv("MODELSPACE_TEST_DRIVER", str(os.getpid()))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 8, generator=generator), torch.randint(3, (24,), generator=generator)
    data = ms.data.of_splits(train=(x, y), validation=(x[:6], y[:6]), test=(x[:6], y[:6]))

    def run(kind="", seeds=12, seconds=0.0, **settings):
        accident = tmp_path / "accident"
        if kind:
            accident.touch()
        architecture = {"seconds": seconds, "accident": str(accident), "kind": kind}
        population = ms.ModelSpace(Slow, input_shape=(8,), **architecture).sample(seeds=seeds)
        return fit(population, data=data, **settings)

    return run


def test_a_killed_worker_s_shard_is_trained_again(slow, tmp_path):
    assert_same(slow("killed", runner=RayRunner(retries=1)), slow())
    assert not (tmp_path / "accident").exists()


def test_out_of_memory_halves_the_shards(slow, capsys):
    run = slow("memory", runner="ray")
    assert run.plan.shard == 2
    assert (run.status == "finished").all()
    assert torch.allclose(run.population.points, slow().population.points, rtol=1e-6)
    assert "out of memory in a worker process: going on in shards of 2 members" in capsys.readouterr().err


def test_a_worker_that_is_lost_too_often_is_tried_in_smaller_shards(slow):
    run = slow("killed", runner=RayRunner(retries=0))
    assert "a shard's worker was lost" in run.plan.reason
    assert (run.status == "finished").all()


def test_what_the_user_s_code_raises_is_one_message(slow):
    with pytest.raises(ms.ModelspaceError, match=r"boom.* line \d+ of .*test_ray.py") as caught:
        slow("error", runner="ray")
    assert len(str(caught.value).splitlines()) == 1
    assert "ray::" not in str(caught.value)
    assert "boom" in caught.value.__notes__[0]


def workers():
    """The processes of Ray that are training a shard."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_task" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_random_kills_change_nothing(slow, tmp_path):
    folder = tmp_path / "run"
    settings = {"seeds": 400, "epochs": 4}
    whole = slow(**settings)
    random = np.random.default_rng(0)
    ended, kills, opened = threading.Event(), [], []

    def killer():
        # Ever longer, so that some fall on a worker that is starting and some on one that trains.
        while not ended.wait(random.uniform(0.0, 1.0 + len(kills) / 8)):
            victims = workers()
            if len(kills) < 60 and victims:
                victim = victims[random.integers(len(victims))]
                victim.kill()
                kills.append(victim.pid)
                if (folder / "run.sqlite").is_file():
                    opened.append((ms.open_run(folder).status == "finished").sum())

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        run = slow(**settings, seconds=0.12, out=folder, runner=RayRunner(retries=-1))
    finally:
        ended.set()
        thread.join()
    assert len(kills) >= 50
    assert len(set(opened)) > 3  # at different moments of the run
    assert_same_but_space(run, whole)
    assert_same_but_space(ms.open_run(folder, run.space), whole)


def assert_same_but_space(run, other):
    assert torch.equal(run.population.points, other.population.points)
    assert run.table.equals(other.table)
    for name, values in run.history.items():
        assert np.array_equal(values, other.history[name], equal_nan=True)


USER = """
import torch
from torch import nn
from beside_it import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    def forward(self, x):
        return scaled(self.net(x))

def scaled(outputs):
    return 2 * outputs

def loss(outputs, labels):
    return (scaled(outputs).logsumexp(1) - scaled(outputs)[torch.arange(len(labels)), labels]).mean()
"""


def test_an_architecture_from_the_user_s_own_file(tmp_path):
    (tmp_path / "nets.py").write_text(USER)
    (tmp_path / "beside_it.py").write_text("WIDTH = 7\n")
    net, loss = (load_object(f"{tmp_path / 'nets.py'}:{name}") for name in ("Net", "loss"))
    # The workers can't find the file: its code travels.
    (tmp_path / "nets.py").unlink()
    (tmp_path / "beside_it.py").unlink()
    population = ms.ModelSpace(net, input_shape=(1, 8, 8)).sample(seeds=5)
    settings = {"data": ms.data.load("digits"), "batch_size": 256, "loss": loss}
    assert_same(in_ray(population, **settings), fit(population, **settings))


def test_what_can_t_be_sent_is_said():
    class Locked(nn.Linear):
        def __init__(self):
            super().__init__(8, 3)

    lock = threading.Lock()

    def loss(outputs, labels):
        with lock:
            return nn.functional.cross_entropy(outputs, labels)

    x, y = torch.randn(8, 8), torch.randint(3, (8,))
    data = ms.data.of_splits(train=(x, y), validation=(x, y), test=(x, y))
    population = ms.ModelSpace(Locked, input_shape=(8,)).sample(seeds=2)
    with pytest.raises(ms.ModelspaceError, match=r"can't be sent to other processes: .*lock"):
        in_ray(population, data=data, loss=loss, shard=2)


def test_wrong_numbers_and_no_gpu_are_said():
    with pytest.raises(ms.ModelspaceError, match="retries are 0 or more, or -1"):
        RayRunner(retries=-2)
    with pytest.raises(ms.ModelspaceError, match="at least 1 core is needed; received cpus=0"):
        RayRunner(cpus=0)


def test_progress_counts_every_member_step_once(slow, monkeypatch):
    from contextlib import contextmanager

    told = []

    @contextmanager
    def noted(title, amount, unit):
        told.append(-amount)
        yield told.append

    monkeypatch.setattr(plans.FIT, "progress", noted)
    slow("killed", runner="ray", seconds=0.4, seeds=8)
    assert sum(told) == 0
    assert len(told) > 3  # some of it while shards were in training


ALONE = """
import os, signal, sys, threading, time
import psutil, torch
from torch import nn
import modelspace as ms

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)
    def forward(self, x):
        if self.training and os.getpid() != int(os.environ["DRIVER"]):
            time.sleep(0.1)
        return self.linear(x)

def interrupt():
    finished = 0
    while finished < 4:
        time.sleep(0.2)
        try:
            finished = ms.open_run("run", trust=True).status.tolist().count("finished")
        except ms.ModelspaceError:  # not begun yet
            pass
    os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    os.environ["DRIVER"] = str(os.getpid())
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    data = ms.data.of_splits(train=(x, y), validation=(x, y), test=(x, y))
    population = ms.ModelSpace(Net, input_shape=(8,)).sample(seeds=400)
    threading.Thread(target=interrupt, daemon=True).start()
    choices = dict(lowering="vmap", shard=2, compile=False, threads=1, workers=1)
    run = ms.fit(population, data, out="run", epochs=1, batch_size=8, runner="ray", plan=choices)
    left = [p.name() for p in psutil.Process().children(recursive=True)]
    print(run.interrupted, (run.status == "finished").sum() >= 4, (run.status == "unfinished").any(), left)
"""


def test_ctrl_c_gives_the_run_until_then_and_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ALONE)
    # A token of its own and no cluster of ours: what a user's terminal has.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True True True []"
    assert "its ports listen on every network interface: who connects needs its token" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line(tmp_path, capsys):
    from modelspace.cli import main

    (tmp_path / "nets.py").write_text(USER.replace("from beside_it import WIDTH", "WIDTH = 7"))
    words = [
        f"{tmp_path}/nets.py:Net",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--seeds",
        "4",
        "--shard",
        "2",
        "--json",
    ]
    words += ["--plan", "vmap", "--threads", "1", "--workers", "1"]
    net = ms.ModelSpace(load_object(words[0]), input_shape=(1, 8, 8))
    outputs = []
    for runner in ([], ["--runner", "ray", "--address", "auto"]):
        folder = tmp_path / ("ray" if runner else "local")
        assert main(["fit", *words, *runner, "--out", str(folder)]) == 0
        outputs.append(ms.load(folder / "points.safetensors", net).points)
    assert torch.equal(*outputs)
    assert main(["fit", *words, "--address", "auto"]) == 2
    assert "--address goes with --runner ray" in capsys.readouterr().err
    assert Path(tmp_path / "ray" / "run.sqlite").is_file()


def test_no_cluster_is_one_message():
    code = textwrap.dedent(
        """
        import modelspace as ms, torch
        population = ms.ModelSpace(torch.nn.Linear, in_features=2, out_features=2).sample(seeds=2)
        x, y = torch.randn(8, 2), torch.randint(2, (8,))
        try:
            ms.fit(population, (x, y), runner=ms.distribute.RayRunner("127.0.0.1:1"), epochs=1)
        except ms.ModelspaceError as error:
            print(error)
        """
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.stdout.startswith("no Ray cluster answers at 127.0.0.1:1: "), done.stderr
    assert done.stdout.count("\n") == 1
