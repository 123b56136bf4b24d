"""The doctor in pytest: a fixture that examines a model, and tests out of the setting ``modelspace_doctor``.

pytest imports this module whenever it starts, so PyTorch is imported only where a model is examined.
"""

import io
import shlex
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from typing import Any

import pytest

_NAME = "modelspace_doctor"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting."""
    parser.addini(
        _NAME,
        "what to examine, each line the words of `modelspace doctor` and a test: nets.py:Net --input 3x7x7",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that the setting's tests have."""
    config.addinivalue_line("markers", f"{_NAME}: a test that the setting {_NAME} makes, of one model")


@pytest.fixture
def modelspace_doctor() -> Any:
    """Examine a model: ``modelspace_doctor(Net, inputs=(3, 7, 7), loss="cross_entropy")`` as ``ms.doctor`` takes it.

    The test fails, with what was found, where there is a finding above info; else the diagnosis is returned.
    """
    return _examined


def _examined(space: Any, **given: Any) -> Any:
    __tracebackhide__ = True
    from modelspace.doctor import doctor

    found = doctor(space, **given)
    if not found.healthy:
        pytest.fail(str(found), pytrace=False)
    return found


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each line of the setting, where a whole folder is tested and not a file or a test by name."""
    folder = config.invocation_params.dir
    if config.getini(_NAME) and any((folder / argument).is_dir() for argument in config.args):
        items.extend(
            _Setting.from_parent(session, path=config.inipath or config.rootpath / "pytest.ini").collect()
        )


class _Setting(pytest.File):
    """The file that has the setting."""

    def collect(self) -> Iterator[pytest.Item]:
        """Make a test of each line."""
        for line in self.config.getini(_NAME):
            item = _Model.from_parent(self, name=line)
            item.add_marker(_NAME)
            yield item


class _Found(Exception):
    """What the doctor says of a model."""


class _Model(pytest.Item):
    """One model's examination."""

    def runtest(self) -> None:
        """Call the verb from the root folder; its words are read as on the command line."""
        from modelspace.cli.main import main

        said = io.StringIO()
        with chdir(self.config.rootpath), redirect_stdout(said), redirect_stderr(said):
            try:
                status = main(["doctor", *shlex.split(self.name)])
            except SystemExit as end:  # of words that the parser refuses
                status = end.code
        if status:
            raise _Found(said.getvalue().strip())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the diagnosis, without the lines of this file."""
        return (
            str(excinfo.value) if isinstance(excinfo.value, _Found) else super().repr_failure(excinfo, style)
        )

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where it is written, and its heading."""
        return self.path, None, f"modelspace doctor {self.name}"
