"""Opening a run executes nothing unasked, and what is asked for only if it is what was fitted."""

import sys
from pathlib import Path

import pytest
import torch
from support import plans
from support.runs import put

import modelspace as ms
from modelspace.export import export
from modelspace.loading import load_architecture

NET = """import torch
from torch import nn
open(__file__ + ".executed", "w").close()
GAIN = 1.0
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("table", torch.load(__file__ + ".pt"))
    def forward(self, x):
        return self.layer(GAIN * x) + self.table
"""


@pytest.fixture
def run(tmp_path):
    """A run of two members in a folder, and the file that it is of; executing that leaves a trace."""
    torch.save(torch.zeros(2), tmp_path / "net.py.pt")
    (tmp_path / "net.py").write_text(NET)
    fitted(tmp_path)
    executed(tmp_path)
    return tmp_path


def fitted(folder, **settings):
    space = ms.ModelSpace(load_architecture(f"{folder / 'net.py'}:Net"), input_shape=(3,))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(40, 3, generator=generator), torch.arange(40) % 2
    given = {"epochs": 1, "workers": 1, "lowering": "vmap", "compile": False, "threads": 1, **settings}
    return plans.fit(space.sample(2, lr=0.1), data, out=folder / "run", **given)


def executed(folder):
    """Whether the file was executed since this was asked last."""
    trace = folder / "net.py.executed"
    found = trace.exists()
    trace.unlink(missing_ok=True)
    return found


def test_nothing_is_executed_unasked(run):
    opened = ms.open_run(run / "run")
    for name in ("population", "kept", "space"):
        with pytest.raises(
            ms.ModelspaceError, match=r"net\.py:Net, which is not executed unasked: .*trust=True"
        ):
            getattr(opened, name)
    assert len(opened.table) == len(opened.history["train_loss"]) == 2
    export(run / "run", "csv", run / "members.csv")
    assert not executed(run)


def test_trust_executes_the_file_that_was_fitted(run):
    assert len(ms.open_run(run / "run", trust=True).population) == 2
    assert executed(run)


@pytest.mark.parametrize("edit", [("GAIN = 1.0", "GAIN = 2.0"), ("GAIN", "# a comment\nGAIN")])
def test_a_file_that_has_changed_is_not_executed(run, edit):
    (run / "net.py").write_text(NET.replace(*edit, 1))
    with pytest.raises(
        ms.ModelspaceError, match="is not the file that was fitted, and is not executed: give space"
    ):
        ms.open_run(run / "run", trust=True)
    assert not executed(run)


@pytest.mark.parametrize(
    "target",
    ["os:system", "os:makedirs", "builtins:exec", "shutil:rmtree", "torch.hub:load", "/x/y.py:Net", "x", ""],
)
def test_a_stranger_s_target_is_not_called(run, target):
    put(
        run / "run",
        target=target,
        hyperparameters={"command": f"touch {run}/called", "name": f"{run}/called"},
    )
    with pytest.raises(ms.ModelspaceError, match=r"is not executed|and is not called"):
        ms.open_run(run / "run", trust=True)
    with pytest.raises(ms.ModelspaceError, match="is not executed unasked"):
        _ = ms.open_run(run / "run").population
    assert not executed(run)
    assert not (run / "called").exists()


def test_a_stranger_s_target_whose_file_is_the_one_named_is_not_called_either(run):
    import shutil

    from modelspace.runs.identity import content_hash

    put(
        run / "run",
        target="shutil:rmtree",
        source=content_hash(Path(shutil.__file__)),
        hyperparameters={"path": str(run)},
    )
    with pytest.raises(ms.ModelspaceError, match="is Python's own or not written in Python"):
        ms.open_run(run / "run", trust=True)
    assert (run / "net.py").exists()


def test_a_space_whose_code_has_changed_is_refused_and_what_has_is_named(run):
    (run / "net.py").write_text(NET.replace("GAIN = 1.0", "GAIN = 2.0"))
    space = ms.ModelSpace(load_architecture(f"{run / 'net.py'}:Net"), input_shape=(3,))
    with pytest.raises(ms.ModelspaceError, match=r"as it was then: GAIN of net\.py has changed since"):
        ms.open_run(run / "run", space)
    (run / "net.py").write_text(NET.replace("GAIN", "# a comment\nGAIN", 1))
    space = ms.ModelSpace(load_architecture(f"{run / 'net.py'}:Net"), input_shape=(3,))
    assert len(ms.open_run(run / "run", space).population) == 2


def test_under_another_python_it_is_opened_and_said(run, capsys, monkeypatch):
    space = ms.ModelSpace(load_architecture(f"{run / 'net.py'}:Net"), input_shape=(3,))
    spec = ms.open_run(run / "run").about["spec"]
    version = ".".join(map(str, sys.version_info[:2]))
    put(
        run / "run",
        spec={**spec, "code": "0", "packages": spec["packages"].replace(f"Python {version}", "Python 3.9")},
    )
    assert len(ms.open_run(run / "run", space).population) == 2
    assert "under another version of Python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("GAIN = 1.0", "GAIN = 30.0", r"code: GAIN of net\.py has changed"),
        ("self.layer(GAIN", "3 * self.layer(GAIN", r"code: Net\.forward of net\.py has changed"),
    ],
)
def test_a_run_of_other_code_is_not_continued(run, before, after, message):
    (run / "net.py").write_text(NET.replace(before, after))
    with pytest.raises(ms.ModelspaceError, match=f"holds another run: {message}"):
        fitted(run)


def test_a_run_whose_values_come_from_another_file_now_is_not_continued(run):
    torch.save(torch.ones(2), run / "net.py.pt")
    with pytest.raises(ms.ModelspaceError, match=r"holds another run: first point is .* there and .* here"):
        fitted(run)


def test_a_run_of_the_same_code_is_continued(run):
    (run / "net.py").write_text(
        NET.replace("GAIN = 1.0", "# a comment\nGAIN = 1.0\n\ndef other(x):\n    return x")
    )
    assert fitted(run).table.status.tolist() == ["finished"] * 2


def test_a_loss_is_the_code_that_it_reaches(run):
    scale = [1.0]

    def loss(outputs, labels):
        return scale[0] * torch.nn.functional.cross_entropy(outputs, labels)

    fitted(run, loss=loss, fresh=True)
    scale[0] = 2.0
    with pytest.raises(
        ms.ModelspaceError, match=r"code of loss and metrics: .*loss of test_opening\.py has changed"
    ):
        fitted(run, loss=loss)
