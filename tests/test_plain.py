"""Records as plain values and back: what is of another kind is refused in one line that says where."""

import json
import math
import pathlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import pytest
import torch

from modelspace.plain import fits, parsed, plain, structured


class Place(NamedTuple):
    name: str
    size: float


@dataclass(frozen=True)
class Part:
    count: int
    scores: tuple[float | None, ...]
    kind: Literal["a", "b"] = "a"

    @property
    def double(self):
        return 2 * self.count


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    pair: tuple[str, str]
    sizes: dict[str, int]
    place: Place
    maybe: Part | None = None
    several: str | int | list[float] | None = None


class Entry(TypedDict):
    a: int
    b: NotRequired[str]


WHOLE = Whole("n", (Part(1, (1.0, None, math.inf)),), ("a", "b"), {"z": 3}, Place("p", 2.0))
CELL = str | float | bool | None


def test_a_record_comes_back_from_json():
    text = json.dumps(plain(WHOLE), allow_nan=False)
    assert json.loads(text)["parts"][0]["scores"] == [1.0, None, "inf"]
    assert structured({**json.loads(text), "further": 1}, Whole, "it") == WHOLE
    assert plain(WHOLE.parts[0], "double")["double"] == 2


def test_a_number_that_does_not_exist_comes_back_as_nan_where_one_is_due():
    text = json.dumps(plain(Place("p", math.nan)), allow_nan=False)
    assert text == '{"name": "p", "size": null}'
    assert math.isnan(structured(json.loads(text), Place, "it").size)
    assert not fits(None, float)  # a file's schema is another matter


def test_what_json_has_no_word_for():
    values = {1: np.float64(2.5), "b": np.bool_(True), "c": np.array([1.0, np.nan]), "d": {pathlib.Path("x")}}
    assert plain(values) == {"1": 2.5, "b": True, "c": [1.0, None], "d": ["x"]}
    assert plain(torch.float32) == "torch.float32"
    assert [type(v) for v in (plain(np.float64(1)), plain(np.int64(1)))] == [float, int]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"it\.name is 3; expected str"),
        ({"parts": [3]}, r"it\.parts\[0\] is 3; expected Part"),
        ({"parts": "ab"}, r"it\.parts is 'ab'; expected list"),
        ({"parts": [{"count": True, "scores": []}]}, r"it\.parts\[0\]\.count is True; expected int"),
        ({"parts": [{"count": 1.0, "scores": []}]}, r"it\.parts\[0\]\.count is 1\.0; expected int"),
        ({"parts": [{"count": 1, "scores": ["x"]}]}, r"scores\[0\] is 'x'; expected float"),
        ({"parts": [{"count": 1, "scores": [], "kind": "c"}]}, r"kind is 'c'; expected 'a', 'b'"),
        ({"parts": [{"count": 1}]}, r"it\.parts\[0\] has no scores"),
        ({"pair": ["a"]}, r"it\.pair is \['a'\]; expected tuple"),
        ({"sizes": {"z": 2**63}}, r"it\.sizes\['z'\] is 9223372036854775808; expected int"),
        ({"sizes": [1]}, r"it\.sizes is \[1\]; expected dict"),
        ({"place": ["p", 1.0]}, r"it\.place is \['p', 1\.0\]; expected Place"),
        ({"several": [True]}, r"it\.several is \[True\]; expected str \| int"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_place(change, message):
    with pytest.raises(ValueError, match=message):
        structured({**plain(WHOLE), **change}, Whole, "it")


@pytest.mark.parametrize(
    ("value", "kind", "does"),
    [
        *((v, int, True) for v in (0, 2**63 - 1, -(2**63))),
        *((v, int, False) for v in (2**63, 1.0, True, "1", None)),
        *((v, float, True) for v in (1, 1.5, math.inf, "inf", "-inf")),
        *((v, float, False) for v in (2**70, True, "1", None)),
        *((v, str, v == "a") for v in ("a", 1, None)),
        *((v, bool, v is True) for v in (True, 1)),
        *((v, int | None, v is None) for v in (None, "a")),
        ([[1, "a"], [2.0]], list[list], True),
        ([[1, True, None, ["x"]]], list[list[CELL | list[CELL]]], True),
        ([[1, {}]], list[list[CELL | list[CELL]]], False),
        ("ab", list[str], False),
        ({"a": {"b": [1]}}, dict[str, dict[str, list[int]]], True),
        ({"a": {"b": ["1"]}}, dict[str, dict[str, list[int]]], False),
        ({"a": 2**70, "b": object}, dict[str, Any], True),
        *((v, Literal["x", 1], v == "x") for v in ("x", True)),
        *((v, Entry, v == {"a": 1, "c": 2}) for v in ({"a": 1, "c": 2}, {"a": "1"}, {"b": "s"}, [1])),
        *((v, Part | None, v != []) for v in (None, {"count": 1, "scores": [1]}, [])),
    ],
)
def test_what_fits(value, kind, does):
    assert fits(value, kind) == does


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "no JSON"), ("{", "no JSON"), ("[" * 100_000, "no JSON"), ('["a"]', r"is \['a'\]")],
)
def test_a_text_that_says_something_else_is_refused(text, says):
    assert parsed("[1]", list[int], "it") == [1]
    with pytest.raises(ValueError, match=f"it .*{says}|it {says}"):
        parsed(text, list[int], "it")
