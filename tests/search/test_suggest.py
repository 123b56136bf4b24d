import numpy as np
import pytest

from modelspace.errors import ModelspaceError
from modelspace.search import parameters_of
from modelspace.search._suggest import SAMPLERS, Suggester, Told, export, importances

optuna = pytest.importorskip("optuna", reason="Optuna suggests: pip install 'torch-modelspace[search]'")
OVER = {
    "x": (-1.0, 2.0),
    "lr": (1e-4, 1e-1),
    "width": [8, 16, 64],
    "kind": {"a": {}, "b": {"y": (0.0, 1.0), "n": "1:9:linear"}},
}
PARAMETERS = parameters_of(OVER)


def value(setting):
    return -((setting["x"] - 0.5) ** 2) - (np.log10(setting["lr"]) + 2) ** 2 + 0.1 * (setting["kind"] == "b")


def asked(study, count, batch=4):
    found = []
    for _ in range(count // batch):
        suggestions = [study.ask() for _ in range(batch)]
        found += [suggestion.setting for suggestion in suggestions]
        for suggestion in suggestions:
            study.tell(suggestion, Told(suggestion.setting, [value(suggestion.setting)]))
    return found


def test_suggestions_are_optuna_s_own():
    """The same sampler and seed, asked and told in batches by Optuna's own calls, suggests the same."""
    ours = asked(Suggester(PARAMETERS, "tpe", 7, [True], 4), 40)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        sampler = optuna.samplers.TPESampler(
            seed=7, multivariate=True, group=True, constant_liar=True, n_startup_trials=10
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    theirs = []
    for _ in range(10):
        trials = [study.ask() for _ in range(4)]
        for trial in trials:
            setting = {
                "x": trial.suggest_float("x", -1.0, 2.0),
                "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
                "width": [8, 16, 64][trial.suggest_int("width", 0, 2)],
                "kind": "ab"[trial.suggest_categorical("kind", [0, 1])],
            }
            if setting["kind"] == "b":
                setting["y"] = trial.suggest_float("y@kind=b", 0.0, 1.0)
                setting["n"] = trial.suggest_int("n@kind=b", 1, 9)
            theirs.append((trial, setting))
        for trial, setting in theirs[-4:]:
            study.tell(trial, value(setting))
    assert ours == [setting for _, setting in theirs]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_repeats_itself_and_stays_within_the_ranges(sampler):
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="CMA-ES is a package of its own")
    first, again = (asked(Suggester(PARAMETERS, sampler, 3, [True], 4), 16) for _ in range(2))
    assert first == again != asked(Suggester(PARAMETERS, sampler, 4, [True], 4), 16)
    for setting in first:
        assert -1 <= setting["x"] <= 2
        assert 1e-4 <= setting["lr"] <= 1e-1
        assert setting["width"] in (8, 16, 64)
        assert ("y" in setting) is ("n" in setting) is (setting["kind"] == "b")
        assert setting.get("n", 1) in range(1, 10)


def test_a_sampler_that_is_none_or_has_one_goal_is_refused():
    with pytest.raises(ModelspaceError, match="did you mean 'tpe'"):
        Suggester(PARAMETERS, "tp", 0, [True], 4)
    with pytest.raises(ModelspaceError, match="'cmaes' has one goal"):
        Suggester(PARAMETERS, "cmaes", 0, [True, False], 4)


def tried(count, score):
    study = Suggester(PARAMETERS, "random", 0, [True], 4)
    settings = [study.ask().setting for _ in range(count)]
    return [Told(setting, [float(score(setting))], about={"seeds": 2}) for setting in settings]


@pytest.mark.parametrize(
    ("kind", "trials"), [pytest.param("fanova", 24, marks=pytest.mark.slow), ("ped-anova", 200)]
)
def test_what_alone_matters_has_all_the_importance(kind, trials):
    table = importances(PARAMETERS, tried(trials, lambda s: s["x"]), [True], kind, 2, 0).set_index(
        "parameter"
    )
    always = table.loc[["x", "lr", "width", "kind"]]
    assert always["importance"].idxmax() == "x"
    assert always["importance"]["x"] > 0.6
    assert always["importance"].sum() == pytest.approx(1)
    assert table["error"].between(0, 0.5).all()
    assert table["trials"]["x"] == trials > table["trials"]["y@kind=b"] == table["trials"]["n@kind=b"]


def test_importance_needs_trials_that_differ():
    flat = importances(PARAMETERS, tried(20, lambda _: 0.5), [True], "fanova", 2, 0)
    assert (flat["importance"] == 0).all()
    with pytest.raises(ModelspaceError, match="at least 8 finished trials; there are 7"):
        importances(PARAMETERS, tried(7, lambda s: s["x"]), [True], "fanova", 2, 0)
    with pytest.raises(ModelspaceError, match="did you mean 'fanova'"):
        importances(PARAMETERS, tried(9, lambda s: s["x"]), [True], "fanva", 2, 0)


def test_an_exported_study_is_one_that_optuna_reads(tmp_path):
    told = [*tried(9, lambda s: s["x"]), Told({"x": 0.0, "lr": 0.01, "width": 8, "kind": "a"}, [0.3], 5)]
    told.append(Told({"x": 1.0, "lr": 0.01, "width": 64, "kind": "b", "y": 0.5, "n": 3}, None))
    storage = f"sqlite:///{tmp_path}/search.db"
    export(PARAMETERS, told, [True], storage, "mine")
    study = optuna.load_study(study_name="mine", storage=storage)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 9 + ["PRUNED", "FAIL"]
    best = max(told[:9], key=lambda t: t.values[0])
    assert study.best_value == best.values[0]
    assert {name.partition("@")[0]: v for name, v in study.best_params.items()} == best.setting
    assert study.best_trial.user_attrs == {"seeds": 2}
    assert study.trials[9].intermediate_values == {5: 0.3}
    with pytest.raises(ModelspaceError, match="has a study 'mine' already: give another name="):
        export(PARAMETERS, told, [True], storage, "mine")
    with pytest.raises(ModelspaceError, match="can't write a study to nowhere"):
        export(PARAMETERS, told, [True], "nowhere", "mine")
