"""Which exporter, and what is said where it can't be."""

import builtins
import sys

import pytest

import modelspace as ms
from modelspace.export import TARGETS, check, export


def test_an_unknown_target_is_said_with_the_nearest(run):
    with pytest.raises(ms.ModelspaceError, match="unknown export 'tensorbord': did you mean 'tensorboard'"):
        export(run, "tensorbord", "x")


@pytest.mark.parametrize(
    ("to", "place", "package"),
    [
        ("parquet", "x.parquet", "pyarrow"),
        ("tensorboard", "x", "tensorboard"),
        ("mlflow", "x", "mlflow"),
        ("wandb", "x", "wandb"),
    ],
)
def test_a_missing_package_is_said_with_what_to_install(monkeypatch, tmp_path, to, place, package):
    monkeypatch.chdir(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ms.ModelspaceError, match=rf"pip install 'torch-modelspace\[{to}\]'"):
        check(to, place)


@pytest.mark.parametrize("to", [to for to in TARGETS if to != "tensorboard"])
def test_members_one_by_one_are_for_tensorboard(to):
    with pytest.raises(ms.ModelspaceError, match="to tensorboard only"):
        check(to, "x", members=True)


def test_a_place_is_needed():
    with pytest.raises(ms.ModelspaceError, match="csv=PLACE"):
        check("csv", "")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(ms.ModelspaceError, match="holds no run"):
        export(tmp_path, "csv", tmp_path / "x.csv")


def test_importing_the_library_imports_none_of_the_packages():
    import subprocess

    code = (
        "import sys, modelspace; print([n for n in ('tensorboard', 'mlflow', 'wandb') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
