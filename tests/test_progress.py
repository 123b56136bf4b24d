import pytest

from modelspace import progress as module
from modelspace.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_short_job_says_nothing(clock, capsys):
    with progress("working", 10, "things") as advance:
        advance(10)
        clock[0] = 1.9
        advance(0)
    assert capsys.readouterr() == ("", "")


def test_elsewhere_than_on_a_terminal_a_line_every_ten_seconds(clock, capsys):
    with progress("working", 100, "things") as advance:
        for second in range(1, 31):
            clock[0] = float(second)
            advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "working: 20 %, 2 things/s, 40 s left",
        "working: 40 %, 2 things/s, 30 s left",
        "working: 60 %, 2 things/s, 20 s left",
    ]


def test_a_bar_on_a_terminal_and_no_trace_of_it_after(monkeypatch, capsys):
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = module.Terminal
    monkeypatch.setattr(module, "Terminal", lambda **kw: console(**kw, force_terminal=True))
    with progress("working", 4, "things") as advance:
        advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "working" in err
    assert "50%" in err


def test_an_error_passes_through(clock):
    def work():
        with progress("working", 4, "things"):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
