"""The zoo: every fault is found by the rule that it is filed under, and no corrected twin raises an alarm."""

import pytest
from doctor.zoo import FAULTS

from benchmarks.diagnosis import examine

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


@every_fault
def test_the_fault_is_found(fault):
    found = examine(fault, faulty=True, only=[fault.rule])
    assert found.of(fault.rule), str(found)


@every_fault
def test_the_twin_is_silent(fault):
    found = examine(fault, faulty=False, only=[fault.rule])
    assert not found.of(fault.rule), str(found)


@pytest.mark.slow
@every_fault
def test_no_rule_alarms_on_the_twin(fault):
    found = examine(fault, faulty=False)
    assert found.healthy, str(found)
    assert broken(found) == {}


@pytest.mark.slow
@every_fault
def test_no_rule_breaks_on_the_fault(fault):
    assert broken(examine(fault, faulty=True)) == {}


def broken(found):
    """Rules that ended with an exception."""
    return {rule: why for rule, why in found.skipped.items() if " failed: " in why}
