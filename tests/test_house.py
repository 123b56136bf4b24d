"""What CONTRIBUTING says of the house is so: its picture, its rooms, the road of ``fit``."""

import os
import re
import runpy
import sys
from pathlib import Path

import test_architecture as architecture
from support.cases import DummyNet

import modelspace as ms

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| (?:(\d+)|`([\w/]+\.py)`) \| `([\w.]+)` \| .+ \|$",
    (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
    re.M,
)
ROOMS = [(int(layer), room) for layer, _, room in ROWS if layer]
ROAD = [(file, function) for _, file, function in ROWS if file]


def without_sizes(picture):
    return re.sub(r"[\d,]+ (files?|lines)", "", picture)


def test_the_picture_is_current():
    drawn = runpy.run_path(str(ROOT / "docs" / "house.py"))["drawn"]()
    kept = (ROOT / "docs" / "house.svg").read_text(encoding="utf-8")
    assert without_sizes(kept) == without_sizes(drawn), "run python docs/house.py"


def test_the_rooms_are_those_that_exist_by_layer():
    layers = [set(layer) for layer in architecture.LAYERS]
    assert [{room for layer, room in ROOMS if layer == i} for i in range(1, len(layers) + 1)] == layers
    assert len(ROOMS) == len(architecture.LEVEL)


def test_the_road_is_what_a_fit_calls_in_this_order():
    assert len(ROAD) >= 10
    calls, source = [], str(ROOT / "src" / "modelspace" / "_").removesuffix("_")

    def watch(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(source):
            calls.append((code.co_filename.removeprefix(source).replace(os.sep, "/"), code.co_qualname))

    population = ms.ModelSpace(DummyNet, input_shape=(3, 7, 7)).sample(seeds=2)
    plan = {"lowering": "vmap", "shard": 2, "compile": False, "threads": 1, "workers": 1}
    data, before = ms.data.digits_7x7(), sys.getprofile()
    sys.setprofile(watch)
    try:
        # All samples are one batch: there is one update, and so one order.
        ms.fit(population, data, optimizer="adam", epochs=1, batch_size=len(data.train), plan=plan)
    finally:
        sys.setprofile(before)
    rest = iter(calls)
    assert [step for step in ROAD if step not in rest] == []
