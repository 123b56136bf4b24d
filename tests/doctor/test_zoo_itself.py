from doctor.zoo import FAULTS


def test_names_are_unique():
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
