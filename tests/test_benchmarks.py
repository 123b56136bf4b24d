import importlib.util
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks is no installed package

from benchmarks import device, fresh, loop, networks, picture, plain, scaling, workloads  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.arguments import device as checked  # noqa: E402
from benchmarks.arguments import parser  # noqa: E402
from benchmarks.contest import contenders, contenders_of_size  # noqa: E402
from benchmarks.environment import environment, file_name, on_gpu  # noqa: E402
from benchmarks.limit import product_gflops  # noqa: E402
from benchmarks.memory import peak_mib  # noqa: E402
from benchmarks.peers.contender import Contender, _variables  # noqa: E402
from benchmarks.peers.pace import Pace  # noqa: E402
from benchmarks.peers.samples import keep, read  # noqa: E402
from benchmarks.peers.torch_func import Ensemble  # noqa: E402
from benchmarks.population import Training  # noqa: E402
from benchmarks.record import (  # noqa: E402
    Curve,
    Peer,
    PeerPoint,
    Repeat,
    Results,
    Scaling,
    Size,
    StepTimes,
    Targets,
    TenThousand,
    WholeFit,
)
from benchmarks.settings import QUICK, Settings, for_device  # noqa: E402
from benchmarks.tables import parts  # noqa: E402
from modelspace.errors import ModelspaceError  # noqa: E402

JAX = all(importlib.util.find_spec(name) for name in ("jax", "equinox", "optax"))

PLAN = {
    "lowering": "vmap",
    "shard": 32,
    "compiled": True,
    "threads": 1,
    "workers": 2,
    "reason": "",
    "fallback": None,
    "one_by_one": (),
    "seconds": 1.5,
}
PEERS = (
    Peer("torch.func", 256, 3.0, absent="no batched form of aten::lstm"),
    Peer("jax", 128, 9.0, (0.03, 0.06, 0.15), compile_seconds=2.5, tried={"32": 0.1, "128": 0.03}),
    Peer("processes", 2, 4.0, (0.2, 0.3, 0.5), steps=1000),
)
STEPS = StepTimes(
    workload="dummynet-32",
    dimension=2512,
    members=1024,
    batch=32,
    flop=2_000_000,
    member_bytes=2**10,
    shared_bytes=2**20,
    plan=PLAN,
    targets=Targets(loop=15, limit=0.3, jax=1.5),
    repeats=(Repeat(0.4, 0.02, 200.0), Repeat(0.9, 0.03, 100.0), Repeat(0.5, 0.05, 100.0)),
    peers=PEERS,
)


def fit(members: int, seconds: float) -> WholeFit:
    return WholeFit("mlp-32", members, 20, 660 * members, seconds, PLAN, (0.5, 0.25, 0.5), 450.0)


def size(members: int, *rates: float) -> Size:
    return Size(members, 2, rates, (200.0,), PLAN, 500.0)


CURVE = Curve(
    "mlp-32",
    (fit(1, 2.0), fit(64, 4.0)),
    (PeerPoint(1, (0.5, 0.6), (PEERS[0], Peer("jax", 1, 2.0, (0.5, 0.3)))),),
)
RESULTS = Results(
    {
        "date": "2026-01-31T12:00:00Z",
        "device": "AMD EPYC (R) 7/9",
        "instructions": "AVX2",
        "threads": 2,
        "cores": 2,
        "torch": "2.13.0",
        "jax": "0.10.2",
        "load_before": 0.1,
    },
    {"repeats": 3},
    (STEPS,),
    (fit(64, 4.0),),
    Scaling("dummynet-32", 0.2, (size(64, 110.0, 120.0, 900.0), size(4096, 80.0))),
    (CURVE,),
    TenThousand("dummynet-32", 10_000, 20, 2.0, 200.0, 8.0, PLAN, (0.42, 0.42, 0.9), (0.95, 0.01), 3, 700.0),
)


def test_summaries_against_arithmetic():
    assert (STEPS.loop_ms, STEPS.population_ms) == (0.5, 0.03)
    assert STEPS.ratio == pytest.approx(20)  # of 20, 30, 10
    # 2 MFLOP in 0.02 ms are 100 GFLOP/s of 200; 66.7 of 100; 40 of 100.
    assert STEPS.fraction_of_limit == pytest.approx(0.5)
    assert RESULTS.fits[0].ratio == 64 * 0.5 / 4
    assert RESULTS.fits[0].ratio_planned == 64 * 0.5 / (4 - 1.5)
    assert RESULTS.scaling.spread == pytest.approx(0.2)  # 120 and 80 are 100 ± 20 %
    assert RESULTS.ten_thousand.seconds == 210
    assert RESULTS.ten_thousand.ratio == pytest.approx(20)


def test_peers_against_arithmetic():
    assert STEPS.against("jax") == pytest.approx(2)  # of 1.5, 2, 3
    assert STEPS.against("torch.func") is None
    assert STEPS.against("nobody") is None
    processes = STEPS.peer("processes")
    # Two at once take 0.6 s for 1000 steps each, and 4 s to start.
    assert processes.members_a_second == pytest.approx(2 / 0.6)
    assert processes.members_a_second_started == pytest.approx(2 / 4.6)
    assert CURVE.points[0].ratios == {"jax": pytest.approx(1.5)}  # of 1 and 2


def test_memory_of_adapters_against_whole_copies():
    assert STEPS.population_mib == 2  # 1024 × 1 KiB, and 1 MiB once
    assert STEPS.copies_mib == 1025
    lora = workloads.named("lora-32")
    network = lora.architecture()
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    assert (lora.space().dimension, frozen) == (15_656, 994_570)
    assert sum(v.numel() for v in lora.space().shared.values()) == frozen


def test_checks_say_what_was_missed():
    assert [c.met for c in RESULTS.checks] == [True] * 4
    slow = replace(STEPS, targets=Targets(loop=20.5, limit=0.6, jax=2.5))
    uneven = replace(RESULTS.scaling, sizes=(size(64, 121.0), size(256, 100.0), size(4096, 80.0)))
    missed = replace(RESULTS, steps=(slow,), scaling=uneven).checks
    assert [c.met for c in missed] == [False] * 4
    assert [c.wanted for c in missed] == ["≥ 20.5", "≥ 0.6", "≥ 2.5", "± 20 %"]
    assert "64 … 4096" in missed[3].name


def test_what_was_not_measured_is_not_checked():
    alone = replace(STEPS, peers=(), targets=Targets())
    assert [c.name for c in replace(RESULTS, steps=(alone,), scaling=None).checks] == [
        "dummynet-32: times the plain loop"
    ]


def page(results: Results) -> str:
    console = Console(width=180, file=io.StringIO())
    for part in parts(results):
        console.print(part)
    return console.file.getvalue()


def test_table_of_a_fixed_record():
    text = page(RESULTS)
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("dummynet-32 ")]
    assert rows[0] == [
        *("dummynet-32", "0.500", "0.0300", "20.0", "×", "10.0–30.0", "≥", "15"),
        *("2.00", "100", "0.50", "≥", "0.3", "1.5", "compiled", "vmap", "of", "32,", "2", "processes"),
    ]
    assert rows[1] == [
        *("dummynet-32", "0.0300", "failed", "0.0600", "128", "2.00", "×", "≥", "1.5", "2.5"),
        *("0.3000", "10.0", "×"),
    ]
    assert rows[2] == ["dummynet-32", "1000", "2", "4.0", "3.33", "0.43", "33.33"]
    for expected in ("2.0 + 200.0 + 8.0 s", "0.9500 ± 0.0100", "± 20 %", "met", "4200 s", "AMD EPYC"):
        assert expected in text
    assert "dummynet-32, torch.func: no batched form of aten::lstm" in text
    assert "MISSED" not in text


def test_table_of_what_was_measured_only():
    text = page(replace(RESULTS, steps=(replace(STEPS, peers=(), shared_bytes=0),), curves=()))
    assert "Training step" in text
    for absent in ("Peers", "One process a member", "Adapters", "by K;"):
        assert absent not in text


def test_record_is_plain_json():
    kept = json.loads(json.dumps(RESULTS.as_dict()))
    steps = kept["steps"][0]
    assert steps["ratio"] == pytest.approx(20)
    assert steps["targets"] == {"loop": 15, "limit": 0.3, "jax": 1.5}
    assert steps["repeats"][1] == {"loop_ms": 0.9, "population_ms": 0.03, "limit_gflops": 100.0}
    assert [p["ratio"] for p in steps["peers"]] == [None, pytest.approx(2), pytest.approx(10)]
    assert kept["scaling"]["sizes"][0]["rates"] == [110.0, 120.0, 900.0]
    assert kept["curves"][0]["points"][0]["ratios"] == {"jax": pytest.approx(1.5)}
    assert [c["met"] for c in kept["checks"]] == [True] * 4


def test_file_name_holds_date_device_threads():
    assert file_name(RESULTS.environment) == "2026-01-31-amd-epyc-r-7-9-2threads.json"
    assert set(environment()) >= set(RESULTS.environment)


@pytest.mark.parametrize("batch", [32, 128])
def test_flop_of_a_step_in_closed_form(batch):
    # A product of a×b by b×c is 2abc. DummyNet: 9 filters of 27 at 25 places, then 225 → 10. Backward, each
    # needs the gradient of its weights, as many again; the head also that of its input, the first layer not.
    convolution, head = 2 * 25 * 9 * 27, 2 * 225 * 10
    dummynet = workloads.named(f"dummynet-{batch}")
    assert plain.step_flop(dummynet, dummynet.data()) == batch * (2 * convolution + 3 * head)
    first, second, head = 2 * 36 * 16 * 9, 2 * 16 * 32 * 16 * 9, 2 * 512 * 10
    cnn = workloads.named(f"cnn-{batch}")
    assert plain.step_flop(cnn, cnn.data()) == batch * (2 * first + 3 * second + 3 * head)


def test_flop_of_adapters_leaves_the_frozen_gradient_out():
    lora = workloads.named("lora-32")
    # Of the base, forward, and backward to the inputs of all layers but the first; of the adapters, weights too.
    base = 2 * (64 * 960 + 960 * 960 + 960 * 10)
    adapters = 2 * 4 * (64 + 960 + 960 + 960 + 960 + 10)
    inputs = 2 * 64 * 960 + 2 * 64 * 4  # of the first layer, which asks for no gradient
    assert plain.step_flop(lora, lora.data()) == 32 * (2 * base + 3 * adapters - inputs)


def test_flop_of_fused_operations_is_counted():
    lstm = workloads.named("lstm-32")
    # 8 steps of (8 + 32) → 4·32, the first from a state that is zero but multiplied; a head on the last.
    inputs, states, head = 2 * 8 * 8 * 128, 2 * 8 * 32 * 128, 2 * 32 * 10
    found = plain.step_flop(lstm, lstm.data()) / 32
    assert 2 * inputs + 2.8 * states + 3 * head <= found <= 2 * inputs + 3 * states + 3 * head


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda w: w.name)
def test_every_workload_fits_its_data(workload):
    data = workload.data()
    assert data.input_shape == workload.shape
    inputs, labels = plain.batches(data, workload.batch, epoch=0)[0]
    assert workload.architecture()(inputs).shape == (workload.batch, 10)
    assert labels.shape == (workload.batch,)


def test_both_sides_train():
    workload = workloads.named("mlp-128")
    data = workload.data()
    network, optimizer = loop.fresh(workload.architecture, seed=0)
    before = torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])
    loop.train(network, optimizer, plain.batches(data, 128, 0)[:2])
    assert not torch.equal(before, torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    assert plain.PlainLoop(workload, data).milliseconds(0.001, seed=1) > 0
    training = Training(workload, data, members=4, steps=1)
    assert training.population.space.dimension == 64 * 65 * 2 + 650
    assert training.milliseconds(0.001) > 0


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_torch_func_trains_as_the_plain_loop_does(name):
    workload = workloads.named(f"{name}-32")
    batches = plain.batches(workload.data(), 32, epoch=0)[:3]
    torch.manual_seed(0)
    ensemble = Ensemble(name, members=2)
    starts = [{n: p[k].clone() for n, p in ensemble.points.items()} for k in range(2)]
    torch.manual_seed(0)
    plains = [workload.architecture(), workload.architecture()]
    plains[1].load_state_dict(
        {n: p for n, p in plains[0].state_dict().items() if n.startswith("base")}, strict=False
    )
    for inputs, labels in batches:
        ensemble.step(inputs, labels)
    for k, network in enumerate(plains):
        found = dict(network.named_parameters())
        assert all(torch.equal(start, found[n]) for n, start in starts[k].items())
        loop.train(network, torch.optim.Adam(network.parameters(), lr=loop.LR), batches)
        for n, p in ensemble.points.items():
            assert torch.allclose(p[k], found[n], rtol=1e-3, atol=2e-4), n
        for n, b in ensemble.buffers.items():
            assert torch.allclose(b[k], dict(network.named_buffers())[n], rtol=1e-3, atol=1e-4), n


def in_equinox_order(network: str, found: list[np.ndarray], *, summed: bool) -> list[np.ndarray]:
    """PyTorch's parameters, or their gradients, as the fields of the Equinox network have them."""
    if network == "encoder":
        # Query, key and value stand in one matrix.
        weights, biases = np.split(found[2], 3), np.split(found[3], 3)
        return [*found[:2], *(a for pair in zip(weights, biases, strict=True) for a in pair), *found[4:]]
    if network == "lstm":
        # Two biases are added to each other, so each has the gradient of the sum.
        return [*found[:2], found[2] + found[3] if summed else found[2], *found[4:]]
    return found


# In a process of its own: JAX's threads and the processes that other tests fork don't agree.
GRADIENT = """
import sys
import numpy as np
from benchmarks.peers.jax_vmap import loss_and_gradient
with np.load(sys.argv[2]) as given:
    parameters = [given[f"p{i}"] for i in range(len(given) - 2)]
    loss, gradient = loss_and_gradient(sys.argv[1], parameters, given["inputs"], given["labels"])
np.savez(sys.argv[3], loss=loss, **{f"g{i}": g for i, g in enumerate(gradient)})
"""


@pytest.mark.skipif(not JAX, reason="needs JAX, Equinox and Optax")
@pytest.mark.parametrize(
    "network",
    [
        "mlp",
        "cnn",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dummynet", "residual", "encoder", "lstm")),
    ],
)
def test_jax_has_the_loss_and_the_gradient_of_pytorch(network, tmp_path):
    workload = workloads.named(f"{network}-32")
    inputs, labels = plain.batches(workload.data(), 32, epoch=0)[0]
    module = workload.architecture()
    loss = F.cross_entropy(module(inputs), labels)
    loss.backward()
    parameters = in_equinox_order(network, [p.detach().numpy() for p in module.parameters()], summed=True)
    wanted = in_equinox_order(network, [p.grad.numpy() for p in module.parameters()], summed=False)
    given, answer = tmp_path / "given.npz", tmp_path / "answer.npz"
    arrays = {f"p{i}": p for i, p in enumerate(parameters)}
    np.savez(given, inputs=inputs.numpy(), labels=labels.numpy(), **arrays)
    command = [sys.executable, "-c", GRADIENT, network, given, answer]
    quick = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run(command, cwd=ROOT, env=os.environ | quick, check=True)
    with np.load(answer) as found:
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        for i, gradient in enumerate(wanted):
            difference = np.linalg.norm(found[f"g{i}"].ravel() - gradient.ravel())
            assert difference <= 1e-4 * np.linalg.norm(gradient) + 1e-7, i


@pytest.mark.parametrize("name", ["torch.func", "processes"])
def test_peers_take_turns_in_their_own_processes(name):
    workload = workloads.named("mlp-32")
    settings = replace(QUICK, peers=(name,), ensemble_members=3, member_steps=5)
    with contenders(workload, workload.data(), settings) as [running]:
        running.turn(0.01)
        running.turn(0.01)
        peer = running.result
    wanted = {"torch.func": (3, None), "processes": (torch.get_num_threads(), 5)}[name]
    assert (peer.name, peer.absent, peer.members, peer.steps) == (name, None, *wanted)
    assert len(peer.milliseconds) == 2
    assert min(peer.milliseconds) > 0
    assert peer.startup_seconds > 0.1


def test_a_peer_that_is_not_installed_is_absent(tmp_path, monkeypatch):
    (tmp_path / "jax.py").write_text("raise ModuleNotFoundError(name='jax')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workload = workloads.named("mlp-32")
    with contenders_of_size(workload, workload.data(), ["jax", "processes"], members=4) as running:
        [peer] = running
        peer.turn(0.01)
    assert peer.result.absent.endswith("is not installed")
    steps = replace(STEPS, peers=(peer.result,))
    assert "not installed" in page(replace(RESULTS, steps=(steps,)))
    assert "dummynet-32: times JAX" not in page(replace(RESULTS, steps=(steps,)))


def test_a_peer_that_fails_says_why():
    peer = Contender("processes", 1, 1, network="mlp", batches="nowhere.npz", steps=1)
    assert "nowhere.npz" in peer.result.absent
    peer.turn(0.01)
    assert peer.result.milliseconds == ()
    peer.close()


def test_a_peer_that_dies_is_absent(tmp_path):
    path = tmp_path / "batches.npz"
    keep([(torch.zeros(2, 64), torch.zeros(2, dtype=torch.int64))], path)
    peer = Contender("processes", 1, 1, network="mlp", batches=str(path), steps=1)
    peer.turn(0.01)
    assert len(peer.result.milliseconds) == 1
    peer.kill()
    peer.turn(0.01)
    assert "ended with status -9" in peer.result.absent
    assert peer.result.milliseconds == ()
    peer.close()


def test_batches_come_back_from_their_file(tmp_path):
    given = [(torch.full((2, 3), float(i)), torch.tensor([i, i])) for i in range(3)]
    keep(given, tmp_path / "batches.npz")
    for (x, y), (inputs, labels) in zip(given, read(str(tmp_path / "batches.npz")), strict=True):
        assert np.array_equal(x, inputs)
        assert np.array_equal(y, labels)


def test_a_turn_lasts_about_as_long_as_asked():
    shown = []
    pace = Pace(shown.append, [1, 2, 3])
    assert shown == [1, 2]
    pace.step_ms = 2.0
    assert pace.turn(0.01) >= 0
    assert shown[2:] == [3, 1, 2, 3, 1]
    pace.step_ms = 1e6
    pace.turn(0.01)
    assert len(shown) == 9


def test_nothing_is_remembered_within_the_block(monkeypatch):
    monkeypatch.setenv("MODELSPACE_CACHE", "mine")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with fresh.nothing_remembered():
        assert os.environ["MODELSPACE_CACHE"] != "mine"
        assert not Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).exists()
    assert os.environ["MODELSPACE_CACHE"] == "mine"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_names_choose_the_parts_of_a_run():
    assert workloads.chosen([]) == (workloads.WORKLOADS, ("fit", "scaling"))
    assert workloads.chosen([], ["ten-thousand", "curve"])[1] == ("fit", "scaling", "curve", "ten-thousand")
    mixed, others = workloads.chosen(["scaling", "mlp", "lstm-32"], ["curve"])
    assert [w.name for w in mixed] == ["mlp-32", "mlp-128", "lstm-32"]
    assert others == ("scaling", "curve")
    assert [w.name for w in workloads.with_curves(mixed)] == ["mlp-32"]
    assert [w.name for w in workloads.with_curves(())] == ["dummynet-32", "mlp-32", "cnn-32"]
    with pytest.raises(ModelspaceError, match="unknown benchmark 'mlp-23': did you mean 'mlp-32'"):
        workloads.chosen(["mlp-23"])


def test_quick_run_prints_a_table_and_writes_json(tmp_path, capsys):
    path = tmp_path / "results.json"
    assert main(["--quick", "--only", "mlp-32", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [s["workload"] for s in found["steps"]] == ["mlp-32"]
    assert len(found["steps"][0]["repeats"]) == 2
    assert str(ROOT) not in path.read_text()
    assert "mlp-32" in capsys.readouterr().out


def test_json_to_standard_output_and_nothing_else(capsys):
    assert main(["--quick", "--only", "lora-32", "--repeats", "1", "--members", "4", "--json", "-"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["settings"]["members"] == 4
    assert found["steps"][0]["copies_mib"] > 3 * found["steps"][0]["population_mib"]
    assert "lora-32" in captured.err


def test_help_teaches_every_part_and_peer():
    text = parser().format_help()
    for name in (*workloads.PARTS, *workloads.EXTRAS, *(w.name for w in workloads.WORKLOADS)):
        assert name in text
    for said in (
        "torch.func",
        "jax",
        "processes",
        "examples:",
        "Exit status",
        "--device cuda --only dummynet",
    ):
        assert said in text


def test_bad_usage_is_one_line_and_exit_2(capsys):
    assert main(["--only", "dumynet"]) == 2
    assert capsys.readouterr().err.startswith("unknown benchmark 'dumynet': did you mean 'dummynet'")
    for mistake, said in (
        (["--repeats", "0"], "no whole number"),
        (["--peers", "jax,tensorflow"], "no peer 'tensorflow'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(mistake)
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there_is_one_line_and_exit_2(name, capsys):
    assert main(["--device", name, "--quick", "--only", "mlp-32"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"unknown device '{name}': ")
    assert said.count("\n") == 1


def test_a_device_is_named_in_full():
    assert checked("cpu") == "cpu"
    assert parser().parse_args([]).device == "cpu"
    assert [device.is_gpu(name) for name in ("cpu", "cuda", "cuda:1", "mps")] == [False, True, True, True]


def test_the_clock_waits_for_the_gpu_and_for_no_cpu(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.cuda, "set_device", lambda name: waited.append(f"use {name}"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for name in ("cpu", "cuda:1", "mps:0"):
        device.use(name)
        device.synchronise(name)
    assert waited == ["use cuda:1", "cuda:1", "mps"]


def test_every_clock_is_stopped_after_waiting(monkeypatch):
    events = []
    monkeypatch.setattr(plain, "synchronise", lambda name: events.append(f"wait {name}"))
    monkeypatch.setattr(plain, "train", lambda *_: events.append("train"))
    workload = workloads.named("mlp-32")
    plain.PlainLoop(workload, workload.data())
    plain.whole_network_seconds(workload, workload.data(), 1, 0, test=True)
    one = ["wait cpu", "train", "wait cpu"]
    assert events == ["train", *one, *one]  # the first warms up
    waits = []
    monkeypatch.setattr("benchmarks.limit.synchronise", waits.append)
    assert product_gflops(0, size=8) > 0
    assert waits == ["cpu"] * 3  # the warm-up and two products


def test_a_gpu_has_its_own_sizes_and_targets():
    assert for_device(Settings(), "cpu") == Settings()
    grown = for_device(Settings(), "cuda:0")
    assert (grown.device, grown.members, grown.ensemble_members) == ("cuda:0", 1024, 1024)
    assert (grown.jax_members[-1], grown.scaling_members[-1]) == (2048, 16384)
    for workload in workloads.WORKLOADS:
        small = workload.name in ("dummynet-32", "mlp-32")
        assert workload.targets_on("cuda:0") == Targets(loop=100 if small else 1)
        assert workload.targets_on("cpu") == workload.targets


@pytest.mark.parametrize(("where", "tolerance"), [("cpu", 0.2), ("cuda:0", None)])
def test_flat_throughput_is_asked_of_a_cpu(where, tolerance, monkeypatch):
    asked = []

    def measured(measurement, threads, **arguments):
        asked.append(arguments["device"])
        return vars(size(arguments["members"], 1.0))

    monkeypatch.setattr(scaling, "in_fresh_process", measured)
    arguments = {"repeats": 1, "compile": False, "threads": 1, "advance": lambda _: None}
    found = scaling.measure(workloads.named("dummynet-32"), (2, 4), device=where, **arguments)
    assert asked == [where] * 2
    assert found.tolerance == tolerance
    checks = replace(RESULTS, steps=(), scaling=found).checks
    assert len(checks) == (tolerance is not None)


def test_a_gpu_is_named_and_its_memory_is_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda name: 3 * 2**20)
    assert peak_mib("cuda:0") == 3
    found = environment("cuda:0")
    assert found["device"] == "NVIDIA H100 80GB HBM3"
    assert found["processor"] == environment()["device"] == environment()["processor"]
    assert (
        file_name({**found, "date": RESULTS.environment["date"]}) == "2026-01-31-nvidia-h100-80gb-hbm3.json"
    )
    assert [on_gpu(e) for e in (found, environment(), RESULTS.environment)] == [True, False, False]
    shown = replace(RESULTS, environment=found)
    assert "NVIDIA H100 80GB HBM3 on " in page(shown)
    assert page(shown).count("peak GPU MiB") == 3
    assert "GPU" not in page(RESULTS)
    assert "\nNVIDIA H100 80GB HBM3, torch" in picture.caption(shown.as_dict())


def test_jax_is_told_where_to_compute():
    assert _variables(2, "cpu")["JAX_PLATFORMS"] == "cpu"
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in _variables(2, "cpu")
    there = _variables(2, "cuda:1")
    assert (there["JAX_PLATFORMS"], there["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("cuda", "false")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is for machines without CUDA")
@pytest.mark.parametrize("name", ["torch.func", "processes"])
def test_a_peer_takes_the_device_along(name, monkeypatch):
    # It fails there, which shows that it was asked for it: of the processes, of which a GPU has four, each.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    workload = workloads.named("mlp-32")
    settings = replace(QUICK, peers=(name,), device="cuda:0")
    with contenders(workload, workload.data(), settings) as [running]:
        assert running.result.members == (4 if name == "processes" else 1)
        assert "CUDA" in running.result.absent or "cuda" in running.result.absent


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_quick_run_on_a_gpu(tmp_path):
    path = tmp_path / "results.json"
    peers = ["--peers", "torch.func,processes"]
    names = ["--only", "mlp-32", "--only", "fit", "--only", "scaling", "--only", "ten-thousand"]
    assert main(["--quick", "--device", "cuda", *names, *peers, "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["environment"]["device"] == torch.cuda.get_device_name()
    assert found["settings"]["device"] == "cuda:0"
    assert [p["absent"] for p in found["steps"][0]["peers"]] == [None, None]
    assert found["ten_thousand"]["peak_mib"] > 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("*curve*.json")), ids=lambda p: p.stem
)
def test_a_result_file_of_before_is_drawn(path):
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert picture.lines(kept)
    assert kept["environment"]["device"] in picture.caption(kept)
    assert not on_gpu(kept["environment"])


def test_peers_are_named_in_any_order():
    assert parser().parse_args(["--peers", "processes,jax"]).peers == ("jax", "processes")
    assert parser().parse_args(["--peers", "none"]).peers == ()
    assert parser().parse_args([]).peers is None


def test_lines_of_the_picture_are_those_of_the_record():
    lines = picture.lines(RESULTS.as_dict())
    assert [(line.title, line.kind) for line in lines] == [
        ("MLP", "population"),
        ("MLP", "planned"),
        ("JAX on MLP", "peer"),
    ]
    assert lines[0].members == (1, 64)
    assert lines[0].ratios == (0.5 / 0.5, 32 / 2.5)
    assert lines[1].ratios == (0.5 / 2, 32 / 4)
    assert (lines[2].members, lines[2].ratios) == ((1,), (pytest.approx(1.5),))
    with pytest.raises(ModelspaceError, match="hold no curve"):
        picture.lines({"curves": []})


@pytest.mark.parametrize(
    ("levels", "moved"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.2, 0.5, 0.52, 0.54], [0.2, 0.42, 0.52, 0.62]),
        ([0.4, 0.5, 0.5], [0.4667 - 0.1, 0.4667, 0.4667 + 0.1]),
    ],
)
def test_labels_move_apart_as_little_as_needed(levels, moved):
    assert picture.apart(levels, 0.1) == pytest.approx(moved, abs=1e-3)


def test_picture_is_written(tmp_path, capsys):
    results, drawn = tmp_path / "results.json", tmp_path / "speedup.png"
    results.write_text(json.dumps(RESULTS.as_dict()))
    assert picture.main([str(results), str(drawn)]) == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")
    results.write_text(json.dumps(replace(RESULTS, curves=()).as_dict()))
    assert picture.main([str(results), str(drawn)]) == 2
    assert "hold no curve" in capsys.readouterr().err


def test_peak_memory_is_the_child_processes_own():
    held = torch.ones(60_000_000)  # 229 MiB, which the kernel would report for the child's ru_maxrss
    code = "from benchmarks.memory import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(held)
    assert 1 < float(done.stdout) < 200
