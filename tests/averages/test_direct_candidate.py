"""``direct=``: a learner that is trained on the sample itself, as one more candidate."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from localma import LOSSES, GlobalMA, LocalMA, Training, cross_fit, load
from localma.averages.candidates import warn_of_odd_models
from localma.engine.validation import fold_numbers

MODELS = [("up", lambda X: X[:, 0]), ("down", lambda X: -X[:, 0])]
QUICK = {"members": 1, "random_state": 0, "shrinkage": 1.0}
rng = np.random.default_rng(0)
X = rng.normal(size=(120, 2))
y = X[:, 0] + 2 * X[:, 1] + rng.normal(size=120)


def test_cross_fit_is_what_a_loop_over_the_folds_gives():
    column, held = cross_fit(LinearRegression(), X, y, random_state=3), fold_numbers(120, 3)
    assert set(np.bincount(held)) == {24}
    for k in range(5):
        fitted = LinearRegression().fit(X[held != k], y[held != k])
        np.testing.assert_allclose(column[held == k], fitted.predict(X[held == k]))


def test_what_a_learner_knows_by_heart_is_not_heard():
    """The column of a learner that repeats what it has seen says nothing of a row's own response."""
    noise, heart = np.random.default_rng(1).normal(size=400), KNeighborsRegressor(1)
    place = np.random.default_rng(2).normal(size=(400, 1))
    seen = heart.fit(place, noise).predict(place)
    assert abs(np.corrcoef(cross_fit(heart, place, noise, random_state=0), noise)[0, 1]) < 0.2
    assert np.corrcoef(seen, noise)[0, 1] > 0.99  # the mutant: without folds


def test_groups_are_held_out_together():
    who = np.repeat(np.arange(40), 10)
    place, level = (
        who[:, None] + np.random.default_rng(0).random((400, 1)) / 10,
        np.random.default_rng(1).normal(size=40),
    )
    by_group = cross_fit(KNeighborsRegressor(1), place, level[who], groups=who, random_state=0)
    by_row = cross_fit(KNeighborsRegressor(1), place, level[who], random_state=0)
    assert np.mean((by_row - level[who]) ** 2) < 0.01  # the mutant: sister rows tell
    assert np.mean((by_group - level[who]) ** 2) > 0.5


def test_the_direct_model_is_the_last_candidate():
    average = LocalMA(MODELS, direct=LinearRegression(), **QUICK).fit(X, y)
    assert average.model_names_ == ["up", "down", "direct"]
    np.testing.assert_allclose(average.direct_.coef_, LinearRegression().fit(X, y).coef_)
    F = np.stack([X[:, 0], -X[:, 0]], 1)
    columns = np.column_stack([F, cross_fit(LinearRegression(), X, y, random_state=0)])
    same = LocalMA(**QUICK).fit(X, y, F=columns)
    np.testing.assert_array_equal(average.weights(X), same.weights(X))
    expected = (average.weights(X) * np.column_stack([F, average.direct_.predict(X)])).sum(1)
    np.testing.assert_allclose(average.predict(X), expected)
    np.testing.assert_allclose(average.predict(X, F=F), expected)
    assert list(average.explain(X[0]).table.index) == ["up", "down", "direct", "average"]
    assert average.score(X, y) > LocalMA(MODELS, **QUICK).fit(X, y).score(X, y) + 0.2
    with pytest.raises(ValueError, match="the fit saw M = 2 models"):
        LocalMA(direct=LinearRegression(), **QUICK).fit(X, y, F=F).predict(X, F=columns)


def test_it_is_fitted_to_frames_and_may_be_called_twice():
    frame = pd.DataFrame(X, columns=["a", "b"])
    models = [("direct", lambda X: X["a"]), ("b", lambda X: X["b"])]
    average = LocalMA(models, direct=LinearRegression(), features=["a"], **QUICK).fit(frame, y)
    assert average.model_names_ == ["direct", "b", "direct (cross-fitted)"]
    assert list(average.direct_.feature_names_in_) == ["a", "b"]
    assert average.predict(frame).shape == (120,)
    average.set_params(direct=None).fit(frame, y)
    assert average.model_names_ == ["direct", "b"]
    assert average.direct_ is None


def test_classes_that_the_sample_lacks_keep_one_row_s_worth():
    P = np.random.default_rng(0).dirichlet(np.ones(4), (90, 2))
    labels = np.array(["a", "b", "c"])[np.arange(90) % 3]

    class Company:
        classes_ = np.array(["a", "b", "c", "d"])

        def __init__(self, m):
            self.m = m

        def predict_proba(self, X):
            return P[np.asarray(X[:, 0], int), self.m]

    Z = np.column_stack([np.arange(90), np.arange(90) % 3])
    average = LocalMA([Company(0), Company(1)], loss="cross_entropy", direct=GaussianNB(), **QUICK).fit(Z, labels)
    p = average.direct_.predict_proba(Z)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(p[:, 3], 1 / 91)
    assert average.predict_proba(Z).shape == (90, 4)
    assert average.score(Z, labels) > 0.9


def test_a_file_asks_for_the_learner_again(tmp_path):
    average = LocalMA(MODELS, direct=LinearRegression(), **QUICK).fit(X, y)
    average.save(tmp_path / "average")
    with pytest.raises(ValueError, match=r"give the fitted one, average\.direct_, as direct="):
        load(tmp_path / "average", MODELS)
    again = load(tmp_path / "average", MODELS, direct=average.direct_)
    np.testing.assert_array_equal(again.predict(X), average.predict(X))


class Untouched:
    def predict(self, X):
        raise AssertionError


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"direct": LogisticRegression()}, TypeError, "direct must be a scikit-learn regressor, but is Logistic"),
        ({"direct": 3}, TypeError, "direct must be a scikit-learn regressor, but is 3"),
        ({"direct": LinearSVC(), "loss": "cross_entropy"}, TypeError, "classifier with predict_proba"),
    ],
)
def test_a_learner_that_cannot_be_is_refused_before_a_model_is_asked(given, error, match):
    target = (y > 0).astype(int) if "loss" in given else y
    with pytest.raises(error, match=match):
        LocalMA([Untouched(), Untouched()], **given).fit(X, target)
    with pytest.raises(ValueError, match=r"needs at least 10 observations.* no direct="):
        LocalMA([Untouched(), Untouched()], direct=LinearRegression()).fit(X[:9], y[:9])


def test_other_averages_take_the_column():
    """A forest that has seen the sample looks better than the model that is right, and is worse."""
    forest, target = RandomForestRegressor(30, random_state=0), X[:, 0] + rng.normal(size=120)
    honest = GlobalMA().fit(X, target, F=np.column_stack([X[:, 0], cross_fit(forest, X, target, random_state=0)]))
    seen = GlobalMA().fit(X, target, F=np.column_stack([X[:, 0], forest.fit(X, target).predict(X)]))
    assert honest.weights_[1] < 0.3
    assert seen.weights_[1] > 0.9


def test_a_candidate_that_has_seen_the_sample_is_noticed():
    target = X[:, 0] + rng.normal(size=120)
    tree = DecisionTreeRegressor(random_state=0).fit(X, target)
    with pytest.warns(UserWarning, match="of model 'tree' is .* was it trained on these rows"):
        LocalMA([*MODELS, ("tree", tree)], **QUICK).fit(X, target)
    LocalMA(MODELS, direct=tree, **QUICK).fit(X, target)  # is not: warnings are errors here


@pytest.mark.parametrize(
    "learner",
    [
        GradientBoostingRegressor(n_estimators=50, random_state=0),
        HistGradientBoostingRegressor(max_iter=50, random_state=0),
        RandomForestRegressor(40, min_samples_leaf=5, random_state=0),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_smoother_learners_are_noticed_by_the_noise_that_they_know(learner):
    """On their own rows, of which they leave a fifth to a third of the rivals' loss, and not on others."""
    Z, response = load_diabetes(return_X_y=True)
    own, other = np.arange(len(Z)) % 2 == 0, np.arange(len(Z)) % 2 == 1
    rivals = [lambda Z, c=c: 150 + 900 * Z[:, c] for c in (2, 8)]
    learner.fit(Z[own], response[own])
    with pytest.warns(UserWarning, match="of model 'mine' is .* was it trained on these rows"):
        LocalMA([*rivals, ("mine", learner.predict)], **QUICK).fit(Z[own], response[own])
    LocalMA([*rivals, ("mine", learner.predict)], **QUICK).fit(Z[other], response[other])


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_a_model_that_is_simply_good_is_not_suspected(share):
    """Nor one that is right up to its scale."""
    for seed in range(10):
        draw = np.random.default_rng(seed)
        Z = draw.normal(size=(150, 2))
        truth = 2 * np.sin(2 * Z[:, 0]) + Z[:, 1]
        F = np.column_stack([share * truth, Z])
        warn_of_odd_models(["good", "a", "b"], F, truth + draw.normal(size=150), LOSSES["squared"], Z)


def test_a_learner_that_gains_nothing_is_not_kept():
    """Where the models are all of the truth one weight more is only a price; where they are not, the learner stays."""
    short = {"members": 1, "random_state": 0, "training": Training(steps=40)}
    F = np.column_stack([X[:, 0] + X[:, 1], X[:, 0] - X[:, 1]])
    noise = np.random.default_rng(5).normal(size=120)
    known = LocalMA(direct=RandomForestRegressor(20, random_state=0), **short).fit(X, X[:, 0] + noise, F=F)
    gain, error = known.direct_gain_
    assert gain <= error
    assert (known.direct_, known.n_models_, known.model_names_) == (None, 2, ["f1", "f2"])
    without = LocalMA(**short).fit(X, X[:, 0] + noise, F=F)
    np.testing.assert_array_equal(known.predict(X, F=F), without.predict(X, F=F))
    unknown = LocalMA(MODELS, direct=LinearRegression(), **short).fit(X, y)
    gain, error = unknown.direct_gain_
    assert gain > error
    assert unknown.model_names_[-1] == "direct"
    one = LocalMA(MODELS[:1], direct=LinearRegression(), **short).fit(X, y)
    assert one.score(X, y) > 0.7
