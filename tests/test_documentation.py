"""What is written runs: docstrings, the README, the examples."""

import ast
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from doctor import zoo
from torch import nn

import modelspace as ms
from modelspace.doctor import RULES
from modelspace.losses import CATALOGUE

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(ms.__path__, "modelspace.") if not m.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_names():
    for name in ["modelspace", *MODULES]:
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", []):
            yield f"{name}.{exported}", getattr(module, exported)


@pytest.mark.parametrize("name", ["modelspace", *MODULES])
def test_every_module_says_what_it_is(name):
    assert (importlib.import_module(name).__doc__ or "").strip()


def test_markup_is_of_one_dialect():
    files = [path for path in (ROOT / "src").rglob("*.py") if re.search(r":\w+:`", path.read_text("utf-8"))]
    assert files == []


def test_every_public_name_says_what_it_is():
    silent = []
    for name, value in public_names():
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = value.__doc__ or ""
        # A dataclass without a docstring is given its own signature as one.
        if not text.strip() or text.startswith(f"{value.__name__}("):
            silent.append(name)
        if inspect.isclass(value):
            silent += [
                f"{name}.{attribute}"
                for attribute, member in vars(value).items()
                if not attribute.startswith("_")
                and (inspect.isfunction(member) or isinstance(member, property))
                and not inspect.getdoc(getattr(value, attribute))
            ]
    assert silent == []


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"torch": torch, "nn": nn, "ms": ms, **vars(module)}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    output = io.StringIO()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__, extraglobs=names):
        runner.run(test, out=output.write)
    assert not runner.failures, output.getvalue()


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


# The longest page takes half a minute; each of its jobs is a test of its own room too.
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=[pytest.mark.slow] if p.name == "work.md" else []) for p in PAGES],
)
def test_a_page_s_python_runs(page, tmp_path, monkeypatch):
    """In order and in one namespace, as a reader would type it, from the repository's root but writing elsewhere."""
    for name in ("examples", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace = {"__name__": "readme"}
    for block in blocks(page, "python"):
        with redirect_stdout(io.StringIO()):
            exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", ["work", "objectives", "moving", "metrics", "optimizers", "data", "losses"])
def test_a_job_takes_at_most_fifteen_lines(page):
    """Of a user's code, beside imports and the classes of the networks themselves."""
    long = []
    for block in blocks(ROOT / "docs" / f"{page}.md", "python"):
        own = [
            n for n in ast.parse(block).body if not isinstance(n, ast.Import | ast.ImportFrom | ast.ClassDef)
        ]
        lines = [line for n in own for line in block.splitlines()[n.lineno - 1 : n.end_lineno]]
        if sum(map(bool, map(str.strip, lines))) > 15:
            long.append(block)
    assert long == []


def commands(page):
    for block in [block for shell in ("sh", "bash", "shell", "console") for block in blocks(page, shell)]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "modelspace":
                yield words[1:]


@every_page
def test_a_page_s_commands_parse(page):
    """Each command's verb exists, and the verb's own help (the action's, for ``runs``) knows each of its options."""
    cli = importlib.import_module("modelspace.cli")
    for words in commands(page):
        assert words, "a bare 'modelspace' is no command"
        action = (
            words[1:2] if words[0] == "runs" and words[1:2] in (["show"], ["compare"], ["export"]) else []
        )
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output), pytest.raises(SystemExit) as ended:
            raise SystemExit(cli.main([words[0], *action, "--help"]))
        assert not ended.value.code, f"no verb '{words[0]}': {output.getvalue()}"
        known = set(re.findall(r"--[\w.-]+", output.getvalue()))
        options = {w.split("=")[0] for w in words[1:] if w.startswith("--") and not w.startswith("--model.")}
        assert options <= known, f"modelspace {' '.join(words)}: unknown {sorted(options - known)}"


def test_the_readme_counts_what_there_is():
    readme, tens = (ROOT / "README.md").read_text("utf-8"), ["Thirty", "Forty", "Fifty", "Sixty"]
    ones = ["", "-one", "-two", "-three", "-four", "-five", "-six", "-seven", "-eight", "-nine"]
    words = {ten + one: 30 + 10 * i + j for i, ten in enumerate(tens) for j, one in enumerate(ones)}
    losses, rules, models, reported = re.search(
        r"([\w-]+) losses as objects,.*\n(\d+) rules, each.* (\d+) small models .* each, (\d+) of them reported in",
        readme,
        re.DOTALL,
    ).groups()
    faults = "".join(p.read_text("utf-8") for p in (ROOT / "tests" / "doctor" / "ailments").glob("*.py"))
    issues = re.findall(r"^ *# [\w.-]+/[\w.-]+#\d+: ", faults, re.M)  # above each fault that was seen in one
    assert (words[losses], int(rules)) == (len(CATALOGUE), len(RULES))
    assert (int(models), int(reported)) == (len(zoo.FAULTS), len(issues))


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.slow  # a minute: a course with hundreds of fits, whose cells hold their own results
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
# Jupyter's client and kernel warn about their own event loops and sockets.
@pytest.mark.filterwarnings("ignore")
def test_notebooks_run(path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    failures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert failures == []


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path):
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package)
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    made = subprocess.run([*build, ROOT / "docs", tmp_path], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    pages = {
        name: (tmp_path / "api" / f"{name}.html").read_text("utf-8")
        for name in ("fit", "losses", "population")
    }
    for page, names in {"fit": ["fit", "EarlyStopping"], "losses": ["Hinge"], "population": ["load"]}.items():
        assert [name for name in names if f'id="modelspace.{page}.{name}"' not in pages[page]] == []
