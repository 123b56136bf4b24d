"""Fixes of one token: what is written, what is left alone and why, and that nothing else changes."""

import ast
import stat

import pytest

import modelspace as ms
from modelspace.doctor import repairs, write_whole
from modelspace.loading import load_architecture

RULES = ("batch-reshape", "unregistered-layers", "batch-first")
HEAD = "import torch\nfrom torch import nn\n\n\n"


def net(init, forward, head=HEAD, more=""):
    """A file with a class Net of these lines."""
    lines = [f"        {line}\n" for line in ("super().__init__()", *init)]
    body = "".join(f"        {line}\n" for line in forward)
    made = f"    def __init__(self):\n{''.join(lines)}\n    def forward(self, x):\n{body}"
    return f"{head}class Net(nn.Module):\n{made}{more}"


@pytest.fixture
def repaired(tmp_path, monkeypatch):
    """Repair a text as nets.py; what can be written, and the new text."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nets.py"

    def repair(text, shape, **given):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        source = load_architecture("nets.py:Net")
        made = repairs(ms.doctor(source, inputs=shape, only=RULES, **given), source())
        return made, made.after.get(path, b"").decode()

    return repair


CONV = ("self.conv = nn.Conv2d(3, 9, 3)", "self.fc = nn.Linear(225, 10)")
SEQUENCE = "return self.fc(self.lstm(x)[0][:, -1])"
LSTM = ("self.fc = nn.Linear(16, 3)",)
FIXED = {
    "view": (
        net(CONV, ["x = self.conv(x).relu()", "x = x.view(-1, 225)  # rows", "return self.fc(x)"]),
        (3, 7, 7),
        ("x.view(-1, 225)  # rows", "x.flatten(1)  # rows"),
    ),
    "reshape of a bracket over two lines": (
        net(
            CONV,
            ["return self.fc((self.conv(x)", "                .relu()).reshape(-1,", "                225))"],
        ),
        (3, 7, 7),
        (".reshape(-1,\n                        225))", ".flatten(1))"),
    ),
    "list": (
        net(
            [
                "self.layers = [nn.Linear(6, 6),  # é",
                "    nn.Linear(6, 6)]",
                *LSTM[:0],
                "self.fc = nn.Linear(6, 3)",
            ],
            ["for layer in self.layers:", "    x = layer(x).tanh()", "return self.fc(x)"],
        ),
        (6,),
        (
            "[nn.Linear(6, 6),  # é\n            nn.Linear(6, 6)]",
            "nn.ModuleList([nn.Linear(6, 6),  # é\n            nn.Linear(6, 6)])",
        ),
    ),
    "comprehension, under another name": (
        net(
            ["self.layers: list = [net.Linear(6, 6) for _ in range(2)]"],
            ["for layer in self.layers:", "    x = layer(x).tanh()", "return x"],
            "import torch.nn as net\nnn = net\n\n",
        ),
        (6,),
        ("= [net.Linear(6, 6) for _ in range(2)]", "= net.ModuleList([net.Linear(6, 6) for _ in range(2)])"),
    ),
    "dict": (
        net(["self.heads = {'a': nn.Linear(6, 3)}"], ["return self.heads['a'](x)"]),
        (6,),
        ("{'a': nn.Linear(6, 3)}", "nn.ModuleDict({'a': nn.Linear(6, 3)})"),
    ),
    "tuple of parameters": (
        net(
            ["self.ws = (nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(6, 3)))"],
            ["return x @ self.ws[0] + (x @ self.ws[1]).tanh()"],
        ),
        (6,),
        (
            "(nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(6, 3)))",
            "nn.ParameterList((nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(6, 3))))",
        ),
    ),
    "LSTM": (
        net(["self.lstm = nn.LSTM(5, 16)", *LSTM], [SEQUENCE]),
        (7, 5),
        ("nn.LSTM(5, 16)", "nn.LSTM(5, 16, batch_first=True)"),
    ),
    "LSTM with a bracket and a comma": (
        net(["self.lstm = nn.LSTM(5, (16),  # hidden", ")", *LSTM], [SEQUENCE]),
        (7, 5),
        ("(16),  # hidden", "(16), batch_first=True,  # hidden"),
    ),
    "LSTM with letters of two bytes": (
        net(["self.lstm = nn.LSTM(len('ééééé'), 16)", *LSTM], [SEQUENCE]),
        (7, 5),
        ("'ééééé'), 16)", "'ééééé'), 16, batch_first=True)"),
    ),
    "LSTM with False": (
        net(["self.lstm = nn.LSTM(5, 16, batch_first=False)", *LSTM], [SEQUENCE]),
        (7, 5),
        ("batch_first=False", "batch_first=True"),
    ),
    "LSTM with True and a transpose": (
        net(
            ["self.lstm = nn.LSTM(5, 16, batch_first=True)", *LSTM],
            ["return self.fc(self.lstm(x.transpose(0, 1))[0][-1])"],
        ),
        (7, 5),
        ("batch_first=True", "batch_first=False"),
    ),
    "encoder layer of a line before": (
        net(
            [
                "layer = nn.TransformerEncoderLayer(8, 2, 16)",
                "self.encoder = nn.TransformerEncoder(layer, 2, None, False)",
                "self.fc = nn.Linear(8, 3)",
            ],
            ["return self.fc(self.encoder(x).mean(1))"],
        ),
        (7, 8),
        ("nn.TransformerEncoderLayer(8, 2, 16)", "nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)"),
    ),
}


@pytest.mark.parametrize("case", FIXED)
def test_one_token_is_written_and_the_finding_is_gone(case, repaired):
    text, shape, (old, new) = FIXED[case]
    assert text.count(old) == 1
    made, after = repaired(text, shape)
    assert after == text.replace(old, new)
    assert made.left == []
    rules = {f.rule for f in made.fixed}
    assert len(rules) == 1
    write_whole(made.after)
    again = ms.doctor(load_architecture("nets.py:Net"), inputs=shape, only=rules)
    assert again.findings == ()
    write_whole(made.before)
    assert next(iter(made.before)).read_text() == text


FORWARD = ["for layer in self.layers:", "    x = layer(x)", "return x"]
LEFT = {
    "two views on a line": (
        net(
            CONV,
            ["x = self.conv(x)", "return self.fc(x.view(-1, 225)) + 0 * self.fc(x.view(-1, 225).tanh())"],
        ),
        (3, 7, 7),
        "2 places for view",
    ),
    "a size of its own": (
        net(CONV, ["x = self.conv(x)", "k = (-1, 225)", "return self.fc(x.view(*k))"]),
        (3, 7, 7),
        "no view",
    ),
    "wrong at the declared size": (
        net(
            ["self.conv = nn.Conv2d(3, 9, 3)", "self.fc = nn.Linear(25, 10)"],
            ["return self.fc(self.conv(x).view(-1, 25))"],
        ),
        (3, 7, 7),
        "wrong at the declared size",
    ),
    "a comment in the call": (
        net(CONV, ["x = self.conv(x)", "return self.fc(x.view(-1,  # rows", "    225))"]),
        (3, 7, 7),
        "a comment",
    ),
    "assigned twice": (
        net(["self.layers = []", "self.layers = [nn.Linear(6, 6)]"], FORWARD),
        (6,),
        "2 places for an assignment",
    ),
    "made elsewhere": (
        net(
            ["self.layers = self.made()"],
            FORWARD,
            more="\n    def made(self):\n        return [nn.Linear(6, 6)]\n",
        ),
        (6,),
        "written out",
    ),
    "layers and something else": (
        net(["self.layers = [nn.Linear(6, 6), torch.tanh]"], FORWARD),
        (6,),
        "no list, tuple or dict of layers alone",
    ),
    "a bare tuple": (
        net(["self.layers = nn.Linear(6, 6), nn.Linear(6, 6)"], FORWARD),
        (6,),
        "written out",
    ),
    "no attribute": (net([], ["return nn.Linear(6, 6)(x)"]), (6,), "kept in no attribute"),
    "arguments passed on": (
        net(["sizes = (5, 16)", "self.lstm = nn.LSTM(*sizes)", *LSTM], [SEQUENCE]),
        (7, 5),
        r"\* or \*\*",
    ),
    "given as a name": (
        net(["first = False", "self.lstm = nn.LSTM(5, 16, batch_first=first)", *LSTM], [SEQUENCE]),
        (7, 5),
        "given as first",
    ),
    "without time": (
        net(["self.lstm = nn.LSTM(5, 16)", *LSTM], ["return self.fc(self.lstm(x)[0])"]),
        (5,),
        "no dimension of time",
    ),
    "another coding": (
        b"# coding: latin-1\n" + net(["self.lstm = nn.LSTM(5, 16)", *LSTM], [SEQUENCE]).encode("latin-1"),
        (7, 5),
        "only UTF-8",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_unclear_is_left_and_said(case, repaired):
    text, shape, reason = LEFT[case]
    made, _ = repaired(text, shape)
    assert made.after == {}
    assert made.fixed == []
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(made.left[0][1])


def test_two_fixes_in_one_file_line_ends_and_permissions(repaired, tmp_path):
    text = net(
        ["self.layers = [nn.Linear(5, 5)]", "self.lstm = nn.LSTM(5, 16)", *LSTM],
        ["for layer in self.layers:", "    x = layer(x)", SEQUENCE],
    )
    crlf = text.replace("\n", "\r\n").encode()
    made, after = repaired(crlf, (7, 5))
    expected = text.replace("[nn.Linear(5, 5)]", "nn.ModuleList([nn.Linear(5, 5)])").replace(
        "5, 16)", "5, 16, batch_first=True)"
    )
    assert after == expected.replace("\n", "\r\n")
    assert [f.rule for f in made.fixed] == ["batch-first", "unregistered-layers"]
    path = tmp_path / "nets.py"
    path.chmod(0o751)
    write_whole(made.after)
    assert path.read_bytes() == after.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o751
    ast.parse(after)


def test_files_of_packages_and_ours_are_left():
    from modelspace.examples import DummyNet

    made = repairs(ms.doctor(DummyNet, inputs=(3, 7, 7), only=["batch-reshape"]), DummyNet())
    assert made.after == {}
    assert "belongs to an installed package" in made.left[0][1]
