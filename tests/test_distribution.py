"""What is installed elsewhere: the wheel and the source distribution, built and tried without a network."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
pytestmark = pytest.mark.slow


def run(*words, status=0, **options):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=ALONE, **options)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with both; the wheel is made of the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The programs of an environment that has the wheel, and this one's packages as its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    Path(run(python, "-c", code).strip(), "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_the_source_distribution_has_what_git_has(built):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    (archive,) = built.glob("torch_modelspace-*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert sorted(set(tracked) - held) == []


def test_the_wheel_has_the_package_and_nothing_beside_it(built):
    (wheel,) = built.glob("torch_modelspace-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        (metadata,) = (opened.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"modelspace", "torch_modelspace"}
    source = ROOT / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*.*") if path.suffix != ".pyc"}
    assert {name for name in files if not Path(source, name).is_dir()} <= set(names)
    assert "Name: torch-modelspace" in metadata.splitlines()


def test_the_main_job_runs_where_only_the_wheel_is(installed, tmp_path):
    where = run(installed / "python", "-c", "import modelspace; print(modelspace.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    quickly = ("--seeds", "2", "--epochs", "2", "--fresh-seeds", "4")
    run(installed / "modelspace", "explore", *quickly, cwd=tmp_path)
    folder = tmp_path / "runs" / "dummynet"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["dimension"], summary["members"]) == (2512, 2 * 12 + 4)
    assert (folder / "report.html").stat().st_size > 100_000
    words = ("modelspace.examples:DummyNet", "--input", "3x7x7", "--loss", "nll_loss")
    assert "dummynet.py:18" in run(installed / "modelspace", "doctor", *words, cwd=tmp_path, status=1)
