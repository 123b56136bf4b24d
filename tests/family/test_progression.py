from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.family._progression import Progression, candidates, divisors

FEW = settings(max_examples=50, deadline=None)


@FEW
@given(st.integers(1, 1000))
def test_divisors_are_all_of_them(number):
    assert divisors(number) == [d for d in range(1, 129) if number % d == 0]


@FEW
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5, unique=True))
def test_every_candidate_passes_through_all_values(values):
    found = list(candidates(values))
    assert found[0] == Progression(min(1, min(values)))
    assert len(set(found)) == len(found)
    for along in found:
        assert all(value in along for value in values)
        assert along.start <= min(values)


def test_factor_keeps_to_one_residue():
    assert {p.step % 3 for p in candidates([64, 256], factor=3)} == {0}
    assert next(iter(candidates([64, 256], factor=3))) == Progression(1, 3)


def test_members_of_a_progression():
    along = Progression(4, 3, stop=13)
    assert [v for v in range(20) if v in along] == [4, 7, 10, 13]
    assert [along[i] for i in range(3)] == [4, 7, 10]
    assert 7.5 not in along
    assert True not in Progression(1)
    assert "7" not in along


def test_conditions_in_words():
    assert Progression(1).condition("width") == ""
    assert Progression(8, 8).condition("width") == "width ≡ 0 (mod 8)"
    assert Progression(16).condition("width") == "width ≥ 16"
    assert Progression(17, 8, 33).condition("width") == "width ≡ 1 (mod 8), 17 ≤ width ≤ 33"
