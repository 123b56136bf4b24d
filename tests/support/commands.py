"""The command line, called as a user would."""

from modelspace.cli import main


def printed(capsys, *arguments):
    """Standard output of a command that must succeed."""
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The one line that a refused command prints."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err
