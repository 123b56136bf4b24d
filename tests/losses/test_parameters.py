"""One name, one meaning: losses that share a parameter's name share its range, and no optimizer has the name."""

from modelspace.losses import CATALOGUE
from modelspace.optimizers import RANGES


def test_losses_that_share_a_name_share_its_range():
    found = {}
    for loss in CATALOGUE.values():
        for name, allowed in loss.ranges().items():
            assert found.setdefault(name, allowed) == allowed, f"{loss.name} has another range of {name}"
    assert {"gamma", "epsilon", "delta", "scale"} <= set(found)


def test_every_parameter_has_a_range_and_a_name_that_no_optimizer_has():
    for loss in CATALOGUE.values():
        assert set(loss.ranges()) == set(loss.hyperparameters())
        assert not set(loss.ranges()) & set(RANGES)
