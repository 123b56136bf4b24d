import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks is no installed package

from benchmarks import plain, workloads  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.environment import environment, file_name  # noqa: E402
from benchmarks.population import Training  # noqa: E402
from benchmarks.record import Repeat, Results, Scaling, Size, StepTimes, TenThousand, WholeFit  # noqa: E402
from benchmarks.table import parts  # noqa: E402
from benchmarks.targets import checks  # noqa: E402
from modelspace.errors import ModelspaceError  # noqa: E402

PLAN = {
    "lowering": "vmap",
    "chunk": 32,
    "compiled": True,
    "reason": "",
    "fallback": None,
    "seconds": 7.5,
}
STEPS = StepTimes(
    workload="dummynet-32",
    dimension=2512,
    members=1024,
    batch=32,
    flop=2_000_000,
    plan=PLAN,
    target=15,
    repeats=(Repeat(0.4, 0.02, 200.0), Repeat(0.9, 0.03, 100.0), Repeat(0.5, 0.05, 100.0)),
)


def size(members: int, *rates: float) -> Size:
    return Size(members, 2, rates, (200.0,), PLAN, 500.0)


RESULTS = Results(
    {
        "date": "2026-01-31T12:00:00Z",
        "device": "AMD EPYC (R) 7/9",
        "instructions": "AVX2",
        "threads": 2,
        "cores": 2,
        "torch": "2.13.0",
        "load_before": 0.1,
    },
    {"repeats": 3},
    (STEPS,),
    (WholeFit("mlp-32", 64, 20, 42240, 4.0, PLAN, (0.5, 0.25, 0.5), 450.0),),
    Scaling("dummynet-32", 0.2, (size(64, 110.0, 120.0, 900.0), size(4096, 80.0))),
    TenThousand("dummynet-32", 10_000, 20, 2.0, 200.0, 8.0, PLAN, (0.42, 0.42, 0.9), (0.95, 0.01), 3, 700.0),
)


def test_summaries_against_arithmetic():
    assert (STEPS.loop_ms, STEPS.population_ms) == (0.5, 0.03)
    assert STEPS.ratio == pytest.approx(20)  # of 20, 30, 10
    # 2 MFLOP in 0.02 ms are 100 GFLOP/s of 200; 66.7 of 100; 40 of 100.
    assert STEPS.fraction_of_limit == pytest.approx(0.5)
    assert RESULTS.fits[0].ratio == 64 * 0.5 / 4
    assert RESULTS.scaling.spread == pytest.approx(0.2)  # 120 and 80 are 100 ± 20 %
    assert RESULTS.ten_thousand.seconds == 210
    assert RESULTS.ten_thousand.ratio == pytest.approx(20)


def test_checks_say_what_was_missed():
    assert [c.met for c in checks(RESULTS)] == [True, True]
    slow = replace(STEPS, target=20.5)
    uneven = replace(RESULTS.scaling, sizes=(size(64, 121.0), size(256, 100.0), size(4096, 80.0)))
    missed = checks(replace(RESULTS, steps=(slow,), scaling=uneven))
    assert [c.met for c in missed] == [False, False]
    assert "64 … 4096" in missed[1].name


def test_table_of_a_fixed_record():
    console = Console(width=160, file=io.StringIO())
    for part in parts(RESULTS):
        console.print(part)
    text = console.file.getvalue()
    row = next(line for line in text.splitlines() if line.strip().startswith("dummynet-32 "))
    assert row.split() == [
        *("dummynet-32", "1,024", "0.500", "0.0300", "20.0", "×", "10.0–30.0", "2.00", "100", "0.50", "7.5"),
        *("compiled", "vmap,", "shards", "of", "32"),
    ]
    for expected in ("2.0 + 200.0 + 8.0 s", "0.9500 ± 0.0100", "± 20 %", "met", "4200 s", "AMD EPYC"):
        assert expected in text
    assert "MISSED" not in text


def test_record_is_plain_json():
    kept = json.loads(json.dumps(RESULTS.as_dict()))
    assert kept["steps"][0]["ratio"] == pytest.approx(20)
    assert kept["steps"][0]["repeats"][1] == {"loop_ms": 0.9, "population_ms": 0.03, "limit_gflops": 100.0}
    assert kept["scaling"]["sizes"][0]["rates"] == [110.0, 120.0, 900.0]
    assert [c["met"] for c in kept["checks"]] == [True, True]


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
    torch.manual_seed(0)
    network = workload.architecture()
    before = torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])
    plain.train(network, torch.optim.Adam(network.parameters()), plain.batches(data, 128, 0)[:2])
    assert not torch.equal(before, torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    training = Training(workload, data, members=4, steps=1)
    assert training.dimension == 64 * 65 * 2 + 650
    assert training.milliseconds(2) > 0


def test_names_choose_the_parts_of_a_run():
    everything, others = workloads.chosen([], optional=False)
    assert "lstm-32" not in [w.name for w in everything]
    assert others == ("fit", "scaling")
    assert len(workloads.chosen([], optional=True)[0]) == len(workloads.WORKLOADS)
    mixed, others = workloads.chosen(["scaling", "mlp", "lstm-32"], optional=False)
    assert [w.name for w in mixed] == ["mlp-32", "mlp-128", "lstm-32"]
    assert others == ("scaling",)
    with pytest.raises(ModelspaceError, match="unknown benchmark 'mlp-23': did you mean 'mlp-32'"):
        workloads.chosen(["mlp-23"], optional=False)


def test_quick_run_prints_a_table_and_writes_json(tmp_path, capsys):
    path = tmp_path / "results.json"
    assert main(["--quick", "--only", "mlp-32", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [s["workload"] for s in found["steps"]] == ["mlp-32"]
    assert len(found["steps"][0]["repeats"]) == 2
    assert str(ROOT) not in path.read_text()
    assert "mlp-32" in capsys.readouterr().out


def test_json_to_standard_output_and_nothing_else(capsys):
    assert main(["--quick", "--only", "dummynet-32", "--repeats", "1", "--members", "4", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["settings"]["members"] == 4
    assert "dummynet-32" in captured.err


def test_bad_usage_is_one_line_and_exit_2(capsys):
    assert main(["--only", "dumynet"]) == 2
    assert capsys.readouterr().err.startswith("unknown benchmark 'dumynet': did you mean 'dummynet'")
    with pytest.raises(SystemExit, match="2"):
        main(["--repeats", "0"])
    assert "no whole number" in capsys.readouterr().err


def test_peak_memory_is_the_child_processes_own():
    held = torch.ones(60_000_000)  # 229 MiB, which the kernel would report for the child's ru_maxrss
    code = "from benchmarks.memory import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(held)
    assert 1 < float(done.stdout) < 200
