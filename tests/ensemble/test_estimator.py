"""The estimators in scikit-learn: its own checks, pipelines, searches, and what they add."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError

SMALL = {"n_members": 2, "arguments": {"hidden": (16,)}, "random_state": 0}


@pytest.mark.slow
@parametrize_with_checks([ms.ModelspaceClassifier(**SMALL), ms.ModelspaceRegressor(**SMALL)])
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # scikit-learn's checks warn of their own making
        check(estimator)


def blobs(n=120):
    draws = np.random.default_rng(0)
    y = draws.integers(0, 3, n)
    return draws.normal(size=(n, 2)) + 4 * np.eye(3, 2)[y], np.array(["a", "b", "c"])[y]


def test_a_classifier_in_a_search(checked_once):
    x, y = blobs()
    quick = {**SMALL, "epochs": 10}
    model = ms.ModelspaceClassifier(**quick).fit(x, y)
    assert model.score(x, y) > 0.9
    p = model.predict_proba(x)
    assert np.allclose(p.sum(1), 1)
    assert (model.classes_[p.argmax(1)] == model.predict(x)).all()
    assert np.allclose(clone(model).fit(x, y).predict_proba(x), p)  # the same seeds
    assert not np.allclose(clone(model).set_params(random_state=1).fit(x, y).predict_proba(x), p)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), ms.ModelspaceClassifier(**quick)),
        {"modelspaceclassifier__lr": [1e-6, 1e-2]},
        cv=2,
    ).fit(x, y)
    assert search.best_params_ == {"modelspaceclassifier__lr": 1e-2}
    assert cross_val_score(model, x, y, cv=2).mean() > 0.9


def test_architectures_columns_and_targets(checked_once):
    x, y = make_regression(80, 3, random_state=0)
    quick = {**SMALL, "epochs": 30}

    def net(n_features, n_outputs, width):
        return nn.Sequential(nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_outputs))

    own = {**quick, "architecture": net, "arguments": {"width": 5}, "columns": {"lr": [1e-2, 3e-2]}}
    model = ms.ModelspaceRegressor(**own).fit(x, y)
    assert len(model.ensemble_) == 4  # two seeds of each rate
    assert model.score(x, y) > 0.8
    both = ms.ModelspaceRegressor(**quick).fit(x, np.stack([y, -1e6 * y], 1))
    assert both.predict(x).shape == (80, 2)
    assert both.score(x, np.stack([y, -1e6 * y], 1)) > 0.8  # targets of any scale
    mean, std = both.predict(x, return_std=True)
    z = both._outputs(x).numpy() * both.target_scale_ + both.target_mean_
    assert np.allclose(mean, z.mean(0))
    assert np.allclose(std, z.std(0))
    with pytest.raises(ModelspaceError, match="'gaussian' is of one target; received 2"):
        ms.ModelspaceRegressor(loss="gaussian").fit(x, np.stack([y, y], 1))


def test_a_gaussian_says_how_wide_it_is(checked_once):
    draws = np.random.default_rng(0)
    x = draws.uniform(-1, 1, (200, 1))
    y = 10 * draws.normal(size=200) * np.where(x[:, 0] > 0, 1.0, 0.1) + 50
    model = ms.ModelspaceRegressor(**SMALL, loss="gaussian", epochs=50).fit(x, y)
    mean, std = model.predict(np.array([[-0.6], [0.6]]), return_std=True)
    assert mean == pytest.approx([50, 50], abs=4)
    assert std == pytest.approx([1, 10], rel=0.5)


@pytest.mark.slow
def test_an_ensemble_is_better_than_a_member_on_digits():
    x, y = load_digits(return_X_y=True)
    few, many = (
        cross_val_score(ms.ModelspaceClassifier(n_members=n, epochs=30, random_state=0), x, y, cv=3).mean()
        for n in (1, 8)
    )
    assert many > few
    assert many > 0.93
