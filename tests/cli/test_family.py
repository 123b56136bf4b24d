import json

import pytest
from support.commands import printed, refused

from modelspace.cli.family import varied
from modelspace.errors import ModelspaceError

NETS = """
from torch import nn

class MLP(nn.Module):
    def __init__(self, width, depth, act="relu"):
        super().__init__()
        hidden = [nn.Linear(width, width) for _ in range(depth - 1)]
        self.net = nn.Sequential(nn.Linear(64, width), *hidden, nn.Linear(width, 10))

    def forward(self, x):
        return self.net(x)

class Bag(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.table = nn.Embedding(7, width)

    def forward(self, x):
        return self.table(x).sum(-1)
"""


@pytest.fixture
def mlp(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return (f"{path}:MLP", "--model.width", "16,32", "--model.depth", "1,2,3")


def size(width, depth):
    return 65 * width + (depth - 1) * (width * width + width) + 10 * width + 10


def test_json_has_members_and_laws(mlp, capsys):
    found = json.loads(printed(capsys, "family", *mlp, "--input", "64", "--batch-size", "4", "--json"))
    assert [(m["width"], m["depth"]) for m in found["members"]] == [
        (w, d) for w in (16, 32) for d in (1, 2, 3)
    ]
    assert all(m["n"] == size(m["width"], m["depth"]) for m in found["members"])
    assert all(m["peak_bytes"] > 4 * m["n"] for m in found["members"])
    assert found["members"][0]["forward_flops"] == 4 * 2 * 74 * 16
    assert found["batch_size"] == 4
    (piece,) = found["laws"]["n"]
    values = {"width": 100, "depth": 50}
    total = 0
    for term in piece["terms"]:
        product = int(term["coefficient"])
        for name, power in term["exponents"].items():
            product *= values[name] ** power
        total += product
    assert total == size(100, 50)


def test_card_solution_and_plot(mlp, capsys, tmp_path):
    card = printed(capsys, "family", *mlp)
    assert "6 spaces" in card
    assert "n(width, depth) = width²·depth − width² + width·depth + 74·width + 10" in card
    page = tmp_path / "figures" / "scaling.html"
    words = ("--solve", "parameters=1e6", "--over", "width", "--at", "depth=2", "--plot", page)
    text = printed(capsys, "family", *mlp, "--no-memory", *words)
    best = min(range(1, 2000), key=lambda w: abs(size(w, 2) - 1e6))
    assert text.startswith(f"width={best}, depth=2\n")
    assert page.stat().st_size > 10**6


def test_solve_json(mlp, capsys):
    words = ("--solve", "parameters=1e6", "--ratio", "width=64,depth=1", "--json")
    found = json.loads(printed(capsys, "family", *mlp, *words))
    assert "members" not in found
    solution = found["solution"]
    w, d = solution["hyperparameters"].values()
    assert solution["value"] == solution["n"] == size(w, d)
    assert abs(w / 64 - d) <= 0.5
    assert solution["below"]["value"] < 1e6 < solution["above"]["value"]
    words = ("--solve", "parameters=1e5", "--over", "depth,width", "--prefer", "depth", "--json")
    assert json.loads(printed(capsys, "family", *mlp, *words))["solution"]["hyperparameters"]["width"] == 16


def test_a_member_that_can_t_be_built_is_null(mlp, capsys):
    found = json.loads(printed(capsys, "family", *mlp[:3], "--model.depth", "1,two", "--json"))
    assert [m["n"] for m in found["members"]][:2] == [size(16, 1), None]
    assert list(found["refused"]) == ["1", "3"]


def test_integer_samples(mlp, capsys):
    target = mlp[0].replace("MLP", "Bag")
    words = ("--model.width", "8,16", "--input", "5", "--input-dtype", "long", "--json")
    found = json.loads(printed(capsys, "family", target, *words))
    assert [m["n"] for m in found["members"]] == [56, 112]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--solve", "size=3"), "unknown budget 'size'"),
        (("--solve", "parameters"), "write NAME=VALUE"),
        (("--solve", "parameters=many"), "'many' is not a number"),
        (("--solve", "parameters=1e6", "--over", "widht"), "did you mean 'width'"),
        (("--solve", "parameters=1e6", "--over", "width"), "depth left open"),
        (("--solve", "parameters=1e6", "--over", "width", "--at", "over=3"), "an option of solve"),
        (("--over", "width"), "--over goes with --solve"),
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--model.act", "relu,,gelu"), "a value between commas is missing"),
        (("--model.batch_size", "3"), "can't be passed on"),
    ],
)
def test_mistakes_are_one_line(mlp, capsys, words, says):
    assert says in refused(capsys, "family", *mlp, *words)


def test_nothing_varies(mlp, capsys):
    line = refused(capsys, "family", mlp[0], "--model.width", "8", "--model.depth", "2")
    assert "at least one hyper-parameter" in line


def test_commas_vary_and_brackets_are_one_value():
    # As the command line's literals arrive: 16,32 is a tuple, [3,3] a list.
    given = {"width": (16, 32), "kernel": [3, 3], "act": "relu,gelu", "bias": True, "norm": "None,batch"}
    assert varied(given) == {
        "width": [16, 32],
        "kernel": (3, 3),
        "act": ["relu", "gelu"],
        "bias": True,
        "norm": [None, "batch"],
    }
    with pytest.raises(ModelspaceError, match="missing"):
        varied({"act": "relu,"})
