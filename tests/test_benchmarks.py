"""The benchmarks' arithmetic by hand, a quick run of each question, the exit status; no speed is tested."""

import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cost.twelve import subjects
from support.sampled import sampled

from benchmarks import __main__ as program
from benchmarks import (
    anatomy,
    anatomy_size,
    curvature,
    diagnosis,
    doctors,
    fits,
    landscapes,
    machine,
    peers,
    picture,
    plain,
    products,
    scores,
    steps,
    workloads,
)
from benchmarks.peer_torch import Ensemble
from benchmarks.tables import check

JAX = all(importlib.util.find_spec(name) for name in ("jax", "equinox", "optax"))
WORKLOADS = workloads.WORKLOADS
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in machine.RESULTS.glob("*.json")}
KEPT = {name: made for name, made in FILES.items() if "curves" in made}
NEAR = pytest.approx


def test_the_summaries_of_steps_by_hand():
    turns = [(0.4, 0.02, 200.0), (0.9, 0.03, 100.0), (0.5, 0.05, 100.0)]
    repeats = [dict(zip(("loop_ms", "population_ms", "limit_gflops"), turn, strict=True)) for turn in turns]
    jax = {"name": "jax", "absent": None, "steps": None, "milliseconds": [0.03, 0.06, 0.15]}
    one = jax | {"name": "processes", "members": 2, "startup_seconds": 4.0, "steps": 1000}
    told = [peers.summarised(peer) for peer in (jax, one | {"milliseconds": [0.2, 0.3, 0.5]})]
    told.append(peers.summarised(jax | {"absent": "no batched form", "milliseconds": []}))
    # Two at once take 0.6 s for 1000 steps each, and 4 s to start.
    rates = [told[1][key] for key in ("members_a_second", "members_a_second_started")]
    assert rates == NEAR([2 / 0.6, 2 / 4.6])
    raw = {"repeats": repeats, "peers": told, "members": 1024, "flop": 2_000_000}
    found = steps.summarised(raw | {"member_bytes": 2**10, "shared_bytes": 2**20})
    assert (found["loop_ms"], found["population_ms"], found["ratio"]) == (0.5, 0.03, NEAR(20))
    # 2 MFLOP in 0.02 ms are 100 GFLOP/s of 200; 66.7 of 100; 40 of 100. 1 KiB each, and 1 MiB once, or each time.
    assert found["fraction_of_limit"] == NEAR(0.5)
    assert (found["population_mib"], found["copies_mib"]) == (2, 1025)
    assert [peer["ratio"] for peer in found["peers"]] == [NEAR(2), NEAR(10), None]  # the first of 1.5, 2, 3


def test_the_summaries_of_fits_by_hand_and_what_was_missed():
    loop = {"plan": {"seconds": 1.5}, "loop_seconds": [0.5, 0.25, 0.5]}
    few = {k: fits.summarised(loop | {"members": k, "seconds": s}) for k, s in ((1, 0.5), (64, 4.0))}
    assert (few[64]["ratio"], few[64]["ratio_planned"]) == (64 * 0.5 / 4, 64 * 0.5 / (4 - 1.5))
    small = fits.summarised_small({1: [few[1], few[64], few[1] | {"ratio": 0.9}], 2: [few[64]]}, [3.0])
    assert [fit["ratio"] for fit in small["fits"]] == [1, 8]  # the first of 1, 8, 0.9
    sizes = [{"members": 64, "rates": [110.0, 120.0, 900.0]}, {"members": 4096, "rates": [80.0]}]
    scaling = fits.summarised_scaling(sizes, 0.2)
    assert scaling["spread"] == NEAR(0.2)  # 120 and 80 are 100 ± 20 %
    for bad in (False, True):
        small["fits"][0]["ratio"], scaling["tolerance"] = (0.9, 0.19) if bad else (1.0, 0.21)
        checks = fits.checks({"small": small, "scaling": scaling})
        assert [(check["met"], check["wanted"]) for check in checks] == [
            (not bad, "≥ 1"), (True, "≥ 1"), (not bad, "± 19 %" if bad else "± 21 %")
        ]  # fmt: skip
    assert fits.checks({"scaling": scaling | {"tolerance": None}}) == []  # as on a GPU
    turns = {"call": "predict", "members": 8, "turns": [(3.0, 1.0), (4.0, 5.0), (3.0, 4.0)]}
    found = scores.summarised(turns)
    assert (found["ratio"], found["loop"], found["seconds"]) == (0.8, 3, 4)
    assert [check["met"] for ratio in (0.99, 1.0) for check in scores.checks([found | {"ratio": ratio}])] == [
        False,
        True,
    ]


@pytest.mark.parametrize("name", KEPT)
def test_the_results_of_before_have_the_same_summaries_checks_and_tables(name, tmp_path, capsys):
    made = KEPT[name]
    for one in made["steps"]:
        again = steps.summarised({key: one[key] for key in one if key not in ("ratio", "fraction_of_limit")})
        for figure in ("ratio", "fraction_of_limit", "copies_mib"):
            assert again[figure] == NEAR(one[figure])
        assert [peer["ratio"] for peer in again["peers"]] == NEAR([peer["ratio"] for peer in one["peers"]])
    for fit in made["fits"]:
        assert fits.summarised(fit)["ratio_planned"] == NEAR(fit["ratio_planned"])
    for point in (point for curve in made["curves"] for point in curve["points"]):
        assert fits.with_ratios(point)["ratios"] == NEAR(point["ratios"])
    assert [check["found"] for check in program.checks(made)] == [check["found"] for check in made["checks"]]
    program.draw(program.head(made), program.tables(made))
    text = capsys.readouterr().out
    figures = [one["ratio"] for one in made["steps"] + made["fits"]]
    assert all(said in text for said in (made["environment"]["device"], *(f"{r:.1f} ×" for r in figures)))
    (tmp_path / "results.json").write_text(json.dumps(made))
    drawn = picture.main([str(tmp_path / "results.json"), str(tmp_path / "speedup.png")])
    if made["curves"]:
        assert (drawn, (tmp_path / "speedup.png").read_bytes()[:4]) == (0, b"\x89PNG")
        assert picture.apart([0.2, 0.5, 0.52, 0.54], 0.1) == NEAR([0.2, 0.42, 0.52, 0.62], abs=1e-3)
        lines, curve = picture.lines(made), made["curves"][0]["fits"]
        assert (lines[0].members[0], lines[1].kind, lines[0].ratios[-1]) == (
            1,
            "planned",
            curve[-1]["ratio_planned"],
        )
    else:
        assert (drawn, "hold no curve" in capsys.readouterr().err) == (2, True)


def test_exit_statuses(monkeypatch, capsys):
    for missed, words, status in ((1, [], 1), (0, [], 0), (1, ["--no-assert"], 0), (1, ["--quick"], 0)):
        made = next(iter(KEPT.values())) | {"checks": [check("speed", "≥ 2", "1", not missed)]}
        monkeypatch.setattr(program, "run", lambda *_, made=made: made)
        assert program.main(["--only", "mlp", "--json", "-", *words]) == status
        out, text = capsys.readouterr()
        assert (json.loads(out), "MISSED" in text) == (made, bool(missed))
    monkeypatch.undo()
    monkeypatch.setattr(machine.sys, "executable", "/bin/false")
    assert program.main(["--only", "mlp"]) == 3
    assert "failed with exit status 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--only dumynet", "unknown benchmark 'dumynet': did you mean 'dummynet'"),
        ("--repeats 0", "no whole number"),
        ("--peers jax,tensorflow", "no peer 'tensorflow'"),
        *((f"--device {name}", f"unknown device '{name}': ") for name in ("cuda:99", "gpu", "meta")),
    ],
)
def test_bad_usage_is_said_and_exit_2(words, said, capsys):
    try:
        status = program.main(words.split())
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_the_help_teaches_every_name_and_names_choose_the_parts():
    text = program.parser().format_help()
    names = (
        *workloads.PARTS,
        *workloads.EXTRAS,
        *WORKLOADS,
        *peers.PEERS,
        "examples:",
        "Exit status",
        "verify",
    )
    assert [name for name in names if name not in text] == []
    assert program.parser().parse_args(["--peers", "processes,jax"]).peers == ("jax", "processes")
    assert workloads.chosen([], ["curve"]) == ([*WORKLOADS], [*workloads.PARTS, "curve"])
    found = workloads.chosen(["scaling", "mlp", "lstm-32"], ["curve"])
    assert found == (["mlp-32", "mlp-128", "lstm-32"], ["scaling", "curve"])


def test_a_product_is_held_against_its_gradient():
    found = [
        {"workload": "mlp-32", "how": how, "ratio": ratio} for how, ratio in (("eager", 9), ("compiled", 2.4))
    ]
    (one,) = products.checks(found)
    assert (one["met"], one["found"], one["wanted"]) == (True, "2.40", "≤ 2.5")
    assert not products.checks([found[1] | {"ratio": 2.6}])[0]["met"]


@pytest.fixture
def here(monkeypatch):
    """Measurements in this process: the questions are tried, not timed."""

    def at_once(measurement, device, threads=None, **arguments):
        function = pkgutil.resolve_name(f"benchmarks.{measurement}")
        return json.loads(json.dumps(function(device=device, **arguments)))

    for module in (fits, curvature, landscapes, products, scores, steps, anatomy_size):
        monkeypatch.setattr(module, "in_fresh_process", at_once)
        monkeypatch.setattr(module, "product_gflops", lambda *_: 100.0, raising=False)


@pytest.mark.parametrize("name", sampled(["vae-32", "pinn-128", "masked-32", "forecaster-16"], 2))
def test_a_quick_run_of_other_objectives_and_data(name, here, tmp_path):
    path = tmp_path / "results.json"
    assert program.main(f"--quick --repeats 1 --members 3 --json {path} --only {name}".split()) == 0
    (found,) = json.loads(path.read_text())["steps"]
    batched = not found["plan"]["fallback"] and not found["plan"]["one_by_one"]
    assert (found["workload"], batched) == (name, True)


@pytest.mark.slow
def test_a_quick_run_of_each_question(here, tmp_path):
    path, names = tmp_path / "results.json", ("mlp-32", *workloads.PARTS, *workloads.EXTRAS)
    words = f"--quick --repeats 1 --members 4 --json {path} --only {' --only '.join(names)}"
    assert program.main(words.split()) == 0
    found = json.loads(path.read_text())
    assert [(s["workload"], s["members"], len(s["repeats"])) for s in found["steps"]] == [("mlp-32", 4, 1)]
    assert [few["members"] for few in found["small"]["fits"]] == [1, 2]
    assert [size["members"] for size in found["scaling"]["sizes"]] == [4, 8]
    assert [call["call"] for call in found["scores"]] == ["evaluate", "predict"]
    assert [(one["workload"], one["how"]) for one in found["products"]] == [("dummynet-32", "eager")]
    assert [side["side"] for side in found["curvature"]] == [
        "modelspace",
        "curvlinops",
        "hessian_eigenthings",
    ]
    assert [(one["workload"], one["points"]) for one in found["landscape"]] == [("dummynet-32", 25)]
    assert (found["ten_thousand"]["members"], found["ten_thousand"]["diverged"]) == (16, 0)
    assert [one["workload"] for part in ("fits", "curves") for one in found[part]] == ["mlp-32"] * 2
    assert len(picture.lines(found)) == 2
    assert str(machine.ROOT) not in path.read_text()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_quick_run_on_a_gpu(tmp_path):
    path, names = tmp_path / "results.json", ("mlp-32", *workloads.PARTS, "ten-thousand")
    words = (
        f"--quick --device cuda --peers torch.func,processes --json {path} --only {' --only '.join(names)}"
    )
    assert program.main(words.split()) == 0
    found = json.loads(path.read_text())
    assert found["environment"]["device"] == torch.cuda.get_device_name()
    assert [peer["absent"] for peer in found["steps"][0]["peers"]] == [None, None]
    assert found["ten_thousand"]["peak_mib"] > 0


def test_a_gpu_has_its_own_name_sizes_and_targets():
    old = {"date": "2026-01-31T12:00:00Z", "device": "AMD EPYC (R) 7/9", "threads": 2}
    gpu = machine.environment() | old | {"device": "NVIDIA H100 80GB HBM3"}
    files = ["2026-01-31-amd-epyc-r-7-9-2threads.json", "2026-01-31-nvidia-h100-80gb-hbm3.json"]
    assert [machine.file_name(e) for e in (old, gpu)] == files
    assert program.head({"environment": gpu}).startswith("NVIDIA H100 80GB HBM3 on ")
    assert workloads.settings_on("cuda:0").scaling_members[-1] == 16384
    assert [w.targets("cuda:0")["loop"] for w in WORKLOADS.values()].count(100) == 2


def test_a_fresh_process_has_a_peak_of_its_own():
    held = torch.ones(200_000_000)  # 763 MiB, which the kernel would report for the child's ru_maxrss
    assert 1 < machine.in_fresh_process("machine:peak_mib", "cpu", threads=1) < held.nbytes / 2**20


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_flop_of_a_step_in_closed_form(name):
    # A product of a×b by b×c is 2abc. Backward, a layer needs the gradient of its weights, as many again, and that of
    # its input, the first layer not. Of lora's frozen base there are only its inputs' gradients.
    base, adapters = 2 * (64 * 960 + 960 * 960 + 960 * 10), 2 * 4 * (64 + 960 + 960 + 960 + 960 + 10)
    workload, closed = WORKLOADS[name], {"lora": 2 * base + 3 * adapters - 2 * 64 * 960 - 2 * 64 * 4}
    closed |= {"dummynet": 2 * 2 * 25 * 243 + 3 * 4500, "mlp": 5 * 2 * 64 * 64 + 3 * 1280}
    closed |= {"cnn": 2 * 2 * 36 * 144 + 3 * (32 * 16 * 288 + 10240)}
    closed |= {"vae": 2 * 2 * 64 * 64 + 3 * 2 * (64 * 16 + 8 * 64 + 64 * 64)}
    *inputs, labels = workload.batches(workload.data())[0]
    assert inputs[0].shape == (workload.batch, *(workload.shape or inputs[0].shape[1:]))
    if not workload.fit:
        outputs = workload.architecture()(*inputs)
        assert (len(outputs), *outputs.shape[2:]) == labels.shape
    found = steps.step_flop(workload, workload.data()) / workload.batch
    # An LSTM's first state is zero but multiplied: 8 steps of (8 + 32) → 4·32, and the head; a GRU 12 of 17 → 3·16. A
    # PINN has a forward, backward of it, and of that, and then backward through all of them; and one for the start.
    least = {
        "lstm": 2 * 16384 + 2.8 * 65536 + 3 * 640,
        "forecaster": 2.8 * 12 * 2 * 16 * 48,
        "pinn": 8 * 2 * 1120,
    }
    assert found == closed.get(workload.network, found) > least.get(workload.network, 0)


def of(network):
    return next(workload for workload in WORKLOADS.values() if workload.network == network)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp
@pytest.mark.parametrize("name", plain.NETWORKS)
def test_torch_func_trains_as_the_plain_loop_does(name, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)  # each side draws otherwise
    workload, ensemble = of(name), Ensemble(name, members=2)
    data, alone = workload.data(), [workload.architecture() for _ in range(2)]
    assert ensemble.own == bool(data.tasks)
    batches = workload.batches(data)[:4]
    for k, network in enumerate(alone):
        start = {n: p[k] for n, p in (ensemble.points | ensemble.buffers).items()}
        network.load_state_dict(start, strict=False)
    own = [batches[:3], batches[ensemble.own :][:3]]
    for pair in zip(*own, strict=True):
        stacked = tuple(map(torch.stack, zip(*pair, strict=True)))
        ensemble.step(stacked if ensemble.own else pair[0])
    for k, network in enumerate(alone):
        optimizer = torch.optim.Adam(network.parameters(), lr=plain.LR)
        plain.train(network, optimizer, own[k], plain.OBJECTIVES[name])
        for n, p in (ensemble.points | ensemble.buffers).items():
            assert torch.allclose(p[k], network.state_dict()[n], rtol=1e-3, atol=2e-4), n


# In a process of its own: JAX's threads and the processes that other tests fork don't agree.
GRADIENT = """
import sys, equinox as eqx, jax, numpy as np
from benchmarks.peer_jax import NETWORKS, OBJECTIVES, cross_entropy
given = np.load(sys.argv[2])
made, state = eqx.nn.make_with_state(NETWORKS[sys.argv[1]])(jax.random.key(0))
point, static = eqx.partition(made, eqx.is_inexact_array)
leaves, tree = jax.tree.flatten(point)
point = jax.tree.unflatten(tree, [given[f"arr_{i}"].reshape(leaf.shape) for i, leaf in enumerate(leaves)])
jax.random.normal = lambda key, shape: jax.numpy.ones(shape)  # as torch.randn_like is here
objective = OBJECTIVES.get(sys.argv[1], cross_entropy)
batch = [jax.numpy.asarray(given[name]) for name in given if name.startswith("batch")]
one = lambda p: objective(eqx.combine(p, static), state, *batch)[0]
value, gradient = jax.jit(jax.value_and_grad(one))(point)
np.savez(sys.argv[3], value, *jax.tree.leaves(gradient))
"""


@pytest.mark.slow
@pytest.mark.skipif(not JAX, reason="needs JAX, Equinox and Optax")
@pytest.mark.parametrize("name", [name for name in plain.NETWORKS if name != "lora"])
def test_jax_has_the_loss_and_the_gradient_of_pytorch(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    workload, module = of(name), plain.NETWORKS[name]()
    batch = workload.batches(workload.data())[0]
    loss = plain.OBJECTIVES[name](module, batch)
    loss.backward()
    points, slopes = zip(*((p.detach().numpy(), p.grad.numpy()) for p in module.parameters()), strict=True)
    points, slopes = [*points], [*slopes]
    if name in ("encoder", "masked"):  # query, key and value not in one matrix
        for part in (points, slopes):
            pairs = zip(np.split(part[2], 3), np.split(part[3], 3), strict=True)
            part[2:4] = [array for pair in pairs for array in pair]
    if name == "lstm":  # one bias where two are added to each other, each with the gradient of the sum
        points[2:4], slopes[2:4] = [points[2] + points[3]], [slopes[2]]
    if name == "forecaster":  # likewise, but of the last gate's, one is added inside
        points[2] = points[2] + np.where(np.arange(48) < 32, points[3], 0)
        points[3], slopes[3] = points[3][32:], slopes[3][32:]
    given = {f"batch_{i}": part.numpy() for i, part in enumerate(batch)}
    np.savez(tmp_path / "given.npz", *points, **given)
    command = [sys.executable, "-c", GRADIENT, name, tmp_path / "given.npz", tmp_path / "answer.npz"]
    subprocess.run(command, cwd=machine.ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True)
    value, *gradient = np.load(tmp_path / "answer.npz").values()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    for own, wanted in zip(gradient, slopes, strict=True):
        assert np.linalg.norm(own.ravel() - wanted.ravel()) <= 1e-4 * np.linalg.norm(wanted) + 1e-7


def test_peers_take_turns_in_their_own_processes_until_they_fail(tmp_path, monkeypatch):
    (tmp_path / "equinox.py").write_text("raise ModuleNotFoundError(name='equinox')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    batch = torch.zeros(2, 64), torch.zeros(2, dtype=torch.int64)
    asked = {"jax": {"sizes": [4]}, "processes": {"steps": 5}}
    with peers.running(asked, "mlp", [batch, batch], "cpu") as running:
        for peer in running:
            peer.turn(0.01)
        found = [peer.result for peer in running]
        running[1]._children[0].kill()
        running[1].turn(0.01)
        assert (running[1].result["milliseconds"], running[1].result["absent"][-2:]) == ([], "-9")
    assert [(peer["steps"], peer["absent"]) for peer in found] == [
        (None, "equinox is not installed"),
        (5, None),
    ]
    assert found[1]["milliseconds"][0] > 0


def test_the_counters_their_table_and_its_status(monkeypatch, capsys, tmp_path):
    ours = anatomy.COUNTERS["modelspace"][0]
    only = {"modelspace": (ours, "modelspace"), "half": (lambda net, x: (None, ours(net, x)[1] // 2), "torch"),
            "gone": (ours, "no_such_package"), "broken": (lambda net, x: 1 / 0, "torch")}  # fmt: skip
    monkeypatch.setattr(anatomy, "COUNTERS", only)
    assert anatomy.main(["--out", str(tmp_path / "found.json")]) == 0  # ours are the counts by hand
    for subject in subjects():
        assert subject.parameters == sum(p.numel() for p in subject.make().parameters())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    told = "exact -50.0 % not installed fails: ZeroDivisionError"
    assert next(line[-7:] for line in lines if line[:1] == ["DummyNet"]) == told.split()
    assert ["exact", "12", "0", "0", "0"] in lines
    monkeypatch.setitem(only, "modelspace", (lambda net, x: (0, 0), "torch"))
    assert anatomy.main(["--out", str(tmp_path / "found.json")]) == 1


def test_the_laws_of_a_large_architecture_are_its_trace(here):
    assert anatomy_size.measured("gpt-2")["agree"] == "yes"


def test_the_diagnosis_says_what_was_missed(monkeypatch, capsys):
    fault = diagnosis.zoo.FAULTS[0]
    monkeypatch.setattr(diagnosis.zoo, "FAULTS", [fault])
    assert (diagnosis.main([]), "missed: " in capsys.readouterr().out) == (0, False)
    monkeypatch.setattr(diagnosis.zoo, "FAULTS", [replace(fault, faulty=fault.corrected)])
    assert (diagnosis.main(["--alone"]), "missed: " in capsys.readouterr().out) == (1, True)


def test_the_doctors_are_counted_alike(monkeypatch, capsys):
    faults = [
        fault for fault in diagnosis.zoo.FAULTS if fault.rule not in ("inplace-hook", "bias-before-norm")
    ][:4]

    def absent(faults):
        import no_such_doctor  # noqa: F401  # pyright: ignore

    # A report on both sides tells the two apart no more than none does.
    reports = [({"a"}, set()), ({"a", "b"}, {"b"}), ({"b"}, {"b"}), (set(), set())]
    monkeypatch.setattr(doctors, "TOOLS", {"one": lambda faults: iter(reports), "other": absent})
    one, other = doctors.measured(faults)
    assert (one["faults"], one["found"], one["alarms"]) == (4, 2, 2)
    assert (one["recall"], one["precision"]) == (0.5, 0.5)
    assert other == {"tool": "other", "missing": "not installed"}
    diagnosis.beside([one, other])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["other", "not", "installed"] in lines
    assert next(line[:-1] for line in lines if line[:1] == ["one"]) == ["one", "4", "2", "0.50", "2", "0.50"]


def test_each_side_of_a_fault_is_a_script_with_its_own_class():
    for fault in diagnosis.zoo.FAULTS:
        for faulty in (True, False):
            compile(doctors.script(fault, faulty=faulty), fault.name, "exec")
    sick, well = (
        doctors.script(next(f for f in diagnosis.zoo.FAULTS if f.name == "mean over padding"), faulty=side)
        for side in (True, False)
    )
    assert ("class Averaged" in sick, "class Averaged" in well) == (True, False)
    assert "class Deaf" not in sick + well


@pytest.mark.slow
def test_the_forecasters_are_timed_and_scored():
    words = ["--model", "mlp", "--members", "6", "--steps", "3", "--loops", "2", "--pooled", "2"]
    command = [sys.executable, "-m", "benchmarks.forecasters", *words]
    made = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "6 mlp forecasters of 3 updates" in made.stdout
    assert made.stdout.count("members an hour") == 2
    assert "one model a series" in made.stdout


@pytest.mark.slow
def test_the_pictures_are_timed_and_scored():
    words = ["--members", "2", "--epochs", "1", "--loops", "1"]
    command = [sys.executable, "-m", "benchmarks.pictures", *words]
    made = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("× the loop   test accuracy 0.") == 3
