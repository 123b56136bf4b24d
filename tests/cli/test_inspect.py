"""The verb: keys of --json, columns, memory, the page, targets of other packages."""

import json
import re

import numpy as np
import pytest
from support.commands import printed, refused
from support.pages import HOSTILE, Reader

from modelspace.cli.values import memory_size
from modelspace.cost import inspect
from modelspace.errors import ModelspaceError
from modelspace.report._inspection import inspection_page, tiles

DUMMY = "examples/dummynet.py:DummyNet"
KEYS = {"dimension", "trainable", "frozen", "tied", "buffers", "layers", "flops", "peak_bytes", "uncounted"}
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.head = nn.Linear(8, 200)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)

def tied():
    net = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 30, bias=False))
    net[1].weight = net[0].weight
    return net

def all_frozen():
    return nn.Linear(4, 3).requires_grad_(False)

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.r = nn.Embedding(20, 4, padding_idx=0), nn.GRU(4, 6, batch_first=True)

    def forward(self, x):
        lengths = (x != 0).sum(1)
        return self.r(nn.utils.rnn.pack_padded_sequence(self.e(x), lengths, True, False))[1][0]

class Sevens(nn.Linear):
    def forward(self, x):
        if x.sum().item() != 7:
            raise ValueError("samples add up to 7")
        return super().forward(x)
"""
A_TOKEN = 2 * 3 * 6 * (4 + 6)


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def found(capsys, *words):
    return json.loads(printed(capsys, "inspect", *words, "--json"))


def test_json_has_its_keys(capsys, nets):
    plain = found(capsys, f"{nets}:Net", "--batch-size", "4", "--model.depth", "2")
    assert set(plain) >= KEYS
    assert plain["dimension"] == plain["trainable"] == 2 * (64 + 8) + 8 * 200 + 200
    assert plain["flops"]["forward"] == 4 * 2 * (2 * 64 + 1600)
    assert plain["input_guessed"] == "blocks.0 (Linear) takes 8 features"
    rows = {layer["name"]: layer for layer in plain["layers"]}
    assert set(rows["head"]) >= {"name", "type", "parameters", "output_shape", "flops"}
    assert rows["head"]["output_shape"] == [4, 200]


def test_what_is_tied_and_frozen(capsys, nets):
    assert found(capsys, f"{nets}:tied")["tied"] == {"1.weight": "0.weight"}
    plain = found(capsys, f"{nets}:all_frozen", "--input", "4")
    assert (plain["dimension"], plain["frozen"], plain["parameters"]) == (0, 15, 15)


def test_the_data_tells_the_shape(capsys):
    plain = found(capsys, DUMMY, "--data", "digits-7x7")
    assert (plain["input_shape"], plain["input_guessed"]) == ([3, 7, 7], None)


def test_the_tree(capsys, nets):
    out = printed(capsys, "inspect", f"{nets}:Net", "--columns", "parameters,flops", "--input", "8")
    assert re.search(r"├─ blocks\.0–2 × 3 +Linear +3 × 72", out)
    assert re.search(r"└─ head +Linear +1,800 +89 %", out)
    assert "head (Linear) holds 89 % of the parameters: 1,800 of 2,016" in out
    assert "output" not in out


def test_a_step_s_memory_and_the_largest_batch(capsys, nets):
    plain = found(capsys, f"{nets}:Net", "--optimizer", "adam", "--memory", "1MiB", "--hardware", "a100")
    step = plain["step"]
    assert step["by_kind"]["parameters"] == 4 * plain["parameters"]
    # Two moments of each parameter, and the count of the step for each of 8 tensors.
    assert step["by_kind"]["optimizer state"] == 8 * plain["parameters"] + 4 * 8
    most = plain["largest_batch"]
    assert most["peak_bytes"] <= 2**20 < most["next_peak_bytes"]
    assert plain["time_bound"]["seconds"] >= plain["time_bound"]["compute_seconds"] > 0
    text = printed(capsys, "inspect", f"{nets}:Net", "--memory", "1MiB", "--hardware", "a100")
    assert f"largest batch: {most['batch_size']:,}" in text
    assert "a bound, not an estimate" in text


def test_half_the_bytes_in_half_the_precision(capsys, nets):
    words = (f"{nets}:Net", "--optimizer", "sgd", "--precision")
    full, half = (found(capsys, *words, p)["step"]["by_kind"]["parameters"] for p in ("32", "bf16-true"))
    assert full == 2 * half


def test_the_page_is_one_file_and_escapes(capsys, nets, tmp_path):
    page = tmp_path / "page.html"
    printed(capsys, "inspect", f"{nets}:Net", "--html", page)
    text = page.read_text()
    reader = Reader(text)
    assert reader.unclosed == []
    assert not [e for e in reader.elements if "src" in e[1] or e[0] == "link"]
    assert reader.table("Every module call")[0][:3] == ["layer", "type", "output"]
    assert sum("data-figure" in attributes for attributes, _ in reader.scripts) == 4


def test_a_hostile_name_is_only_text():
    from torch import nn

    net = nn.Sequential()
    net.add_module(HOSTILE.replace(".", ""), nn.Linear(4, 3))
    text = inspection_page(inspect(net, (4,))).html
    assert "<script>alert" not in text
    assert "<img" not in text
    assert Reader(text).unclosed == []


def test_areas_of_a_treemap_fill_their_parents(nets):
    from torch import nn

    net = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(5)], nn.Linear(4, 2))
    shown = list(tiles(inspect(net, (4,)).tree, "parameters"))
    sizes = {tile.key: tile.value for tile in shown}
    assert sizes["0"] == sum(p.numel() for p in net.parameters()) == 5 * 20 + 10
    assert [(t.label, t.value) for t in shown if t.parent == "0"] == [("0–4 × 5", 100), ("5", 10)]
    for key, size in sizes.items():
        assert sum(t.value for t in shown if t.parent == key) <= size


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--columns", "parameter"), "did you mean 'parameters'"),
        (("--sort", "flop"), "did you mean 'flops'"),
        (("--depth", "-1"), "--depth"),
        (("--memory", "24 parsecs"), "no amount of memory"),
        (("--memory", "1KiB"), "takes"),
        (("--optimizer", "adamm"), "did you mean 'adam"),
        (("--precision", "bf16-mix"), "did you mean 'bf16-mixed'"),
        (("--precision", "bfloat16"), "Known: 16-mixed, 16-true, 32, 64, bf16-mixed, bf16-true, tf32"),
        (("--hardware", "a1000"), "did you mean 'a100'"),
        (("--model.batch_size", "3"), "can't be passed on"),
    ],
)
def test_mistakes(capsys, words, expected):
    assert expected in refused(capsys, "inspect", DUMMY, "--input", "3x7x7", *words)


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * 2**30), ("24 GB", 24 * 10**9), ("1.5kib", 1536), ("1e3", 1000), ("7", 7)],
)
def test_amounts_of_memory(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "GiB", "-1GiB", "1.2.3GiB"])
def test_no_amounts_of_memory(text):
    with pytest.raises(ModelspaceError, match="no amount of memory"):
        memory_size(text)


def test_a_forward_that_reads_values_says_on_which_it_was_counted(capsys, nets, tmp_path):
    plain = found(capsys, f"{nets}:Text", "--input", "7")
    assert plain["flops"]["forward"] == 7 * A_TOKEN
    assert plain["computed"] == "its forward reads values: counted on made-up inputs (all ones)"
    assert plain["computed"] in printed(capsys, "inspect", f"{nets}:Text", "--input", "7")
    drawn = found(capsys, f"{nets}:Text", "--input", "7", "--tokens", "2", "--batch-size", "40")
    assert drawn["computed"].endswith("made-up inputs (random integers)")
    assert 0 < drawn["flops"]["forward"] < 40 * 7 * A_TOKEN
    texts = tmp_path / "texts.npz"
    np.savez(texts, inputs=np.array([[1, 2, 0, 0], [3, 4, 5, 0]] * 4), labels=np.array([0, 1] * 4))
    given = found(capsys, f"{nets}:Text", "--data", str(texts), "--batch-size", "2")
    assert given["computed"].endswith("counted on the inputs given")
    assert printed(capsys, "diff", f"{nets}:Text", f"{nets}:Text", "--input", "7", "--tokens", "9")


def test_a_forward_that_fails_on_made_up_inputs_asks_for_real_ones_by_its_options(capsys, nets):
    sizes = ("--model.in_features", "4", "--model.out_features", "3")
    message = refused(capsys, "inspect", f"{nets}:Sevens", "--input", "4", *sizes)
    assert "made up (all ones): give --data DATA, or --tokens N, integers below N" in message


def test_tokens_that_can_t_be_drawn_are_refused(capsys, nets):
    target = f"{nets}:Text"
    assert "--tokens must be at least 1; received 0" in refused(
        capsys, "inspect", target, "--input", "7", "--tokens", "0"
    )
    assert "--tokens needs the length of a sample too" in refused(capsys, "inspect", target, "--tokens", "9")
