"""Imports go downward only: each package sees those above it in the list, and no sibling."""

import ast
import re
from pathlib import Path

from modelspace.cli.main import _VERBS

ROOT = Path(__file__).parents[1] / "src" / "modelspace"
LAYERS = [
    [
        "errors",
        "show",
        "loading",
        "atomic",
        "plain",
        "memory",
        "widest",
        "precision",
        "progress",
        "processes",
        "hyperparameters",
        "code",
        "tensorfile",
        "examples",
        "nest",
    ],
    ["construction", "losses", "metrics", "optimizers", "data"],
    ["trace"],
    ["cost"],
    ["space"],
    ["population", "family"],
    ["engine"],
    ["runs"],
    ["reference", "fit", "doctor"],
    ["geometry"],
    ["compare", "verify", "distribute"],
    ["explore", "ensemble"],
    ["search"],
    ["report", "export"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Methods that a room above performs (run.report, run.ensemble, search.plot, runner="ray"): it is looked for by
# name when it is asked for, never when a module is imported.
PERFORMED = {
    *((name, "report") for name in ("runs", "compare", "explore", "family", "geometry", "losses", "search")),
    ("geometry", "export"),
    ("runs", "compare"),
    ("fit", "distribute"),
    ("runs", "ensemble"),
}
# Metrics are losses that one reads; the helpers of the first layer are told to build on the error alone.
SIBLINGS = {
    ("metrics", "losses"),
    ("tensorfile", "atomic"),
    ("progress", "show"),
    ("memory", "show"),
    *((name, "errors") for name in LAYERS[0]),
}
ONLY_IN = {
    "plotly": "report",
    "jinja2": "report",
    "matplotlib": "report",
    "ray": "distribute",
    "psutil": "memory",
    "tensorboard": "export",
    "mlflow": "export",
    "wandb": "export",
    "pyarrow": "export",
    "onnx": "ensemble",
    "onnxscript": "ensemble",
    "pytest": "cli",
    "optuna": "search",
}

FILES = sorted(ROOT.rglob("*.py"))


def part(path):
    """Which layer's package or module a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source, package):
    """Every module that a source text imports when it runs, those inside functions too, those for types not."""
    found = []

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [*package[: len(package) - node.level + 1], base]))
            found.extend(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def named(source):
    """The parts of the library that a source text looks for by name when it runs."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    given = (
        ast.unparse(c.args[0]) for c in calls if ast.unparse(c.func).endswith("import_module") and c.args
    )
    return {name.strip("'\"").split(".")[1] for name in given if name.strip("'\"").startswith("modelspace.")}


def arrows(path):
    """The parts of the library that a file imports."""
    package = ("modelspace", *path.relative_to(ROOT).parent.parts)
    for name in imports(path.read_text(), package):
        pieces = name.split(".")
        if pieces[0] == "modelspace" and len(pieces) > 1:
            yield pieces[1]


def wrong(source, target):
    """Why an import is not allowed; None where it is."""
    if source == target or (source, target) in SIBLINGS:
        return None
    if target == "__version__" and source in ("report", "cli", "doctor"):
        return None  # outputs say what made them
    if target not in LEVEL:
        return f"{source} imports the package itself: name the module that has it ({target})"
    if LEVEL[target] > LEVEL[source]:
        return f"{source} imports {target}, which is above it"
    if LEVEL[target] == LEVEL[source]:
        return f"{source} imports its sibling {target}"
    return None


def faults(check):
    """What a check finds, by file; nothing where all is well."""
    return {str(path.relative_to(ROOT)): found for path in FILES if (found := check(path))}


def test_the_rooms_are_those_that_exist():
    assert {part(path) for path in FILES} - {"__init__", "__main__"} == set(LEVEL)


def test_imports_point_downward():
    def upward(path):
        source = part(path)
        if source in ("__init__", "__main__"):
            return None
        asked = {f"asks for {n}" for n in named(path.read_text()) if (source, n) not in PERFORMED}
        return asked | {problem for target in arrows(path) if (problem := wrong(source, target))}

    assert faults(upward) == {}


def test_imports_across_rooms_go_through_the_face():
    def past(path):
        package = ("modelspace", *path.relative_to(ROOT).parent.parts)
        pieces = (name.split(".") for name in imports(path.read_text(), package))
        # modelspace.room.name is the face's; modelspace.room.file.name is not.
        return [".".join(p) for p in pieces if p[0] == "modelspace" and len(p) > 3 and p[1] != part(path)]

    assert faults(past) == {}


def test_each_optional_package_has_one_home():
    def strange(path):
        found = {name.split(".")[0] for name in imports(path.read_text(), ("modelspace",))}
        return {name for name in found & set(ONLY_IN) if ONLY_IN[name] != part(path)}

    assert faults(strange) == {}


def test_only_the_command_line_speaks_of_its_options():
    """A message of the library's names arguments of Python's, which ``as_flags`` says as options."""
    told = re.compile(rf"(?<![\w-])--[a-z][\w-]*|\bmodelspace (?:{'|'.join(_VERBS)})\b")

    def options(path):
        if part(path) == "cli":
            return None
        nodes = list(ast.walk(ast.parse(path.read_text())))
        written = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in written]
        found = {word for text in texts if isinstance(text, str) for word in told.findall(text)}
        return found - {"--porcelain", "--head"}  # git's and Ray's

    assert faults(options) == {}


def test_the_reader_of_imports_reads():
    source = (
        "import a.b\nif TYPE_CHECKING:\n    import hidden\n"
        "def f():\n    from modelspace.cli import main\n    from .near import x\n    from ..far import y\n"
    )
    found = imports(source, ("modelspace", "fit"))
    assert found == ["a.b", "modelspace.cli.main", "modelspace.fit.near.x", "modelspace.far.y"]
    assert wrong("fit", "cli") == "fit imports cli, which is above it"
    assert wrong("fit", "doctor") == "fit imports its sibling doctor"
    assert "the package itself" in wrong("fit", "ModelSpace")
    assert wrong("fit", "engine") is None
    assert named("import_module('modelspace.report').write(x)\nimportlib.import_module('ray')") == {"report"}
