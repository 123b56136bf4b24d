"""Options that stand for a function's arguments, and messages that name them."""

import argparse

import pytest

from modelspace.cli.parser import Parser, add_options, as_flags, chosen


def function(*, members: int = 3, within: float | None = None, loss: str | None = None, fast: bool = False):
    """Do something.

    Args:
        members: How many, ``1`` or
            more.
        within: The distance.
        loss: By name: any.
        fast: Whether to hurry.

    Returns:
        members: Nothing.
    """


@pytest.fixture
def parser():
    parser = Parser(prog="it")
    add_options(parser, function, "members within loss fast", loss={"metavar": "NAME"})
    for name in ("--input", "--keep", "--clip-norm"):
        parser.add_argument(name)
    return parser


def test_options_are_the_function_s(parser):
    names = "members within loss fast"
    assert chosen(parser.parse_args([]), names) == {"members": 3, "within": None, "loss": None, "fast": False}
    given = parser.parse_args(["--members", "5", "--within", "0.5", "--loss", "hinge", "--fast"])
    assert chosen(given, names) == {"members": 5, "within": 0.5, "loss": "hinge", "fast": True}
    text = " ".join(parser.format_help().split())
    assert "--members N how many, 1 or more (3)" in text
    assert "--loss NAME by name: any" in text
    assert isinstance(given, argparse.Namespace)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("keep='scores' needs 3 B", "--keep scores needs 3 B"),
        ("give input_shape=(3, 32, 32)", "give --input 3x32x32"),
        ("give input_shape=(…), one sample's shape", "give --input, one sample's shape"),
        ("or clip_norm=1; or fast=True.", "or --clip-norm 1; or --fast."),
        ("needs loss=, or more", "needs --loss, or more"),
        ("needs width: give width=… and depth=…", "needs width: give --model.width … and --model.depth …"),
        ("what it costs: ms.inspect", "what it costs: modelspace inspect"),
        ("give samples in place of their shape", "give samples in place of their shape"),
        ("Net(members=3, loss='a') at lr=0.1", "Net(members=3, loss='a') at lr=0.1"),
    ],
)
def test_a_message_of_the_library_s_names_the_options(parser, said, shown):
    assert as_flags(said, parser) == shown
    assert as_flags(said, None) == said
