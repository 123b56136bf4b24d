"""Nothing that is shown can steer a terminal, and what needs no PyTorch answers without it."""

import io
import subprocess
import sys

import pytest

from modelspace.cli import main
from modelspace.progress import progress
from modelspace.show import Terminal, bytes_text, number, percent, say, score, seconds_text, spread


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (score(0.98791, "accuracy"), "98.79 %"),
        (score(None, "loss"), "–"),
        (score(float("nan"), "accuracy"), "–"),
        (score(float("inf"), "loss"), "∞"),
        (score(1.5e-7, "loss"), "1.5·10⁻⁷"),
        (score(12345.0, "loss"), "12,345"),
        (spread(0.0034, "accuracy"), "0.34 points"),
        (number(-0.25), "−0.25"),
        (number(0.123456, 3), "0.123"),
        (number(999_999), "999,999"),
        (number(1_000_000), "1 M"),
        (number(2.5e6), "2.5·10⁶"),
        (bytes_text(1023), "1,023 B"),
        (bytes_text(1024), "1 KiB"),
        (bytes_text(1023.99 * 2**20), "1,024 MiB"),
        (bytes_text(2**60), "1,024 PiB"),
        (seconds_text(None), "–"),
        (seconds_text(0), "0 ns"),
        (seconds_text(59.4), "59.4 s"),
        (seconds_text(59.6), "1 min 00 s"),
        (seconds_text(3599.6), "1 h 00 min"),
        (percent(2, 3), "67 %"),
    ],
)
def test_amounts_as_a_reader_wants_them(shown, expected):
    assert shown == expected


def test_control_characters_and_markup_of_names_are_written_out(capsys):
    stream = io.StringIO()
    Terminal(file=stream, width=60, force_terminal=True).print(
        "[bold]x[/y] :smile: \x1b]0;mine\x07", style="bold"
    )
    said = stream.getvalue()
    assert "[bold]x[/y] :smile: \\x1b]0;mine" in said
    assert "\x07" not in said
    assert said.startswith("\x1b[1m")  # our own style is drawn
    say("a\x1b[2Jb\nc")
    assert capsys.readouterr().out == "a\\x1b[2Jb\nc\n"


def test_a_name_with_markup_has_a_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr("modelspace.progress._SILENT_SECONDS", 0.0)
    monkeypatch.setattr("modelspace.progress.Terminal", lambda **how: Terminal(**how, force_terminal=True))
    with progress("fitting [/red]Net", 4, "things") as advance:
        advance(2)
    assert "[/red]Net" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["fti"]])
def test_help_and_a_mistyped_verb_import_nothing_heavy(words):
    code = f"""
import sys
from modelspace.cli import main
try:
    main({words!r})
except SystemExit:
    pass
heavy = {{"torch", "numpy", "pandas", "rich", "scipy", "plotly"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_ctrl_c_while_a_verb_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[main.__module__], "import_module", interrupted)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "modelspace: interrupted before anything was finished\n"


def test_functions_win_over_the_packages_of_their_names():
    import modelspace as ms

    for name in ms.__all__:
        assert getattr(ms, name) is not None
    for name in ("fit", "compare", "doctor", "explore", "verify"):
        assert sys.modules[f"modelspace.{name}"]
        assert callable(getattr(ms, name)), name
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        ms.fti
