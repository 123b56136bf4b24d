"""The example that ships with the library: read as a user's own code is, by either of its names."""

import pytest
from torch import nn

import modelspace as ms
from modelspace.code import code_of
from modelspace.examples import DummyNet
from modelspace.loading import load_architecture
from modelspace.runs.identity import target_of

SHAPE = (3, 7, 7)


def test_its_code_is_hashed_and_the_same_by_either_name():
    of_file, of_module = map(
        load_architecture, ("examples/dummynet.py:DummyNet", "modelspace.examples:DummyNet")
    )
    assert of_module is DummyNet
    assert of_file is not DummyNet
    assert any(name.endswith("of dummynet.py") for name in code_of(DummyNet).parts)
    assert code_of(of_file()).hash == code_of(of_module()).hash


def test_a_run_names_it_so_that_it_is_found_again():
    assert load_architecture(target_of(ms.ModelSpace(DummyNet))) is DummyNet


def test_its_lines_are_named():
    with pytest.raises(ms.ModelspaceError, match=r"line 17 of \S*dummynet\.py: x = x\.view\(-1, 225\)"):
        ms.inspect(DummyNet, (3, 8, 8))
    found = ms.doctor(DummyNet, inputs=SHAPE, loss=nn.NLLLoss(), only=["log-probabilities-expected"])
    assert [finding.where.rpartition("/")[2] for finding in found.findings] == ["dummynet.py:18"]
