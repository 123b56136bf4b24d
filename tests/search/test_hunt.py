"""The search without its fits: who is asked, trained, stopped, raced and chosen, on a score whose best is known."""

import numpy as np
import pytest

from modelspace.errors import ModelspaceError
from modelspace.search import parameters_of
from modelspace.search._suggest import Suggester
from modelspace.search.hunt import hunt

pytest.importorskip("optuna", reason="Optuna suggests: pip install 'torch-modelspace[search]'")
NOISE = 0.05


def noise(setting, seed):
    return float(np.random.default_rng([seed, hash(setting["x"]) % 2**32]).normal(0, NOISE))


def valley(setting, seed, epochs):
    """The best is x = 0.3; more epochs show more of it."""
    return (1 - (setting["x"] - 0.3) ** 2) * epochs / 9 + noise(setting, seed)


def hunted(score=valley, over=None, costs=lambda setting: {}, sampler="tpe", goals=("score",), **asked):
    calls = []

    def train(name, pairs, epochs):
        calls.append((name, [(trial.number, seed) for trial, seed in pairs], epochs))
        for trial, seed in pairs:
            trial.scores[seed] = score(trial.setting, seed, epochs)
            trial.epochs = epochs

    settings = {"trials": 32, "batch": 8, "seeds": 2, "race": 16, "ends": [9], **asked}
    higher = [goal == "score" for goal in goals]
    study = Suggester(parameters_of(over or {"x": (-1.0, 1.0)}), sampler, 0, higher, settings["batch"])
    found, close = hunt(study, costs, train, True, goals, **settings)
    return found, close, calls


def test_the_best_of_a_valley_is_found():
    found, close, calls = hunted()
    assert [t.number for t in found] == list(range(32))
    assert abs(found[close[0]].setting["x"] - 0.3) < 0.15
    assert [name for name, *_ in calls[:4]] == ["batch-000", "batch-001", "batch-002", "batch-003"]
    assert all(len(pairs) == 16 for _, pairs, _ in calls[:4])


def test_the_race_gives_more_seeds_to_the_best_alone():
    found, close, _ = hunted()
    raced = [t for t in found if len(t.scores) > 2]
    assert 2 <= len(raced) <= 8
    assert min(t.score for t in raced) > np.median([t.score for t in found])
    assert all(sorted(t.scores) == list(range(len(t.scores))) for t in found)
    assert len(close) == 1 or min(len(found[i].scores) for i in close) == 16
    assert not [name for name, *_ in hunted(race=2)[2] if name.startswith("race")]


def test_the_race_chooses_better_than_the_first_scores():
    """Of settings that differ little, the race finds one nearer the best: by the noiseless score, over many."""

    def level(setting, seed, epochs):
        return 0.01 * setting["x"] + float(np.random.default_rng([seed, setting["x"]]).normal(0, NOISE))

    chosen = {}
    for race in (1, 64):
        picks = []
        for shift in range(12):
            over = {"x": list(range(shift * 10, shift * 10 + 6))}
            found, close, _ = hunted(level, over, sampler="random", seeds=1, race=race, trials=6)
            picks.append(found[close[0]].setting["x"] - shift * 10)
        chosen[race] = np.mean(picks)
    assert chosen[64] > chosen[1] + 0.5


def test_halving_stops_those_that_a_plain_loop_would_stop():
    found, close, calls = hunted(ends=[1, 3, 9], stop="halving", race=1, sampler="random")
    for batch in range(4):
        own = [t for t in found if t.batch == batch]
        left = own
        for end, keep in ((1, 3), (3, 1)):
            means = {t.number: np.mean([valley(t.setting, seed, end) for seed in range(2)]) for t in left}
            best = sorted(left, key=lambda t: -means[t.number])[:keep]
            assert all(t.epochs == end and t.state == "stopped" for t in left if t not in best)
            assert all(t.score == pytest.approx(means[t.number]) for t in left if t not in best)
            left = best
        assert all(t.epochs == 9 and t.state == "finished" for t in left)
    assert found[close[0]].state == "finished"
    assert [(name, len(pairs), end) for name, pairs, end in calls[:3]] == [
        ("batch-000", 16, 1),
        ("batch-000", 6, 3),
        ("batch-000", 2, 9),
    ]


def test_median_stopping_looks_at_all_who_were_there():
    found, _, _ = hunted(ends=[3, 9], stop="median", race=1, sampler="random")
    seen = []
    for batch in range(4):
        own = [t for t in found if t.batch == batch]
        means = [np.mean([valley(t.setting, seed, 3) for seed in range(2)]) for t in own]
        seen += means
        middle = np.sort(seen)[(len(seen) - 1) // 2]
        assert [t.state == "finished" for t in own] == [m >= middle for m in means]


def test_a_setting_of_which_a_seed_diverged_is_the_worst():
    def steep(setting, seed, epochs):
        return np.nan if setting["x"] > 0 and seed == 1 else valley(setting, seed, epochs)

    found, close, _ = hunted(steep, trials=16)
    assert {t.state for t in found if t.setting["x"] > 0} == {"diverged"}
    assert found[close[0]].setting["x"] <= 0
    with pytest.raises(ModelspaceError, match="all 8 settings diverged: try smaller learning rates"):
        hunted(lambda *_: np.nan, trials=8)


def test_what_is_over_budget_is_never_trained():
    found, _, _ = hunted(costs=lambda setting: {"parameters": 1.0} if setting["x"] < 0.5 else None, trials=32)
    assert len(found) == 32
    assert max(t.setting["x"] for t in found) < 0.5
    found, close, calls = hunted(costs=lambda _: None)
    assert (found, close, calls) == ([], [], [])


def test_no_setting_is_tried_twice_and_an_end_of_them_ends_the_search():
    found, _, _ = hunted(lambda s, seed, _: s["x"] + seed / 10, {"x": [1, 2, 3], "k": ["a", "b"]}, trials=50)
    assert len({(t.setting["x"], t.setting["k"]) for t in found}) == len(found) == 6


def test_enough_ends_the_asking():
    asked = []
    found, _, _ = hunted(enough=lambda: asked.append(1) or len(asked) > 2)
    assert len(found) == 16


def test_several_goals_find_a_front():
    """Score x, cost x² + y²: the front is y = 0 and x from 0 to 1."""
    found, _, _ = hunted(
        lambda s, *_: s["x"],
        {"x": (-1.0, 1.0), "y": (-1.0, 1.0)},
        costs=lambda s: {"parameters": s["x"] ** 2 + s["y"] ** 2},
        sampler="nsga2",
        goals=("score", "parameters"),
        trials=96,
        batch=16,
        race=1,
    )
    first, last = ([abs(t.setting["y"]) for t in part] for part in (found[:32], found[-32:]))
    assert np.mean(last) < 0.9 * np.mean(first)


def test_settings_in_a_row_share_an_architecture():
    over = {"x": (-1.0, 1.0), "width": [4, 8, 16], "kind": {"a": {}, "b": {"heads": [1, 2, 4]}}}
    own = ("width", "kind", "heads")
    for sampler in ("random", "tpe"):
        found, _, _ = hunted(lambda s, *_: s["x"], over, sampler=sampler, alike=4, own=own, race=1)
        for i in range(0, 32, 4):
            assert len({tuple(t.setting.get(n) for n in own) for t in found[i : i + 4]}) == 1
        assert len({t.setting["x"] for t in found}) == 32
        assert len({t.setting["width"] for t in found}) > 1


def test_a_sampler_that_repeats_itself_does_not_end_the_search():
    over = {"x": [*range(12)], "y": [*range(12)]}
    found, _, _ = hunted(lambda s, *_: -abs(s["x"] - 5) - abs(s["y"] - 5), over, trials=100, batch=25, race=1)
    assert len({(t.setting["x"], t.setting["y"]) for t in found}) == 100
